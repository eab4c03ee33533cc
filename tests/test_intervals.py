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
@settings(deadline=None)
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


def test_the_bootstrap_of_two_means_is_near_scipys():
    values = np.random.default_rng(1).gamma(2, 1, (80, 2))
    found = bootstrap_intervals(lambda weights: weights @ values / weights.sum(), 80, resamples=4000)
    for interval, column in zip(found, values.T, strict=True):
        theirs = bootstrap((column,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(2)).confidence_interval
        assert interval.tolist() == pytest.approx([theirs.low, theirs.high], abs=0.03)


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
