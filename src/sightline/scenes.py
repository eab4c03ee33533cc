"""Where things are on an image: objects with boxes, or a class for every pixel; as ground truth, and as predicted.

Boxes are (left, top, right, bottom) in pixels of the upright original image, whose pixel centres are at half-integers: a box around the
one pixel in the corner is (0, 0, 1, 1). All values are frozen; nothing here reads a file.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.predictions import Caution
from sightline.records import ImageRef

# The index of pixels of a label map that count for nothing, and so how many classes there may be.
IGNORED = 255
# A class of this name, in any case, is what is left over by the others.
BACKGROUND = "background"
# Between several classes of an image that are written into one cell.
SEPARATOR = "|"

Outline = tuple[NDArray[np.float64], ...] | NDArray[np.int64]
"""Polygons, (p, 2) x and y each, or the lengths of runs of pixels (r,) as COCO's RLE counts them, columns first, beginning outside."""


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of an image, m of them, possibly none.

    boxes     (m, 4) float64
    labels    (m,) int64 indices of classes
    crowd     (m,) bool: the box holds many that were not told apart, so what is found there is neither right nor wrong
    areas     (m,) float64 pixels that the object covers; those of the box where its outline is not known
    outlines  of each object, where they are known; None otherwise
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    areas: NDArray[np.float64]
    outlines: tuple[Outline | None, ...] | None = None

    @classmethod
    def of(cls, boxes: Any, labels: Any, crowd: Any = None, areas: Any = None, outlines: Sequence[Outline | None] | None = None) -> Objects:
        """Objects from anything like arrays; none is a crowd and all fill their boxes unless stated."""
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        filled = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        return cls(
            boxes,
            np.asarray(labels, np.int64).reshape(-1),
            np.zeros(len(boxes), bool) if crowd is None else np.asarray(crowd, bool),
            filled if areas is None else np.asarray(areas, np.float64),
            None if outlines is None else tuple(outlines),
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def present(self) -> NDArray[np.int64]:
        """The classes of the objects, each once, crowds left out."""
        return np.unique(self.labels[~self.crowd])

    def counts(self, k: int) -> NDArray[np.int64]:
        """(k,) how many objects there are of each class, crowds left out."""
        return np.bincount(self.labels[~self.crowd], minlength=k)

    def select(self, chosen: NDArray[Any]) -> Objects:
        """Some of the objects, by indices or mask."""
        places = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        outlines = None if self.outlines is None else tuple(self.outlines[place] for place in places.tolist())
        return Objects(self.boxes[places], self.labels[places], self.crowd[places], self.areas[places], outlines)

    def relabelled(self, index: NDArray[np.int64]) -> Objects:
        """The same with ``index[label]`` for each label."""
        return replace(self, labels=index[self.labels])

    @property
    def text(self) -> str:
        """What tells these objects from others, whatever their order."""
        rows = sorted(zip(self.labels.tolist(), self.crowd.tolist(), self.boxes.round(3).tolist(), strict=True))
        return hashlib.sha256(repr(rows).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class LabelMap:
    """The class of each pixel of an image; ``data.masks.read_map`` reads it.

    source  an image file whose values are classes, or its bytes, or objects whose outlines are painted in order
    values  of the file: a number or (red, green, blue) -> index of the class, or ``IGNORED``; shared by all maps of a data set
    pixels  (k,) int64, how many pixels each class has
    size    width and height
    """

    source: ImageRef | Objects | bytes
    values: Mapping[int | tuple[int, int, int], int]
    pixels: NDArray[np.int64]
    size: tuple[int, int]

    @property
    def present(self) -> NDArray[np.int64]:
        """The classes that any pixel has."""
        return np.flatnonzero(self.pixels)

    def counts(self, k: int) -> NDArray[np.int64]:
        """(k,) how many pixels each class has."""
        return np.pad(self.pixels, (0, k - len(self.pixels)))

    def relabelled(self, index: NDArray[np.int64]) -> LabelMap:
        """The same with ``index[label]`` for each label."""
        pixels = np.zeros(int(index.max(initial=-1)) + 1, np.int64)
        np.add.at(pixels, index, self.pixels[: len(index)])
        values = {value: IGNORED if label == IGNORED else int(index[label]) for value, label in self.values.items()}
        source = self.source.relabelled(index) if isinstance(self.source, Objects) else self.source
        return LabelMap(source, values, pixels, self.size)

    @property
    def text(self) -> str:
        """What tells this map from others."""
        return f"{self.size}{self.pixels.tolist()}"


@dataclass(frozen=True, slots=True)
class Detections:
    """The objects found on an image, the surest first: ``labels`` with their ``scores`` in [0, 1] and ``boxes``."""

    labels: tuple[str, ...]
    scores: tuple[float, ...]
    boxes: tuple[tuple[float, float, float, float], ...]
    caution: Caution | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def answer(self) -> frozenset[str]:
        """What is said to be there, whatever the scores."""
        return frozenset(self.labels)

    def to_json(self, top: int | None = None) -> list[dict[str, Any]]:
        """``[{"label", "score", "box": [left, top, right, bottom]}...]``, the surest first; ``top`` limits classes, so not objects."""
        return [
            {"label": label, "score": score, "box": list(box)}
            for label, score, box in zip(self.labels, self.scores, self.boxes, strict=True)
        ]

    def in_words(self, top: int | None = None) -> str:
        """How many of each class there are, such as ``12 RBC, 1 WBC``."""
        return ", ".join(f"{count} {label}" for label, count in Counter(self.labels).most_common(top)) or "nothing found"


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The class of each pixel of an image.

    classes  (height, width) uint8 of the original image, indices into all of the model's labels
    names    all of the model's labels
    scores   of each label that is there, the mean probability of its pixels in [0, 1]; that with the most pixels first
    """

    classes: NDArray[np.uint8]
    names: tuple[str, ...]
    scores: Mapping[str, float]
    caution: Caution | None = None

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Segmentation)
            and np.array_equal(self.classes, other.classes)
            and (self.names, dict(self.scores), self.caution) == (other.names, dict(other.scores), other.caution)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that are there, that with the most pixels first."""
        return tuple(self.scores)

    @property
    def answer(self) -> frozenset[str]:
        """What is said to be there, whatever the scores."""
        return frozenset(self.scores)

    def to_json(self, top: int | None = None) -> list[dict[str, Any]]:
        """``[{"label", "score", "share"}...]``, the share of the image's pixels, largest first, at most ``top``."""
        shares = np.bincount(self.classes.ravel(), minlength=len(self.names)) / self.classes.size
        return [
            {"label": label, "score": self.scores[label], "share": float(shares[self.names.index(label)])} for label in self.labels[:top]
        ]

    def in_words(self, top: int | None = None) -> str:
        """How much of the image each class covers, such as ``road 43.1%, sky 20.0%``."""
        return ", ".join(f"{entry['label']} {entry['share']:.1%}" for entry in self.to_json(top))


def frame_of(back: NDArray[np.float64], shape: tuple[int, int], seen: tuple[int, int], original: tuple[int, int]) -> NDArray[np.float64]:
    """(10,) how a prepared image lies on the original: an affine a, b, c, d, e, f with x = a x' + b y' + c and y = d x' + e y' + f for a
    place (x', y') in the network's input, the width and height of the original, and those of the input.

    back      (2, 3) affine from the network's input to the image that was prepared, as ``Prepare`` gives it
    shape     height and width of the network's input
    seen      width and height of the image that was prepared, which may have been decoded at a reduced size
    original  width and height of the upright original
    """
    scale = np.array(original, np.float64) / seen
    return np.concatenate([(back * scale[:, None]).ravel(), np.array([*original, shape[1], shape[0]], np.float64)])


def laid_back(boxes: NDArray[np.floating], frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes in pixels of the network's input, (n, m, 4), in pixels of the originals, clipped to them; ``frames`` (n, 10).

    Frames neither turn nor mirror, so that boxes stay boxes.
    """
    scale, offset = frames[:, None, [0, 4]], frames[:, None, [2, 5]]
    corners = boxes.reshape(*boxes.shape[:2], 2, 2) * scale[:, :, None] + offset[:, :, None]
    return np.asarray(np.clip(corners, 0, frames[:, None, None, 6:8]).reshape(boxes.shape), np.float64)


def laid_in(boxes: NDArray[np.floating], frame: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes (m, 4) in pixels of an original in those of the network's input; ``frame`` (10,). The inverse of ``laid_back``, unclipped."""
    scale, offset = frame[[0, 4, 0, 4]], frame[[2, 5, 2, 5]]
    return np.asarray((boxes - offset) / scale, np.float64)


def is_background(name: str) -> bool:
    """Whether a class is what is left over by the others."""
    return name.lower() == BACKGROUND


def run_lengths(classes: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """(class, how many pixels in a row have it) through a map, row by row."""
    flat = classes.ravel()
    starts = np.flatnonzero(np.append(True, flat[1:] != flat[:-1]))
    return list(zip(flat[starts].tolist(), np.diff(np.append(starts, flat.size)).tolist(), strict=True))


def joined(chosen: NDArray[np.bool_], labels: Sequence[str]) -> str:
    """The names of the ``chosen`` (k,) classes, in one cell."""
    return SEPARATOR.join(label for label, has in zip(labels, chosen.tolist(), strict=True) if has)
