"""How much of a classifier's answer is left for an image unlike the training images.

Far from what was learned a network's answer turns on trifles, and says nothing of the image: what is left is not to know, equal shares.
Gaussian processes fade so: Liu et al., "Simple and principled uncertainty estimation with deterministic deep learning via distance
awareness" (2020); by nearest neighbours: Tomani et al., "Beyond in-domain scenarios: robust density-aware calibration" (2023).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# No answer fades altogether, so that the best guess stays the best guess.
LEAST = 0.01
# What is taken for the spread without any image, and how many images that counts as much as.
PRIOR_SPREAD, PRIOR_IMAGES = 0.1, 2


def spread_below(similarities: Floats) -> float:
    """Of (n,) calibration images' similarities, n at least 1, how far those below the middle lie below it: root mean square."""
    below = np.minimum(similarities - np.median(similarities), 0)
    squares = float((below**2).sum()) + PRIOR_IMAGES * PRIOR_SPREAD**2
    return math.sqrt(squares / (len(similarities) / 2 + PRIOR_IMAGES))


def fading(similarities: Floats, familiar_from: float, fades_over: float) -> Floats:
    """(n,) what logits are multiplied with: 1 for (n,) similarities from ``familiar_from`` on, a factor of e less for each ``fades_over``
    below it, at least ``LEAST``."""
    return np.maximum(np.exp(np.minimum(similarities - familiar_from, 0) / fades_over), LEAST)
