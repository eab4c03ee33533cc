"""A model's answers to the same images in every condition: which images, how many of them, and what it said."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline import console
from sightline.evaluation.corruptions import CORRUPTIONS, STRENGTHS
from sightline.predictions import Decision
from sightline.records import Infer, presence
from sightline.tasks import Task

# With fewer images a loss of ten points cannot be told from chance in any condition; more than the most hardly narrow the intervals.
FEWEST, MOST = 16, 200
# Where there is no time for all strengths, every other one or the middle one has to do.
STRENGTH_CHOICES = (STRENGTHS, (1, 3, 5), (3,))
BATCH = 16
# Numbers in a frame.
FRAME = 10
# Images that each condition's own time is measured on, and the share of the time that may be planned with.
TIMED, PLANNED = 2, 0.85


@dataclass(frozen=True)
class Judge:
    """What turns a network's raw outputs into answers that are right or wrong."""

    task: Task
    labels: Sequence[str]
    decision: Decision

    @property
    def conditions(self) -> tuple[str, ...]:
        """Those that can be tried: where things lie on the images, none that moves them."""
        return tuple(name for name, corruption in CORRUPTIONS.items() if not (self.task.SCENES and corruption.moves))

    def outcomes(self, infer: Infer, batches: Iterator[NDArray[np.uint8]], sample: Sample) -> list[dict[str, Any]]:
        """A row an image of the sample as ``Task.outcomes`` has it; outputs that are no finite numbers are a wrong answer."""
        kept, sound, start = [], [], 0
        for batch in batches:
            rows = slice(start, start := start + len(batch))
            raw = {name: values for name, values in infer(batch).items() if name in (*self.task.OUTPUTS, "similarity")}
            sound.append(np.all([np.isfinite(values.reshape(len(values), -1)).all(axis=1) for values in raw.values()], axis=0))
            finite = {name: np.nan_to_num(values) for name, values in raw.items()}
            kept.append(self.task.compact({**finite, "frame": sample.frames[rows]}, sample.targets[rows]))
        together = {name: np.concatenate([each[name] for each in kept]) for name in kept[0]}
        rows_found = self.task.outcomes(together, sample.targets, self.labels, self.decision)
        return [row if fine else {**row, "right": 0.0} for row, fine in zip(rows_found, np.concatenate(sound).tolist(), strict=True)]


@dataclass(frozen=True)
class Sample:
    """The test images that every condition is tried on.

    rows       (n,) int64 places among the images given, which decide on chance together with the seed
    images     (n, h, w, c) uint8, with their targets
    frames     (n, 10) how each lies on its original
    strengths  those that are tried
    """

    rows: NDArray[np.int64]
    images: NDArray[np.uint8]
    targets: NDArray[Any]
    frames: NDArray[np.float64]
    strengths: tuple[int, ...]
    seed: int

    def __len__(self) -> int:
        return len(self.rows)

    def seen(self, name: str, strength: int, place: int) -> NDArray[np.uint8]:
        """An image of the sample in a condition; the same scene at every strength."""
        rng = np.random.default_rng([self.seed, list(CORRUPTIONS).index(name), int(self.rows[place])])
        return CORRUPTIONS[name](self.images[place], strength, rng)

    def batches(self, name: str | None = None, strength: int = 0) -> Iterator[NDArray[np.uint8]]:
        """All images in a condition, or as they are where none is named."""
        for start in range(0, len(self), BATCH):
            places = range(start, min(start + BATCH, len(self)))
            yield self.images[start : places.stop] if name is None else np.stack([self.seen(name, strength, place) for place in places])


@dataclass(frozen=True)
class Answers:
    """What a model said of a sample's n images: rows of ``Task.outcomes`` for the images as they are and in each condition and strength."""

    clean: list[dict[str, Any]]
    harder: dict[tuple[str, int], list[dict[str, Any]]]

    @property
    def clean_right(self) -> NDArray[np.float64]:
        """(n,) how right each answer is, in [0, 1]."""
        return np.array([row["right"] for row in self.clean])

    @property
    def right(self) -> NDArray[np.float64]:
        """(n, conditions, strengths) how right each answer is, in [0, 1]."""
        flat = np.array([[row["right"] for row in rows] for rows in self.harder.values()])
        return flat.reshape(len(self.conditions), -1, len(self.clean)).transpose(2, 0, 1)

    @property
    def conditions(self) -> tuple[str, ...]:
        """In the order of ``right``."""
        return tuple(dict.fromkeys(name for name, _ in self.harder))


def answers(infer: Infer, sample: Sample, judge: Judge) -> Answers:
    """The model's answers in every condition, in order; a batch of images is in memory at a time."""
    cases = [(name, strength) for name in judge.conditions for strength in sample.strengths]
    harder = {
        case: judge.outcomes(infer, sample.batches(*case), sample) for case in console.track(cases, len(cases), "Trying harder conditions")
    }
    return Answers(judge.outcomes(infer, sample.batches(), sample), harder)


def chosen_sample(infers: Sequence[Infer], everything: Sample, judge: Judge, seconds: float) -> Sample | None:
    """As many of the images, ``FEWEST`` to ``MOST``, as all of these networks can be tried on in so many seconds; None where there is no
    time for the fewest even at one strength."""
    started = time.monotonic()
    one_pass, one_change = _pace(infers, everything, judge)
    left = PLANNED * (seconds - (time.monotonic() - started))
    for strengths in STRENGTH_CHOICES:
        cases = len(strengths) * len(judge.conditions)
        n = int(min(MOST, len(everything), left / ((1 + cases) * one_pass + cases * len(infers) * one_change)))
        if n >= FEWEST:
            rows = stratified(presence(everything.targets, len(judge.labels)), everything.seed)[:n]
            chosen = everything.images[rows], everything.targets[rows], everything.frames[rows]
            return Sample(rows, *chosen, strengths, everything.seed)
    return None


def _pace(infers: Sequence[Infer], everything: Sample, judge: Judge) -> tuple[float, float]:
    """Seconds an image that a pass through all networks and judging it takes, and that a condition takes on average."""
    some = replace(everything, rows=everything.rows[:BATCH], images=everything.images[:BATCH], targets=everything.targets[:BATCH])
    for infer in infers:
        infer(some.images)  # first calls take longer
    started = time.perf_counter()
    for infer in infers:
        judge.outcomes(infer, some.batches(), some)
    passed = time.perf_counter()
    for name in judge.conditions:
        for image in some.images[:TIMED]:
            CORRUPTIONS[name](image, STRENGTHS[len(STRENGTHS) // 2], np.random.default_rng(0))
    return (passed - started) / len(some), (time.perf_counter() - passed) / len(some.images[:TIMED]) / len(judge.conditions)


def stratified(targets: NDArray[Any], seed: int) -> NDArray[np.int64]:
    """(n,) all rows in an order of which every beginning has the targets in their proportions, as nearly as can be.

    ``targets`` are (n,) int64 or (n, k) bool; an image with several labels counts for its rarest one.
    """
    if targets.ndim == 2:
        frequent = np.where(targets, targets.sum(axis=0), len(targets) + 1)
        strata = np.where(targets.any(axis=1), frequent.argmin(axis=1), -1)
    else:
        strata = targets
    rng, place = np.random.default_rng(seed), np.empty(len(targets))
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        # Evenly spread from a random start, so that rare targets do not all come at one end.
        place[rng.permutation(rows)] = (np.arange(len(rows)) + rng.random()) / len(rows)
    return np.argsort(place, kind="stable")
