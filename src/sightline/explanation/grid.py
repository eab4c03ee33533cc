"""A coarse map of cells laid over pixels: enlarged to the network's input, or laid back onto the image that it was made of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sightline.explanation.subject import Floats

# Differences of logits that are no more than rounding.
ROUNDING = 1e-4


def heat_of(evidence: Floats) -> NDArray[np.float32]:
    """Heat in [0, 1]: by how much a place's evidence for the label is above the image's mean, as a share of the largest.

    Nought where the evidence is below the mean or against the label, and everywhere where all places say the same. The mean is what
    a ground of any texture gives; without it, a faint light on a large ground outweighs a small object.
    """
    above = np.maximum(evidence - max(float(evidence.mean()), 0.0), 0)
    most = float(above.max(initial=0))
    return (above / most if most > ROUNDING * max(1.0, float(np.abs(evidence).max())) else np.zeros_like(above)).astype(np.float32)


def enlarged(grid: Floats, shape: tuple[int, int]) -> NDArray[np.float64]:
    """A map (rows, columns) over so many pixels, (height, width), bilinear."""
    return sampled(grid, np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5, shape)


def sampled(grid: Floats, x: Floats, y: Floats, shape: tuple[int, int]) -> NDArray[np.float64]:
    """(len(y), len(x)) values of a map (rows, columns) that covers (height, width) pixels, at places in pixels from its corner.

    Bilinear between the cells' centres; beyond the outermost centres their value holds.
    """
    return _weights(y, shape[0], grid.shape[0]) @ grid.astype(np.float64) @ _weights(x, shape[1], grid.shape[1]).T


def _weights(places: Floats, size: int, cells: int) -> NDArray[np.float64]:
    """(len(places), cells): how much each cell counts at a place."""
    at = np.clip(places / size * cells - 0.5, 0, cells - 1)
    return np.maximum(0.0, 1 - np.abs(at[:, None] - np.arange(cells)))


def laid_back(grid: Floats, back: Floats, shape: tuple[int, int], width: int, height: int, scale: float = 1.0) -> NDArray[np.float64]:
    """A map over the network's input on the image that it was prepared from, (height, width), NaN where the network saw nothing.

    shape  height and width of the input
    back   the (2, 3) affine from the input to the image, as ``Prepare`` returns it: it stretches and shifts, and never turns
    scale  pixels asked for to one of the image
    """
    x = ((np.arange(width) + 0.5) / scale - back[0, 2]) / back[0, 0]
    y = ((np.arange(height) + 0.5) / scale - back[1, 2]) / back[1, 1]
    heat = sampled(grid, x, y, shape)
    heat[(y < 0) | (y > shape[0])] = np.nan
    heat[:, (x < 0) | (x > shape[1])] = np.nan
    return heat


def covered(back: Floats, shape: tuple[int, int]) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of what the network saw, in pixels of the image; beyond its border where that was padded."""
    return tuple(float(back[axis, axis] * edge * side + back[axis, 2]) for edge in (0, 1) for axis, side in enumerate(shape[::-1]))  # type: ignore[return-value]


def is_whole(box: tuple[float, float, float, float], width: int, height: int) -> bool:
    """Whether what the network saw, (left, top, right, bottom), is all of an image but for less than half a pixel at each side."""
    left, top, right, bottom = box
    return left < 0.5 and top < 0.5 and right > width - 0.5 and bottom > height - 0.5
