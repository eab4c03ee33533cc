"""Boxes as arrays: areas, overlaps, suppression of doubles.

A box is left, top, right, bottom in continuous pixels, as in COCO: (0, 0, 1, 1) is the one pixel in the corner, so no 1 is added to
widths. Overlap is intersection over union (IoU); with a crowd it is the share of the found box that lies in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.metrics import Floats, Ints

# Up to so many pairs it is quickest to compare all with all.
DENSE = 1 << 17
# Beyond, so many are held in memory at once: some 100 MB.
PAIRS_AT_ONCE = 1 << 20
# Boxes that are settled together when doubles are suppressed: large enough for numpy to pay, small enough for the cache.
BLOCK = 128


def areas(boxes: Floats) -> NDArray[np.floating[Any]]:
    """(m,) pixels of (m, 4) boxes; 0 for one whose sides are the wrong way round."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return np.asarray(sides[:, 0] * sides[:, 1])


def clip(boxes: Floats, width: float, height: float) -> NDArray[np.floating[Any]]:
    """(..., 4) boxes cut to an image of that size, in the same dtype; one that lies outside is left without area."""
    return np.clip(boxes, 0, np.array([width, height, width, height], boxes.dtype))


def paired_iou(found: Floats, truth: Floats, crowd: NDArray[np.bool_] | None = None) -> NDArray[np.floating[Any]]:
    """(m,) overlaps of (m, 4) boxes with those in the same row, where ``iou`` has those of all with all."""
    sides = np.maximum(np.minimum(found[:, 2:], truth[:, 2:]) - np.maximum(found[:, :2], truth[:, :2]), 0)
    shared = sides[:, 0] * sides[:, 1]
    whole = areas(found) + areas(truth) - shared
    if crowd is not None:
        whole = np.where(crowd, areas(found), whole)
    return np.asarray(shared / np.where(shared > 0, whole, 1))


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
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.floating[Any]]]:
    """The pairs that overlap by ``least``, which is above 0, or more: (p,) rows in ``found``, (p,) rows in ``truth``, (p,) overlaps.

    In the order of ``found``, then of ``truth``. Of many boxes only those that are side by side are compared, so that ten thousand
    small ones on a large image take neither long nor much memory.
    """
    if len(found) * len(truth) <= DENSE:
        overlaps = iou(found, truth, crowd)
        rows, columns = np.nonzero(overlaps >= least)
        return rows, columns, overlaps[rows, columns]
    parts = []
    for rows, columns in _side_by_side(found, truth):
        overlaps = paired_iou(found[rows], truth[columns], None if crowd is None else crowd[columns])
        near = overlaps >= least
        parts.append((rows[near], columns[near], overlaps[near]))
    rows, columns, overlaps = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((columns, rows))
    return rows[order], columns[order], overlaps[order]


def _side_by_side(found: Floats, truth: Floats) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows of pairs among which are all that share a column of pixels, in parts of bounded size.

    Sorted by their left sides, the others that may reach into a box are a range.
    """
    order = np.argsort(truth[:, 0], kind="stable")
    lefts, widest = truth[order, 0], np.fmax.reduce(truth[:, 2] - truth[:, 0])
    first = np.searchsorted(lefts, found[:, 0] - widest, "left")
    counts = np.maximum(np.searchsorted(lefts, found[:, 2], "right") - first, 0)
    step = max(1, PAIRS_AT_ONCE // len(truth))
    for start in range(0, len(found), step):
        part = counts[start : start + step]
        rows = np.repeat(np.arange(len(part)), part)
        within = np.arange(len(rows)) - (part.cumsum() - part)[rows]
        yield rows + start, order[first[start : start + step][rows] + within]


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
        same = labels[block][:, None] == labels[block]
        block = block[_survivors(same & (iou(boxes[block], boxes[block]) > overlap))][:missing]
        kept.append(block)
        missing -= len(block)
        if missing > 0:
            surer, others, values = overlapping(boxes[block], boxes[left], overlap)
            left = np.delete(left, others[(values > overlap) & (labels[block[surer]] == labels[left[others]])])
    return np.concatenate(kept)


def _survivors(doubles: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(b,) those left of b boxes in order, where each that is left removes its doubles behind it."""
    left = np.ones(len(doubles), bool)
    for place in range(len(doubles)):
        if left[place]:
            left[place + 1 :] &= ~doubles[place, place + 1 :]
    return left


def is_set(boxes: Floats) -> bool:
    """Whether a network's boxes (..., a, 4) are a set, in which each object is once: the last of them is none, and lies outside."""
    return bool((boxes[..., -1, :] < 0).all())


def sets_apart(ones: tuple[Floats, Floats], others: tuple[Floats, Floats], least: float) -> float:
    """How far sets of boxes (n, q, 4) with values (n, q, k) are apart, in whatever order each is: of a box with a value of ``least`` or
    more how far the nearest of its image in the other set is, in a value or in a side as a share of its longer one; the largest of these.
    """
    pairs = [((ones[0][row], ones[1][row]), (others[0][row], others[1][row])) for row in range(len(ones[0]))]
    return float(np.max([0.0, *(_apart(*each, least) for one, other in pairs for each in ((one, other), (other, one)))]))


def _apart(one: tuple[Floats, Floats], other: tuple[Floats, Floats], least: float) -> float:
    """The farthest of one image's boxes from the nearest in the other set."""
    (boxes, values), (others, strange) = one, other
    asked = ~(values.max(axis=1) < least)  # what is no number is far from everything
    longer = np.maximum((boxes[asked, 2:] - boxes[asked, :2]).max(axis=1), 1.0)
    moved = np.abs(boxes[asked, None] - others).max(axis=2) / longer[:, None]
    return float(np.maximum(moved, np.abs(values[asked, None] - strange).max(axis=2)).min(axis=1).max(initial=0.0))
