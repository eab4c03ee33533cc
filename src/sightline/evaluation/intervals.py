"""Confidence intervals."""

from __future__ import annotations

import math
from statistics import NormalDist


def wilson_interval(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
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
