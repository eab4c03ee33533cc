"""Objects as an annotation file lists them, one after another, checked and gathered image by image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.data.findings import Faults
from sightline.data.labels import different_labels
from sightline.data.outlines import Box, covered
from sightline.records import column_of
from sightline.scenes import Objects, Outline

# Annotation tools round, some to whole pixels: what reaches out by less is no fault.
OUTSIDE_TOLERANCE = 1.0


@dataclass
class Listed:
    """m objects: the rows of their images, boxes (left, top, right, bottom) in pixels, classes as indices into names as written.

    areas     nan where not known
    outlines  None where not known
    """

    images: list[int] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)
    outlines: list[Outline | None] = field(default_factory=list)

    def add(self, image: int, box: Box, label: int, *, crowd: bool = False, area: float = np.nan, outline: Outline | None = None) -> None:
        self.images.append(image)
        self.boxes.append(box)
        self.classes.append(label)
        self.crowd.append(crowd)
        self.areas.append(area)
        self.outlines.append(outline)


def gathered(
    listed: Listed, names: Sequence[str], images: Sequence[str], sizes: NDArray[np.float64], faults: Faults
) -> tuple[tuple[str, ...], NDArray[np.object_]]:
    """The labels that objects have, in the order of their names, and an ``Objects`` for each of n images.

    names   the classes as written; outer blanks do not count, and labels that differ only in case or inner blanks raise DataError
    images  (n,) how they are called in messages
    sizes   (n, 2) width and height, nan where not known: boxes are clipped to them

    Boxes that are no boxes are left out and counted. Raises DataError where no object is left.
    """
    boxes, keep = _sound(listed, images, sizes, faults)
    rows = np.array(listed.images, np.int64)[keep]
    labels, classes = different_labels(names, Counter(np.array(listed.classes, np.int64)[keep].tolist()), faults)
    if not len(rows):
        faults.refuse(f"{len(images)} image{'s' * (len(images) != 1)} and not one object; draw boxes around some, with their class")
    order = np.argsort(rows, kind="stable")
    places = np.flatnonzero(keep)[order]
    all_of = Objects(
        boxes[order],
        classes[np.array(listed.classes, np.int64)[places]],
        np.array(listed.crowd, bool)[places],
        _areas(listed, boxes[order], places),
        tuple(listed.outlines[place] for place in places.tolist()),
    )
    return labels, column_of(_divided(all_of, np.bincount(rows, minlength=len(images))))


def _sound(
    listed: Listed, images: Sequence[str], sizes: NDArray[np.float64], faults: Faults
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The boxes that can be used, clipped, and which of all they are."""
    boxes, rows = np.array(listed.boxes, np.float64).reshape(-1, 4), np.array(listed.images, np.int64)

    def told(bad: Any, what: str) -> None:
        for row in rows[bad].tolist():
            faults.add(what, images[row])

    finite = np.isfinite(boxes).all(axis=1)
    told(~finite, "boxes with numbers that are not finite, left out")
    with np.errstate(invalid="ignore"):
        filled = finite & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    told(finite & ~filled, "boxes that are empty or inverted, left out")
    edges = np.where(np.isnan(sizes), np.inf, sizes)[rows]
    most = np.tile(edges, 2)
    clipped = np.clip(np.where(filled[:, None], boxes, 0), 0, most)
    inside = filled & (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
    told(filled & ~inside, "boxes outside their image, left out")
    beyond = np.abs(np.where(filled[:, None], boxes, 0) - clipped).max(axis=1, initial=0)
    told(inside & (beyond > OUTSIDE_TOLERANCE), "boxes that reach outside their image, clipped")
    return clipped[inside], inside


def _areas(listed: Listed, boxes: NDArray[np.float64], places: NDArray[np.int64]) -> NDArray[np.float64]:
    """Those that are stated, else those of the outlines, else those of the boxes; never more than those of the boxes."""
    filled = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    areas = np.array(listed.areas, np.float64)[places]
    for place in np.flatnonzero(~(np.isfinite(areas) & (areas > 0))).tolist():
        outline = listed.outlines[places[place]]
        areas[place] = filled[place] if outline is None else covered(outline) or filled[place]
    return np.asarray(np.minimum(areas, filled))


def _divided(objects: Objects, counts: NDArray[np.int64]) -> list[Objects]:
    """The objects of each image, which follow each other, so many each."""
    ends = np.cumsum(counts).tolist()
    found, start = [], 0
    assert objects.outlines is not None
    for end in ends:
        part = slice(start, end)
        outlines = objects.outlines[part]
        known = any(outline is not None for outline in outlines)
        found.append(
            Objects(objects.boxes[part], objects.labels[part], objects.crowd[part], objects.areas[part], outlines if known else None)
        )
        start = end
    return found
