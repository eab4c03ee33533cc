"""Thresholds that promise something: whether they keep it on images that they were not chosen on, and scipy's figures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.neighbors import NearestNeighbors

from sightline.evaluation.promises import answering, at_most, familiar_from, naming, on_grid, p_value, similarity


@given(st.integers(1, 300), st.data(), st.floats(0.001, 0.999))
def test_binomial_tails_agree_with_scipy(n, drawn, share):
    count = drawn.draw(st.integers(0, n))
    assert at_most(count, n, share) == pytest.approx(stats.binom.cdf(count, n, share), rel=1e-6, abs=1e-12)


def test_p_values_of_yes_or_no_losses_are_the_exact_binomial_test():
    losses = np.zeros(400)
    losses[:5] = 1
    assert p_value(losses, 0.03) == pytest.approx(stats.binomtest(5, 400, 0.03, alternative="less").pvalue)


def test_p_values_of_partial_losses_are_valid():
    """Where the mean loss is exactly the bound, at most 5% of p-values may lie below 5%."""
    rng = np.random.default_rng(0)
    found = [p_value(rng.beta(1, 4, 200), 0.2) for _ in range(2000)]
    assert np.mean(np.array(found) <= 0.05) <= 0.05
    assert p_value(np.full(400, 0.1), 0.2) < 0.01


def simulated(n: int, rng: np.random.Generator):
    """Scores in [0.5, 1] that mean what they say, and answers right as often."""
    scores = 0.5 + 0.5 * rng.beta(3, 1, n)
    return scores, (rng.random(n) < scores).astype(float)


def test_a_promise_is_kept_in_at_least_95_of_100_trials():
    rng = np.random.default_rng(0)
    kept, made = 0, 0
    for _ in range(300):
        found = answering(*simulated(600, rng), 0.9)
        if found is not None:
            scores = 0.5 + 0.5 * rng.beta(3, 1, 20_000)
            made += 1
            kept += scores[scores >= found.threshold].mean() >= 0.9
    assert made > 150
    assert kept / made >= 0.95


def test_what_cannot_be_promised_is_not():
    scores = np.linspace(0.5, 1, 100)
    assert answering(scores, np.ones(100), 0.99) is None  # 100 right ones do not show 99%
    assert answering(scores, np.ones(100), 0.95) is not None
    assert answering(scores, np.zeros(100), 0.8) is None
    assert answering(np.array([0.7]), np.array([1.0]), 0.8) is None


def test_all_images_are_answered_where_all_are_right():
    found = answering(np.linspace(0.5, 1, 500), np.ones(500), 0.95)
    assert (found.coverage, found.accuracy, found.threshold) == (1, 1, 0.5)


@pytest.mark.parametrize("n", [9, 50, 500])
def test_candidates_hold_the_truth_as_often_as_promised(n):
    """Split conformal coverage lies between 0.9 and 0.9 + 1 / (n + 1) on average."""
    rng = np.random.default_rng(n)
    covered = []
    for _ in range(4000):
        lowest = rng.random(n + 1)
        covered.append(lowest[0] >= naming(lowest[1:], 0.9))
    assert 0.9 - 0.015 <= np.mean(covered) <= 0.9 + 1 / (n + 1) + 0.015


def test_eight_images_cannot_promise_candidates():
    assert naming(np.random.default_rng(0).random(8), 0.9) is None


def test_similarity_agrees_with_scikit_learns_neighbours():
    rng = np.random.default_rng(0)
    new, known = rng.normal(size=(40, 16)), rng.normal(size=(300, 16))
    distances, _ = NearestNeighbors(n_neighbors=5, metric="cosine").fit(known).kneighbors(new)
    assert similarity(new, on_grid(known)) == pytest.approx((1 - distances).mean(axis=1), abs=1e-5)
    assert similarity(new, on_grid(known[:2])).shape == (40,)
    assert similarity(np.zeros((1, 16)), on_grid(known)) == pytest.approx([0])


@given(st.integers(1, 40), st.integers(1, 3000), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_an_images_similarity_is_the_same_in_every_batch_to_the_last_bit(n, width, seed):
    rng = np.random.default_rng(seed)
    new, known = (rng.normal(size=(rows, width)).astype(np.float32) for rows in (n, 50))
    found = similarity(new, on_grid(known))
    assert [similarity(row[None], on_grid(known))[0] for row in new] == found.tolist()
    backwards = rng.permutation(width)
    exact = [
        sorted(sum(a * b for a, b in zip(row, other, strict=True)) for other in on_grid(known)[:, backwards])
        for row in on_grid(new[:1])[:, backwards]
    ]
    assert found[0] == sum(exact[0][-5:]) / 5


def test_one_in_a_hundred_familiar_images_is_called_unfamiliar():
    rng = np.random.default_rng(0)
    rates = [np.mean(rng.normal(size=2000) < familiar_from(rng.normal(size=400), 0.01)) for _ in range(200)]
    assert 0.007 < np.mean(rates) < 0.012
    assert familiar_from(np.array([0.3, 0.2, 0.9]), 0.01) == 0.2
