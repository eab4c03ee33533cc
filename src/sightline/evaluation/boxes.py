"""Boxes as arrays: areas, overlaps, suppression of doubles.

A box is left, top, right, bottom in continuous pixels, as in COCO: (0, 0, 1, 1) is the one pixel in the corner, so no 1 is added to
widths. Overlap is intersection over union (IoU); with a crowd it is the share of the found box that lies in it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.metrics import Floats, Ints

# Overlaps held in memory at once: 32 MB of float64.
PAIRS_AT_ONCE = 1 << 22
# Boxes that are settled together when doubles are suppressed: large enough for numpy to pay, small enough for the cache.
BLOCK = 128


def areas(boxes: Floats) -> NDArray[np.floating[Any]]:
    """(m,) pixels of (m, 4) boxes; 0 for one whose sides are the wrong way round."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return np.asarray(sides[:, 0] * sides[:, 1])


def clip(boxes: Floats, width: float, height: float) -> NDArray[np.floating[Any]]:
    """(..., 4) boxes cut to an image of that size, in the same dtype; one that lies outside is left without area."""
    return np.clip(boxes, 0, np.array([width, height, width, height], boxes.dtype))


def paired_iou(first: Floats, second: Floats) -> NDArray[np.floating[Any]]:
    """(m,) overlaps in [0, 1] of (m, 4) boxes with those in the same row."""
    sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    shared = np.prod(np.maximum(sides, 0), axis=1)
    return np.asarray(shared / np.where(shared > 0, areas(first) + areas(second) - shared, 1))


def iou(found: Floats, truth: Floats, crowd: NDArray[np.bool_] | None = None) -> NDArray[np.floating[Any]]:
    """(d, g) overlaps in [0, 1] of (d, 4) and (g, 4) boxes, in their dtype; boxes without area overlap nothing.

    Where ``crowd`` (g,) is True, intersection over the found box's own area, as in COCO's evaluation: a box inside a crowd overlaps
    it wholly, however large the crowd is.
    """
    width = np.minimum(found[:, None, 2], truth[None, :, 2]) - np.maximum(found[:, None, 0], truth[None, :, 0])
    height = np.minimum(found[:, None, 3], truth[None, :, 3]) - np.maximum(found[:, None, 1], truth[None, :, 1])
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    own, others = areas(found)[:, None], areas(truth)[None, :]
    whole = own + others - shared
    if crowd is not None:
        whole = np.where(crowd[None, :], own, whole)
    # A union of 0 has an intersection of 0.
    return np.asarray(shared / np.where(shared > 0, whole, 1))


def overlapping(
    found: Floats, truth: Floats, least: float, crowd: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The pairs that overlap by ``least`` or more: (p,) rows in ``found``, (p,) rows in ``truth``, (p,) overlaps.

    In the order of ``found``, then of ``truth``. Works in blocks, so that memory goes with the pairs found.
    """
    step = max(1, PAIRS_AT_ONCE // max(1, len(truth)))
    rows, columns, values = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    for start in range(0, len(found), step):
        overlaps = iou(found[start : start + step], truth, crowd)
        near, others = np.nonzero(overlaps >= least)
        rows.append(near + start)
        columns.append(others)
        values.append(overlaps[near, others])
    return np.concatenate(rows), np.concatenate(columns), np.concatenate(values)


def suppress(boxes: Floats, scores: Floats, labels: Ints, overlap: float, limit: int | None = None) -> NDArray[np.int64]:
    """Greedy non-maximum suppression within each class: the indices kept of (d, 4) boxes, the surest first, at most ``limit``.

    A box goes if its IoU with a kept one of the same label, and a score no lower, is above ``overlap``. Among equal scores the first
    stays.
    """
    left = np.argsort(-scores, kind="stable")
    kept: list[NDArray[np.int64]] = [left[:0]]
    missing = len(left) if limit is None else limit
    while len(left) and missing > 0:
        block, left = left[:BLOCK], left[BLOCK:]
        block = block[_survivors(_doubles(boxes, labels, block, block, overlap))][:missing]
        kept.append(block)
        missing -= len(block)
        if missing > 0 and len(left):
            step = max(1, PAIRS_AT_ONCE // len(block))
            parts = [left[start : start + step] for start in range(0, len(left), step)]
            left = np.concatenate([part[~_doubles(boxes, labels, block, part, overlap).any(axis=0)] for part in parts])
    return np.concatenate(kept)


def _doubles(boxes: Floats, labels: Ints, kept: Ints, others: Ints, overlap: float) -> NDArray[np.bool_]:
    """(a, b) whether two boxes, given by index, are one and the same object."""
    return (labels[kept][:, None] == labels[others]) & (iou(boxes[kept], boxes[others]) > overlap)


def _survivors(doubles: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(b,) those left of b boxes in order, where each that is left removes its doubles behind it."""
    left = np.ones(len(doubles), bool)
    for place in range(len(doubles)):
        if left[place]:
            left[place + 1 :] &= ~doubles[place, place + 1 :]
    return left
