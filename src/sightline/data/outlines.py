"""Outlines of objects as pixels: polygons, and COCO's run lengths, whose pixels run down the columns.

A pixel belongs to a polygon when its centre, at half-integers, lies inside by the even-odd rule; several polygons of one object are
joined.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from sightline.scenes import Outline

Box = tuple[float, float, float, float]
# No pixel is so far away: corners beyond are moved there, so that no number overflows.
FAR = 1e12
# Crossings of a polygon with rows that are computed together: 2 MB for each of a few columns.
CROSSINGS_AT_ONCE = 2**18


def mask_of(outline: Outline, size: tuple[int, int]) -> tuple[NDArray[np.bool_], int, int]:
    """The pixels of an outline in an image of ``size`` (width, height): (h', w') bool, and its left and top in the image.

    Only the part of the image around the outline is given; it is empty where nothing of it lies in the image.
    """
    width, height = size
    if isinstance(outline, np.ndarray):
        return np.repeat(np.arange(len(outline)) % 2 == 1, outline).reshape(width, height).T, 0, 0
    corners = np.concatenate(outline)
    left, top = np.clip(np.floor(corners.min(axis=0)), 0, size).astype(int).tolist()
    right, bottom = np.clip(np.ceil(corners.max(axis=0)), 0, size).astype(int).tolist()
    pixels = np.zeros((max(0, bottom - top), max(0, right - left)), bool)
    if pixels.size:
        for polygon in outline:
            pixels |= _filled(_near(polygon) - (left, top), pixels.shape)
    return pixels, left, top


def _filled(polygon: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The pixels whose centres lie in a polygon (p, 2), by where its edges cross the rows' middles."""
    height, width = shape
    # Each crossing changes in and out for everything to its right. Only odd and even count, which eight bits keep when they overflow.
    crossings = np.zeros((height, width + 1), np.uint8)
    for row, x in _crossings(polygon, height):
        column = np.ceil(x - 0.5).clip(0, width).astype(np.int64)  # the first pixel whose centre is not left of the crossing
        np.add.at(crossings.ravel(), row * (width + 1) + column, np.uint8(1))
    np.cumsum(crossings, axis=1, dtype=np.uint8, out=crossings)
    return np.asarray((crossings[:, :width] & 1).view(bool))


def _crossings(polygon: NDArray[np.float64], height: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """The rows, below ``height``, whose middle an edge of a polygon crosses, and where; some edges at a time."""
    start, end = polygon, np.roll(polygon, -1, axis=0)
    first = np.ceil(np.minimum(start[:, 1], end[:, 1]) - 0.5).clip(0, height).astype(np.int64)
    past = np.ceil(np.maximum(start[:, 1], end[:, 1]) - 0.5).clip(0, height).astype(np.int64)
    counts = past - first  # rows that each edge crosses; none if it lies along them
    before = np.cumsum(counts) - counts
    cuts = np.flatnonzero(np.diff(before // CROSSINGS_AT_ONCE)) + 1
    for edges in np.split(np.arange(len(polygon)), cuts):
        edge = np.repeat(edges, counts[edges])
        row = np.arange(len(edge)) - (before[edge] - before[edges[0]]) + first[edge]
        rise = end[edge, 1] - start[edge, 1]
        yield row, start[edge, 0] + (row + 0.5 - start[edge, 1]) / rise * (end[edge, 0] - start[edge, 0])


def _near(polygon: NDArray[np.float64]) -> NDArray[np.float64]:
    return polygon.clip(-FAR, FAR)


def covered(outline: Outline) -> float:
    """The pixels that an outline covers; of several polygons, those of each are counted."""
    if isinstance(outline, np.ndarray):
        return float(outline[1::2].sum())
    polygons = (_near(polygon).T for polygon in outline)
    return float(sum(abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2 for x, y in polygons))


def extent(outline: Outline, height: int) -> Box:
    """Left, top, right and bottom of an outline; ``height`` of the image, which run lengths need. All zero for no pixels."""
    if not isinstance(outline, np.ndarray):
        corners = np.concatenate(outline)
        (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
        return left, top, right, bottom
    ends = np.cumsum(outline)
    starts, ends = ends[0::2][: len(outline) // 2], ends[1::2]
    starts, ends = starts[ends > starts], ends[ends > starts]
    if not len(starts):
        return 0.0, 0.0, 0.0, 0.0
    left, right = int(starts[0]) // height, (int(ends[-1]) - 1) // height + 1
    across = (starts // height != (ends - 1) // height).any()  # a run over two columns holds the bottom of one and the top of the other
    top, bottom = (0, height) if across else (int((starts % height).min()), int(((ends - 1) % height).max()) + 1)
    return float(left), float(top), float(right), float(bottom)


def run_lengths(pixels: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The lengths of runs of a mask (h, w), down the columns, beginning outside: the inverse of what ``mask_of`` makes of them."""
    flat = np.concatenate([[False], pixels.T.ravel()])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], changes, [pixels.size]])).astype(np.int64)


def unpacked(text: str) -> NDArray[np.int64]:
    """The run lengths that COCO's compressed form holds: ASCII, five bits a character, the lowest first, the sixth for "more follows";
    from the fourth number on the difference to the one two places before. Raises ValueError."""
    codes = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("no compressed run lengths")
    last = np.flatnonzero(codes & 32 == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    places = np.arange(len(codes)) - np.repeat(first, last - first + 1)
    if places.max() > 11:
        raise ValueError("a run length is too large")
    numbers = np.add.reduceat((codes & 31) << (5 * places), first)
    numbers -= np.where(codes[last] & 16, 1 << (5 * (last - first + 1)), 0)
    for start in (1, 2):
        numbers[start::2] = np.cumsum(numbers[start::2])
    return numbers


def painted(outlines: Sequence[Outline | None], labels: Sequence[int], boxes: NDArray[np.float64], size: tuple[int, int],
            beneath: int, ignored: int) -> NDArray[np.uint8]:  # fmt: skip
    """(h, w) uint8 the label of each pixel; where outlines overlap that of the last, elsewhere ``beneath``.

    Of an object without an outline nobody knows which pixels it covers: in its box, what nothing else covers is ``ignored``.
    """
    width, height = size
    pixels = np.full((height, width), beneath, np.uint8)
    for outline, (left, top, right, bottom) in zip(outlines, boxes.tolist(), strict=True):
        if outline is None:
            pixels[max(0, int(top)) : int(np.ceil(bottom)), max(0, int(left)) : int(np.ceil(right))] = ignored
    for outline, label in zip(outlines, labels, strict=True):
        if outline is not None:
            mask, left, top = mask_of(outline, size)
            pixels[top : top + mask.shape[0], left : left + mask.shape[1]][mask] = label
    return pixels
