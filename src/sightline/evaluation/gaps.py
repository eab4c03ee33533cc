"""How far groups of images differ, and whether chance explains it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.intervals import wilson_interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Values in [0, 1] are rounded to so many steps before they are dealt out; a test of rounded values is as exact.
STEPS = 10
# Draws by chance, in batches: no more are made once so many have reached what was seen, which the first of them do where there is no gap.
# So a p-value from the first batch alone is far above 5%, and those below are as exact as if no batch had been a first one.
BATCHES, REACHED_OFTEN = (200, 10_000), 30
# Sums of the same numbers in another order differ by rounding, and must still count as equal.
SLACK = 1e-9
# So many images with a spread as large as it can be are added, so that a few equal values do not pass for certainty.
ADDED = 4
# From this variance on, the normal distribution is close enough to the number of right images.
NORMAL_FROM = 10.0
# Strata beyond the largest so many are left out of a comparison within them.
MOST_STRATA = 200


@dataclass(frozen=True)
class Chance:
    """What chance says of g groups, in s strata where each was tested by itself, and in 1 otherwise.

    z     (s, g) a group's mean against that of all, in standard deviations that dealing out by chance would give it
    each  (s, g) the share of draws by chance in which any group is as far off as this one
    p     the smallest of them, which is that of the group farthest off
    """

    z: Floats
    each: Floats

    @property
    def p(self) -> float:
        return float(self.each.min(initial=1.0))


def chance_of_gap(
    values: Floats,
    groups: Ints,
    strata: Ints | None = None,
    *,
    apart: bool = False,
    alike: float = 1.0,
    seed: int = 0,
    batches: Sequence[int] = BATCHES,
) -> Chance:
    """Do groups differ in (n,) ``values`` in [0, 1] by more than chance explains? ``groups`` are (n,) indices from 0.

    The values are dealt out to the groups again and again, and it is counted how often any group comes as far off the mean as one
    did: a permutation test of the largest standardised difference (Westfall and Young, "Resampling-Based Multiple Testing", 1993). What
    comes exactly as far counts half (Lancaster 1961): zeros and ones take few values, and 5% would become 3%. The draws are made
    of the counts of each value, which for values of 0 and 1 are multivariate hypergeometric. Values are dealt out within each of (n,)
    ``strata``, and the groups compared over all of them; ``apart`` compares them in each by itself. Where so many images as ``alike``
    count as one, the differences seen are that much less remarkable.
    """
    tables = _tables(values, groups, np.zeros(len(values), np.int64) if strata is None else strata)
    if not apart:
        tables = sorted(tables, key=lambda table: -table.sum())[:MOST_STRATA]
    rng = np.random.default_rng(seed)
    z = _standardised(tables, apart) / math.sqrt(alike)
    far = np.abs(z)
    largest = np.empty(0)
    for draws in batches:
        largest = np.sort(np.concatenate([largest, _dealt_largest(tables, draws, apart, rng)]))
        at_least, beyond = (len(largest) - np.searchsorted(largest, far + slack) for slack in (-SLACK, SLACK))
        if at_least.min() >= REACHED_OFTEN:
            break
    # The observed values are one of the ways to deal them out, so that no p is 0.
    return Chance(z, np.where(far > SLACK, (1 + at_least + beyond) / 2 / (1 + len(largest)), 1.0))


def _tables(values: Floats, groups: Ints, strata: Ints) -> list[Ints]:
    """For each stratum the (steps, g) counts of rounded values in each group."""
    n_groups, n_strata = int(groups.max(initial=-1)) + 1, int(strata.max(initial=-1)) + 1
    steps = np.rint(values * STEPS).astype(np.int64)
    cells = (strata * (STEPS + 1) + steps) * n_groups + groups
    return list(np.bincount(cells, minlength=n_strata * (STEPS + 1) * n_groups).reshape(n_strata, STEPS + 1, n_groups))


def _moments(table: Ints) -> tuple[Floats, Floats]:
    """(g,) mean and variance of each group's sum when the values of a table are dealt out by chance."""
    sizes, counts, levels = table.sum(axis=0), table.sum(axis=1), np.arange(len(table)) / STEPS
    n = max(1, int(sizes.sum()))
    mean = counts @ levels / n
    variance = counts @ (levels - mean) ** 2 / n
    return sizes * mean, variance * sizes * (n - sizes) / max(1, n - 1)


def _standardised(tables: Sequence[Ints], apart: bool) -> Floats:
    off, variances = [], []
    for table in tables:
        mean, variance = _moments(table)
        off.append(np.arange(len(table)) / STEPS @ table - mean)
        variances.append(variance)
    if apart:
        return _quotient(np.array(off), np.sqrt(variances))
    return _quotient(np.sum(off, axis=0), np.sqrt(np.sum(variances, axis=0)))[None]


def _quotient(off: Floats, spread: Floats) -> Floats:
    """Differences in standard deviations; 0 where nothing can differ."""
    # Rounding leaves a trace of a variance where all values are equal.
    known = spread > SLACK
    return np.divide(off, spread, out=np.zeros_like(off), where=np.broadcast_to(known, off.shape))


def _dealt_largest(tables: Sequence[Ints], draws: int, apart: bool, rng: np.random.Generator) -> Floats:
    """(draws,) the largest standardised difference of any group when the values are dealt out by chance."""
    largest = np.zeros(draws)
    off: Floats = np.zeros((draws, 1))
    total: Floats = np.zeros(1)
    for table in tables:
        mean, variance = _moments(table)
        if not (variance > SLACK).any():
            continue
        difference = _dealt_sums(table, draws, rng) - mean
        if apart:
            largest = np.maximum(largest, np.abs(_quotient(difference, np.sqrt(variance))).max(axis=1))
        else:
            off, total = off + difference, total + variance
    return largest if apart else np.abs(_quotient(off, np.sqrt(total))).max(axis=1)


def _dealt_sums(table: Ints, draws: int, rng: np.random.Generator) -> Floats:
    """(draws, g) sums of the groups: each value in turn is dealt out to the room that is left."""
    counts, sizes = table.sum(axis=1), table.sum(axis=0)
    room = np.tile(sizes, (draws, 1))
    common = int(counts.argmax())  # fills the room that is left in the end
    sums = room * (common / STEPS)
    *first, last = np.flatnonzero(sizes)
    for step in np.flatnonzero(counts):
        if step == common:
            continue
        worth = (step - common) / STEPS
        left, after = np.full(draws, counts[step]), room.sum(axis=1)
        for group in first:
            after -= room[:, group]
            taken = rng.hypergeometric(room[:, group], after, left)
            room[:, group] -= taken
            left -= taken
            sums[:, group] += taken * worth
        room[:, last] -= left
        sums[:, last] += left * worth
    return sums


def fewer_than_chance(right: int, size: int, all_right: int, n: int) -> float:
    """Chance that of n images, ``all_right`` of them right, a group of ``size`` holds at most ``right`` right ones.

    The lower tail of the hypergeometric distribution, which is Fisher's exact test of one side (1935).
    """
    least = max(0, size + all_right - n)
    most = min(right, size, all_right)
    if right >= min(size, all_right):
        return 1.0
    steps = np.arange(most, least, -1, dtype=np.float64)
    falls = np.log(steps) + np.log(n - all_right - size + steps) - np.log(all_right - steps + 1) - np.log(size - steps + 1)
    logarithms = _log_choices(all_right, most) + _log_choices(n - all_right, size - most) - _log_choices(n, size)
    return min(1.0, float(np.exp(logarithms + np.concatenate([[0.0], np.cumsum(falls)])).sum()))


def _log_choices(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def alikeness(values: Floats, groups: Ints, related: Ints) -> float:
    """How many images count as one where related ones, such as those of a patient, have similar values; at least 1.

    ``groups`` and ``related`` are (n,) indices from 0. It is the design effect of comparing the means of groups (Kish, "Survey Sampling",
    1965): the variance that they have when related images stay together, by the variance if each were drawn alone.
    """
    n_related = int(related.max(initial=0)) + 1
    residuals = values - (np.bincount(groups, values) / np.maximum(1, np.bincount(groups)))[groups]
    cells, place = np.unique(groups * n_related + related, return_inverse=True)
    together = np.bincount(place, residuals) ** 2
    of_group = np.bincount(cells // n_related)
    # The mean is of the same images, which takes one of those related away.
    corrections = (of_group / np.maximum(1, of_group - 1))[cells // n_related]
    alone = float((residuals**2).sum())
    return max(1.0, float((together * corrections).sum()) / alone) if alone > SLACK else 1.0


def mean_interval(values: Floats, level: float = 0.95, alike: float = 1.0) -> tuple[float, float]:
    """Interval of the mean of (n,) values in [0, 1]: for 0 and 1 Wilson's; for others Wilson's at the number of zeros and ones whose
    mean would vary as little. (0, 1) without values. ``alike`` images count as one."""
    n = len(values)
    if n == 0:
        return 0.0, 1.0
    mean = float(values.mean())
    widest = mean * (1 - mean)
    spread = (n * float(values.var()) + ADDED * widest) / (n + ADDED)
    worth = (n * widest / spread if spread > 0 else n) / alike
    return wilson_interval(mean * worth, worth, level)


def difference_interval(first: Floats, second: Floats, level: float = 0.95, alike: float = 1.0) -> tuple[float, float]:
    """Interval of mean(first) - mean(second), of values in [0, 1], from the interval of each.

    Newcombe, "Interval estimation for the difference between independent proportions: comparison of eleven methods" (1998), method 10.
    """
    if not len(first) or not len(second):
        return -1.0, 1.0
    a, b = float(first.mean()), float(second.mean())
    (a_low, a_high), (b_low, b_high) = mean_interval(first, level, alike), mean_interval(second, level, alike)
    return a - b - math.hypot(a - a_low, b_high - b), a - b + math.hypot(a_high - a, b - b_low)


def chance_of_calibration(scores: Floats, right: Floats, alike: float = 1.0) -> float:
    """Two-sided p-value that (n,) images are right as often as their ``scores`` promise; both in [0, 1], n at least 1.

    Spiegelhalter, "Probabilistic prediction in patient management and clinical trials" (1986), where the variance is large enough for
    the normal distribution. Otherwise the binomial one of the mean score, whose tails are the heavier (Hoeffding 1956). Where ``right``
    is not 0 or 1, its spread around the scores is what was seen, and with few images nearer to that of 0 and 1. ``alike`` images count
    as one.
    """
    n, difference = len(scores), abs(float((right - scores).sum()))
    if np.isin(right, (0.0, 1.0)).all():
        variance = float((scores * (1 - scores)).sum())
        if variance < NORMAL_FROM and alike == 1:
            return _binomial_p(round(float(right.sum())), n, float(scores.mean()))
        difference = max(0.0, difference - 0.5)
    else:
        mean = float(scores.mean())
        variance = n * (n * float((right - scores).var()) + ADDED * mean * (1 - mean)) / (n + ADDED)
    if variance <= 0:
        return float(difference <= SLACK)
    return 2 * NormalDist().cdf(-difference / math.sqrt(alike * variance))


def _binomial_p(successes: int, n: int, share: float) -> float:
    """Twice the smaller tail of the binomial distribution, at most 1."""
    if share <= 0 or share >= 1:
        return float(successes == round(n * share))
    counts = np.arange(n + 1)
    steps = np.log(n - counts[:-1]) - np.log(counts[:-1] + 1) + math.log(share / (1 - share))
    chances = np.exp(n * math.log1p(-share) + np.concatenate([[0.0], np.cumsum(steps)]))
    return min(1.0, 2 * min(float(chances[: successes + 1].sum()), float(chances[successes:].sum())))


def difference_within(values: Floats, chosen: NDArray[np.bool_], strata: Ints) -> float | None:
    """Mean of the ``chosen`` less that of the others, both within (n,) ``strata``, weighed as Mantel and Haenszel (1959) do.

    None where no stratum has both.
    """
    total, weight = 0.0, 0.0
    for one in _rows_of_each(strata):
        inside, outside = values[one[chosen[one]]], values[one[~chosen[one]]]
        if len(inside) and len(outside):
            here = len(inside) * len(outside) / len(one)
            total += here * float(inside.mean() - outside.mean())
            weight += here
    return total / weight if weight else None


def _rows_of_each(strata: Ints) -> Iterable[Ints]:
    order = np.argsort(strata, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(strata[order])) + 1)
