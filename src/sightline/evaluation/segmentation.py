"""How well label maps agree with the truth: overlap of each class, from counts of pixels of the whole set.

Pixels whose truth is 255 count for nothing. Counts are kept image by image, so that they can be summed and resampled, and IoU and Dice
are taken of the sums, not image by image. A class that is neither in the truth nor in the prediction has no value (NaN) and is left out
of means, one that is predicted but nowhere true has 0: mIoU is that of torchmetrics' ``MulticlassJaccardIndex``, macro average.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.intervals import RESAMPLES, bootstrap_intervals
from sightline.evaluation.metrics import Ints, ratio
from sightline.scenes import IGNORED

Floats = NDArray[np.float64]

# Pixels counted at once, so that a huge image needs no multiple of its own memory.
PIXELS_AT_ONCE = 1 << 20


def pixel_confusion(truth: Ints, predicted: Ints, classes: int) -> NDArray[np.int64]:
    """(k, k) pixels of each class in the truth (rows) and the prediction (columns), from two (h, w) maps of classes.

    Pixels with a truth of 255 are left out; all other values of both must be below ``classes``.
    """
    counts = np.zeros(classes * classes, np.int64)
    rows = max(1, PIXELS_AT_ONCE // max(1, truth.shape[1]))
    for start in range(0, len(truth), rows):
        there, given = truth[start : start + rows].ravel(), predicted[start : start + rows].ravel()
        judged = there != IGNORED
        counts += np.bincount(there[judged].astype(np.int64) * classes + given[judged], minlength=classes * classes)
    return counts.reshape(classes, classes)


@dataclass(frozen=True, eq=False)
class SegmentationScores:
    """Values in [0, 1] of a set of images, NaN where nothing can be said.

    miou, mdice   means over the classes that have a value
    accuracy      share of the pixels that are right
    iou, dice     (k,) of each class; NaN where it is neither there nor predicted
    recall        (k,) share of a class's pixels that are found; NaN where it is not there
    pixels        (k,) int64 pixels of each class in the truth
    """

    miou: float
    mdice: float
    accuracy: float
    iou: Floats
    dice: Floats
    recall: Floats
    pixels: NDArray[np.int64]


def segmentation_scores(confusion: NDArray[np.int64]) -> SegmentationScores:
    """From the (k, k) sum of the images' confusions."""
    right, there, given = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    either = there + given > 0
    iou = np.where(either, ratio(right, there + given - right), np.nan)
    dice = np.where(either, ratio(2 * right, there + given), np.nan)
    accuracy = float(right.sum() / confusion.sum()) if confusion.any() else float("nan")
    recall = np.where(there > 0, ratio(right, there), np.nan)
    return SegmentationScores(_mean(iou), _mean(dice), accuracy, iou, dice, recall, there)


def overlap_summary(confusions: NDArray[np.int64], weights: NDArray[np.integer] | None = None) -> Floats:
    """(2 + k,) mIoU, pixel accuracy and the IoU of each class, from (n, k, k), with image i counted ``weights[i]`` times."""
    total = confusions.sum(axis=0) if weights is None else np.tensordot(weights, confusions, axes=1)
    scores = segmentation_scores(total)
    return np.concatenate([[scores.miou, scores.accuracy], scores.iou])


def overlap_intervals(confusions: NDArray[np.int64], resamples: int = RESAMPLES) -> Floats:
    """(2 + k, 2) 95% intervals of the ``overlap_summary`` over images, in [0, 1]."""
    found = bootstrap_intervals(lambda weights: overlap_summary(confusions, weights), len(confusions), resamples=resamples)
    return np.clip(found, 0.0, 1.0)


def overlap_differences(reference: NDArray[np.int64], other: NDArray[np.int64], resamples: int = RESAMPLES) -> Floats:
    """(2 + k, 2) 95% intervals of the other's ``overlap_summary`` less the reference's, both drawn on the same images."""
    return bootstrap_intervals(
        lambda weights: overlap_summary(other, weights) - overlap_summary(reference, weights), len(reference), resamples=resamples
    )


def _mean(values: Floats) -> float:
    """Over the classes that have a value, NaN where none has."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
