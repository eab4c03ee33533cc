"""Exact and near copies: one picture saved again, resized, cropped a little, mirrored, turned, a little brighter, with a mark on it.

Exact copies have the same bytes. For near copies a forest of random trees finds look-alikes by the low frequencies of small grey copies,
without comparing all pairs; each pair of look-alikes is then laid one over the other, small at first and in more detail where that holds.
docs/decisions/021-copies-are-laid-over-each-other.md says why, and what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.auditing.neighbours import near_neighbours
from sightline.auditing.registration import Laid, lay
from sightline.data.channels import picture_of
from sightline.data.store import Store

# Look-alikes: cosine of the low frequencies, how many of these there are along a side, and look-alikes of an image.
ALIKE, FREQUENCIES, NEIGHBOURS = 0.65, 8, 8
# More trees would find fewer than this share of new look-alikes; one that is turned has eight chances in each tree.
FRESH = 0.03
# Above so many images, turned ones are no longer looked for, only mirrored ones.
MANY = 200_000
# Correlations that copies have: of the thumbnails, of larger copies, and of what is small in these.
LIKE_THUMBS, LIKE_PICTURES, LIKE_DETAILS = 0.9, 0.93, 0.85
# Copies are so many times as far from all others as from each other; what is only alike, as handwritten digits are, is not.
APART = 2.5
# How far apart pictures are, 1 minus the correlation of what is small, in steps; nothing is told below the last.
LEVELS = (0.15, 0.1, 0.07, 0.05, 0.035, 0.025, 0.018)
# Side of the larger copies, of images of at least the double and of smaller ones.
SIDES = (64, 32)
# How much the copy may be brighter and richer in contrast (levels of 255, ratio), and differ in mean hue (levels).
MAX_SHIFT, MAX_GAIN, MAX_HUE = 32.0, 1.3, 8.0
# Contrast (levels of 255) below which a picture is too plain to be told from another.
MIN_CONTRAST = 2.0
# Scale from which a pair is said to be cropped, and not just saved again.
CROPPED = 0.02

# What makes of a copy the other picture. Of the number of a way, bit 2 exchanges x and y, then bit 0 flips left to right and bit 1 top to
# bottom.
WAYS = ("", "mirrored", "flipped top to bottom", "turned by 180°", "mirrored and turned by 90°", "turned by 90°", "turned by 90°",
        "mirrored and turned by 90°")  # fmt: skip


@dataclass(frozen=True)
class CopyPair:
    """Rows ``a`` < ``b`` hold the same picture: ``exact`` when byte for byte; else ``how`` is what was done to it, mostly nothing ("")."""

    a: int
    b: int
    exact: bool
    how: str = ""

    @property
    def kind(self) -> str:
        """In words."""
        return "the same file" if self.exact else f"nearly the same picture{f', {self.how}' if self.how else ''}"


def find_copies(store: Store, *, near: bool = True) -> list[CopyPair]:
    """Pairs of copies among n looked-at images, in order; unreadable ones are left out.

    An exact copy is paired with the first of its kind, and only that one is compared with others: whoever ties all pairs
    together has everything that shows the same picture.
    """
    facts = store.facts
    rows = np.flatnonzero(facts.readable)
    _, first, which = np.unique(facts.sha256[rows], return_index=True, return_inverse=True)
    originals = rows[first][which]
    exact = [CopyPair(int(a), int(b), True) for a, b in zip(originals, rows, strict=True) if a != b]
    return exact + (_near_copies(store, np.sort(rows[first])) if near else [])


def _near_copies(store: Store, rows: NDArray[np.int64]) -> list[CopyPair]:
    facts = store.facts
    thumbs = facts.thumb[rows].astype(np.float32)
    telling = thumbs.std(axis=(1, 2)) > MIN_CONTRAST
    rows, thumbs = rows[telling], thumbs[telling]
    if len(rows) < 2:
        return []
    a, b, way = _look_alikes(thumbs)
    hues = 255 * (facts.colour[rows] - facts.colour[rows].mean(axis=1, keepdims=True))
    mean, contrast = thumbs.mean(axis=(1, 2)), thumbs.std(axis=(1, 2))
    alike = (
        (np.abs(mean[a] - mean[b]) <= MAX_SHIFT)
        & (np.maximum(contrast[a], contrast[b]) <= MAX_GAIN * np.minimum(contrast[a], contrast[b]))
        & (np.abs(hues[a] - hues[b]).max(axis=1) <= MAX_HUE)
    )
    a, b, way = a[alike], b[alike], way[alike]
    laid = lay(thumbs[a], flipped(thumbs[b], way))
    good = laid.correlation >= LIKE_THUMBS
    ends = np.stack([rows[a], rows[b], way], axis=1)[good]
    small = store.shapes[ends[:, :2]].min(axis=(1, 2)) < 2 * SIDES[0]
    parts = [_in_detail(store, side, ends[those], laid.place[good][those]) for side, those in zip(SIDES, (~small, small), strict=True)]
    ends, near = np.concatenate([part[0] for part in parts]), Laid.joined([part[1] for part in parts])
    same = (near.correlation >= LIKE_PICTURES) & near.is_crop & _apart(len(store), ends[:, 0], ends[:, 1], 1 - near.detail)
    # What is symmetric is a copy in several ways; the first is the plainest.
    ends, first = np.unique(ends[same], axis=0, return_index=True)
    cropped = (np.abs(near.place[same][first][:, 0::2]) > CROPPED).any(axis=1)
    plainest: dict[tuple[int, int], CopyPair] = {}
    for (row, other, flip), crop in zip(ends.tolist(), cropped, strict=True):
        how = " and ".join(filter(None, (WAYS[flip], "cropped" if crop else "")))
        plainest.setdefault((row, other), CopyPair(row, other, False, how))
    return list(plainest.values())


def _look_alikes(thumbs: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pairs (m,) i < j of thumbnails with similar low frequencies, and the way in which j is to be flipped for that."""
    n, waves = len(thumbs), low_frequencies(thumbs)
    ways = range(8 if n <= MANY else 2)
    every = np.concatenate([_flipped_waves(waves, way) for way in ways]).reshape(len(ways) * n, -1)
    every /= np.linalg.norm(every, axis=1, keepdims=True) + 1e-6
    found = near_neighbours(every, ALIKE, NEIGHBOURS, FRESH).pairs
    (a, b), (way_a, way_b) = found.T % n, found.T // n
    # What was done to a is undone: its flips, and then its exchange, behind which flips along x are flips along y.
    flips = (way_a ^ way_b) & 3
    way = ((way_a ^ way_b) & 4) | np.where(way_a & 4, _exchanged(flips), flips)
    undone = (way & 4) | np.where(way & 4, _exchanged(way & 3), way & 3)
    ends = np.stack([np.minimum(a, b), np.maximum(a, b), np.where(a < b, way, undone)], axis=1)
    a, b, way = np.unique(ends[a != b], axis=0).T
    return a, b, way


def _exchanged(flips: NDArray[np.int64]) -> NDArray[np.int64]:
    return ((flips & 1) << 1) | (flips >> 1)


def low_frequencies(thumbs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of thumbnails (n, s, s), the first FREQUENCIES squared of the orthonormal DCT-II, without the mean."""
    side = thumbs.shape[1]
    basis = np.cos(np.pi / side * np.outer(np.arange(FREQUENCIES), np.arange(side) + 0.5)).astype(np.float32)
    basis[0] /= np.sqrt(2)
    waves: NDArray[np.float32] = basis @ thumbs @ basis.T
    waves[:, 0, 0] = 0
    return waves


def _flipped_waves(waves: NDArray[np.float32], way: int) -> NDArray[np.float32]:
    """The low frequencies of the flipped pictures: an odd wave changes its sign."""
    flipped = (waves.transpose(0, 2, 1) if way & 4 else waves).copy()
    if way & 1:
        flipped[:, :, 1::2] *= -1
    if way & 2:
        flipped[:, 1::2] *= -1
    return flipped


def flipped(pictures: NDArray[np.float32], ways: NDArray[np.int64]) -> NDArray[np.float32]:
    """Pictures (m, s, s), each flipped in its way of WAYS."""
    turned = np.where((ways & 4 > 0)[:, None, None], pictures.transpose(0, 2, 1), pictures)
    turned = np.where((ways & 1 > 0)[:, None, None], turned[:, :, ::-1], turned)
    return np.where((ways & 2 > 0)[:, None, None], turned[:, ::-1], turned)


def _in_detail(store: Store, side: int, ends: NDArray[np.int64], place: NDArray[np.float32]) -> tuple[NDArray[np.int64], Laid]:
    """(row, row, way) with grey pictures of ``side`` pixels laid over each other, from ``place`` on."""
    rows, where = np.unique(ends[:, :2], return_inverse=True)
    pictures = np.stack([_grey(store[row], side) for row in rows]) if len(rows) else np.empty((0, side, side), np.float32)
    left, right = where.reshape(-1, 2).T
    return ends, lay(pictures[left], flipped(pictures[right], ends[:, 2]), place)


def _apart(n: int, a: NDArray[np.int64], b: NDArray[np.int64], distance: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which pairs belong to a bunch of images that are near each other and, by APART, far from all others."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    def sizes(most: float) -> NDArray[np.int64]:
        """Of each image, how many hang together with it by steps of at most so much."""
        some = distance <= most
        edges = coo_matrix((np.ones(np.count_nonzero(some)), (a[some], b[some])), shape=(n, n))
        bunch = connected_components(edges, directed=False)[1]
        counts: NDArray[np.int64] = np.bincount(bunch)[bunch]
        return counts

    found = np.zeros(len(a), bool)
    for level in (level for level in LEVELS if level <= 1 - LIKE_DETAILS + 1e-6):
        found |= (distance <= level) & (sizes(level) == sizes(APART * level))[a]
    return found


def _grey(pixels: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    return np.asarray(picture_of(pixels).convert("L").resize((side, side), Image.Resampling.BILINEAR), np.float32)
