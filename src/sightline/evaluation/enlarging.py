"""A network's coarse logits at the pixels of the original image: bilinear, as torch's ``interpolate`` without aligned corners."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

# Numbers in memory at once while the classes of a large image are found.
NUMBERS_AT_ONCE = 1 << 22


def classes_of(logits: Floats, frame: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(height, width) uint8, the class with the highest logit of each pixel of the original.

    logits  (k, h, w) over the network's input
    frame   (10,) how that lies on the original, as ``scenes.frame_of`` has it; it neither turns nor mirrors
    """
    width, height = int(frame[6]), int(frame[7])
    left, right, across = _between(np.arange(width) + 0.5, frame[[0, 2, 8]], logits.shape[2])
    upper, lower, down = _between(np.arange(height) + 0.5, frame[[4, 5, 9]], logits.shape[1])
    found = np.empty((height, width), np.uint8)
    step = max(1, NUMBERS_AT_ONCE // (len(logits) * width))
    for start in range(0, height, step):
        rows = slice(start, start + step)
        first, last = upper[rows].min(), lower[rows].max()
        band = logits[:, first : last + 1]
        wide = band[:, :, left] * (1 - across) + band[:, :, right] * across
        weight = down[rows, None]
        found[rows] = (wide[:, upper[rows] - first] * (1 - weight) + wide[:, lower[rows] - first] * weight).argmax(axis=0)
    return found


def logits_at(logits: Floats, frame: NDArray[np.float64], x: Floats, y: Floats) -> NDArray[np.float32]:
    """(s, k) logits at s places of the original, ``x`` and ``y`` (s,) in its pixels."""
    left, right, across = _between(x, frame[[0, 2, 8]], logits.shape[2])
    upper, lower, down = _between(y, frame[[4, 5, 9]], logits.shape[1])
    above = logits[:, upper, left] * (1 - across) + logits[:, upper, right] * across
    below = logits[:, lower, left] * (1 - across) + logits[:, lower, right] * across
    return np.ascontiguousarray((above * (1 - down) + below * down).T, np.float32)


def cells_within(frame: NDArray[np.float64], rows: int, columns: int) -> tuple[slice, slice]:
    """The rows and columns of cells over the network's input whose centres lie on the original, and not on what pads it.

    Of a side so short that it lies between two centres, the cell that its middle is in.
    """
    return _within(frame[7], frame[[4, 5, 9]], rows), _within(frame[6], frame[[0, 2, 8]], columns)


def _within(length: float, axis: NDArray[np.float64], cells: int) -> slice:
    """The cells along one axis of an original of this length; ``axis`` as ``_between`` has it."""
    scale, offset, side = axis.tolist()
    start, end = ((place - offset) / scale * cells / side for place in (0.0, float(length)))
    first, last = (min(max(math.ceil(edge - 0.5), 0), cells) for edge in (start, end))
    if first < last:
        return slice(first, last)
    middle = min(max(math.floor((start + end) / 2), 0), cells - 1)
    return slice(middle, middle + 1)


def _between(places: Floats, axis: NDArray[np.float64], cells: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Of places along one axis of the original: the cells on both sides, and how far (0 to 1) each is towards the second.

    ``axis`` holds scale and offset from input to original, and the input's side.
    """
    scale, offset, side = axis.tolist()
    position = np.clip((places - offset) / scale * cells / side - 0.5, 0, cells - 1)
    first = np.minimum(position.astype(np.int64), max(0, cells - 2))
    return first, np.minimum(first + 1, cells - 1), (position - first).astype(np.float32)
