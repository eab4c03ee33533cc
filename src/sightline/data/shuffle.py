"""An order of n rows at random that is computed place by place, so that no permutation of ten million is ever in memory.

A Feistel network (Luby and Rackoff, "How to construct pseudorandom permutations", 1988) mixes the numbers below the next power of four;
one that falls on or beyond n is mixed again until it falls below (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Four make a pseudorandom permutation of a function that is random; the mixing of 64 bits here is only nearly so.
ROUNDS = 8


@dataclass(frozen=True)
class Order:
    """The rows 0 to n - 1 in an order that ``seed`` decides, alike on every machine; ``order[start:stop]`` gives those of some places."""

    n: int
    seed: tuple[int, ...]

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, places: slice) -> NDArray[np.int64]:
        """(m,) int64, the rows at some places."""
        return self.rows_at(np.arange(*places.indices(self.n)))

    def rows_at(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """(m,) int64, the rows at ``places`` (m,), each in 0 to n - 1."""
        half = np.uint64(max(1, (max(self.n - 1, 1).bit_length() + 1) // 2))
        keys = np.random.SeedSequence(self.seed).generate_state(ROUNDS, np.uint64).astype(np.uint64)
        rows = places.astype(np.uint64)
        pending = np.arange(len(rows))
        while len(pending):
            rows[pending] = _mixed(rows[pending], half, keys)
            pending = pending[rows[pending] >= self.n]
        return rows.astype(np.int64)


def _mixed(numbers: NDArray[np.uint64], half: np.uint64, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A permutation of the numbers of twice ``half`` bits."""
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = numbers >> half, numbers & mask
    for key in keys:
        left, right = right, left ^ (_hashed(right ^ key) & mask)
    return (left << half) | right


def _hashed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def hashed(numbers: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """A number at random for each of some, by which they can be ordered; another for another seed."""
    (key,) = np.random.SeedSequence(seed).generate_state(1, np.uint64)
    return _hashed(numbers ^ key)
