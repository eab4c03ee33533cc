"""How far the number of objects found is from the number there are, image by image and class by class.

An image with a crowd of a class says nothing of that class, as nobody knows how many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.matching import Found
from sightline.scenes import Objects

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Counts:
    """``given`` and ``true`` (n, k) int64 objects of each class on each image, and ``known`` (n, k) bool where they may be compared."""

    given: NDArray[np.int64]
    true: NDArray[np.int64]
    known: NDArray[np.bool_]

    def absolute(self, weights: NDArray[np.integer] | None = None) -> Floats:
        """(k,) mean of the absolute difference, in objects an image, with image i counted ``weights[i]`` times; NaN without an image."""
        return self._mean(np.abs(self.given - self.true), weights)

    def signed(self, weights: NDArray[np.integer] | None = None) -> Floats:
        """(k,) mean of given less true: above 0 where too many are given."""
        return self._mean(self.given - self.true, weights)

    def _mean(self, differences: NDArray[np.int64], weights: NDArray[np.integer] | None) -> Floats:
        counted = self.known * (np.ones(len(self.known)) if weights is None else weights)[:, None]
        totals = counted.sum(axis=0)
        return np.where(totals > 0, (counted * differences).sum(axis=0) / np.maximum(totals, 1), np.nan)


def count_objects(found: Found, truth: Sequence[Objects], classes: int, thresholds: NDArray[np.floating]) -> Counts:
    """Count what is found with scores of at least the (k,) ``thresholds``, and what is there."""
    given = found.above(thresholds).labels
    rows, columns = np.nonzero(given >= 0)
    counts = np.bincount(rows * classes + given[rows, columns], minlength=len(truth) * classes).reshape(len(truth), classes)
    true, known = np.zeros(counts.shape, np.int64), np.ones(counts.shape, bool)
    for image, objects in enumerate(truth):
        true[image] = np.bincount(objects.labels[~objects.crowd], minlength=classes)
        known[image, objects.labels[objects.crowd]] = False
    return Counts(counts, true, known)
