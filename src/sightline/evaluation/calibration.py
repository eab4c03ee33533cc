"""Whether scores mean what they say: temperature scaling, reliability, and accuracy by the share of images that are answered."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.intervals import wilson_interval

Floats = NDArray[np.float64]

# Temperatures are sought between a twentieth and twenty. Without any image it would be 1; a handful cannot move it far from there.
WIDEST, PRIOR_WIDTH = math.log(20), 1.0
GOLDEN, HALVINGS = (math.sqrt(5) - 1) / 2, 30
NEWTON_STEPS = 30
RELIABILITY_BINS, CURVE_POINTS = 10, 50
DRAWS = 2000


def fit_temperature(loss: Callable[[float], float], n: int) -> float:
    """The temperature with the lowest mean negative log-likelihood ``loss`` of n images: Guo et al., "On Calibration of Modern Neural
    Networks" (2017).

    A prior on its logarithm, as weak as one or two images, keeps it finite where every image is right or every one wrong.
    """

    def penalised(logarithm: float) -> float:
        return n * loss(math.exp(logarithm)) + (logarithm / PRIOR_WIDTH) ** 2 / 2

    return math.exp(_lowest(penalised, -WIDEST, WIDEST))


def fit_scale(logits: Floats, right: NDArray[np.bool_]) -> tuple[float, float]:
    """Temperature and offset with which m scores are the probabilities of being ``right``: Platt, "Probabilistic outputs for support
    vector machines" (1999), by Newton's method, with his pull towards a half; (1, 0) where there is no score.

    logits, right   (m,)
    """
    if not len(logits):
        return 1.0, 0.0
    positives = np.count_nonzero(right)
    wanted = np.where(right, (positives + 1) / (positives + 2), 1 / (len(right) - positives + 2))
    terms, weights = np.column_stack([logits, np.ones(len(logits))]).astype(np.float64), np.array([1.0, 0.0])
    for _ in range(NEWTON_STEPS):
        given = 1 / (1 + np.exp(-np.clip(terms @ weights, -50, 50)))
        # As weak as one score, so that no direction is flat.
        gradient = terms.T @ (given - wanted) + weights - (1.0, 0.0)
        curvature = (terms * (given * (1 - given))[:, None]).T @ terms + np.eye(2)
        weights = weights - np.clip(np.linalg.solve(curvature, gradient), -1, 1)
    steepness = float(np.clip(weights[0], math.exp(-WIDEST), math.exp(WIDEST)))
    return 1 / steepness, float(weights[1])


def _lowest(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function with one valley is lowest, by golden sections: Kiefer, "Sequential minimax search for a maximum" (1953)."""
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(HALVINGS):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - GOLDEN * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + GOLDEN * (high - low)
            at_right = function(right)
    return (low + high) / 2


@dataclass(frozen=True)
class Bin:
    """Images whose score lies in a bin: how many, their mean ``score``, the share that was ``right``, and its 95% interval."""

    n: int
    score: float
    right: float
    low: float
    high: float


def reliability(scores: Floats, right: Floats, bins: int = RELIABILITY_BINS) -> list[Bin]:
    """The bins of equal width that hold any of n images, from the lowest score to the highest; both inputs (n,) in [0, 1]."""
    which = np.clip(np.ceil(scores * bins).astype(int) - 1, 0, bins - 1)
    found = []
    for place in range(bins):
        inside = which == place
        if n := int(inside.sum()):
            share = float(right[inside].mean())
            found.append(Bin(n, float(scores[inside].mean()), share, *wilson_interval(round(share * n), n)))
    return found


def calibration_gap(scores: Floats, right: Floats, bins: int = 15) -> float:
    """Expected calibration error of n answers: the gap between mean score and share right of each bin, weighted by its images."""
    which = np.clip(np.ceil(scores * bins).astype(int) - 1, 0, bins - 1)
    return float(np.abs(np.bincount(which, weights=right - scores, minlength=bins)).sum() / len(scores))


def gap_by_chance(scores: Floats, right: Floats, image: NDArray[np.int64], bins: int = 15, share: float = 0.95, seed: int = 0) -> float:
    """The ``calibration_gap`` that m statements would stay below in 95 of 100 cases if every score were exactly right.

    Sums of right answers in a bin are taken as normal, which bins of a dozen are near enough to. Statements of the same ``image``, (m,)
    numbers from 0, are right or wrong together: by how much, the images tell, as in Liang and Zeger, "Longitudinal data analysis using
    generalized linear models" (1986). That can only make the gap by chance larger than that of as many images with a statement each.
    """
    which = np.clip(np.ceil(scores * bins).astype(int) - 1, 0, bins - 1)
    spread = np.sqrt(np.bincount(which, weights=scores * (1 - scores), minlength=bins))
    rng = np.random.default_rng(seed)
    drawn = rng.normal(size=(DRAWS, bins)) * spread + rng.normal(size=(DRAWS, bins)) @ _alike(right - scores, which, image, bins)
    return float(np.quantile(np.abs(drawn).sum(axis=1) / len(scores), share))


def _alike(residuals: Floats, which: NDArray[np.int64], image: NDArray[np.int64], bins: int) -> Floats:
    """(bins, bins) a root of what residuals of the same image, being alike, add to the covariance of the bins' sums."""
    images = int(image.max()) + 1
    sums = np.bincount(image * bins + which, weights=residuals, minlength=images * bins).reshape(images, bins)
    alone = np.bincount(which, weights=residuals**2, minlength=bins)
    values, vectors = np.linalg.eigh(sums.T @ sums - np.diag(alone))
    return np.asarray(np.sqrt(np.maximum(values, 0))[:, None] * vectors.T)


def risk_coverage(scores: Floats, right: Floats, points: int = CURVE_POINTS) -> list[tuple[float, float]]:
    """(share of images answered, share of those right), where the surest are answered first; images of one score come together.

    El-Yaniv and Wiener, "On the foundations of noise-free selective classification" (2010), with accuracy in place of risk.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, n = scores[order], len(scores)
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    accuracy = right[order].cumsum()[last] / (last + 1)
    shown = np.unique(np.linspace(0, len(last) - 1, min(points, len(last))).round().astype(int))
    return [(float((last[place] + 1) / n), float(accuracy[place])) for place in shown]
