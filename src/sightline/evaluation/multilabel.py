"""Metrics of images that may have several labels or none, as pure functions of numpy arrays, tested against scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.metrics import Floats, Ints, ratio
from sightline.predictions import Decision

Bools = NDArray[np.bool_]

NEUTRAL_THRESHOLD = 0.5


def sigmoid(logits: Floats, temperature: float = 1.0) -> NDArray[np.float64]:
    """(n, k) logits to (n, k) probabilities, each label on its own, in float64; ``temperature`` above 1 makes them less sure."""
    scaled = logits.astype(np.float64) / temperature
    small = np.exp(-np.abs(scaled))  # never overflows
    return np.asarray(np.where(scaled >= 0, 1.0, small) / (1.0 + small))


def decided(logits: Floats, decision: Decision) -> NDArray[np.float64]:
    """The probabilities of logits, of any shape, as a bundle's ``decision`` reads them: its offset added, made less sure."""
    return sigmoid(logits + (decision.offset or 0.0) * decision.temperature, decision.temperature)


@dataclass(frozen=True)
class Ranking:
    """The images sorted by each label's score, best first, so that average precision can be taken for many weightings of them.

    order  (n, k) int64: column j holds the images in the order of label j
    hits   (n, k) bool: whether the image at that place has the label
    ends   (n, k) int64: the last place with the same score. Equal scores are one step, as no threshold parts them
    """

    order: NDArray[np.int64]
    hits: Bools
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, targets: Bools, scores: Floats) -> Ranking:
        """From (n, k) targets and (n, k) scores."""
        order = np.argsort(-scores, axis=0, kind="stable")
        ranked = np.take_along_axis(scores, order, axis=0)
        last = np.ones(scores.shape, bool)
        last[:-1] = ranked[:-1] != ranked[1:]
        places = np.where(last, np.arange(len(scores))[:, None], len(scores))
        ends = np.minimum.accumulate(places[::-1], axis=0)[::-1]
        return cls(order, np.take_along_axis(targets, order, axis=0), ends)

    def average_precision(self, weights: NDArray[np.integer]) -> NDArray[np.float64]:
        """(k,) with image i counted ``weights[i]`` times; NaN for a label that none of those counted has."""
        counted = weights[self.order]
        found = np.where(self.hits, counted, 0)
        precision = ratio(found.cumsum(axis=0), counted.cumsum(axis=0))
        positives = found.sum(axis=0)
        gained = (found * np.take_along_axis(precision, self.ends, axis=0)).sum(axis=0)
        return np.where(positives > 0, ratio(gained, positives), np.nan)


def average_precision(targets: Bools, scores: Floats) -> NDArray[np.float64]:
    """(k,) area below each label's precision-recall steps, without interpolation; NaN for a label without a positive.

    ``targets`` and ``scores`` are (n, k). Equal scores are one step, as in scikit-learn's ``average_precision_score``.
    """
    return Ranking.of(targets, scores).average_precision(np.ones(len(targets), np.int64))


def mean_average_precision(average_precisions: Floats) -> float:
    """The mean over the labels that have a positive, that is whose value is not NaN; NaN when there is none."""
    scored = average_precisions[~np.isnan(average_precisions)]
    return float(scored.mean()) if len(scored) else float("nan")


def chance_average_precision(positives: Ints, n: int) -> NDArray[np.float64]:
    """(k,) expected average precision of n images in random order, of which ``positives`` (k,) have the label.

    With many images it is the share of positives; with few it lies above it, as the first image may be a hit by luck:
    Bestgen, "Exact expected average precision of the random baseline for system evaluation" (2015). NaN without a positive.
    """
    harmonic = float((1 / np.arange(1, n + 1)).sum())
    others = (positives - 1) / (n - 1) if n > 1 else np.zeros(len(positives))
    return np.where(positives > 0, (harmonic + (n - harmonic) * others) / n, np.nan)


@dataclass(frozen=True)
class LabelScores:
    """Per-label precision, recall and F1 in [0, 1], (k,) float64, and the counts behind them, (k,) int64.

    ``right`` images were given the label and have it, ``given`` were given it, ``support`` have it. A ratio without cases
    is 0, as in scikit-learn's ``zero_division=0``.
    """

    right: NDArray[np.int64]
    given: NDArray[np.int64]
    support: NDArray[np.int64]

    @property
    def precision(self) -> NDArray[np.float64]:
        return ratio(self.right, self.given)

    @property
    def recall(self) -> NDArray[np.float64]:
        return ratio(self.right, self.support)

    @property
    def f1(self) -> NDArray[np.float64]:
        return ratio(2 * self.right, self.given + self.support)

    def macro(self) -> dict[str, float]:
        """Means over the labels that have test images, so that a label absent from the split does not count as failed.

        Empty when no label has any.
        """
        present = self.support > 0
        columns = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {name: float(column[present].mean()) for name, column in columns.items()} if present.any() else {}

    def micro(self) -> dict[str, float]:
        """Precision, recall and F1 of all decisions together; a label wrongly given counts, even where no image has it."""
        total = LabelScores(*(counts.sum(keepdims=True) for counts in (self.right, self.given, self.support)))
        return {"precision": float(total.precision[0]), "recall": float(total.recall[0]), "f1": float(total.f1[0])}


def label_scores(targets: Bools, given: Bools) -> LabelScores:
    """Scores of each label from (n, k) truth and (n, k) decisions."""
    return LabelScores((targets & given).sum(axis=0), given.sum(axis=0), targets.sum(axis=0))


def subset_accuracy(targets: Bools, given: Bools) -> float:
    """Share of images whose labels are all right: none missed, none too many."""
    return float((targets == given).all(axis=1).mean())


def hamming_loss(targets: Bools, given: Bools) -> float:
    """Share of wrong decisions among all n * k."""
    return float((targets != given).mean())


def overlaps(targets: Bools, given: Bools) -> NDArray[np.float64]:
    """(n,) Jaccard overlap of each image's true and given labels, in [0, 1]; 1 where both are none."""
    union = (targets | given).sum(axis=1)
    return np.where(union > 0, ratio((targets & given).sum(axis=1), union), 1.0)


def expected_overlaps(probabilities: Floats, given: Bools) -> NDArray[np.float64]:
    """(n,) the ``overlaps`` to be expected of the labels given, were the (n, k) probabilities true and independent.

    Where labels are given, expected intersection over expected union; where none is, the probability that there is none.
    """
    right = np.where(given, probabilities, 0.0).sum(axis=1)
    union = given.sum(axis=1) + np.where(given, 0.0, probabilities).sum(axis=1)
    return np.where(given.any(axis=1), ratio(right, union), np.prod(1 - probabilities, axis=1))


def calibration_error(targets: Bools, probabilities: Floats, bins: int = 15) -> float:
    """ECE of all n * k probabilities: the gap between what was stated and the share of those that were so, in equal-width bins.

    Each label of each image is a yes-or-no question of its own (Guo et al., "On Calibration of Modern Neural Networks", 2017,
    with the probability of yes in place of the answer's).
    """
    stated, held = probabilities.ravel(), targets.ravel()
    which = np.clip(np.ceil(stated * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(which, weights=held - stated, minlength=bins)
    return float(np.abs(gaps).sum() / len(stated))


def best_threshold(targets: Bools, scores: Floats) -> float:
    """The threshold in [0, 1] on (n,) scores with the highest F1; 0.5 when no target is positive.

    Candidates lie halfway between neighbouring scores, the lowest halfway to 0, so that scores near one of these images'
    fall on its side. Of equals the highest is taken, which gives the label least often. Where scores say nothing, F1 is highest
    when every image is given the label: Lipton et al., "Optimal Thresholding of Classifiers to Maximize F1 Measure" (2014).
    """
    if not targets.any():
        return NEUTRAL_THRESHOLD
    values, inverse = np.unique(scores, return_inverse=True)
    counts = np.bincount(inverse, minlength=len(values))
    hits = np.bincount(inverse, weights=targets, minlength=len(values))
    given, right = counts[::-1].cumsum()[::-1], hits[::-1].cumsum()[::-1]  # at or above each value
    f1 = 2 * right / (given + hits.sum())
    best = len(values) - 1 - int(f1[::-1].argmax())
    below = float(values[best - 1]) if best else 0.0
    halfway = (below + float(values[best])) / 2
    # Between neighbouring floating-point numbers there is no other.
    return halfway if below < halfway else float(values[best])
