"""Thresholds that keep a promise on images not seen yet: when to answer, which labels to name, what is familiar.

All are chosen on calibration images and hold for images drawn as those were, not for others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Shares of the images that are answered, tried in this order: a promise that half of the images do not keep is not worth making.
COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
# How sure a promise of accuracy is.
CONFIDENCE = 0.95
# Training images that an image is compared with: the nearest ones.
NEIGHBOURS = 5
BLOCK = 1024
# Products of numbers of this many bits after the point add up exactly in float64, as long as no sum is far above 1.
BITS = 24


@dataclass(frozen=True)
class Answering:
    """Answers of a score from ``threshold`` on are right often enough; seen on the calibration images: share answered, share right."""

    threshold: float
    coverage: float
    accuracy: float


def answering(scores: Floats, right: Floats, promise: float, confidence: float = CONFIDENCE) -> Answering | None:
    """The lowest threshold from which answers are right with probability ``promise``, or None where that cannot be said.

    scores, right   (n,) in [0, 1]

    More and more images are answered, the surest first, as long as a test rejects "the answered are right less often than promised";
    the first one that does not ends it, so that all hold together with probability ``confidence``: Angelopoulos et al., "Learn then
    Test" (2021), with its fixed sequence, and Geifman and El-Yaniv, "Selective classification for deep neural networks" (2017).
    """
    ranked = np.sort(scores)[::-1]
    kept = None
    for coverage in COVERAGES:
        threshold = float(ranked[max(0, math.ceil(coverage * len(ranked)) - 1)])
        answered = scores >= threshold
        if promise ** answered.sum() > 1 - confidence:
            continue  # so few that not even all right would do
        if p_value(1 - right[answered], 1 - promise) > 1 - confidence:
            break
        kept = Answering(threshold, float(answered.mean()), float(right[answered].mean()))
    return kept


def p_value(losses: Floats, bound: float) -> float:
    """Of "the mean loss is above ``bound``", from (n,) losses in [0, 1]: exact where all are 0 or 1, else Hoeffding and Bentkus' bound.

    Bates et al., "Distribution-free, risk-controlling prediction sets" (2021).
    """
    n, total = len(losses), float(losses.sum())
    if np.isin(losses, (0, 1)).all():
        return at_most(round(total), n, bound)
    mean = total / n
    hoeffding = math.exp(-n * _divergence(mean, bound)) if mean < bound else 1.0
    return min(1.0, hoeffding, math.e * at_most(math.ceil(total), n, bound))


def at_most(count: int, n: int, share: float) -> float:
    """The probability of at most ``count`` successes in n trials that succeed with probability ``share``."""
    if count >= n or share <= 0:
        return 1.0
    if share >= 1:
        return 0.0
    steps = np.arange(1, count + 1)
    # Logarithms, because the coefficients overflow.
    logarithms = np.concatenate([[0.0], np.cumsum(np.log((n - steps + 1) / steps) + math.log(share / (1 - share)))])
    return min(1.0, float(np.exp(logarithms + n * math.log1p(-share)).sum()))


def _divergence(mean: float, bound: float) -> float:
    """Kullback-Leibler divergence of two coins."""
    parts = ((mean, bound), (1 - mean, 1 - bound))
    return sum(ours * math.log(ours / theirs) if ours > 0 else 0.0 for ours, theirs in parts if theirs > 0)


def naming(lowest: Floats, coverage: float) -> float | None:
    """The score from which labels are named, so that all true labels of an image are among them with probability ``coverage``.

    ``lowest`` (n,) is the score of each calibration image's least probable true label. None where n is too small: split conformal
    prediction needs 9 images to promise 0.9. Vovk et al., "Algorithmic learning in a random world" (2005); the score is that of
    Sadinle et al., "Least ambiguous set-valued classifiers with bounded error levels" (2019).
    """
    rank = math.ceil((len(lowest) + 1) * coverage)
    return float(np.sort(lowest)[len(lowest) - rank]) if rank <= len(lowest) else None


def similarity(embeddings: NDArray[np.floating], known: Floats) -> Floats:
    """(n,) mean cosine similarity of (n, d) embeddings to the nearest of (m, d) known ones, which are ``on_grid``, m at least 1.

    An image's is the same in every batch and on every processor, to the last bit.
    """
    count = min(NEIGHBOURS, len(known))
    found = [
        np.partition(on_grid(embeddings[start : start + BLOCK]) @ known.T, -count, axis=1)[:, -count:].mean(axis=1)
        for start in range(0, len(embeddings), BLOCK)
    ]
    return np.concatenate(found) if found else np.zeros(0)


def on_grid(embeddings: NDArray[np.floating]) -> Floats:
    """(n, d) embeddings of length one, rounded so that their products add up exactly, in whatever order a matrix product does so."""
    return np.rint(unit(embeddings).astype(np.float64) * 2.0**BITS) / 2.0**BITS


def unit(embeddings: NDArray[np.floating]) -> NDArray[np.float32]:
    """(n, d) embeddings of length one, in float32; one of length nought stays so."""
    plain = embeddings.astype(np.float32)
    lengths = np.linalg.norm(plain, axis=1, keepdims=True)
    return np.asarray(plain / np.where(lengths > 0, lengths, 1))


def familiar_from(similarities: Floats, false_alarms: float) -> float:
    """The similarity below which an image is unlike the training images; a share of ``false_alarms`` of like ones lies below it.

    (n,) similarities of calibration images, n at least 1. With too few images for so small a share it is the lowest of them, below which
    one in n + 1 lies.
    """
    rank = math.floor(false_alarms * (len(similarities) + 1))
    return float(np.sort(similarities)[max(0, rank - 1)])
