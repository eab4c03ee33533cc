"""The Wilson interval against published values and scipy's."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from sightline.evaluation.intervals import wilson_interval


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
