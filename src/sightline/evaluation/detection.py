"""COCO's mean average precision and recall, exactly as pycocotools computes them, and their intervals over images.

Average precision is the mean of the precision at 101 recalls, where the precision at a recall is the highest at that or any larger
one. mAP is the mean over ten IoU thresholds, 0.50 to 0.95, and over the classes that have an object. The classes and ranges of size
without an object are left out (NaN). Areas are those of the objects' outlines where known, as in COCO.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.intervals import RESAMPLES, bootstrap_intervals
from sightline.evaluation.matching import ALL_SIZES, LIMIT, SIZES, Found, Matches, match
from sightline.evaluation.metrics import ratio
from sightline.scenes import Objects

Floats = NDArray[np.float64]

RECALLS = np.linspace(0.0, 1.0, 101)
IOU_75 = 5


@dataclass(frozen=True, eq=False)
class DetectionScores:
    """Values in [0, 1], NaN where there is no object to judge by.

    map, map50, map75           mean average precision over all IoU thresholds, at 0.50, at 0.75
    map_by_size                 of "small" objects, below 32 x 32 pixels, "medium" ones, up to 96 x 96, and "large" ones
    recall, recall_by_size      mean recall over IoU thresholds and classes
    recall_1, recall_10         the same where the surest detection, or the ten surest, of an image and class are all that counts
    ap, ap50, recalls           (k,) of each class
    objects                     (k,) int64 objects of each class, without crowds
    """

    map: float
    map50: float
    map75: float
    map_by_size: Mapping[str, float]
    recall: float
    recall_1: float
    recall_10: float
    recall_by_size: Mapping[str, float]
    ap: Floats
    ap50: Floats
    recalls: Floats
    objects: NDArray[np.int64]


def detection_scores(matches: Matches) -> DetectionScores:
    """All figures, from ``match`` with its usual thresholds and sizes."""
    precisions, recalls = average_precision(matches), recall(matches)
    return DetectionScores(
        map=_mean(precisions[0]),
        map50=_mean(precisions[0, :, 0]),
        map75=_mean(precisions[0, :, IOU_75]),
        map_by_size={name: _mean(values) for name, values in zip(SIZES, precisions, strict=True) if name not in ALL_SIZES},
        recall=_mean(recalls[0]),
        recall_1=_mean(recall(matches, 1)[0]),
        recall_10=_mean(recall(matches, 10)[0]),
        recall_by_size={name: _mean(values) for name, values in zip(SIZES, recalls, strict=True) if name not in ALL_SIZES},
        ap=precisions[0].mean(axis=1),
        ap50=precisions[0, :, 0],
        recalls=recalls[0].mean(axis=1),
        objects=matches.objects[0].sum(axis=0),
    )


def mean_average_precision(found: Found, truth: Sequence[Objects], classes: int) -> float:
    """mAP alone, as after each epoch: all sizes, IoU 0.50 to 0.95; NaN where no image has an object."""
    return _mean(average_precision(match(found, truth, classes, sizes=ALL_SIZES)))


def average_precision(matches: Matches, weights: NDArray[np.integer] | None = None, sizes: int | None = None) -> Floats:
    """(a, k, t) with image i counted ``weights[i]`` times, or once; NaN for a class without an object.

    ``sizes`` limits it to the first so many ranges of size.
    """
    counted = np.ones(matches.images) if weights is None else weights.astype(np.float64)
    spans = [matches.of_class(label) for label in range(matches.classes)]
    found = np.full((len(matches.hit[:sizes]), matches.classes, matches.hit.shape[1]), np.nan)
    for size, values in enumerate(found):
        for label, positives in enumerate(counted @ matches.objects[size]):
            if positives > 0:
                span = spans[label]
                hit, ignored = matches.hit[size, :, span], matches.ignored[size, :, span]
                values[label] = _interpolated(hit, ignored, counted[matches.image[span]], positives)
    return found


def _interpolated(hit: NDArray[np.bool_], ignored: NDArray[np.bool_], weights: Floats, positives: float) -> Floats:
    """(t,) average precision of the (t, d) detections of a class, each counted so often."""
    # Precision is highest, and recall grows, only where there is a hit.
    steps = np.flatnonzero(hit.any(axis=0))
    gained = np.cumsum(hit[:, steps] * weights[steps], axis=1)
    given = np.cumsum(~ignored * weights, axis=1)[:, steps]
    highest = np.zeros((len(hit), len(steps) + 1))
    highest[:, :-1] = np.maximum.accumulate(ratio(gained, given)[:, ::-1], axis=1)[:, ::-1]
    reached = gained / positives
    return np.array([row[np.searchsorted(recalls, RECALLS)].mean() for row, recalls in zip(highest, reached, strict=True)])


def recall(matches: Matches, limit: int = LIMIT) -> Floats:
    """(a, k, t) share of the objects found by the ``limit`` surest detections of an image and class; NaN for a class without one."""
    objects = matches.objects.sum(axis=1)
    hits = matches.hit & (matches.rank < limit)
    found = np.stack([hits[:, :, matches.of_class(label)].sum(axis=2) for label in range(matches.classes)], axis=1)
    return np.where(objects[:, :, None] > 0, ratio(found, np.broadcast_to(objects[:, :, None], found.shape)), np.nan)


def precision_summary(matches: Matches, weights: NDArray[np.integer] | None = None) -> Floats:
    """(2 + 2k,) mAP, mAP50, the average precision of each class, and that at IoU 0.50, with image i counted ``weights[i]`` times."""
    precisions = average_precision(matches, weights, sizes=1)[0]
    return np.concatenate([[_mean(precisions), _mean(precisions[:, 0])], precisions.mean(axis=1), precisions[:, 0]])


def precision_intervals(matches: Matches, resamples: int = RESAMPLES) -> Floats:
    """(2 + 2k, 2) 95% intervals of the ``precision_summary`` over images, in [0, 1]; NaN for a class without an object."""
    return np.clip(bootstrap_intervals(lambda weights: precision_summary(matches, weights), matches.images, resamples=resamples), 0.0, 1.0)


def precision_differences(reference: Matches, other: Matches, resamples: int = RESAMPLES) -> Floats:
    """(2 + 2k, 2) 95% intervals of the other's ``precision_summary`` less the reference's, both drawn on the same images."""
    return bootstrap_intervals(
        lambda weights: precision_summary(other, weights) - precision_summary(reference, weights), reference.images, resamples=resamples
    )


def _mean(values: Floats) -> float:
    """Over the classes that have an object, NaN where none has."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
