"""Variants measured one like the other: how long an image takes here, how large the file is, and what is lost on the same images."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sightline import bundle as bundles
from sightline.bundle import Bundle, Part, arrays_to_bytes
from sightline.data.decode import Limits
from sightline.data.prepare import Prepare
from sightline.engines.acceptance import Acceptance, Replay, replay_of
from sightline.engines.adapters import Work, candidates, onnx_infer
from sightline.engines.choice import measure
from sightline.exporting.forms import work_of
from sightline.exporting.int8 import tried_in_float
from sightline.exporting.judging import Judge, Loss, Raw, Speed, replayed, speeds
from sightline.exporting.material import Images, Material
from sightline.exporting.prepared import prepared
from sightline.exporting.quantise import quantised
from sightline.manifest import Manifest
from sightline.records import Infer
from sightline.replay import record
from sightline.runtime import Model
from sightline.shrinking.asked import Asked
from sightline.tasks import Task, load_task

# Seconds that are given to an image's latency, and the fewest and the most images.
SECONDS, LEAST_ROUNDS, MOST_ROUNDS = 1.0, 5, 200
# Of the times of an untrained graph: what else a machine does makes it slower for a while, never faster.
QUICK = 0.1
READING = "Reading images"
# Bytes that what is said of a variant, on its card and in its manifest, takes at most beside what is said of its source.
SAID = 8_000


@dataclass(frozen=True)
class Point:
    """A variant that was measured.

    name         what was done to the model
    speed        of what computes it here, which is the ``engine``
    size         bytes of its file with the least that a bundle holds; of the model itself, as it is
    value        the task's ``metric`` on the test images, and its 95% ``interval``
    loss         what it loses there against the model it is made from, and ``validation`` on the images that variants are chosen by
    fits         whether it is as small and as fast as is asked for
    """

    name: str
    precision: str
    engine: str
    speed: Speed
    size: int
    metric: str
    value: float
    interval: tuple[float, float]
    loss: Loss
    validation: Loss
    fits: bool

    def to_json(self) -> dict[str, Any]:
        plain = {**asdict(self), "interval": list(self.interval), "loss": self.loss.points, "changed": self.loss.share, "n": self.loss.n}
        return {**{name: value for name, value in plain.items() if name != "speed"}, **asdict(self.speed)}


@dataclass(frozen=True)
class Made:
    """A graph and the manifest of a bundle that would hold it."""

    name: str
    graph: bytes
    manifest: Manifest

    @property
    def prepare(self) -> Prepare:
        return Prepare.from_json(self.manifest.prepare)

    def work(self, threads: int) -> Work:
        return work_of(self.manifest, self.graph, self.name, threads)


@dataclass(frozen=True)
class Bench:
    """Where variants of ``source`` are measured, with so many ``threads``; ``engine`` as ``Model.of`` takes it."""

    source: Bundle
    material: Material
    asked: Asked
    limits: Limits
    threads: int
    engine: str

    @property
    def task(self) -> Task:
        return load_task(self.source.manifest.task)

    @cached_property
    def replay(self) -> Replay:
        return replay_of(self.source, self.task.OUTPUTS)

    @cached_property
    def itself(self) -> Made:
        return Made("the model itself", self.source.read("graph"), self.source.manifest)

    @cached_property
    def alone(self) -> Made:
        """The source's graph without its weights to train on and its report, which are most of many a bundle."""
        told = replace(self.source.manifest, variant={"precision": "fp32"})
        return Made("the model without weights and report", self.itself.graph, told)

    @cached_property
    def expected(self) -> tuple[Raw, Raw]:
        """What the source says of the validation and of the test images, in ONNX Runtime."""
        infers, prepare = {"it": onnx_infer(self.itself.work(self.threads))}, self.itself.prepare
        return self._raw(infers, self.material.validation, prepare)["it"], self._raw(infers, self.material.test, prepare)["it"]

    @cached_property
    def rest(self) -> int:
        """Bytes of a bundle beside its graph, with the least that it holds: an image to replay, what it was trained on, its card."""
        parts = [Part("model.onnx", "graph", b"-", required=True), Part("replay.npz", "replay", self.replay.files[0])]
        if self.source.has("reference"):
            seen = self.source.arrays("reference")["seen"]
            parts.append(Part("reference.npz", "reference", arrays_to_bytes({"seen": seen})))
        if self.source.has("card"):
            parts.append(Part("card.md", "card", self.source.read("card")))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "rest.sight")
            bundles.write(path, replace(self.source.manifest, members=()), parts)
            return path.stat().st_size + SAID

    def size(self, made: Made) -> int:
        """Bytes of the variant's file with the least that a bundle holds; of the source's, as it is."""
        return self.source.path.stat().st_size if made is self.itself else len(made.graph) + self.rest

    def untrained(self, graph: bytes, prepare: Prepare, int8: bool) -> tuple[float, int]:
        """Milliseconds an image and bytes of the file of a graph whose answers mean nothing yet."""
        work = Work(graph, self.task.OUTPUTS, "an untrained graph", (*prepare.shape, prepare.channels), self.threads, int8=int8)
        infer, _ = measure(work, _anything(work.shape), candidates(self.engine))
        return latency_ms(infer, work.shape), len(graph) + self.rest

    def opened(self, made: Made) -> Model:
        """The variant as a bundle's runtime opens it here, with the engine that is fastest."""
        reference = Model(made.manifest, onnx_infer(made.work(self.threads)), threads=self.threads)
        replay = record(reference, self.replay.files, rendered=self.replay.rendered)
        parts = [Part("model.onnx", "graph", made.graph, required=True), Part("replay.npz", "replay", replay)]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "draft.sight")
            bundles.write(path, replace(made.manifest, members=(), unfit=()), parts)
            return Model.open(path, threads=self.threads, engine=self.engine)

    def point(self, made: Made) -> Point:
        """The variant, measured: by what computes it here, and in ONNX Runtime where that is something else; what loses more counts."""
        model, judge = self.opened(made), Judge(self.task, self.source.manifest)
        infers = {"reference": onnx_infer(made.work(self.threads)), "here": model.infer}
        if model.engine.startswith("ONNX Runtime"):
            del infers["reference"]
        validating, testing = self.material.validation, self.material.test
        raws = self._raw(infers, testing, made.prepare)
        losses = {side: judge.loss(raw, self.expected[1], testing.targets) for side, raw in raws.items()}
        worst = max(losses, key=lambda side: losses[side].points)
        validation = judge.loss(self._raw({worst: infers[worst]}, validating, made.prepare)[worst], self.expected[0], validating.targets)
        speed, size = speeds({"it": model.infer}, made.work(1).shape)["it"], self.size(made)
        scored = self.task.METRIC, *judge.score(raws[worst], testing.targets)
        precision = "int8" if made.manifest.is_int8 else "float"
        fits = self.asked.met(speed.latency_ms, size)
        return Point(made.name, precision, model.engine, speed, size, *scored, losses[worst], validation, fits)

    def in_int8(self, made: Made, max_loss: float) -> Made:
        """The variant in INT8, with as few layers in float as its own answers to validation images ask for."""
        manifest = replace(made.manifest, variant={**made.manifest.variant, "precision": "int8"})
        calibration = prepared(self.material.calibration, made.prepare, self.limits, READING)
        validation = prepared(self.material.validation, made.prepare, self.limits, READING)
        int8, judge = quantised(made.graph, calibration.pixels, made.name), Judge(self.task, self.source.manifest)

        def opened(graph: bytes) -> Infer:
            return onnx_infer(Made(made.name, graph, manifest).work(self.threads))

        found = tried_in_float(int8, made.graph, opened, validation, judge, max_loss)
        return Made(f"{made.name}, INT8", found.graph, manifest)

    def _raw(self, infers: dict[str, Infer], images: Images, prepare: Prepare) -> dict[str, Raw]:
        return replayed(infers, images, prepare, self.limits, "Measuring")[0]


def latency_ms(infer: Infer, shape: tuple[int, ...], clock: Callable[[], float] = time.perf_counter) -> float:
    """Milliseconds of one image, when little else is done: a shape that may be fast enough is to be tried, and then measured for longer."""
    image = np.random.default_rng(0).integers(0, 256, (1, *shape), np.uint8)
    infer(image)  # prepares itself on the first call
    taken: list[float] = []
    began = clock()
    while len(taken) < LEAST_ROUNDS or (len(taken) < MOST_ROUNDS and clock() - began < SECONDS):
        started = clock()
        infer(image)
        taken.append(clock() - started)
    return 1000 * float(np.quantile(taken, QUICK))


def _anything(shape: tuple[int, ...]) -> Acceptance:
    """Accepts any engine that computes a graph: of an untrained one only the time is asked."""
    image = np.zeros((1, *shape), np.uint8)
    return Acceptance(lambda raw, expected: 0.0, lambda raw: [], lambda: (image, {}), "untrained")
