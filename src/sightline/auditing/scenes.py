"""What the audit says of where things are: boxes too small to be anything, round the whole image or twice, classes of few objects or
pixels, and how many objects an image has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sightline.auditing.finding import NOTE, WARNING, Finding, Item
from sightline.auditing.gate import Usable
from sightline.auditing.labels import IMBALANCED
from sightline.data.findings import shown
from sightline.records import Dataset
from sightline.scenes import Objects

# A box with a shorter side in pixels of the original, or that covers more of the image, is looked at again.
SMALLEST, WHOLE = 4.0, 0.98
# So many objects are more than usual tools draw, and more than are kept of an image's answers.
MANY = 300
# A map of which less counts says little.
LEAST_COUNTED = 0.1


def scene_findings(found: Usable) -> list[Finding]:
    """Findings on objects or label maps; [] for data of whole images."""
    data = found.dataset
    if not data.is_scenes or not len(data):
        return []
    assert data.targets is not None
    if data.task == "detect":
        made = [
            _small(data, found.names), _whole(found), _twice(data, found.names), _imbalance(data, _counts(data), "objects"),
            _counted(data, found.names),
        ]  # fmt: skip
    else:
        made = [_imbalance(data, _counts(data), "pixels"), _uncounted(data, found.names)]
    return [finding for finding in made if finding is not None]


def _objects(data: Dataset) -> list[Objects]:
    assert data.targets is not None
    return list(data.targets)


def _counts(data: Dataset) -> NDArray[np.int64]:
    """(k,) objects of each class, crowds left out, or its pixels."""
    assert data.targets is not None
    return np.sum([target.counts(len(data.labels)) for target in data.targets], axis=0, dtype=np.int64)


def _small(data: Dataset, names: Sequence[str]) -> Finding | None:
    items, several = [], 0
    for name, objects in zip(names, _objects(data), strict=True):
        # Of an object at the edge of a window a strip may be left, of which nothing is asked, as of a crowd.
        sides = np.where(objects.crowd, np.inf, (objects.boxes[:, 2:] - objects.boxes[:, :2]).min(axis=1, initial=np.inf))
        small = np.flatnonzero(sides < SMALLEST)
        several += len(small)
        if len(small):
            first = int(small[0])
            items.append(Item((name,), f"{_box(data, objects, first)}, {sides[first]:.2g} pixels on its shorter side"))
    if not items:
        return None
    return Finding(
        "boxes-small",
        WARNING,
        "Boxes too small to show anything",
        f"{several} boxes on {len(items)} images are less than {SMALLEST:g} pixels wide or high: slips of the hand, or objects that hardly "
        "any network finds.",
        "Delete them in the annotations, or take pictures from nearer.",
        items,
        {"boxes": several},
    )


def _whole(found: Usable) -> Finding | None:
    data, items = found.dataset, []
    areas = (found.store.facts.width * found.store.facts.height).astype(np.float64)
    for name, ref, objects, area in zip(found.names, data.refs, _objects(data), areas.tolist(), strict=True):
        if ref.window is not None:  # a window within a large object
            continue
        covers = np.prod(objects.boxes[:, 2:] - objects.boxes[:, :2], axis=1) >= WHOLE * area
        items += [Item((name,), f"{_box(data, objects, place)} covers the whole image") for place in np.flatnonzero(covers).tolist()]
    if not items:
        return None
    return Finding(
        "boxes-whole",
        WARNING,
        "Boxes around the whole image",
        f"{len(items)} boxes cover the whole image: labels of images that became boxes, or objects seen from very near. They teach that "
        "something is everywhere.",
        "Draw them around the object, or delete them.",
        items,
    )


def _twice(data: Dataset, names: Sequence[str]) -> Finding | None:
    """The very same box more than once, of one class or of several."""
    items, other = [], 0
    for name, objects in zip(names, _objects(data), strict=True):
        by_box: dict[tuple[float, ...], list[int]] = {}
        for place in np.flatnonzero(~objects.crowd).tolist():
            by_box.setdefault(tuple(objects.boxes[place].round(2).tolist()), []).append(int(objects.labels[place]))
        for labels in by_box.values():
            if len(labels) > 1:
                named = Counter(data.labels[label] for label in labels)
                other += len(named) > 1
                said = ", ".join(f"{count} times {label}" if count > 1 else label for label, count in named.items())
                items.append(Item((name,), f"one and the same box as {said}"))
    if not items:
        return None
    classes = f" {other} of them have several classes, of which at most one is right." if other else ""
    return Finding(
        "boxes-twice",
        WARNING,
        "Boxes that are there twice",
        f"{len(items)} boxes are there more than once, to the pixel.{classes} Each copy is counted as an object that is missed.",
        "Delete the copies in the annotations.",
        items,
    )


def _imbalance(data: Dataset, counts: NDArray[np.int64], what: str) -> Finding | None:
    """Classes of far fewer objects or pixels than the commonest, however many images show them."""
    there = counts[counts > 0]
    if len(there) < 2 or there.max() <= IMBALANCED * there.min():
        return None
    large, small = int(counts.argmax()), int(np.where(counts > 0, counts, there.max() + 1).argmin())
    ratio = float(counts[large] / counts[small])
    rare = {data.labels[label]: int(counts[label]) for label in np.flatnonzero((counts > 0) & (counts * IMBALANCED < there.max())).tolist()}
    return Finding(
        f"imbalance-{what}",
        WARNING,
        f"Some classes have far fewer {what} than others",
        f"{shown(data.labels[large])} has {counts[large]:,} {what} and {shown(data.labels[small])} {counts[small]:,}, {ratio:.0f} times "
        f"fewer, whatever the number of images that show them. A figure over all {what} together hardly shows how the rare ones do.",
        "Look at the figures of each class, and collect more images of what is rare.",
        figures={"ratio": ratio, "rare": rare},
    )


def _counted(data: Dataset, names: Sequence[str]) -> Finding | None:
    """How many objects images have, and which have very many."""
    numbers = np.array([int((~objects.crowd).sum()) for objects in _objects(data)])
    empty, most = int((numbers == 0).sum()), int(numbers.max())
    many = np.flatnonzero(numbers > MANY)
    items = [Item((names[row],), f"{numbers[row]} objects") for row in many[np.argsort(-numbers[many])].tolist()]
    without = f" {empty} have none, which teaches what is no object." if empty else ""
    advice = (
        f"Of images with more than {MANY} objects, the surest {MANY} boxes are kept: cut them into parts with --tile."
        if len(many)
        else "Nothing needs doing."
    )
    return Finding(
        "objects-per-image",
        WARNING if len(many) else NOTE,
        "Objects on an image",
        f"There are {numbers.sum():,} objects on {len(numbers):,} images: {np.median(numbers):g} on the middle one, {most:,} at "
        f"most.{without}",
        advice,
        items,
        {"objects": int(numbers.sum()), "median": float(np.median(numbers)), "most": most, "empty": empty},
    )


def _uncounted(data: Dataset, names: Sequence[str]) -> Finding | None:
    """Maps of which hardly any pixel has a class."""
    assert data.targets is not None
    shares = np.array([each.pixels.sum() / max(1, each.size[0] * each.size[1]) for each in data.targets])
    rows = np.flatnonzero(shares < LEAST_COUNTED)
    if not len(rows):
        return None
    items = [Item((names[row],), f"{shares[row]:.1%} of its pixels have a class") for row in rows[np.argsort(shares[rows])].tolist()]
    return Finding(
        "maps-empty",
        WARNING,
        "Masks that say hardly anything",
        f"On {len(rows)} images less than {LEAST_COUNTED:.0%} of the pixels have a class: the rest is ignored and teaches nothing.",
        "See whether the class table has all values of the masks, and whether these masks are finished.",
        items,
    )


def _box(data: Dataset, objects: Objects, place: int) -> str:
    left, top, right, bottom = objects.boxes[place].round().astype(int).tolist()
    return f"{data.labels[int(objects.labels[place])]} at {left}, {top} to {right}, {bottom}"
