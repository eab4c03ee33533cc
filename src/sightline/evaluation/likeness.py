"""How probable it is that an image is like the training images at all, going by its similarity to the nearest of them.

Far from what was learned a network's answer turns on trifles, and says nothing of the image: what is left is not to know, equal shares.
Fading towards that with the distance is what Gaussian processes do: Liu et al., "Simple and principled uncertainty estimation with
deterministic deep learning via distance awareness" (2020); by neighbours: Tomani et al., "Beyond in-domain scenarios: robust
density-aware calibration" (2023).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# The share of images that are like none, before one is looked at; their similarities may be anything from 0 to 1.
STRANGE = 0.05
# No answer fades altogether, so that the best guess stays the best guess.
LEAST = 0.01
# What is taken for the spread without any image, and how many images that counts as much as.
PRIOR_SPREAD, PRIOR_IMAGES = 0.1, 2


def usual_similarity(similarities: Floats) -> tuple[float, float]:
    """The middle of n calibration images' similarities, (n,), n at least 1, and how far those below it lie below it (root mean square)."""
    middle = float(np.median(similarities))
    below = np.minimum(similarities - middle, 0)
    squares = float((below**2).sum()) + PRIOR_IMAGES * PRIOR_SPREAD**2
    return middle, math.sqrt(squares / (len(similarities) / 2 + PRIOR_IMAGES))


def likeness(similarities: Floats, middle: float, spread: float) -> Floats:
    """(n,) probabilities, at least ``LEAST``, that images of (n,) similarities are like the training images: that a similarity is one of
    the usual ones, normally distributed below their middle, and not that of an image which may have any."""
    distance = np.minimum(similarities - middle, 0) / spread
    usual = (1 - STRANGE) * np.exp(-(distance**2) / 2) / (spread * math.sqrt(2 * math.pi))
    return np.maximum(usual / (usual + STRANGE), LEAST)
