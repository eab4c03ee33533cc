"""A smaller, faster model on purpose: try what is cheapest first, measure each, take what is asked for with the least lost."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sightline import console
from sightline.bundle import Bundle
from sightline.config import ExportConfig
from sightline.data.decode import Limits
from sightline.errors import ModelFileError, RequirementNotMet, ResourceError, UsageError
from sightline.model.backbone import MODULE
from sightline.model.export import export_graph
from sightline.model.network import Network
from sightline.model.rebuild import network_of
from sightline.processor import processors
from sightline.records import Dataset
from sightline.runtime import Model
from sightline.shrinking.candidates import Foreseen, Shape, families, foreseen, picked, untrained
from sightline.shrinking.curve import Curve, lines
from sightline.shrinking.lesson import Lesson
from sightline.shrinking.measuring import Bench, Made, Point
from sightline.shrinking.release import Base, written
from sightline.shrinking.wanted import Wanted, spoken_size, spoken_time
from sightline.tasks import load_task


@dataclass(frozen=True)
class Shrunk:
    """The variant that was written, or the source where that is what is asked for already, and all that were measured."""

    model: Path
    wanted: Wanted
    chosen: Point
    points: tuple[Point, ...]
    max_loss: float
    curve: Curve | None

    def to_json(self) -> dict[str, Any]:
        loss, curve = self.chosen.loss, self.curve
        return {"model": str(self.model), "wanted": self.wanted.to_json(), "chosen": self.chosen.name, "max_loss": self.max_loss,
                "loss": loss.points, "changed": loss.share, "n": loss.n, "variants": [point.to_json() for point in self.points],
                "curve": None if curve is None else {"picture": str(curve.picture), "figures": str(curve.figures)}}  # fmt: skip

    def lines(self) -> list[str]:
        """The table, a row for each variant, and where the curve is drawn."""
        drawn = [] if self.curve is None else [f"The curve is drawn in {self.curve.picture}, its figures stand in {self.curve.figures}."]
        return [*lines(self.points, self.chosen), *drawn]


@dataclass
class Variants:
    """What is made of a bundle, one after the other: graphs, the networks behind them, and their points."""

    source: Bundle
    lesson: Lesson
    bench: Bench
    network: Network | None
    max_loss: float

    def __post_init__(self) -> None:
        self.points = [self.bench.point(self.bench.itself)]
        self.made = {self.bench.itself.name: self.bench.itself}
        self.networks: dict[str, Network] = {}
        console.say(_said(self.points[0]))

    def add(self, made: Made) -> Point:
        point = self.bench.point(made)
        self.made[made.name] = made
        self.points.append(point)
        console.say(_said(point))
        return point

    def in_int8(self, made: Made) -> Point | None:
        """The point of a variant in INT8; None where its graph cannot be."""
        try:
            smaller = self.bench.in_int8(made, self.max_loss)
        except ModelFileError as error:
            console.say(f"{made.name} stays in float: {error}")
            return None
        if made.name in self.networks:
            self.networks[smaller.name] = self.networks[made.name]
        return self.add(smaller)

    def trained(self, pick: Foreseen) -> None:
        """Train a shape and measure it, in INT8 too where it is to be that small or fast."""
        shape, manifest = pick.shape, self.source.manifest
        console.say(f"Training with {shape.name}, taught by the model itself.")
        network = untrained(shape, self.network, manifest, self.lesson.settings.network.dropout)
        network = self.lesson.teach(network, shape).cpu()
        about = {"prepare": network.prepare.to_json(), "backbone": shape.spec.to_json()}
        told = replace(manifest, variant={"precision": "fp32"}, members=(), **about)
        made = Made(shape.name, export_graph(network, network.prepare.shape), told)
        self.networks[made.name] = network
        if not self.add(made).fits:
            self.in_int8(made)

    def release(self, wanted_path: Path) -> tuple[Path, Point]:
        """Write that which loses least on validation of those that fit and hold on the test images; RequirementNotMet for none."""
        fitting = sorted((point for point in self.points[1:] if point.fits), key=lambda point: point.validation.points)
        chosen = next((point for point in fitting if point.loss.points <= self.max_loss + 1e-9), None)
        if chosen is None:
            raise self._refusal(fitting)
        made, path = self.made[chosen.name], _free(wanted_path)
        network = self.networks.get(chosen.name)
        base = Base.of_source(self.source)
        if network is not None:
            float_name = next(name for name, one in self.networks.items() if one is network)
            base = Base.of_network(self.made[float_name], network, self.source, self.lesson)
        written(path, made, base, self.bench, chosen, self.points, self.max_loss)
        return path, chosen

    def _refusal(self, fitting: Sequence[Point]) -> RequirementNotMet:
        wanted, metric = self.bench.wanted, self.points[0].figures.metric
        if fitting:
            nearest = min(fitting, key=lambda point: point.loss.points)
            return RequirementNotMet(
                f"{self.source.path}: nothing that meets {wanted} loses at most {self.max_loss:g} points of {metric} on the test images; "
                f"nearest is {_said(nearest)}, so allow more with --max-loss, or more time or room."
            )
        nearest = min(self.points, key=lambda point: _excess(point, wanted))
        return RequirementNotMet(f"{self.source.path}: nothing that was made meets {wanted}; nearest is {_said(nearest)}: allow more.")


def shrunk(source: Bundle, dataset: Dataset, config: ExportConfig, limits: Limits) -> Shrunk:
    """A variant of the bundle as small and fast as ``config`` asks for, which loses at most ``config.max_loss`` points, written beside it.

    ``dataset`` is what the bundle was trained on, with targets in terms of its labels. Raises UsageError for what cannot be asked
    for, DataError for other data, RequirementNotMet where nothing does, which names what comes nearest.
    """
    wanted, manifest = Wanted.of(config.latency, config.size), source.manifest
    if load_task(manifest.task).SCENES:
        raise UsageError(f"{source.path}: smaller models for the task {manifest.task} are not made yet; train one with another --backbone.")
    path = Path(config.out) if config.out else source.path.with_name(f"{source.path.stem}-small.sight")
    if not path.parent.is_dir():
        raise ResourceError(f"{path.parent}: is no folder to write {path.name} to; make it or give another --out.")
    threads = config.threads or processors()
    infer = Model.of(source, threads=threads, engine="onnxruntime").infer
    lesson = Lesson.of(source, dataset, infer, config.epochs, config.calibration_images, limits)
    bench = Bench(source, lesson.material, wanted, limits, threads, config.engine)
    own = manifest.backbone.get("name", "").startswith(MODULE)
    variants = Variants(source, lesson, bench, None if own else network_of(source), config.max_loss)
    if variants.points[0].fits:
        console.say(f"{source.path} meets {wanted} as it is, so nothing is written.")
        return Shrunk(source.path, wanted, variants.points[0], tuple(variants.points), config.max_loss, None)
    for pick in _picks(variants):
        variants.trained(pick)
    curve = Curve.beside(path)
    try:
        model, chosen = variants.release(path)
    except RequirementNotMet as refusal:
        curve.write(variants.points, wanted, None, config.max_loss)
        raise RequirementNotMet(f"{refusal} What was measured is drawn in {curve.picture}.") from None
    curve.write(variants.points, wanted, chosen, config.max_loss)
    return Shrunk(model, wanted, chosen, tuple(variants.points), config.max_loss, curve)


def _picks(variants: Variants) -> list[Foreseen]:
    """What is worth being trained: nothing where INT8 alone will do. Raises RequirementNotMet where no shape is small and fast enough."""
    bench, wanted, manifest = variants.bench, variants.bench.wanted, variants.source.manifest
    int8 = variants.in_int8(bench.itself)
    if int8 is not None and int8.fits and int8.loss.points <= variants.max_loss:
        return []
    most = _excess(variants.points[0], wanted)

    def look(shape: Shape) -> list[Foreseen]:
        found = foreseen(shape, variants.network, manifest, bench.untrained, wanted)
        return found if found and wanted.excess(found[0].latency_ms, found[0].size) < most else []

    picks, seen = picked(families(manifest, wanted), look, wanted)
    if picks or any(point.fits for point in variants.points):
        return picks
    reached = [(_excess(point, wanted), f"{point.name} ({spoken_time(point.figures.speed.latency_ms)}, {spoken_size(point.size)})")
               for point in variants.points]  # fmt: skip
    reached += [(wanted.excess(one.latency_ms, one.size), f"{one}, untrained") for one in seen]
    raise RequirementNotMet(
        f"{variants.source.path}: no model that is known here meets {wanted}; nearest of {len(reached)} that were timed is "
        f"{min(reached)[1]}: allow more, or train one with a smaller --size or --backbone."
    )


def _excess(point: Point, wanted: Wanted) -> float:
    return wanted.excess(point.figures.speed.latency_ms, point.size)


def _free(wanted: Path) -> Path:
    """The first name that is not taken: this one, or with -2, -3... behind it."""
    number, path = 1, wanted
    while os.path.lexists(path):
        number += 1
        path = wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
    return path


def _said(point: Point) -> str:
    speed, figures = point.figures.speed, point.figures
    return (
        f"{point.name}: {spoken_time(speed.latency_ms)} an image, {spoken_size(point.size)}, {figures.metric} {figures.value:.4f} "
        f"({figures.interval[0]:.4f} to {figures.interval[1]:.4f}), {point.loss.points:+.2f} points lost"
    )
