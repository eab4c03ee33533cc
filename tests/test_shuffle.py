"""shuffle: every row once, the same from a seed, and as random as numpy's own permutations."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sightline.data.shuffle import Order


@given(st.integers(0, 3000), st.integers(0, 2**31 - 1), st.integers(0, 100))
def test_every_row_comes_once(n, seed, epoch):
    order = Order(n, (seed, epoch))
    assert len(order) == n
    assert sorted(order[:].tolist()) == list(range(n))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 16, 17, 2**16, 2**16 + 1])
def test_odd_numbers_of_rows_are_shuffled_as_well(n):
    assert np.array_equal(np.sort(Order(n, (0, 1))[:]), np.arange(n))


@given(st.integers(1, 500), st.data())
def test_places_are_those_of_the_whole_order(n, data):
    order = Order(n, (3, 4))
    start, size = data.draw(st.integers(0, n)), data.draw(st.integers(1, 40))
    assert order[start : start + size].tolist() == order[:][start : start + size].tolist()


def test_the_order_is_of_the_seed_and_the_epoch_alone():
    first = Order(1000, (0, 1))[:]
    assert np.array_equal(first, Order(1000, (0, 1))[:])
    for other in ((0, 2), (1, 1), (1, 0)):
        # Of two random orders about one place in a thousand is the same.
        assert np.count_nonzero(first == Order(1000, other)[:]) < 10


def test_the_order_is_alike_on_every_machine():
    assert Order(10, (0, 1))[:].tolist() == [4, 6, 3, 0, 5, 2, 7, 1, 8, 9]


def test_a_billion_rows_are_never_in_memory():
    rows = Order(10**9, (5, 6))[123_456_789 : 123_456_789 + 1000]
    assert rows.dtype == np.int64
    assert len(np.unique(rows)) == 1000
    assert stats.kstest(rows / 1e9, "uniform").pvalue > 1e-3


def test_all_orders_of_four_rows_are_as_frequent():
    orders, counts = np.unique([Order(4, (seed,))[:] for seed in range(4800)], axis=0, return_counts=True)
    assert len(orders) == 24
    assert stats.chisquare(counts).pvalue > 1e-3


def test_neighbours_fixed_places_and_correlations_are_those_of_random_orders():
    n, orders = 500, [Order(500, (seed, 9))[:] for seed in range(400)]
    # Places that stay, and neighbours that stay neighbours, are both Poisson with mean 1.
    for counted in (
        [np.count_nonzero(order == np.arange(n)) for order in orders],
        [np.count_nonzero(np.diff(order) == 1) for order in orders],
    ):
        seen = np.bincount(np.minimum(counted, 4), minlength=5)
        expected = np.array([*stats.poisson.pmf(np.arange(4), 1), stats.poisson.sf(3, 1)]) * len(orders)
        assert stats.chisquare(seen, expected).pvalue > 1e-3
    # Rank correlations with the plain order, and of an order with the next, are normal with variance 1 / (n - 1).
    plain = [np.corrcoef(order, np.arange(n))[0, 1] for order in orders]
    apart = [np.corrcoef(one, other)[0, 1] for one, other in pairwise(orders)]
    for found in (plain, apart):
        assert stats.kstest(np.array(found) * np.sqrt(n - 1), "norm").pvalue > 1e-3
    # Every row comes to every part of the order as often.
    parts = np.stack(orders)[:, : n // 10].ravel()
    assert stats.chisquare(np.bincount(parts // 50, minlength=10)).pvalue > 1e-3
