"""neighbours: what is near is found, in much less than all comparisons."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.auditing.neighbours import BLOCK, near_neighbours


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def planted(n: int, copies: int, dims: int = 64, noise: float = 0.03, seed: int = 0) -> tuple[np.ndarray, set[tuple[int, int]]]:
    """Vectors around a few centres, and for some of them another close by."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, dims))
    vectors = centres[rng.integers(0, 20, n)] + rng.normal(size=(n, dims))
    originals = rng.choice(n // 2, copies, replace=False)
    vectors[n - copies :] = vectors[originals] + noise * rng.normal(size=(copies, dims))
    return unit(vectors), {(int(row), n - copies + place) for place, row in enumerate(originals)}


def test_of_few_vectors_every_pair_is_found():
    vectors = unit(np.random.default_rng(0).normal(size=(BLOCK, 4)))
    found = near_neighbours(vectors, 0.9, BLOCK)
    products = np.triu(vectors @ vectors.T, 1)
    assert {tuple(pair) for pair in found.pairs.tolist()} == set(zip(*map(np.ndarray.tolist, np.nonzero(products >= 0.9)), strict=True))
    np.testing.assert_allclose(found.similarity, products[tuple(found.pairs.T)], rtol=1e-5)
    assert found.trees == 1


def test_of_many_vectors_near_ones_are_found_and_no_others():
    vectors, pairs = planted(20_000, 500)
    found = near_neighbours(vectors, 0.95, 4)
    assert {tuple(pair) for pair in found.pairs.tolist()} <= pairs
    assert len(found.pairs) >= 0.99 * len(pairs)
    assert found.trees * BLOCK < len(vectors) / 4  # comparisons of a vector


def test_a_vector_gets_no_more_neighbours_than_asked_for():
    vectors = unit(np.ones((300, 8)) + 1e-3 * np.random.default_rng(0).normal(size=(300, 8)))
    found = near_neighbours(vectors, 0.9, 3)
    assert len(found.pairs) <= 3 * 300
    assert set(found.pairs.ravel().tolist()) == set(range(300))


def test_the_same_seed_gives_the_same_pairs():
    vectors, _ = planted(2000, 50)
    first, second = near_neighbours(vectors, 0.7, 4, seed=1), near_neighbours(vectors, 0.7, 4, seed=1)
    np.testing.assert_array_equal(first.pairs, second.pairs)


@pytest.mark.parametrize("n", [0, 1, 2, BLOCK + 1])
def test_any_number_of_vectors_will_do(n):
    assert len(near_neighbours(unit(np.eye(BLOCK + 1))[:n], 0.5, 8).pairs) == 0
