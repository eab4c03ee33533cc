"""Paired differences against published values, brute force and scipy."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from sightline.evaluation.paired import (
    bootstrap_interval,
    holm,
    mcnemar_exact,
    paired_difference,
    sign_flip_test,
    tango_interval,
)

COUNTS = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 200))


def test_the_interval_has_the_published_value():
    """The trial of Cavo et al. in chapter 8 of Fagerland, Lydersen and Laake, "Statistical Analysis of Contingency Tables" (2017)."""
    assert tango_interval(6, 16, 161) == pytest.approx((-0.1240, -0.0054), abs=6e-5)


def log_likelihood(gained, lost, same, p_gained, p_lost):
    terms = ((gained, p_gained), (lost, p_lost), (same, 1 - p_gained - p_lost))
    with np.errstate(divide="ignore"):
        return sum(count * np.log(p) for count, p in terms if count)


@pytest.mark.parametrize(("gained", "lost", "n"), [(7, 3, 30), (1, 7, 21), (0, 4, 12), (20, 1, 25), (5, 5, 100)])
def test_the_interval_ends_where_the_score_test_rejects(gained, lost, n):
    """The nuisance share is found by trying a fine grid instead of by the formula."""
    for end in tango_interval(gained, lost, n):
        losses = np.linspace(max(0, -end), (1 - end) / 2, 400_001)[1:-1]
        share = losses[np.argmax(log_likelihood(gained, lost, n - gained - lost, losses + end, losses))]
        score = (gained - lost - n * end) / np.sqrt(n * (2 * share + end - end**2))
        assert abs(score) == pytest.approx(1.959964, abs=2e-3)


@given(COUNTS, st.floats(0.5, 0.99))
def test_the_interval_holds_the_difference_and_mirrors(counts, level):
    gained, lost, same = counts
    n = gained + lost + same
    low, high = tango_interval(gained, lost, n, level)
    if n:
        assert -1 <= low <= (gained - lost) / n <= high <= 1
        assert low < high
    assert tango_interval(lost, gained, n, level) == pytest.approx((-high, -low), abs=1e-9)


def test_without_a_change_the_interval_is_not_a_point():
    z2 = 1.959964**2
    assert tango_interval(0, 0, 20) == pytest.approx((-z2 / (20 + z2), z2 / (20 + z2)), abs=1e-6)
    assert tango_interval(0, 0, 0) == (-1, 1)
    assert tango_interval(9, 0, 9)[1] == 1


@given(st.integers(0, 3000), st.integers(0, 3000))
@example(gained=15, lost=1060)  # 1e-290, of which scipy's binomial test makes 0
@example(gained=2999, lost=3000)
def test_mcnemars_p_is_that_of_whole_numbers(gained, lost):
    n = gained + lost
    ways = itertools.accumulate(range(min(gained, lost)), lambda ways, few: ways * (n - few) // (few + 1), initial=1)
    expected = float(min(Fraction(1), Fraction(2 * sum(ways), 2**n)))
    # The smallest floats have fewer digits.
    assert mcnemar_exact(gained, lost) == pytest.approx(expected, rel=1e-8, abs=1e-307)


def test_mcnemars_p_by_hand():
    assert mcnemar_exact(0, 5) == pytest.approx(2 / 32)
    assert mcnemar_exact(4, 1) == pytest.approx(2 * (1 + 5) / 32)
    assert mcnemar_exact(3, 3) == 1


def test_the_bootstrap_is_scipys():
    differences = np.random.default_rng(3).choice([-0.5, -0.25, 0, 0, 1 / 3, 1], 150)
    theirs = stats.bootstrap((differences,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1))
    ours = bootstrap_interval(differences)
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=0.01)
    assert ours == bootstrap_interval(differences)
    assert ours != bootstrap_interval(differences, seed=1)


def test_the_randomisation_test_is_the_share_of_all_signs():
    differences = np.array([0.1, 0.25, -0.05, 0.3, 0, 0.2, 0.15, -0.1, 0.4, 0.2])
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product((-1, 1), repeat=len(differences))]
    expected = np.mean(np.array(sums) >= abs(differences.sum()) - 1e-9)
    assert sign_flip_test(differences) == pytest.approx(expected, abs=0.01)
    theirs = stats.permutation_test((differences,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_test(differences) == pytest.approx(theirs.pvalue, abs=0.01)


def test_nothing_changed_is_no_evidence():
    assert sign_flip_test(np.zeros(8)) == 1
    assert mcnemar_exact(0, 0) == 1


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_never_flatters_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    assert all(p <= corrected <= 1 for p, corrected in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert all(np.diff(np.array(adjusted)[order]) >= 0)
    assert min(adjusted) == pytest.approx(min(1, len(p_values) * min(p_values)))


def test_shares_of_0_and_1_are_counted():
    found = paired_difference(np.array([1, 1, 0, 0, 1.0]), np.array([1, 0, 1, 1, 1.0]))
    assert (found.n, found.gained, found.lost) == (5, 2, 1)
    assert (found.reference, found.other, found.difference) == pytest.approx((0.6, 0.8, 0.2))
    assert found.interval == tango_interval(2, 1, 5)
    assert (found.method, found.test) == ("Tango's score interval", "McNemar's exact test")


def test_fractions_are_resampled():
    rng = np.random.default_rng(0)
    reference = rng.integers(0, 5, 80) / 4
    other = np.clip(reference + rng.integers(0, 2, 80) / 4, 0, 1)
    found = paired_difference(reference, other, seed=4)
    assert (found.method, found.test) == ("paired bootstrap", "randomisation test")
    assert found.difference == pytest.approx(found.other - found.reference)
    assert 0 < found.interval[0] < found.difference < found.interval[1]
    assert found.p < 0.001
    assert found == paired_difference(reference, other, seed=4)
