"""Exact and near copies, from the facts of looking once.

Exact copies have the same bytes. Near-copies are found in two steps: candidates whose perceptual hashes differ in
few bits, without comparing all pairs, and of those the pairs whose small grey copies agree as well. The second step is
what keeps plain pictures (a digit on black, an even surface), whose hashes say little, apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.data.store import Facts

# With four 16-bit bands, hashes that differ in at most three bits agree in at least one band (pigeonhole).
BANDS = 4
MAX_BITS = 3
# Thumbnails' difference as a share of their contrast: a recompressed or resized copy stays below 0.05.
MAX_DIFFERENCE = 0.06
# Contrast (of 255) below which a picture is too plain to be told from another.
MIN_CONTRAST = 2.0
# A band value shared by more images than this tells nothing.
MAX_BUCKET = 200


@dataclass(frozen=True)
class CopyPair:
    """Rows ``a`` < ``b`` hold the same picture; ``exact`` when byte for byte."""

    a: int
    b: int
    exact: bool


def find_copies(facts: Facts, *, near: bool = True) -> list[CopyPair]:
    """Pairs of copies among n looked-at images, each image linked to the first of its kind; unreadable ones are left out."""
    rows = np.flatnonzero(facts.readable)
    _, first, which = np.unique(facts.sha256[rows], return_index=True, return_inverse=True)
    originals = rows[first][which]
    exact = [CopyPair(int(a), int(b), True) for a, b in zip(originals, rows, strict=True) if a != b]
    return exact + (_near_copies(facts, np.sort(rows[first])) if near else [])


def _near_copies(facts: Facts, rows: NDArray[np.int64]) -> list[CopyPair]:
    hashes, thumbs = facts.phash[rows], facts.thumb[rows].reshape(len(rows), -1).astype(np.float32)
    contrast = thumbs.std(axis=1)
    pairs = _candidates(hashes)
    if not len(pairs):
        return []
    a, b = pairs.T
    bits = np.bitwise_count(hashes[a] ^ hashes[b])
    difference = np.sqrt(((thumbs[a] - thumbs[b]) ** 2).mean(axis=1))
    floor = np.minimum(contrast[a], contrast[b])
    same = (bits <= MAX_BITS) & (floor > MIN_CONTRAST) & (difference <= MAX_DIFFERENCE * floor)
    return [CopyPair(int(rows[i]), int(rows[j]), False) for i, j in pairs[same]]


def _candidates(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """(m, 2) pairs i < j whose hashes share a band."""
    found = []
    for band in range(BANDS):
        values = (hashes >> np.uint64(16 * band)) & np.uint64(0xFFFF)
        order = np.argsort(values, kind="stable")
        starts = np.flatnonzero(np.diff(values[order], prepend=np.uint64(1 << 16)))
        for members in np.split(order, starts[1:]):
            if 1 < len(members) <= MAX_BUCKET:
                i, j = np.triu_indices(len(members), 1)
                found.append(np.stack([members[i], members[j]], axis=1))
    if not found:
        return np.empty((0, 2), np.int64)
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)
