"""Pictures of harder conditions: what each looks like, and images that were right as they are and turned wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.report.pictures import thumbnail
from sightline.tasks.measures import measure_of
from sightline.trust.conditions import Answers, Judge, Sample

PART = "robustness"
MOST_PAIRS = 6
PAIR_SIDE, LOOK_SIDE = 224, 144
# Smaller pictures are shown with larger pixels, so that what was done to them can be seen.
SMALL_SIDE = 128
GAP, GAP_GREY = 6, 160
# A middle grey.
MIDDLE = 118
# By so much an answer has to have become less right to count as turned wrong; of pixels, of which most are easy, a part is much.
TURNED, TURNED_PIXELS = 0.5, 0.2


def pictures(found: Answers, sample: Sample, weakest: Sequence[str], judge: Judge) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What is shown, for a report's numbers (``looks`` and ``pictures``), and the JPEG files by key."""
    made: dict[str, bytes] = {}
    example, middle = _example(found, sample), sample.strengths[len(sample.strengths) // 2]
    looks: list[dict[str, Any]] = []
    for number, name in enumerate((None, *judge.conditions)):
        key = f"{PART}/looks/{number}"
        looks.append({"key": key, "condition": name, "strength": 0 if name is None else middle})
        made[key] = thumbnail(_enlarged(sample.images[example] if name is None else sample.seen(name, middle, example)), LOOK_SIDE)
    pairs: list[dict[str, Any]] = []
    for name, strength, place in _turned(found, sample, weakest, TURNED_PIXELS if measure_of(judge.task) == "pixels" else TURNED):
        key = f"{PART}/turned/{len(pairs) + 1}"
        before, after = found.clean[place], found.harder[name, strength][place]
        pairs.append({"key": key, "condition": name, "strength": strength, "truth": before["truth"],
                      "clean": {"predicted": before["predicted"], "score": before["score"], "right": before["right"]},
                      "harder": {"predicted": after["predicted"], "score": after["score"], "right": after["right"]}})  # fmt: skip
        made[key] = thumbnail(_side_by_side(sample.images[place], sample.seen(name, strength, place)), 2 * PAIR_SIDE + GAP)
    return {"looks": looks, "pictures": pairs}, made


def _example(found: Answers, sample: Sample) -> int:
    """The place of an image to show conditions on: one that is answered rightly and neither dark nor bright, where all of them show."""
    right = np.flatnonzero(found.clean_right == found.clean_right.max())
    return int(min(right, key=lambda place: abs(float(sample.images[place].mean()) - MIDDLE)))


def _turned(found: Answers, sample: Sample, weakest: Sequence[str], turned: float) -> list[tuple[str, int, int]]:
    """(condition, strength, place) of images that turned wrong, at the lowest strength that did it; none is shown twice."""
    chosen: list[tuple[str, int, int]] = []
    clean = found.clean_right
    for name in weakest:
        firsts: dict[int, int] = {}
        for strength in sample.strengths:
            after = np.array([row["right"] for row in found.harder[name, strength]])
            for place in np.flatnonzero(clean - after >= turned).tolist():
                firsts.setdefault(place, strength)
        shown = {place for _, _, place in chosen}
        # Of what turned at the same strength, the surest of its wrong answer tells most.
        order = sorted(firsts, key=lambda place: (firsts[place], -found.harder[name, firsts[place]][place]["score"]))
        chosen += [(name, firsts[place], place) for place in order if place not in shown][: MOST_PAIRS // len(weakest)]
    return chosen


def _side_by_side(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.uint8]:
    pair = [_enlarged(image) for image in (left, right)]
    gap = np.full((pair[0].shape[0], GAP, pair[0].shape[2]), GAP_GREY, np.uint8)
    return np.concatenate([pair[0], gap, pair[1]], axis=1)


def _enlarged(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A small image with each pixel repeated."""
    times = max(1, SMALL_SIDE // max(image.shape[:2]))
    return image.repeat(times, axis=0).repeat(times, axis=1)
