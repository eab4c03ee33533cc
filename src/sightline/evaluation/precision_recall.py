"""What a threshold on the score does, class by class: precision and recall, the threshold with the highest F1, and whether scores are kept.

A detection is right when it takes an object at IoU 0.50, as in ``matching``; those that count neither as right nor as wrong are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.matching import Matches
from sightline.evaluation.metrics import ratio

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curve:
    """Precision and recall of a class at each distinct score, the highest first; no threshold parts equal scores.

    score      (p,) the threshold: detections from it on are given
    given      (p,) int64 detections from that score on; ``right`` (p,) int64 those of them that are right
    objects    objects of the class, without crowds
    """

    score: Floats
    given: NDArray[np.int64]
    right: NDArray[np.int64]
    objects: int

    @property
    def precision(self) -> Floats:
        return ratio(self.right, self.given)

    @property
    def recall(self) -> Floats:
        """NaN where the class has no object."""
        return self.right / self.objects if self.objects else np.full(len(self.right), np.nan)

    @property
    def f1(self) -> Floats:
        return 2 * self.right / (self.given + self.objects)


def precision_recall(matches: Matches, label: int) -> Curve:
    """The curve of one class over all sizes of object, at the lowest IoU threshold matched with."""
    score, hit = statements(matches, label)
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True)) if len(score) else np.zeros(0, np.int64)
    return Curve(score[last], last + 1, hit.cumsum()[last], int(matches.objects[0, :, label].sum()))


def best_thresholds(matches: Matches, neutral: float) -> Floats:
    """(k,) thresholds with the highest F1 of each class, on the scale of the scores.

    Halfway to the next score below, so that scores near one of these images' fall on its side; the lowest score itself where all are
    best given. Of equals the highest. ``neutral`` for a class of which no object was found, as nothing can be learned from that.
    """
    return np.array([_best_threshold(precision_recall(matches, label), neutral) for label in range(matches.classes)])


def _best_threshold(curve: Curve, neutral: float) -> float:
    if not curve.right.any():
        return neutral
    best = int(curve.f1.argmax())
    score = float(curve.score[best])
    below = float(curve.score[best + 1]) if best + 1 < len(curve.score) else score
    halfway = (score + below) / 2
    # Between neighbouring floating-point numbers there is no other.
    return halfway if below < halfway else score


def statements(matches: Matches, label: int | None = None) -> tuple[Floats, NDArray[np.bool_]]:
    """(s,) scores of the detections, of one class or of all, and whether each is right: what calibration goes by.

    Each class's surest first; class after class.
    """
    span = slice(None) if label is None else matches.of_class(label)
    counts = ~matches.ignored[0, 0, span]
    return matches.score[span][counts].astype(np.float64), matches.hit[0, 0, span][counts]
