"""The Wilson interval against published values and scipy's, the bootstrap against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap

from sightline.evaluation.intervals import bootstrap_intervals, wilson_interval


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_values_of_newcombe_1998(successes, n, low, high):
    """Table I, method 3, of "Two-sided confidence intervals for the single proportion"."""
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 3000), st.floats(0, 1), st.floats(0.5, 0.999))
def test_the_interval_is_scipys_and_holds_the_share(n, share, level):
    successes = round(share * n)
    low, high = wilson_interval(successes, n, level)
    theirs = binomtest(successes, n).proportion_ci(level, method="wilson")
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert 0 <= low <= successes / n + 1e-12
    assert successes / n - 1e-12 <= high <= 1


def test_all_and_none_touch_the_ends():
    assert wilson_interval(10, 10)[1] == 1
    assert wilson_interval(0, 10)[0] == 0


def test_without_cases_nothing_is_known():
    assert wilson_interval(0, 0) == (0.0, 1.0)


def scipys(column: np.ndarray, statistic) -> list[float]:
    found = bootstrap((column,), statistic, n_resamples=4000, method="percentile", rng=np.random.default_rng(2)).confidence_interval
    return [found.low, found.high]


def test_the_bootstrap_of_two_means_is_near_scipys():
    values = np.random.default_rng(1).normal(2, 1, (80, 2))
    found = bootstrap_intervals(lambda weights: weights @ values / weights.sum(), 80, resamples=4000)
    for interval, column in zip(found, values.T, strict=True):
        assert interval.tolist() == pytest.approx(scipys(column, np.mean), abs=0.02)


def test_the_bootstrap_takes_back_what_resampling_itself_does_to_a_figure():
    """The spread of few values is smaller in resamples, as some are missing; the interval is as wide as scipy's, but higher."""
    values = np.random.default_rng(1).normal(0, 1, 15)

    def spread(weights):
        mean = weights @ values / weights.sum()
        return np.sqrt([weights @ (values - mean) ** 2 / weights.sum()])

    (low, high), (plain_low, plain_high) = bootstrap_intervals(spread, 15, resamples=4000)[0], scipys(values, np.std)
    assert high - low == pytest.approx(plain_high - plain_low, abs=0.03)
    assert plain_low + 0.01 < low < np.std(values) < high


@given(st.integers(1, 40), st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_the_interval_holds_the_figure_even_where_most_resamples_are_above_it(n, columns, seed):
    values = np.random.default_rng(seed).normal(0, 1, (n, columns))

    def largest_repeats(weights):
        return weights.max() + weights @ values / n

    found = largest_repeats(np.ones(n, np.int64))
    intervals = bootstrap_intervals(largest_repeats, n, resamples=30)
    assert (intervals[:, 0] <= found + 1e-12).all()
    assert (intervals[:, 1] >= found - 1e-12).all()


def test_the_bootstrap_depends_on_its_seed_alone_and_narrows_with_its_level():
    values = np.arange(20.0)[:, None]

    def mean(weights):
        return weights @ values / weights.sum()

    first, again, other = (bootstrap_intervals(mean, 20, seed=seed).tolist() for seed in (3, 3, 4))
    assert first == again != other
    (low, high), (inner_low, inner_high) = first[0], bootstrap_intervals(mean, 20, seed=3, level=0.5)[0]
    assert low < inner_low < values.mean() < inner_high < high


def test_the_bootstrap_leaves_out_what_a_resample_cannot_say():
    """The mean of the images that have a property: NaN in a resample without one, and always where none has it."""
    has = np.array([[True, False]] + [[False, False]] * 3)

    def means(weights):
        return np.where((counts := weights @ has) > 0, counts / np.maximum(counts, 1), np.nan)

    found = bootstrap_intervals(means, 4, resamples=50)
    assert found[0].tolist() == [1, 1]
    assert np.isnan(found[1]).all()


def test_where_every_resample_says_the_same_so_does_the_interval():
    assert bootstrap_intervals(lambda weights: np.array([0.7]), 5)[0].tolist() == [0.7, 0.7]
