"""Variants replayed beside their source: every image through the variant's own Prepare, graph and labels, and how far apart the two are.

Images are compared batch by batch and only what the task keeps of many images stays, so that scenes of any number fit into memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline import console
from sightline.data.decode import Limits
from sightline.data.prepare import Prepare
from sightline.errors import DataError, ModelFileError
from sightline.exporting.judging import BATCH, Raw
from sightline.manifest import Manifest
from sightline.predictions import Prediction
from sightline.records import Infer
from sightline.runtime import RawBatch, Source, raw_outputs
from sightline.tasks import Task, kept, load_task

SOURCE = "float"


@dataclass(frozen=True)
class Side:
    """Something that answers: what its file says of itself, and what computes that file's graph."""

    manifest: Manifest
    infer: Infer

    @property
    def task(self) -> Task:
        return load_task(self.manifest.task)

    @property
    def prepare(self) -> Prepare:
        return Prepare.from_json(self.manifest.prepare)

    def decoded(self, raw: Raw) -> list[Prediction]:
        return self.task.decode(raw, self.manifest.labels, self.manifest.decision)


@dataclass(frozen=True)
class Agreement:
    """A variant beside its source on n images.

    names    what each image is called
    apart    (n,) how far their outputs are apart in the task's measure: of a classifier the largest difference of a probability
    changed  (n,) whether the answer is another
    gaps     (n,) how far the source's answer is above the next in probability; infinite where a task gives several labels
    """

    names: tuple[str, ...]
    apart: NDArray[np.float64]
    changed: NDArray[np.bool_]
    gaps: NDArray[np.float64]

    @property
    def largest(self) -> float:
        return float(np.max(self.apart))

    def farthest(self, count: int) -> str:
        """The images that are farthest apart, in words; of those equally far first the ones with another answer."""
        order = np.lexsort((~self.changed, -np.nan_to_num(self.apart, nan=np.inf)))[:count]
        return "; ".join(f"{self.names[place]} by {self.apart[place]:.2g}" for place in order.tolist())


@dataclass(frozen=True)
class Replayed:
    """What came of replaying images: for each side what is kept of its outputs, and for each but the source its agreement with that."""

    raws: Mapping[str, Raw]
    agreements: Mapping[str, Agreement]
    targets: NDArray[Any] | None


def replayed_beside(
    source: Side,
    sides: Mapping[str, Side],
    images: Sequence[Source],
    names: Sequence[str],
    targets: NDArray[Any] | None = None,
    *,
    limits: Limits = Limits(),
    what: str = "Replaying",
) -> Replayed:
    """Each image by all sides; those that cannot be read are named and left out.

    names    what the images are called
    targets  theirs, in terms of the source's labels, where there are any

    Raises DataError when no image could be read, ModelFileError for a side that gives other outputs than the source.
    """
    everyone = {SOURCE: source, **sides}
    raws: dict[str, list[Raw]] = {side: [] for side in everyone}
    found: dict[str, list[tuple[NDArray[Any], ...]]] = {side: [] for side in sides}
    places: list[int] = []
    for first, batch in console.track(_batches(everyone, images, limits), -(-len(images) // BATCH), what):
        for place, error in first.errors:
            console.warn(f"{names[place]}: {error.reason}; left out.")
        places += first.positions
        if not first.positions:
            continue
        own = None if targets is None else targets[first.positions]
        for side, raw in batch.items():
            raws[side].append(kept(source.task, raw, own))
        for side in sides:
            found[side].append(_compared(everyone[side], batch[side], source, batch[SOURCE]))
    if not places:
        raise DataError(f"{names[0]} and all {len(names)} images beside it could not be read; mend the data.")
    called = tuple(names[place] for place in places)
    return Replayed(
        {side: {name: np.concatenate([raw[name] for raw in parts]) for name in parts[0]} for side, parts in raws.items()},
        {side: Agreement(called, *(np.concatenate(column) for column in zip(*parts, strict=True))) for side, parts in found.items()},
        None if targets is None else targets[places],
    )


def _batches(everyone: Mapping[str, Side], images: Sequence[Source], limits: Limits) -> Any:
    """(the source's batch, each side's raw outputs) for the images in order. Sides that prepare alike share in one reading of a file."""
    groups: dict[Prepare, dict[str, Side]] = {}
    for name, side in everyone.items():
        groups.setdefault(side.prepare, {})[name] = side
    streams = [raw_outputs(_together(group), prepare, images, batch_size=BATCH, limits=limits) for prepare, group in groups.items()]
    for batches in zip(*streams, strict=True):
        batch: dict[str, Raw] = {}
        for group, part in zip(groups.values(), batches, strict=True):
            if part.positions != batches[0].positions:
                raise ModelFileError(f"{', '.join(group)}: reads other images than its source does.")
            batch |= {name: _own(part, name) for name in group}
        yield batches[0], batch


def _together(group: Mapping[str, Side]) -> Infer:
    def infer(batch: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return {f"{side}\n{name}": values for side, one in group.items() for name, values in one.infer(batch).items()}

    return infer


def _own(batch: RawBatch, side: str) -> Raw:
    """A side's outputs, with the frame of the images that it was given."""
    own = {name.removeprefix(f"{side}\n"): values for name, values in batch.raw.items() if name.startswith(f"{side}\n")}
    return {**own, "frame": batch.raw["frame"]} if batch.positions else {}


def _compared(side: Side, raw: Raw, source: Side, expected: Raw) -> tuple[NDArray[Any], ...]:
    """``apart``, ``changed`` and ``gaps`` of a batch."""
    task, decision = source.task, source.manifest.decision
    for name in task.OUTPUTS:
        if raw[name].shape != expected[name].shape:
            raise ModelFileError(f"A variant gives {name} of {raw[name].shape}, where its source gives {expected[name].shape}.")
    n = len(expected[task.OUTPUTS[0]])
    apart = np.array([task.difference(_row(raw, place), _row(expected, place), decision) for place in range(n)])
    pairs = zip(side.decoded(raw), source.decoded(expected), strict=True)
    changed = np.array([one.answer != other.answer for one, other in pairs], bool)
    return apart, changed, _gaps(task, expected, source)


def _gaps(task: Task, expected: Raw, source: Side) -> NDArray[np.float64]:
    n = len(expected[task.OUTPUTS[0]])
    if not task.ONE_LABEL or len(source.manifest.labels) < 2:
        return np.full(n, np.inf)
    best = np.sort(task.probabilities(expected, source.manifest.decision), axis=1)
    return np.asarray(best[:, -1] - best[:, -2])


def _row(raw: Raw, place: int) -> Raw:
    return {name: values[place : place + 1] for name, values in raw.items()}
