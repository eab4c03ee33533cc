"""What is wrong with the boxes that a detector gives: each detection and each object is of exactly one kind.

In the manner of Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors" (2020), with IoU 0.5 for being on an
object and 0.1 for being near one. A detection is, the first that holds:

    correct        it takes an object of its class, the surest detection first
    ignored        it lies in a crowd of its class
    double         it is on an object of its class that a surer one took
    wrong class    it is on an object of another class
    badly placed   it is near an object of its class
    stray          it is near an object of another class: wrong in class and in place
    background     it is near nothing

An object is found (a correct detection took it), misjudged (not found, but a detection of wrong class or bad place lies on it, so that
the mistake is counted once) or missed. Crowds are no objects here: only detections in one of their class are spared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation.boxes import overlapping, paired_iou
from sightline.evaluation.matching import ALL_SIZES, Found, Matches, match
from sightline.scenes import Objects

ON, NEAR = 0.5, 0.1
KINDS = ("correct", "ignored", "double", "wrong class", "badly placed", "stray", "background")
CORRECT, IGNORED, DOUBLE, WRONG_CLASS, BADLY_PLACED, STRAY, BACKGROUND = range(len(KINDS))
FATES = ("found", "misjudged", "missed")
FOUND, MISJUDGED, MISSED = range(len(FATES))


@dataclass(frozen=True, eq=False)
class BoxErrors:
    """The d detections given, and the g objects that are no crowd, on n images of k classes.

    image, place   (d,) int64: the image, and the box's place in ``Found``
    label, kind    (d,) int64: its class, and its place in ``KINDS``
    partner        (d,) int64: the object that the kind speaks of, by its index in the image; -1 for ignored and background
    overlap        (d,) float64: its IoU with that object; 0 without
    object_image, object_index   (g,) int64
    object_label, fate           (g,) int64: its class, and its place in ``FATES``
    classes        k
    """

    image: NDArray[np.int64]
    place: NDArray[np.int64]
    label: NDArray[np.int64]
    kind: NDArray[np.int64]
    partner: NDArray[np.int64]
    overlap: NDArray[np.float64]
    object_image: NDArray[np.int64]
    object_index: NDArray[np.int64]
    object_label: NDArray[np.int64]
    fate: NDArray[np.int64]
    classes: int

    def kinds(self) -> NDArray[np.int64]:
        """(k, 7) detections of each class and kind."""
        return _table(self.label, self.kind, self.classes, len(KINDS))

    def fates(self) -> NDArray[np.int64]:
        """(k, 3) objects of each class and fate."""
        return _table(self.object_label, self.fate, self.classes, len(FATES))


def _table(rows: NDArray[np.int64], columns: NDArray[np.int64], height: int, width: int) -> NDArray[np.int64]:
    return np.bincount(rows * width + columns, minlength=height * width).reshape(height, width)


def box_errors(found: Found, truth: Sequence[Objects], classes: int, thresholds: NDArray[np.floating]) -> BoxErrors:
    """Sort what is found with scores of at least the (k,) ``thresholds`` into the kinds above."""
    given = found.above(thresholds)
    matches = match(given, truth, classes, limit=max(1, given.labels.shape[1]), ious=np.array([ON]), sizes=ALL_SIZES)
    kind = np.full(len(matches.image), BACKGROUND)
    partner, overlap = np.full(len(kind), -1), np.zeros(len(kind))
    fates = [np.full(len(objects.labels), MISSED) for objects in truth]
    by_image = np.argsort(matches.image, kind="stable")
    ends = np.searchsorted(matches.image[by_image], np.arange(len(truth) + 1))
    for image, objects in enumerate(truth):
        chosen = by_image[ends[image] : ends[image + 1]]
        boxes = found.boxes[image, matches.place[chosen]].astype(np.float64)
        kind[chosen], partner[chosen], overlap[chosen] = _judge(matches, chosen, boxes, objects)
        blamed = np.isin(kind[chosen], (WRONG_CLASS, BADLY_PLACED))
        fates[image][partner[chosen][blamed]] = MISJUDGED
        fates[image][partner[chosen][kind[chosen] == CORRECT]] = FOUND
    real = [np.flatnonzero(~objects.crowd) for objects in truth]
    nothing = np.zeros(0, np.int64)
    return BoxErrors(
        image=matches.image,
        place=matches.place,
        label=matches.label,
        kind=kind,
        partner=partner,
        overlap=overlap,
        object_image=np.repeat(np.arange(len(truth)), [len(places) for places in real]),
        object_index=np.concatenate([nothing, *real]),
        object_label=np.concatenate([nothing, *(objects.labels[places] for objects, places in zip(truth, real, strict=True))]),
        fate=np.concatenate([nothing, *(fate[places] for fate, places in zip(fates, real, strict=True))]),
        classes=classes,
    )


def _judge(
    matches: Matches, chosen: NDArray[np.int64], boxes: NDArray[np.float64], objects: Objects
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Kind, partner and overlap of the detections of one image, which are the ``chosen`` ones of the matches."""
    label, hit, ignored = matches.label[chosen], matches.hit[0, 0, chosen], matches.ignored[0, 0, chosen]
    own, own_overlap, other, other_overlap = _nearest(boxes, label, objects)
    tests = [
        (hit, matches.partner[0, 0, chosen]),
        (ignored, np.full(len(chosen), -1)),
        (own_overlap >= ON, own),
        (other_overlap >= ON, other),
        (own_overlap >= NEAR, own),
        (other_overlap >= NEAR, other),
        (np.ones(len(chosen), bool), np.full(len(chosen), -1)),
    ]
    kind = np.argmax([holds for holds, _ in tests], axis=0)
    partner = np.stack([partners for _, partners in tests])[kind, np.arange(len(kind))]
    overlap = np.zeros(len(kind))
    has = partner >= 0
    overlap[has] = paired_iou(boxes[has], objects.boxes[partner[has]])
    return kind, partner, overlap


def _nearest(
    boxes: NDArray[np.float64], label: NDArray[np.int64], objects: Objects
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """The object of its own class that each detection overlaps most, the IoU, and both for the other classes; -1 and 0 for none near."""
    rows, columns, overlaps = overlapping(boxes, objects.boxes, NEAR)
    same = label[rows] == objects.labels[columns]
    found = []
    for counted in (same, ~same):
        best = np.flatnonzero(counted & ~objects.crowd[columns])
        best = best[np.argsort(overlaps[best], kind="stable")]
        partner, overlap = np.full(len(boxes), -1), np.zeros(len(boxes))
        # Written from the least overlap to the largest, which stays.
        partner[rows[best]], overlap[rows[best]] = columns[best], overlaps[best]
        found += [partner, overlap]
    return found[0], found[1], found[2], found[3]
