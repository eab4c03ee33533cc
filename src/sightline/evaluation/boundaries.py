"""Boundary F1: whether the outlines of the classes lie where they should, which overlap hardly shows.

Csurka et al., "What is a good evaluation measure for semantic segmentation?" (2013). A boundary pixel of a class has one of its four
neighbours in another class; it is matched if the other map has a boundary pixel of the same class within 0.75% of the image's
diagonal. Precision is the share of the prediction's boundary pixels that are matched, recall that of the truth's. Unlike in the paper
the counts are summed over images before they are divided, a distance equal to the tolerance still matches, and where the truth is
ignored nothing is judged: predicted boundaries in there are not, and where a class of the truth ends at it, none is asked for. One that
is predicted there does match, as a class may end where the truth says nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.intervals import RESAMPLES, bootstrap_intervals
from sightline.evaluation.metrics import Ints, ratio
from sightline.scenes import IGNORED

Floats = NDArray[np.float64]

TOLERANCE = 0.0075
# Of each class: the prediction's boundary pixels that are matched, all of them, and the same of the truth's.
COUNTS = ("right", "given", "reached", "true")


def boundary_counts(truth: Ints, predicted: Ints, classes: int, tolerance: float = TOLERANCE) -> NDArray[np.int64]:
    """(k, 4) the ``COUNTS`` of an image, from two (h, w) maps of classes; ``tolerance`` as a share of the diagonal."""
    reach = tolerance * float(np.hypot(*truth.shape))
    there, given = _Boundary(truth), _Boundary(predicted)
    judged = truth[given.y, given.x] != IGNORED
    counts = [
        given.labels[judged & given.near(there, reach)],
        given.labels[judged],
        there.labels[there.asked & there.near(given, reach)],
        there.labels[there.asked],
    ]
    return np.stack([np.bincount(labels, minlength=classes) for labels in counts], axis=1)


class _Boundary:
    """The boundary pixels of a map, without those of ignored places: ``y``, ``x`` and ``labels``, (p,) int64 each.

    asked  (p,) bool, those that have another class beside them, not only an ignored place
    """

    def __init__(self, labels: Ints) -> None:
        known = labels != IGNORED
        down, across = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
        self.y, self.x = np.nonzero(_beside(down, across) & known)
        self.labels = labels[self.y, self.x].astype(np.int64)
        self.asked = _beside(down & known[1:] & known[:-1], across & known[:, 1:] & known[:, :-1])[self.y, self.x]
        self.height, self.width = labels.shape

    def near(self, other: _Boundary, reach: float) -> NDArray[np.bool_]:
        """(p,) whether a pixel of the other boundary of the same class lies within ``reach`` pixels.

        Sorted by class, column and row, the other's pixels within reach in one column are a range: a search for each column in reach,
        whose cost goes with the length of the boundaries and the reach, not with its square or the size of the image.
        """
        whole = int(reach + 1e-9)
        height, width = self.height + 2 * whole, self.width + 2 * whole

        def keys(boundary: _Boundary) -> NDArray[np.int64]:
            return np.asarray((boundary.labels * width + boundary.x + whole) * height + boundary.y + whole)

        theirs, ours = np.sort(keys(other)), keys(self)
        found = np.zeros(len(ours), bool)
        for across in sorted(range(-whole, whole + 1), key=abs):
            # The nearest columns settle most pixels.
            left = np.flatnonzero(~found)
            along = int(np.sqrt(reach * reach - across * across + 1e-9))
            centres = ours[left] + across * height
            found[left] = np.searchsorted(theirs, centres + along, "right") > np.searchsorted(theirs, centres - along, "left")
        return found


def _beside(down: NDArray[np.bool_], across: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(h, w) the pixels on both sides of steps, from the steps to the next row (h - 1, w) and to the next column (h, w - 1)."""
    found = np.zeros((across.shape[0], down.shape[1]), bool)
    found[1:] |= down
    found[:-1] |= down
    found[:, 1:] |= across
    found[:, :-1] |= across
    return found


def boundary_f1(counts: NDArray[np.int64]) -> Floats:
    """(k,) from (k, 4) counts summed over images; NaN for a class without a boundary in truth and prediction."""
    right, given, reached, true = counts.T
    precision, recall = ratio(right, given), ratio(reached, true)
    return np.where(given + true > 0, ratio(2 * precision * recall, precision + recall), np.nan)


def boundary_summary(counts: NDArray[np.int64], weights: NDArray[np.integer] | None = None) -> Floats:
    """(1 + k,) mean boundary F1 and that of each class, from (n, k, 4), with image i counted ``weights[i]`` times."""
    found = boundary_f1(counts.sum(axis=0) if weights is None else np.tensordot(weights, counts, axes=1))
    known = found[~np.isnan(found)]
    return np.concatenate([[known.mean() if len(known) else np.nan], found])


def boundary_intervals(counts: NDArray[np.int64], resamples: int = RESAMPLES) -> Floats:
    """(1 + k, 2) 95% intervals of the ``boundary_summary`` over images, in [0, 1]."""
    found = bootstrap_intervals(lambda weights: boundary_summary(counts, weights), len(counts), resamples=resamples)
    return np.clip(found, 0.0, 1.0)
