"""Near neighbours among very many vectors, without comparing all pairs: a forest of random trees.

Each tree divides the vectors again and again at the median of their projections onto a random direction, until blocks of a few dozen
are left, and only within these is everything compared. Vectors close together mostly fall into one block; those that one tree parts
meet in another. How many trees are needed is seen on the way: a tree that finds next to nothing new is the last.
After Dasgupta and Freund, "Random projection trees and low dimensional manifolds" (2008).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Vectors compared with each other at the end of a tree.
BLOCK = 64
FEWEST_TREES, MOST_TREES = 4, 128
# With more vectors than MANY there are so many trees at least: their branches are longer, and a pair is parted more often.
MANY, FEWEST_OF_MANY = 100_000, 32
# Blocks compared at once, which bounds memory: the products of 512 take 8 MB.
AT_ONCE = 512


@dataclass(frozen=True)
class Neighbours:
    """``pairs`` (m, 2) int64, i < j, in order; ``similarity`` (m,) float32, their products; ``trees``, how many it took."""

    pairs: NDArray[np.int64]
    similarity: NDArray[np.float32]
    trees: int


def near_neighbours(vectors: NDArray[np.float32], at_least: float, most: int, fresh_share: float = 0.005, seed: int = 0) -> Neighbours:
    """Pairs of vectors (n, d) of length 1 whose product is at least ``at_least``: for each vector the ``most`` similar, and no more.

    The last tree is one that finds no more new pairs than ``fresh_share`` of those it finds. Time grows as n log n. Memory: the vectors,
    and 12 bytes for each neighbour that a vector may have.
    """
    n, rng = len(vectors), np.random.default_rng(seed)
    best, scores = np.full((n, most), -1, np.int64), np.full((n, most), -np.inf, np.float32)
    trees, fewest = 0, FEWEST_OF_MANY if n > MANY else FEWEST_TREES
    for trees in range(1, (MOST_TREES if n > BLOCK else min(n, 1)) + 1):
        order, found, fresh = _leaves(vectors, rng), 0, 0
        for start in range(0, n, BLOCK * AT_ONCE):
            new, kept = _compare(vectors, order[start : start + BLOCK * AT_ONCE], at_least, best, scores)
            fresh, found = fresh + new, found + kept
        if trees >= fewest and fresh <= fresh_share * found:
            break
    rows, places = np.nonzero(best >= 0)
    ends = np.sort(np.stack([rows, best[rows, places]], axis=1), axis=1)
    pairs, first = np.unique(ends, axis=0, return_index=True)
    return Neighbours(pairs, scores[rows, places][first], trees)


def _leaves(vectors: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.int64]:
    """The rows in the order of one tree's leaves: each run of BLOCK rows is one.

    All nodes of a level are divided at once, each at that multiple of BLOCK which is nearest to its median.
    """
    n, blocks = len(vectors), -(-len(vectors) // BLOCK)
    order, starts = rng.permutation(n), np.array([0, blocks])
    levels = (blocks - 1).bit_length()
    # Along differences of two of the vectors: where they vary most, these point most often. All at once, as reading them takes longest.
    ends = rng.integers(0, n, (2, levels))
    along = (vectors[ends[0]] - vectors[ends[1]]) @ vectors.T
    block = np.arange(n) // BLOCK
    for level in range(levels):
        node = np.searchsorted(starts, block, side="right")
        # One key for node and place in it, as the projection is between -2 and 2: much faster to sort than two.
        order = order[np.argsort(node + (along[level, order].astype(np.float64) + 2) / 4.001)]
        starts = np.unique(np.concatenate([starts, (starts[:-1] + starts[1:] + 1) // 2]))
    return order


def _compare(
    vectors: NDArray[np.float32], order: NDArray[np.int64], at_least: float, best: NDArray[np.int64], scores: NDArray[np.float32]
) -> tuple[int, int]:
    """Enter into ``best`` and ``scores`` what the leaves in ``order`` hold; gives how many entries are new, and how many were found."""
    short = -len(order) % BLOCK
    rows = np.concatenate([order, np.full(short, -1)]).reshape(-1, BLOCK)
    inside = vectors[rows]
    products = inside @ inside.transpose(0, 2, 1)
    products[:, np.arange(BLOCK), np.arange(BLOCK)] = -np.inf
    if short:
        products[-1, :, -short:] = -np.inf
    most = min(best.shape[1], BLOCK - 1)
    near = np.argpartition(-products, most - 1, axis=2)[:, :, :most]
    values = np.take_along_axis(products, near, axis=2).reshape(-1, most)[: len(order)]
    others = np.take_along_axis(rows[:, None, :].repeat(BLOCK, axis=1), near, axis=2).reshape(-1, most)[: len(order)]
    some = np.flatnonzero(values.max(axis=1) >= at_least)
    here, others, values = order[some], others[some], values[some]
    values[values < at_least] = -np.inf
    known = (others[:, :, None] == best[here][:, None, :]).any(axis=2)
    found = np.isfinite(values)
    all_others, all_values = np.concatenate([best[here], others], axis=1), np.concatenate([scores[here], values], axis=1)
    all_values[:, best.shape[1] :][known] = -np.inf
    kept = np.argpartition(-all_values, best.shape[1] - 1, axis=1)[:, : best.shape[1]]
    new = (kept >= best.shape[1]) & np.isfinite(np.take_along_axis(all_values, kept, axis=1))
    scores[here] = np.take_along_axis(all_values, kept, axis=1)
    best[here] = np.where(np.isfinite(scores[here]), np.take_along_axis(all_others, kept, axis=1), -1)
    return int(new.sum()), int((found & known).sum() + new.sum())
