"""A variant held against its source, on the same images: what it loses, which answers change, and how fast each is."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline import console
from sightline.data.decode import Limits
from sightline.data.prepare import Prepare
from sightline.errors import DataError
from sightline.exporting.material import Images
from sightline.manifest import Manifest
from sightline.records import Infer
from sightline.runtime import raw_outputs
from sightline.tasks import Task

Raw = Mapping[str, NDArray[Any]]

BATCH = 16
# Seconds that are given to the latencies and to the throughputs of all sides together, about, and the fewest rounds of each.
SECONDS, LEAST_ROUNDS, MOST_ROUNDS = 4.0, 5, 200


@dataclass(frozen=True)
class Speed:
    """Milliseconds of one image and of a batch of ``BATCH`` (median and 99th percentile each), and images a second in such batches."""

    latency_ms: float
    latency_p99_ms: float
    batch_ms: float
    batch_p99_ms: float
    images_per_second: float


@dataclass(frozen=True)
class Loss:
    """What a variant loses on n images: ``points`` of the task's metric in percent, and how many answers are others."""

    points: float
    changed: int
    n: int

    @property
    def share(self) -> float:
        return self.changed / self.n

    def __str__(self) -> str:
        return f"{self.points:+.2f} points lost, {self.changed} of {self.n} answers changed"


@dataclass(frozen=True)
class Figures:
    """A row of the table, of n test images or, without any, of the images in the bundle.

    value, interval  the task's ``metric`` and its interval; None without test images
    changed          share of answers that are others than the source's
    difference       the largest in the task's measure, of what computes in fp32 or INT8
    """

    name: str
    megabytes: float
    metric: str
    value: float | None
    interval: tuple[float, float] | None
    changed: float
    difference: float
    n: int
    engine: str
    speed: Speed

    def to_json(self) -> dict[str, Any]:
        plain = {**asdict(self), "interval": None if self.interval is None else list(self.interval)}
        return {**{name: value for name, value in plain.items() if name != "speed"}, **plain["speed"]}

    def cells(self) -> list[str]:
        low, high = self.interval or (None, None)
        return [
            self.name, f"{self.megabytes:.1f}", "–" if self.value is None else f"{self.value:.4f}",
            "–" if low is None else f"{low:.4f} to {high:.4f}", f"{self.changed:.2%}", f"{self.difference:.1e}",
            f"{self.speed.latency_ms:.2f}", f"{self.speed.latency_p99_ms:.2f}", f"{self.speed.batch_ms:.2f}",
            f"{self.speed.batch_p99_ms:.2f}", f"{self.speed.images_per_second:.0f}", self.engine,
        ]  # fmt: skip


def table(rows: Sequence[Figures]) -> list[str]:
    """A line for each row below the heads, in columns."""
    heads = [
        "",
        "MB",
        rows[0].metric,
        "95% interval",
        "changed",
        "differs",
        "ms",
        "p99",
        f"ms of {BATCH}",
        "p99",
        "images/s",
        "computed by",
    ]
    cells = [heads, *(row.cells() for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(heads))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


@dataclass(frozen=True)
class Judge:
    """How outputs of a manifest's task become figures."""

    task: Task
    manifest: Manifest

    def score(self, raw: Raw, targets: NDArray[Any]) -> tuple[float, tuple[float, float]]:
        """The task's metric in [0, 1] and its interval; DataError where the images have none."""
        keys = [str(place) for place in range(len(targets))]
        found = self.task.evaluate(raw, targets, self.manifest.labels, self.manifest.decision, keys)
        if self.task.METRIC not in found["metrics"]:
            raise DataError(
                f"None of the {len(targets)} images has a label, so that there is no {self.task.METRIC} to lose; give labelled ones."
            )
        low, high = found["intervals"][self.task.METRIC]
        return found["metrics"][self.task.METRIC], (low, high)

    def loss(self, raw: Raw, expected: Raw, targets: NDArray[Any]) -> Loss:
        """Of n images with what the task keeps of their outputs."""
        points = 100 * (self.score(expected, targets)[0] - self.score(raw, targets)[0])
        changed = sum(one != other for one, other in zip(self._said(raw, targets), self._said(expected, targets), strict=True))
        return Loss(points, changed, len(targets))

    def apart(self, raw: Raw, expected: Raw) -> float:
        """How far all that is computed of a few images is from what it should be: of whole images the mean difference of a logit, of scenes
        the mean over images of the task's own."""
        if self.task.SCENES:
            rows = [(self._row(raw, row), self._row(expected, row)) for row in range(len(raw["frame"]))]
            return float(np.mean([self.task.difference(*both, self.manifest.decision) for both in rows]))
        return sum(float(np.abs(_centred(raw[name]) - _centred(expected[name])).mean()) for name in self.task.OUTPUTS)

    def _row(self, raw: Raw, row: int) -> Raw:
        return {name: raw[name][row : row + 1] for name in self.task.OUTPUTS}

    def _said(self, raw: Raw, targets: NDArray[Any]) -> list[str]:
        """Each image's answer as text."""
        return [outcome["predicted"] for outcome in self.task.outcomes(raw, targets, self.manifest.labels, self.manifest.decision)]


def _centred(values: NDArray[Any]) -> NDArray[Any]:
    """Without what all outputs of an image have in common, which changes no answer."""
    return np.asarray(values - values.mean(axis=-1, keepdims=True))


def replayed(infers: Mapping[str, Infer], images: Images, prepare: Prepare, limits: Limits, what: str) -> tuple[dict[str, Raw], Images]:
    """Raw outputs of each side on the original files, each read once, with their frames, and the images that could be read; the others
    are named.

    Raises DataError when none could.
    """

    def side_by_side(batch: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return {f"{side} {name}": values for side, infer in infers.items() for name, values in infer(batch).items()}

    stream = raw_outputs(side_by_side, prepare, images.refs, batch_size=BATCH, limits=limits)
    raws, places, done = [], [], 0
    for batch in console.track(stream, -(-len(images) // BATCH), what):
        for place, error in batch.errors:
            console.warn(f"{images.refs[place]}: {error.reason}; left out.")
        places += batch.positions
        if batch.positions:
            raws.append(batch.raw)
        done += batch.size
    if not places:
        raise DataError(f"{images.refs[0]} and all {len(images)} images beside it could not be read; mend the data.")
    joined = {name: np.concatenate([raw[name] for raw in raws]) for name in raws[0]}
    found: dict[str, Raw] = {
        side: {"frame": joined["frame"]}
        | {name.split(" ", 1)[1]: values for name, values in joined.items() if name.split(" ", 1)[0] == side}
        for side in infers
    }
    return found, Images([images.refs[place] for place in places], images.targets[places])


def speeds(infers: Mapping[str, Infer], shape: Sequence[int]) -> dict[str, Speed]:
    """Each side's speed; they take turns, so that what else the machine does meets all of them."""
    images = np.random.default_rng(0).integers(0, 256, (BATCH, *shape), np.uint8)
    single, many = _rounds(infers, images[:1]), _rounds(infers, images)
    return {
        side: Speed(
            1000 * median(single[side]), 1000 * float(np.quantile(single[side], 0.99)),
            1000 * median(many[side]), 1000 * float(np.quantile(many[side], 0.99)), BATCH / median(many[side]),
        )
        for side in infers
    }  # fmt: skip


def _rounds(infers: Mapping[str, Infer], images: NDArray[np.uint8]) -> dict[str, list[float]]:
    """Seconds of each call."""
    for infer in infers.values():
        infer(images)  # prepares itself on the first call
    found: dict[str, list[float]] = {side: [] for side in infers}
    began = time.perf_counter()
    for done in range(MOST_ROUNDS):
        if done >= LEAST_ROUNDS and time.perf_counter() - began > SECONDS / 2:
            break
        for side, infer in infers.items():
            started = time.perf_counter()
            infer(images)
            found[side].append(time.perf_counter() - started)
    return found
