"""Which found box is which true object: the greedy matching of COCO's evaluation, exactly as pycocotools does it.

Within an image and class the surest detection chooses first, among the objects not yet taken that it overlaps by a threshold or more,
the one it overlaps most. An object that does not count (a crowd, or outside the range of sizes judged) is chosen only if no other can
be, and then the detection counts neither as right nor as wrong; a crowd can be chosen again and again. A detection that matches
nothing and is itself outside the range of sizes does not count either. Lin et al., "Microsoft COCO: Common Objects in Context" (2014).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightline.evaluation import boxes as geometry
from sightline.evaluation.metrics import Floats, Ints
from sightline.scenes import Objects

Bools = NDArray[np.bool_]

IOUS: NDArray[np.float64] = np.linspace(0.5, 0.95, 10)
# Areas in pixels, both ends within.
ALL_SIZES = {"all": (0.0, 1e10)}
SIZES = {**ALL_SIZES, "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
# Of an image and class, the surest so many are judged.
LIMIT = 100


@dataclass(frozen=True, eq=False)
class Found:
    """What a detector found on n images, at most M boxes each.

    boxes   (n, M, 4), in pixels of the original image
    scores  (n, M), the higher the surer, on any scale
    labels  (n, M) indices of classes, -1 where there is no box
    """

    boxes: Floats
    scores: Floats
    labels: Ints

    def above(self, thresholds: Floats) -> Found:
        """Those left whose score reaches their class's of the (k,) thresholds; the others' places are empty."""
        given = (self.labels >= 0) & (self.scores >= thresholds[self.labels])
        return Found(self.boxes, self.scores, np.where(given, self.labels, -1))


@dataclass(frozen=True, eq=False)
class Matches:
    """The d detections judged, those of one class together and the surest first, for each of a ranges of size and t thresholds.

    images, classes     how many there are
    image, place        (d,) int64: where in ``Found``
    label, score, rank  (d,); rank 0 is the surest of its image and class
    partner             (a, t, d) int32: the object taken, by its index in its image; -1 for none
    hit                 (a, t, d) bool: right, as the object taken counts
    ignored             (a, t, d) bool: neither right nor wrong
    objects             (a, n, k) int64: objects that count, of each image and class
    """

    images: int
    classes: int
    image: NDArray[np.int64]
    place: NDArray[np.int64]
    label: NDArray[np.int64]
    score: Floats
    rank: NDArray[np.int64]
    partner: NDArray[np.int32]
    hit: Bools
    ignored: Bools
    objects: NDArray[np.int64]

    def of_class(self, label: int) -> slice:
        """The places of its detections."""
        first, end = np.searchsorted(self.label, [label, label + 1])
        return slice(int(first), int(end))


def match(
    found: Found,
    truth: Sequence[Objects],
    classes: int,
    *,
    limit: int = LIMIT,
    ious: Floats = IOUS,
    sizes: Mapping[str, tuple[float, float]] = SIZES,
) -> Matches:
    """Match the boxes found on n images with the n images' objects, of ``classes`` classes."""
    image, place, rank = _surest(found, limit)
    label, score, boxes = found.labels[image, place], found.scores[image, place], found.boxes[image, place].astype(np.float64)
    true = _Row.of(truth)
    outside = _outside(true.areas, sizes)
    void = outside | true.crowd
    winners = _winners(_pairs(image, label, boxes, true, float(ious.min())), true.crowd, void, ious, (len(sizes), len(ious), len(image)))
    matched = winners >= 0
    void_match = matched & void[np.arange(len(sizes))[:, None, None], winners] if len(void.T) else matched
    ignored = void_match | (~matched & _outside(geometry.areas(boxes), sizes)[:, None, :])
    order = np.lexsort((-score, label))
    return Matches(
        images=len(truth),
        classes=classes,
        image=image[order],
        place=place[order],
        label=label[order].astype(np.int64),
        score=score[order],
        rank=rank[order],
        partner=np.where(matched, true.index[winners] if len(true.index) else -1, -1)[:, :, order].astype(np.int32),
        hit=(matched & ~void_match)[:, :, order],
        ignored=ignored[:, :, order],
        objects=np.stack([_count(true.image[~none], true.labels[~none], len(truth), classes) for none in void]),
    )


@dataclass(frozen=True, eq=False)
class _Row:
    """The objects of all images in one row; ``image`` and ``index`` say where each is from."""

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    crowd: Bools
    areas: NDArray[np.float64]
    image: NDArray[np.int64]
    index: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, truth: Sequence[Objects]) -> _Row:
        counts = np.array([len(objects.labels) for objects in truth], np.int64)
        starts = np.concatenate([[0], counts.cumsum()])
        image = np.repeat(np.arange(len(truth)), counts)
        return cls(
            np.concatenate([np.zeros((0, 4)), *(objects.boxes for objects in truth)]),
            np.concatenate([np.zeros(0, np.int64), *(objects.labels for objects in truth)]),
            np.concatenate([np.zeros(0, bool), *(objects.crowd for objects in truth)]),
            np.concatenate([np.zeros(0), *(objects.areas for objects in truth)]),
            image,
            np.arange(len(image)) - starts[image],
            starts,
        )


def _surest(found: Found, limit: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Image, place and rank of the ``limit`` surest of each image and class; of equal scores the first."""
    image, place = np.nonzero(found.labels >= 0)
    label = found.labels[image, place]
    order = np.lexsort((-found.scores[image, place], label, image))
    image, place, label = image[order], place[order], label[order]
    rank = _ranks(image, label)
    kept = rank < limit
    return image[kept], place[kept], rank[kept]


def _ranks(*columns: Ints) -> NDArray[np.int64]:
    """(n,) 0, 1, 2... from the start of each run of rows that are equal in all (n,) columns."""
    places = np.arange(len(columns[0]))
    new = places == 0
    for column in columns:
        new[1:] |= column[1:] != column[:-1]
    return places - np.maximum.accumulate(np.where(new, places, 0))


def _outside(areas: Floats, sizes: Mapping[str, tuple[float, float]]) -> Bools:
    """(a, m) whether an area is outside each range."""
    ranges = np.array(list(sizes.values()))
    return np.asarray((areas < ranges[:, :1]) | (areas > ranges[:, 1:]))


def _count(image: Ints, label: Ints, images: int, classes: int) -> NDArray[np.int64]:
    """(n, k) objects."""
    return np.bincount(image * classes + label, minlength=images * classes).reshape(images, classes)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """A detection and an object each that may be matched, in turns: no object is wanted by two detections in one turn."""

    turn: NDArray[np.int64]
    detection: NDArray[np.int64]
    target: NDArray[np.int64]
    iou: NDArray[np.float64]


def _pairs(image: Ints, label: Ints, boxes: Floats, true: _Row, least: float) -> _Pairs:
    """Pairs of one image and class that overlap enough; the last of a detection and turn is its best."""
    detections, targets, overlaps = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    ends = np.searchsorted(image, np.arange(len(true.starts)))
    for (first, end), (start, stop) in zip(_spans(ends), _spans(true.starts), strict=True):
        rows, columns, values = geometry.overlapping(boxes[first:end], true.boxes[start:stop], least, true.crowd[start:stop])
        same = label[first:end][rows] == true.labels[start:stop][columns]
        detections.append(rows[same] + first)
        targets.append(columns[same] + start)
        overlaps.append(values[same])
    detection, target, iou = np.concatenate(detections), np.concatenate(targets), np.concatenate(overlaps)
    turn = _turns(detection, target, len(true.labels))
    order = np.lexsort((target, iou, detection, turn))
    return _Pairs(turn[order], detection[order], target[order], iou[order])


def _turns(detection: NDArray[np.int64], target: NDArray[np.int64], objects: int) -> NDArray[np.int64]:
    """(p,) the earliest turn in which each pair's detection may choose: after all surer ones that may take one of the same objects."""
    next_turn = [0] * objects
    starts = np.flatnonzero(np.concatenate([[True], detection[1:] != detection[:-1], [True]])) if len(detection) else np.zeros(1, np.int64)
    targets, turns = target.tolist(), []
    for first, end in _spans(starts):
        wanted = targets[first:end]
        turn = max(next_turn[place] for place in wanted)
        turns.append(turn)
        for place in wanted:
            next_turn[place] = turn + 1
    return np.repeat(np.array(turns, np.int64), np.diff(starts))


def _spans(ends: NDArray[np.int64]) -> list[tuple[int, int]]:
    """From each end to the next."""
    return list(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True))


def _winners(pairs: _Pairs, crowd: Bools, void: Bools, ious: Floats, shape: tuple[int, int, int]) -> NDArray[np.int64]:
    """(a, t, d) the object that each detection takes, -1 for none; ``void`` (a, g) objects do not count."""
    winners = np.full((shape[2], *shape[:2]), -1, np.int64)
    taken = np.zeros((len(crowd), *shape[:2]), bool)
    turns = int(pairs.turn.max(initial=-1)) + 1
    for first, end in _spans(np.searchsorted(pairs.turn, np.arange(turns + 1))):
        target, detection = pairs.target[first:end], pairs.detection[first:end]
        free = ~taken[target] | crowd[target, None, None]
        free &= (pairs.iou[first:end, None] >= ious)[:, None, :]
        # A later place is a larger overlap; any object that counts goes before all that do not.
        count = end - first
        preference = np.arange(count)[:, None] + count * ~void.T[target]
        starts = np.flatnonzero(np.concatenate([[True], detection[1:] != detection[:-1]]))
        best = np.maximum.reduceat(np.where(free, preference[:, :, None], -1), starts, axis=0)
        row, size, level = np.nonzero(best >= 0)
        chosen = target[best[row, size, level] % count]
        winners[detection[starts][row], size, level] = chosen
        taken[chosen, size, level] = True
    return np.ascontiguousarray(winners.transpose(1, 2, 0))
