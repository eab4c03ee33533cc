"""Which engine computes, by measurement: each candidate is timed on this machine, and the fastest that agrees is taken.

The first candidate, ONNX Runtime in fp32 unless another engine is asked for, is what the others are held against: it is never
dropped, and nothing slower than it is ever taken. Where it stands alone, nothing is measured.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline import console
from sightline.engines import cache
from sightline.engines.acceptance import Acceptance
from sightline.engines.adapters import Candidate, Work, version_of
from sightline.errors import SightlineError
from sightline.processor import processor_features, processor_name
from sightline.records import Infer

# Raised when what is measured or how it is judged changes.
VERSION = 2
# How far a candidate may be from the first, in the task's measure: engines of fp32 agree to about 1e-6.
TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2}
# The same graph in INT8 in another engine or on another processor: a sum that ends near the middle between two levels is rounded to
# either, and the layers behind see a whole level more or less. Measured: up to 0.02 on CIFAR-10, 0.06 on photographs (decision 018).
INT8_TOLERANCE = 0.1
# Share of the answers that may then be others: of near ties.
INT8_CHANGED = 0.02
# Seconds that the timed batches take together, about, and how many of each candidate's there are at most.
SECONDS, ROUNDS = 1.0, 3
# A gain of less than this may be chance.
GAIN = 1.05


@dataclass(frozen=True)
class Measured:
    """Figures of a choice: by a candidate's name, images a second, or why it was dropped; images in a batch that was timed."""

    chosen: str
    images_per_second: Mapping[str, float]
    dropped: Mapping[str, str]
    batch: int

    def to_json(self) -> dict[str, Any]:
        return {"chosen": self.chosen, "images_per_second": dict(self.images_per_second), "dropped": dict(self.dropped),
                "batch": self.batch}  # fmt: skip


def choose_engine(work: Work, acceptance: Acceptance, candidates: Sequence[Candidate]) -> tuple[Infer, Candidate]:
    """The candidate that computes ``work`` fastest here without changing its answers, ready to compute.

    The choice is kept in the cache folder, so that the next start measures nothing. Raises ModelFileError when the first
    candidate cannot run the graph.
    """
    by_name = {candidate.name: candidate for candidate in candidates}
    if len(candidates) == 1:
        return candidates[0].load(work), candidates[0]
    key = _key(work, acceptance, candidates)
    if name := cache.recall(key, by_name):
        return by_name[name].load(work), by_name[name]
    infer, measured = measure(work, acceptance, candidates)
    cache.keep(key, measured.to_json())
    chosen, speeds = by_name[measured.chosen], measured.images_per_second
    if chosen is not candidates[0]:
        gain = speeds[chosen.name] / speeds[candidates[0].name]
        console.say(f"{chosen} computes: here {gain:.2g} times as fast as {candidates[0]}.")
    return infer, chosen


def _key(work: Work, acceptance: Acceptance, candidates: Sequence[Candidate]) -> dict[str, Any]:
    return {
        "version": VERSION, "graph": hashlib.sha256(work.graph).hexdigest(), "acceptance": acceptance.digest, "outputs": list(work.outputs),
        "batch": work.batch, "threads": work.threads, "streams": work.streams,
        "processor": processor_name(), "features": processor_features(),
        "candidates": {candidate.name: version_of(candidate.engine) for candidate in candidates},
    }  # fmt: skip


def measure(
    work: Work, acceptance: Acceptance, candidates: Sequence[Candidate], *, clock: Callable[[], float] = time.perf_counter
) -> tuple[Infer, Measured]:
    """Load, time and check the candidates; the chosen one's ``Infer`` and the figures."""
    first = candidates[0]
    infers, dropped = {first.name: first.load(work)}, {}
    images = _noise(work, 1)
    infers[first.name](images)  # prepares itself on the first call
    started = clock()
    infers[first.name](images)
    batch = _batch(work, clock() - started, len(candidates))
    images = _noise(work, batch)
    for candidate in candidates[1:]:
        try:
            infer = candidate.load(work)
            infer(images)
            infers[candidate.name] = infer
        except (SightlineError, RuntimeError) as error:  # OpenVINO fails with the latter
            dropped[candidate.name] = str(error)
    with ThreadPoolExecutor(work.streams) as pool:
        seconds = _seconds(infers, lambda infer: list(pool.map(infer, [images] * work.streams)), clock)
    speeds = {name: work.streams * batch / taken for name, taken in seconds.items()}
    fastest = [candidate for candidate in candidates if candidate.name in infers]
    fastest.sort(key=lambda candidate: -speeds[candidate.name])
    for candidate in fastest:
        if candidate is first or speeds[candidate.name] < GAIN * speeds[first.name]:
            break
        if reason := _objection(candidate, infers[candidate.name], infers[first.name], acceptance, images, work.int8):
            dropped[candidate.name] = reason
        else:
            return infers[candidate.name], Measured(candidate.name, speeds, dropped, batch)
    return infers[first.name], Measured(first.name, speeds, dropped, batch)


def _noise(work: Work, count: int) -> NDArray[np.uint8]:
    """Random images: an engine's time does not depend on what is on them."""
    return np.random.default_rng(0).integers(0, 256, (count, *work.shape), np.uint8)


def _batch(work: Work, seconds: float, candidates: int) -> int:
    """The batch asked for, or the part of it with which all rounds of all candidates stay within the time, at an image's seconds."""
    return max(1, min(work.batch, int(SECONDS / (ROUNDS * candidates * max(seconds, 1e-9)))))


def _seconds(infers: Mapping[str, Infer], use: Callable[[Infer], object], clock: Callable[[], float]) -> dict[str, float]:
    """Median seconds of a use; candidates take turns, so that what else the machine does meets all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in infers}
    began = clock()
    for done in range(ROUNDS):
        if done and clock() - began > SECONDS:
            break
        for name, infer in infers.items():
            started = clock()
            use(infer)
            seconds[name].append(clock() - started)
    return {name: max(median(values), 1e-9) for name, values in seconds.items()}


def tolerance_of(precision: str, int8: bool) -> float:
    """How far outputs computed in a precision may be from those recorded, of a float or an INT8 graph, in the task's measure."""
    return max(TOLERANCE[precision], INT8_TOLERANCE if int8 else 0.0)


def _objection(
    candidate: Candidate, infer: Infer, first: Infer, acceptance: Acceptance, noise: NDArray[np.uint8], int8: bool
) -> str | None:
    """Why a candidate's outputs are not good enough, or None. Fewer bits than fp32 are judged on real images, and by the answers too.

    An INT8 graph is held against what the first engine recorded of that same graph.
    """
    exact = candidate.precision == "fp32" and not int8
    try:
        images, expected = (noise, first(noise)) if exact else acceptance.photographs()
    except SightlineError as error:
        return str(error)
    raws = [infer(images[start : start + len(noise)]) for start in range(0, len(images), len(noise))]
    found = {name: np.concatenate([raw[name] for raw in raws]) for name in raws[0]}
    if any(found[name].shape != values.shape for name, values in expected.items()):
        return "its outputs have other shapes"
    difference = acceptance.difference(found, expected)
    if not difference <= tolerance_of(candidate.precision, int8):
        return f"its outputs differ by up to {difference:.2g}"
    changed = 0 if exact else sum(a != b for a, b in zip(acceptance.answers(found), acceptance.answers(expected), strict=True))
    allowed = int(INT8_CHANGED * len(images)) if int8 else 0
    return f"it answers differently on {changed} of {len(images)} images" if changed > allowed else None
