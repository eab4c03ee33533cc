"""Exact and near copies, from the facts of looking once.

Exact copies have the same bytes. Near-copies are one picture saved again: recompressed, resized, a little brighter.
Neighbours are found with a k-d tree over coarse thumbnails, brought to mean 0 and length 1, so that no image is compared
with all others; a pair of neighbours has to agree in the whole thumbnail, the perceptual hash, brightness, contrast
and colour. docs/decisions/007-near-copies-by-thumbnail.md says why, and what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.data.look import THUMB_SIDE
from sightline.data.store import Facts

# Between thumbnails of mean 0 and length 1: half its square is 1 minus their correlation.
MAX_DISTANCE = 0.12
# Of the 64 of a perceptual hash; two unrelated pictures differ in 32.
MAX_BITS = 8
# How much the copy may be brighter and richer in contrast (levels of 255, ratio), and differ in mean hue (levels).
MAX_SHIFT, MAX_GAIN, MAX_HUE = 32.0, 1.3, 8.0
# Contrast (levels of 255) below which a picture is too plain to be told from another.
MIN_CONTRAST = 2.0
# Pixels of a thumbnail's block, of which the search compares the means first.
BLOCK = 4
# Look-alikes an image is compared with. Where a hundred show the same scene, each is still tied to the nearest.
NEIGHBOURS = 8


@dataclass(frozen=True)
class CopyPair:
    """Rows ``a`` < ``b`` hold the same picture; ``exact`` when byte for byte."""

    a: int
    b: int
    exact: bool


def find_copies(facts: Facts, *, near: bool = True) -> list[CopyPair]:
    """Pairs of copies among n looked-at images, in order; unreadable ones are left out.

    An exact copy is paired with the first of its kind, and only that one is compared with others: whoever ties all pairs
    together has everything that shows the same picture.
    """
    rows = np.flatnonzero(facts.readable)
    _, first, which = np.unique(facts.sha256[rows], return_index=True, return_inverse=True)
    originals = rows[first][which]
    exact = [CopyPair(int(a), int(b), True) for a, b in zip(originals, rows, strict=True) if a != b]
    return exact + (_near_copies(facts, np.sort(rows[first])) if near else [])


def _near_copies(facts: Facts, rows: NDArray[np.int64]) -> list[CopyPair]:
    levels = facts.thumb[rows].reshape(len(rows), THUMB_SIDE**2).astype(np.float32)
    telling = levels.std(axis=1) > MIN_CONTRAST
    rows, levels = rows[telling], levels[telling]
    if len(rows) < 2:
        return []
    mean, contrast = levels.mean(axis=1), levels.std(axis=1)
    shapes = levels - mean[:, None]
    shapes /= np.linalg.norm(shapes, axis=1, keepdims=True)
    hues = 255 * (facts.colour[rows] - facts.colour[rows].mean(axis=1, keepdims=True))
    a, b = _neighbours(shapes).T
    same = (
        (np.linalg.norm(shapes[a] - shapes[b], axis=1) <= MAX_DISTANCE)
        & (_differing_bits(facts.phash[rows[a]], facts.phash[rows[b]]) <= MAX_BITS)
        & (np.abs(mean[a] - mean[b]) <= MAX_SHIFT)
        & (np.maximum(contrast[a], contrast[b]) <= MAX_GAIN * np.minimum(contrast[a], contrast[b]))
        & (np.abs(hues[a] - hues[b]).max(axis=1) <= MAX_HUE)
    )
    return [CopyPair(int(i), int(j), False) for i, j in zip(rows[a[same]], rows[b[same]], strict=True)]


def _neighbours(shapes: NDArray[np.float32]) -> NDArray[np.int64]:
    """(m, 2) pairs i < j among (n, 256) normalised thumbnails whose distance may be within MAX_DISTANCE, NEIGHBOURS for each at most."""
    from scipy.spatial import cKDTree

    # Sums of blocks of 4x4, divided by 4, are coordinates along 16 orthogonal directions: distances only get shorter, so no pair is lost.
    blocks = THUMB_SIDE // BLOCK
    coarse = shapes.reshape(-1, blocks, BLOCK, blocks, BLOCK).sum(axis=(2, 4)).reshape(-1, blocks**2) / BLOCK
    _, found = cKDTree(coarse).query(coarse, k=NEIGHBOURS + 1, distance_upper_bound=MAX_DISTANCE)
    here = np.repeat(np.arange(len(shapes)), NEIGHBOURS + 1)
    pairs = np.sort(np.stack([here, found.ravel()], axis=1), axis=1)
    # What is missing to k neighbours has the number n.
    return np.unique(pairs[(pairs[:, 1] < len(shapes)) & (pairs[:, 0] < pairs[:, 1])], axis=0)


def _differing_bits(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.int64]:
    return np.unpackbits((a ^ b).view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1, dtype=np.int64)
