"""Two models on the same images: the difference of their means, its interval, and whether it may be chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 10_000
# Halvings after which an interval's end is known to the last digit.
HALVINGS = 60
# Sums of the same numbers in another order differ by rounding, and must still count as equal.
SLACK = 1e-12


@dataclass(frozen=True)
class PairedDifference:
    """Means of n paired values in [0, 1] and their ``difference`` (other less reference) with its interval and p-value.

    gained     images on which the other has the larger value; ``lost``: on which it has the smaller
    interval   (low, high) in [-1, 1], by ``method``
    p          two-sided p-value of "there is no difference", by ``test``
    """

    n: int
    reference: float
    other: float
    difference: float
    gained: int
    lost: int
    interval: tuple[float, float]
    method: str
    p: float
    test: str


def paired_difference(reference: Floats, other: Floats, *, level: float = 0.95, seed: int = 0) -> PairedDifference:
    """Compare (n,) values in [0, 1] of the same n images, n at least 1.

    Where all are 0 or 1: Tango's score interval and McNemar's exact test. Otherwise a bootstrap over images and a
    randomisation test, both from ``seed``.
    """
    differences = other - reference
    gained, lost, n = int((differences > 0).sum()), int((differences < 0).sum()), len(differences)
    if np.isin(reference, (0, 1)).all() and np.isin(other, (0, 1)).all():
        difference, interval, p = (gained - lost) / n, tango_interval(gained, lost, n, level), mcnemar_exact(gained, lost)
        method, test = "Tango's score interval", "McNemar's exact test"
    else:
        difference, interval = float(differences.mean()), bootstrap_interval(differences, level, seed)
        p = sign_flip_test(differences, seed)
        method, test = "paired bootstrap", "randomisation test"
    return PairedDifference(n, float(reference.mean()), float(other.mean()), difference, gained, lost, interval, method, p, test)


def tango_interval(gained: int, lost: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of (gained - lost) / n, for n pairs of which ``gained`` went from 0 to 1 and ``lost`` from 1 to 0.

    Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample design" (1998): all
    differences that the score test does not reject. It stays in [-1, 1], and is wider than a point when no pair changed.
    Returns (-1, 1) when there are no pairs.
    """
    if n == 0:
        return -1.0, 1.0
    z = NormalDist().inv_cdf(0.5 + level / 2)

    def accepted(difference: float) -> bool:
        variance = n * _score_variance(difference, gained, lost, n)
        return (n * difference - (gained - lost)) ** 2 <= z * z * variance

    estimate = (gained - lost) / n
    return _last_accepted(accepted, estimate, -1.0), _last_accepted(accepted, estimate, 1.0)


def _score_variance(difference: float, gained: int, lost: int, n: int) -> float:
    """Variance of one pair's change if ``difference`` were true, with the share of losses at its most likely value under it."""
    spread = difference * (1 - difference)
    linear = (2 * n - gained + lost) * difference - gained - lost
    losses = (math.sqrt(max(0.0, linear * linear + 8 * n * lost * spread)) - linear) / (4 * n)
    return max(0.0, 2 * losses + spread)


def _last_accepted(accepted: Callable[[float], bool], inside: float, outside: float) -> float:
    """Where acceptance ends on the way from a value that is accepted to the end of the scale, by halving."""
    if accepted(outside):
        return outside
    for _ in range(HALVINGS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if accepted(middle) else (inside, middle)
    return inside


def mcnemar_exact(gained: int, lost: int) -> float:
    """Two-sided p-value that pairs which changed did so with even odds: McNemar, "Note on the sampling error of the difference
    between correlated proportions or percentages" (1947), with the binomial distribution instead of its approximation."""
    changed, fewer = gained + lost, min(gained, lost)
    steps = np.arange(1, fewer + 1)
    # Logarithms, because the binomial coefficients of a few thousand pairs overflow.
    logarithms = np.concatenate([[0.0], np.cumsum(np.log((changed - steps + 1) / steps))]) - changed * math.log(2)
    return min(1.0, 2 * float(np.exp(logarithms).sum()))


def bootstrap_interval(differences: Floats, level: float = 0.95, seed: int = 0, resamples: int = RESAMPLES) -> tuple[float, float]:
    """Percentile interval of the mean of (n,) differences: Efron, "Bootstrap methods: another look at the jackknife" (1979)."""
    rng, n = np.random.default_rng(seed), len(differences)
    means = [differences[rng.integers(n, size=n)].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def sign_flip_test(differences: Floats, seed: int = 0, resamples: int = RESAMPLES) -> float:
    """Two-sided p-value of (n,) differences being symmetric around 0: each keeps its size and gets a sign by lot.

    Pitman, "Significance tests which may be applied to samples from any populations" (1937). The observed signs count as one of the
    draws, so that p is never 0.
    """
    rng = np.random.default_rng(seed)
    changed = differences[differences != 0]
    observed = abs(changed.sum()) - SLACK
    signs = (rng.integers(2, size=len(changed)) * 2 - 1 for _ in range(resamples))
    as_far = sum(bool(abs(changed @ sign) >= observed) for sign in signs)
    return (1 + as_far) / (1 + resamples)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values in the order given, corrected for their number: Holm, "A simple sequentially rejective multiple test procedure" (1979)."""
    adjusted, so_far = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        so_far = max(so_far, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = so_far
    return adjusted
