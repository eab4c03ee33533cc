"""Large pictures part by part: overlapping windows at full resolution, and what is found in them laid together again.

Windows lie in rows and columns, so the boxes of neighbours are joined along one straight seam at a time: first within each row, then row by
row. Of an object that two windows show, each sees what lies on its own side; in the strip that both see, their boxes agree. There a
box that its window cuts yields to the whole one of the other, two whole ones are one object, and two that are cut are its two parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain, islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.data.windows import Tiling as Tiling
from sightline.data.windows import Window
from sightline.evaluation.boxes import overlapping
from sightline.scenes import Detections, Segmentation

# Boxes of one label that overlap by so much, in the strip that two windows share, are of one object.
SAME = 0.5
# A box that ends within this share of its window's side (or so many pixels) of a seam may go on behind it.
EDGE, EDGE_PIXELS = 0.01, 2.0


def predict_tiles(
    pixels: NDArray[np.uint8], tiling: Tiling, predict: Callable[[Iterable[NDArray[np.uint8]]], Iterable[Any]]
) -> Detections | Segmentation:
    """What is found on a picture (h, w, channels); ``predict`` gives the prediction of each of a stream of its windows, in order."""
    rows = tiling.rows(pixels.shape[1], pixels.shape[0])
    found = iter(predict(pixels[top:bottom, left:right] for row in rows for left, top, right, bottom in row))
    first = next(found)
    parts = chain([first], found)
    return joined_boxes(rows, parts) if isinstance(first, Detections) else joined_maps(rows, parts)


def joined_boxes(rows: Sequence[Sequence[Window]], parts: Iterable[Detections]) -> Detections:
    """The objects of a picture, the surest first, from those found in each of its windows, row by row, in pixels of the window."""
    found = iter(parts)
    strips = (
        reduce(lambda before, after: _joined(before, after, 0), map(_Part.of, row, islice(found, len(row)))) for row in rows
    )  # fmt: skip
    whole = reduce(lambda before, after: _joined(before, after, 1), strips)
    order = np.argsort(-whole.scores, kind="stable")
    boxes = tuple(map(tuple, whole.boxes[order].round(2).tolist()))
    return Detections(tuple(whole.labels[order].tolist()), tuple(whole.scores[order].tolist()), boxes)


@dataclass(frozen=True, eq=False)
class _Part:
    """What is found in a part of the picture: ``boxes`` (m, 4) in pixels of the picture, ``scores`` (m,) and ``labels`` (m,) of text;
    ``edge`` is how near to its border a box may go on behind it."""

    window: Window
    edge: float
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[Any]

    @classmethod
    def of(cls, window: Window, found: Detections) -> _Part:
        left, top, right, bottom = window
        boxes = np.asarray(found.boxes, np.float64).reshape(-1, 4) + np.array([left, top, left, top])
        edge = max(EDGE_PIXELS, EDGE * max(right - left, bottom - top))
        return cls(window, edge, boxes, np.asarray(found.scores, np.float64), np.array(found.labels, object))

    def without(self, rows: NDArray[np.bool_]) -> _Part:
        return _Part(self.window, self.edge, self.boxes[~rows], self.scores[~rows], self.labels[~rows])


def _joined(before: _Part, after: _Part, axis: int) -> _Part:
    """Two neighbours as one part; ``axis`` 0 where ``after`` is to the right of the other, 1 where it is below."""
    start, end = after.window[axis], before.window[axis + 2]
    # Only what reaches into the strip that both see can be the same.
    ours, theirs = np.flatnonzero(before.boxes[:, axis + 2] > start), np.flatnonzero(after.boxes[:, axis] < end)
    cut = before.boxes[ours, axis + 2] >= end - before.edge, after.boxes[theirs, axis] <= start + after.edge
    one, other = (_within(part.boxes[rows], axis, start, end) for part, rows in ((before, ours), (after, theirs)))
    gone = np.zeros(len(before.boxes), bool), np.zeros(len(after.boxes), bool)
    boxes, scores = after.boxes.copy(), after.scores.copy()
    for i, j in _pairs(one, other, before.labels[ours], after.labels[theirs]):
        mine, its = ours[i], theirs[j]
        if cut[0][i] and cut[1][j]:
            boxes[its] = _around(before.boxes[mine], boxes[its])
            scores[its] = max(before.scores[mine], scores[its])
            gone[0][mine] = True
        elif cut[0][i] or (not cut[1][j] and before.scores[mine] < scores[its]):
            gone[0][mine] = True
        else:
            gone[1][its] = True
    first, second = before.without(gone[0]), _Part(after.window, after.edge, boxes, scores, after.labels).without(gone[1])
    return _Part(
        (*before.window[:2], *after.window[2:]),
        max(before.edge, after.edge),
        np.concatenate([first.boxes, second.boxes]),
        np.concatenate([first.scores, second.scores]),
        np.concatenate([first.labels, second.labels]),
    )


def _within(boxes: NDArray[np.float64], axis: int, start: float, end: float) -> NDArray[np.float64]:
    """What of boxes lies between two places along an axis."""
    clipped = boxes.copy()
    clipped[:, [axis, axis + 2]] = boxes[:, [axis, axis + 2]].clip(start, end)
    return clipped


def _pairs(one: NDArray[np.float64], other: NDArray[np.float64], labels: NDArray[Any], others: NDArray[Any]) -> Iterator[tuple[int, int]]:
    """Indices of boxes that are the same object, each in one pair at most, those that agree best first."""
    rows, columns, overlaps = overlapping(one, other, SAME)
    alike = labels[rows] == others[columns]
    rows, columns, overlaps = rows[alike], columns[alike], overlaps[alike]
    taken: tuple[set[int], set[int]] = set(), set()
    for place in np.argsort(-overlaps, kind="stable").tolist():
        i, j = int(rows[place]), int(columns[place])
        if i not in taken[0] and j not in taken[1]:
            taken[0].add(i)
            taken[1].add(j)
            yield i, j


def _around(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([np.minimum(one[:2], other[:2]), np.maximum(one[2:], other[2:])])


def joined_maps(rows: Sequence[Sequence[Window]], parts: Iterable[Segmentation]) -> Segmentation:
    """The classes of a picture's pixels, each from the window whose centre is nearest, from those of its windows, row by row."""
    width, height = rows[-1][-1][2:]
    classes = np.zeros((height, width), np.uint8)
    names: tuple[str, ...] = ()
    pixels: dict[str, int] = {}
    sums: dict[str, float] = {}
    found = iter(parts)
    for (top, bottom), row in zip(_owned([row[0][1::2] for row in rows]), rows, strict=True):
        for (left, right), window, part in zip(_owned([window[0::2] for window in row]), row, islice(found, len(row)), strict=True):
            own = part.classes[top - window[1] : bottom - window[1], left - window[0] : right - window[0]]
            classes[top:bottom, left:right] = own
            names = part.names
            for index, count in enumerate(np.bincount(own.ravel()).tolist()):
                if count:
                    pixels[names[index]] = pixels.get(names[index], 0) + count
                    sums[names[index]] = sums.get(names[index], 0.0) + count * part.scores[names[index]]
    order = sorted(pixels, key=lambda label: -pixels[label])
    return Segmentation(classes, names, {label: sums[label] / pixels[label] for label in order})


def _owned(spans: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Of windows along an axis, as (start, end), the part of each that is nearer to its middle than to that of any other."""
    borders = [(before[1] + after[0] + 1) // 2 for before, after in pairwise(spans)]
    return list(zip([spans[0][0], *borders], [*borders, spans[-1][1]], strict=True))
