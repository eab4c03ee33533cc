"""Groups of images held against scipy and cases worked by hand: chance, intervals, corrections, pairs and worst slices."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sightline.evaluation.gaps import (
    alikeness,
    chance_of_calibration,
    chance_of_gap,
    difference_interval,
    difference_within,
    fewer_than_chance,
    mean_interval,
)
from sightline.evaluation.intervals import wilson_interval
from sightline.evaluation.paired import holm
from sightline.evaluation.slices import Slice, corrected, crossed, extremes, grouping, pairs, why_left_out, worst_slices


def two_groups(right_a, n_a, right_b, n_b):
    """Values of 0 and 1, and the group of each."""
    values = np.repeat([1.0, 0.0, 1.0, 0.0], [right_a, n_a - right_a, right_b, n_b - right_b])
    return values, np.repeat([0, 1], [n_a, n_b])


def mid_p(right_a, n_a, right_b, n_b):
    """Fisher's conditional distribution by scipy: how often a group is farther off the mean, and half of as far."""
    n, right = n_a + n_b, right_a + right_b
    counts = np.arange(n_a + 1)
    chances, off = stats.hypergeom(n, right, n_a).pmf(counts), np.abs(counts - n_a * right / n)
    seen = abs(right_a - n_a * right / n)
    return chances[off > seen + 1e-9].sum() + chances[np.abs(off - seen) <= 1e-9].sum() / 2


@pytest.mark.parametrize("table", [(30, 40, 20, 40), (18, 25, 70, 75), (50, 60, 40, 60), (9, 20, 15, 40)])
def test_chance_is_what_the_exact_distribution_says(table):
    found, exact = chance_of_gap(*two_groups(*table)), mid_p(*table)
    assert found.p == pytest.approx(exact, abs=4 * np.sqrt(exact / (10_000 if exact < 0.1 else 200)))
    assert found.z[0, 0] == pytest.approx(-found.z[0, 1])


def test_many_images_give_the_p_of_the_chi_square_test():
    table = (840, 1000, 875, 1000)
    theirs = stats.chi2_contingency([[840, 160], [875, 125]], correction=False).pvalue
    assert chance_of_gap(*two_groups(*table)).p == pytest.approx(theirs, abs=0.004)


def test_values_between_0_and_1_are_dealt_out_as_scipy_permutes_them():
    rng = np.random.default_rng(4)
    values = rng.choice([0, 0.3, 0.5, 1], 90)
    groups = np.repeat([0, 1, 2], 30)
    values[:30] = np.maximum(0, values[:30] - 0.2 * (rng.random(30) < 0.6)).round(1)

    def farthest(*parts):
        everything = np.concatenate(parts)
        sizes = np.array([len(part) for part in parts])
        spread = everything.std() * np.sqrt(sizes * (90 - sizes) / 89)
        return (np.abs([part.sum() - len(part) * everything.mean() for part in parts]) / spread).max()

    parts = [values[groups == group] for group in range(3)]
    theirs = stats.permutation_test(
        parts, farthest, vectorized=False, n_resamples=3000, alternative="greater", rng=np.random.default_rng(0)
    )
    found = chance_of_gap(values, groups)
    assert np.abs(found.z).max() == pytest.approx(theirs.statistic)
    assert found.p == pytest.approx(theirs.pvalue, abs=0.025)


def test_within_strata_it_is_the_mantel_haenszel_statistic():
    """Against the formula of Mantel and Haenszel (1959) worked out over 2 x 2 tables."""
    rng = np.random.default_rng(5)
    strata, groups = rng.integers(0, 4, 600), rng.integers(0, 2, 600)
    values = (rng.random(600) < 0.5 + 0.1 * strata - 0.1 * groups).astype(float)
    off = variance = 0.0
    for stratum in range(4):
        here, inside = strata == stratum, (strata == stratum) & (groups == 0)
        n, n_0, right = here.sum(), inside.sum(), values[here].sum()
        off += values[inside].sum() - n_0 * right / n
        variance += n_0 * (n - n_0) * right * (n - right) / (n**2 * (n - 1))
    found = chance_of_gap(values, groups, strata)
    assert found.z[0, 0] == pytest.approx(off / np.sqrt(variance))
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(found.z[0, 0])), abs=0.004)


def test_apart_each_stratum_is_tested_and_all_are_counted():
    values, groups = two_groups(38, 40, 20, 40)
    same, again = two_groups(30, 40, 30, 40)
    strata = np.repeat([0, 1], 80)
    found = chance_of_gap(np.concatenate([same, values]), np.concatenate([again, groups]), strata, apart=True)
    assert found.z.shape == (2, 2)
    assert found.each[0].min() > 0.5
    alone = chance_of_gap(values, groups)
    assert alone.p <= found.p == found.each[1].min() < 0.01


def test_what_depends_on_the_stratum_alone_is_explained_by_it():
    rng = np.random.default_rng(16)
    strata = rng.integers(0, 2, 2000)
    groups = (rng.random(2000) < np.where(strata, 0.8, 0.2)).astype(int)
    values = (rng.random(2000) < np.where(strata, 0.95, 0.6)).astype(float)
    assert chance_of_gap(values, groups).p < 0.001
    assert chance_of_gap(values, groups, strata).p > 0.05
    assert abs(difference_within(values, groups == 1, strata)) < 0.04
    assert values[groups == 1].mean() - values[groups == 0].mean() > 0.15


def test_the_difference_within_strata_by_hand():
    values = np.array([1, 0, 1, 1, 0, 0.0])
    chosen = np.array([1, 1, 0, 1, 0, 1], bool)
    # In the first stratum 1/2 - 1, weighed 2/3; in the second 1 - 0, weighed 1/2; the third has no other.
    expected = (2 / 3 * -0.5 + 1 / 2 * 1) / (2 / 3 + 1 / 2)
    assert difference_within(values, chosen, np.array([0, 0, 0, 1, 1, 2])) == pytest.approx(expected)
    assert difference_within(values, np.ones(6, bool), np.zeros(6, int)) is None


@pytest.mark.parametrize("values", [np.ones(60), np.zeros(60), np.full(60, 0.5)])
def test_where_all_images_are_alike_there_is_no_gap(values):
    found = chance_of_gap(values, np.repeat([0, 1, 2], 20))
    assert found.p == 1
    assert (found.z == 0).all()


def test_the_same_seed_gives_the_same_p():
    values, groups = two_groups(30, 40, 20, 40)
    assert chance_of_gap(values, groups, seed=3).p == chance_of_gap(values, groups, seed=3).p


def test_images_that_are_always_alike_count_as_one():
    rng = np.random.default_rng(17)
    patients = np.repeat(np.arange(200), 5)
    groups = np.repeat(rng.integers(0, 2, 200), 5)
    together = np.repeat((rng.random(200) < 0.7).astype(float), 5)
    assert alikeness(together, groups, patients) == pytest.approx(5, rel=0.03)
    assert alikeness((rng.random(1000) < 0.7).astype(float), groups, patients) == pytest.approx(1, abs=0.2)
    assert alikeness(np.ones(1000), groups, patients) == 1
    assert alikeness(together, groups, np.arange(1000)) == pytest.approx(1, abs=0.01)


def test_alikeness_by_hand():
    # Residuals of the first group are 1/3, 1/3, -2/3; of the second 1/2, -1/2. Related are the first two, and the last two.
    together = (4 / 9 + 4 / 9) * 2 + 0
    alone = 1 / 9 + 1 / 9 + 4 / 9 + 1 / 4 + 1 / 4
    found = alikeness(np.array([1, 1, 0, 1, 0.0]), np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 2, 2]))
    assert found == pytest.approx(together / alone)


def test_what_counts_as_one_makes_intervals_wider_and_p_larger():
    values, groups = two_groups(160, 200, 120, 200)
    few, few_groups = two_groups(80, 100, 60, 100)
    assert mean_interval(values, alike=2) == pytest.approx(mean_interval(values[::2]), abs=1e-9)
    assert difference_interval(values[:200], values[200:], alike=2) == pytest.approx(difference_interval(few[:100], few[100:]), abs=1e-3)
    assert np.abs(chance_of_gap(values, groups, alike=2).z).max() == pytest.approx(np.abs(chance_of_gap(few, few_groups).z).max(), rel=0.01)
    scores = np.full(400, 0.75)
    assert chance_of_calibration(scores, values, alike=2) > chance_of_calibration(scores, values) > 0


def test_a_group_of_few_patients_is_too_small():
    column, patients = ["a"] * 40 + ["b"] * 40 + ["c"] * 40, np.r_[np.arange(40), np.arange(40), np.repeat(np.arange(100, 105), 8)]
    made = grouping("ward", column, patients)
    assert (made.names, made.too_small) == (("a", "b"), (("c", 40),))


@given(st.integers(1, 40), st.integers(0, 60), st.integers(0, 60), st.data())
def test_the_lower_tail_is_scipys(size, others, right, data):
    n = size + others
    right = min(right, n)
    inside = data.draw(st.integers(max(0, right - others), min(size, right)))
    assert fewer_than_chance(inside, size, right, n) == pytest.approx(stats.hypergeom(n, right, size).cdf(inside), rel=1e-8, abs=1e-14)


def test_the_lower_tail_is_fishers_one_sided_test():
    theirs = stats.fisher_exact([[60, 40], [850, 50]], alternative="less").pvalue
    assert fewer_than_chance(60, 100, 910, 1000) == pytest.approx(theirs)


@given(st.integers(0, 200), st.integers(1, 200), st.floats(0.5, 0.999))
def test_the_interval_of_zeros_and_ones_is_wilsons(right, n, level):
    values = np.arange(n) < min(right, n)
    assert mean_interval(values.astype(float), level) == pytest.approx(wilson_interval(min(right, n), n, level), abs=1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_an_interval_holds_the_mean_and_stays_in_bounds(values):
    low, high = mean_interval(np.array(values))
    assert -1e-12 <= low <= np.mean(values) + 1e-9
    assert np.mean(values) - 1e-9 <= high <= 1 + 1e-12


def test_the_interval_covers_means_of_overlaps():
    """The share of intervals that hold the true mean, of values such as overlaps of labels."""
    rng = np.random.default_rng(8)
    levels, chances = np.array([0, 1 / 3, 0.5, 2 / 3, 1]), np.array([0.05, 0.1, 0.15, 0.1, 0.6])
    truth = levels @ chances
    held = [low <= truth <= high for low, high in (mean_interval(rng.choice(levels, 40, p=chances)) for _ in range(1000))]
    assert 0.93 <= np.mean(held) <= 0.98


def test_the_interval_of_a_difference_is_newcombes():
    """Example (a) of his paper: 56 of 70 and 48 of 80."""
    low, high = difference_interval(*(np.arange(n) < right for n, right in ((70, 56), (80, 48))))
    assert (low, high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize(("n", "right", "score"), [(20, 19, 0.999), (30, 24, 0.9), (25, 25, 0.8), (40, 40, 1.0), (40, 39, 1.0)])
def test_calibration_of_few_images_is_the_binomial_distribution(n, right, score):
    expected = stats.binom(n, score)
    ours = chance_of_calibration(np.full(n, score), (np.arange(n) < right).astype(float))
    assert ours == pytest.approx(min(1, 2 * min(expected.cdf(right), expected.sf(right - 1))), abs=1e-9)


def test_scores_that_hold_are_rarely_doubted_and_others_are():
    rng = np.random.default_rng(9)

    def share_doubted(n, promise):
        doubted = 0
        for _ in range(400):
            scores = rng.uniform(0.6, 1, n)
            doubted += chance_of_calibration(scores, (rng.random(n) < promise * scores).astype(float)) < 0.05
        return doubted / 400

    assert 0.01 <= share_doubted(500, 1.0) <= 0.075
    assert share_doubted(30, 1.0) <= 0.075
    assert share_doubted(500, 0.85) > 0.95


def test_calibration_of_overlaps():
    rng = np.random.default_rng(10)
    p_values = [chance_of_calibration(np.full(100, 0.75), rng.choice([0.5, 1], 100)) for _ in range(500)]
    assert 0.02 <= np.mean(np.array(p_values) < 0.05) <= 0.075
    assert chance_of_calibration(np.full(100, 0.9), rng.choice([0.5, 1], 100)) < 0.001
    assert chance_of_calibration(np.ones(20), np.ones(20)) == 1


def test_the_correction_shares_out_the_false_alarms():
    assert corrected([(0.8, [0.01, 0.5]), (0.2, [0.01])]) == [pytest.approx([0.025, 0.625]), [pytest.approx(0.05)]]
    # What nobody asks gives its share to the others.
    assert corrected([(0.8, [0.01, 0.04]), (0.2, [])]) == [holm([0.01, 0.04]), []]
    assert corrected([(0.8, []), (0.2, [])]) == [[], []]


def test_a_column_in_groups():
    column = ["b"] * 25 + [" a "] * 30 + [""] * 4 + ["rare"] * 3 + ["rarer"] * 1
    made = grouping("ward", column)
    assert made.names == ("a", "b")
    assert made.too_small == (("rare", 3), ("rarer", 1))
    assert made.not_given == 4
    assert np.bincount(made.codes + 1).tolist() == [8, 30, 25]
    assert made.rows(1).tolist() == list(range(25))
    assert why_left_out(made, len(column)) == ""


def test_numbers_and_words_with_an_order_are_put_in_it():
    column = list(itertools.chain(*([name] * 20 for name in ("100", "20", "bright (over 60%)", "dark (up to 30%)", "middle (up to 60%)"))))
    assert grouping("x", column).names == ("dark (up to 30%)", "middle (up to 60%)", "bright (over 60%)", "20", "100")


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ([""] * 50, "no image has a value"),
        (["x"] * 50, "every image has the same value, 'x'"),
        (["x"] * 40 + [""] * 10, "each of the 40 images that have one has the same value, 'x'"),
        ([f"id{i}" for i in range(1000)], "every image has a value of its own, as a name or a number has that only identifies"),
        ([f"p{i % 10}" for i in range(50)], "none of its 10 values has enough images"),
        (["x"] * 49 + ["y"], "only one of its 2 values, 'x', has enough images"),
        (["x"], "every image has the same value, 'x'"),
    ],
)
def test_why_a_column_is_left_out(column, reason):
    assert why_left_out(grouping("c", column), len(column)) == reason


def test_pairs_have_cells_only_where_there_are_images():
    first = grouping("a", ["x"] * 60 + ["y"] * 60)
    second = grouping("b", (["u"] * 30 + ["v"] * 30) * 2)
    cells = crossed(first, second)
    assert cells.name == "a and b"
    assert cells.names == ("x, u", "x, v", "y, u", "y, v")
    assert np.bincount(cells.codes).tolist() == [30, 30, 30, 30]
    # Of two columns that say the same there is nothing to compare within either.
    assert crossed(first, first) is None
    assert crossed(first, grouping("c", ["u"] * 60 + ["v"] * 30 + ["w"] * 30)) is None


def test_a_pair_is_told_where_neither_of_its_columns_is():
    rng = np.random.default_rng(12)
    n = 1600
    a, b, c = (rng.choice(["no", "yes"], n) for _ in range(3))
    values = (rng.random(n) < np.where(a == b, 0.95, 0.75)).astype(float)
    found, more = pairs([grouping(name, column.tolist()) for name, column in (("a", a), ("b", b), ("c", c))], values)
    assert more == 0
    p = {pair.cells.name: pair.p for pair in found}
    assert p["a and b"] < 0.001
    # a and c together differ by no more than chance.
    assert min(p["a and c"], p["b and c"]) > 0.01


def test_the_lowest_and_the_highest_group():
    made = grouping("a", ["x"] * 40 + ["y"] * 40 + ["z"] * 40)
    values = np.repeat([1, 0, 1, 0, 1, 0.0], [30, 10, 20, 20, 38, 2])
    found = extremes(values, made)
    assert (made.names[found.low], made.names[found.high], found.difference) == ("y", "z", pytest.approx(0.45))
    narrow = difference_interval(values[80:], values[40:80])
    # Three pairs could have been it.
    assert found.interval[0] < narrow[0] < 0.45 < narrow[1] < found.interval[1]
    assert found.interval == pytest.approx(difference_interval(values[80:], values[40:80], 1 - 0.05 / 3))


def test_a_small_unlucky_slice_is_not_in_front():
    values = np.concatenate([np.repeat([1.0, 0], [300, 100]), np.repeat([1.0, 0], [13, 7]), np.repeat([1.0, 0], [560, 20])])
    large, small, good = np.arange(400), np.arange(400, 420), np.arange(420, 1000)
    found = worst_slices(values, [Slice("a", "small", small), Slice("a", "large", large), Slice("a", "good", good)])
    assert [entry.slice.group for entry in found] == ["large", "small"]
    assert found[0].p < 0.001
    assert found[0].interval[0] < found[0].mean == 0.75 < found[0].interval[1]


def test_parts_of_a_slice_are_told_only_where_they_are_worse():
    values = np.concatenate([np.repeat([1.0, 0], [140, 60]), np.repeat([1.0, 0], [20, 80]), np.repeat([1.0, 0], [690, 10])])
    half, worse = np.arange(0, 200, 2), np.arange(200, 300)
    slices = [Slice("a", "all", np.arange(300)), Slice("a and b", "half", half), Slice("a and b", "worse", worse)]
    assert [entry.slice.group for entry in worst_slices(values, slices)] == ["worse", "all"]


def test_a_slice_is_as_doubtful_as_what_it_is_a_part_of():
    values = np.repeat([1.0, 0, 1], [20, 40, 400])
    found = worst_slices(values, [Slice("a", "x", np.arange(60), doubt=0.3), Slice("a", "y", np.arange(20, 60))])
    assert {entry.slice.group: entry.p for entry in found}["x"] == 0.3
    assert {entry.slice.group: entry.p for entry in found}["y"] < 0.001


def test_slices_of_overlaps_and_of_everything():
    values = np.concatenate([np.full(50, 0.5), np.full(200, 0.9)])
    found = worst_slices(values, [Slice("a", "x", np.arange(50)), Slice("all", "all", np.arange(250))])
    assert [entry.slice.group for entry in found] == ["x"]
    assert found[0].p < 0.001
    assert worst_slices(np.ones(50), [Slice("a", "x", np.arange(20))]) == []
    assert worst_slices(np.ones(50), []) == []
