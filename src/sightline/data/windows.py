"""How large pictures are cut into overlapping windows, and a data set of such windows, each an image of its own."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline import console
from sightline.data.decode import Limits
from sightline.data.masks import read_map
from sightline.data.sizes import in_threads, read_sizes
from sightline.errors import ModelFileError, UsageError
from sightline.records import Dataset, ImageRef, column_of
from sightline.scenes import IGNORED, LabelMap, Objects, is_background

OVERLAP, MOST_OVERLAP = 0.2, 0.9
# Of an object a window shows little when it shows less than this share of the most that a window of its size can show.
LITTLE = 0.3
# More windows than this of one data set are a slip of the hand.
MOST_WINDOWS = 1_000_000

Window = tuple[int, int, int, int]


@dataclass(frozen=True)
class Tiling:
    """How a picture is cut: squares of ``side`` pixels, neighbours of which share at least ``overlap`` of it, in [0, 1)."""

    side: int
    overlap: float = OVERLAP

    def __post_init__(self) -> None:
        if self.side < 1 or not 0 <= self.overlap <= MOST_OVERLAP:
            raise UsageError(f"--tile {self.side} --overlap {self.overlap}: give at least 1 pixel, and an overlap of 0 to {MOST_OVERLAP}.")

    @classmethod
    def asked(cls, tile: int | None, overlap: float | None, usual: Tiling | None = None) -> Tiling | None:
        """What ``--tile`` and ``--overlap`` ask for, each of them the ``usual`` where it is not given; None for whole pictures.

        Raises UsageError for an overlap of nothing.
        """
        if tile is None and usual is None:
            if overlap is not None:
                raise UsageError(f"--overlap {overlap}: is what tiles share; give --tile as well.")
            return None
        if tile is None:
            assert usual is not None
            return usual if overlap is None else replace(usual, overlap=overlap)
        return cls(tile, OVERLAP if overlap is None else overlap)

    def rows(self, width: int, height: int) -> list[list[Window]]:
        """Rows of (left, top, right, bottom) windows that cover a picture, evenly spread; smaller only where the picture is."""
        across, down = self._starts(width), self._starts(height)
        return [
            [(left, top, min(width, left + self.side), min(height, top + self.side)) for left in across] for top in down
        ]  # fmt: skip

    def count(self, width: float, height: float) -> int:
        """How many windows these are."""
        return len(self._starts(int(width))) * len(self._starts(int(height)))

    def _starts(self, length: int) -> list[int]:
        rest = max(0, length - self.side)
        steps = math.ceil(rest / max(1.0, self.side * (1 - self.overlap)))
        return [round(rest * step / max(1, steps)) for step in range(steps + 1)]

    def to_json(self) -> dict[str, float]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Tiling | None:
        """The inverse of ``to_json``; None for nothing. Raises ModelFileError for what is no way of cutting."""
        if not fields:
            return None
        try:
            return cls(int(fields["side"]), float(fields["overlap"]))
        except (KeyError, TypeError, ValueError, OverflowError, UsageError) as error:
            raise ModelFileError(f"The model's tiles are not understood ({dict(fields)}); upgrade Sightline.") from error


def is_cut(dataset: Dataset) -> bool:
    """Whether any image of a data set is a window of a larger picture."""
    return any(ref.window is not None for ref in dataset.refs)


def cut(dataset: Dataset, tiling: Tiling | None, limits: Limits = Limits()) -> Dataset:
    """The data set with the windows of each picture that is larger than a tile in its place, which is said.

    A window has what lies on it of its picture's objects or label map, and its picture's split and group; where there is none the
    picture is the group, so that no split divides it. Without a tiling, and where no picture is larger, the data set as it is.
    Pictures that cannot be read stay whole, and are named when they are looked at. Raises UsageError for data of whole images.
    """
    if tiling is None:
        return dataset
    if not dataset.is_scenes or dataset.targets is None:
        raise UsageError(f"--tile {tiling.side}: {dataset.root} is for {dataset.task}, which answers for whole images; leave it out.")
    sizes, _ = read_sizes(dataset.refs, limits)
    if (tiles := sum(tiling.count(*size) for size in sizes.tolist() if not math.isnan(size[0]))) > MOST_WINDOWS:
        how = f"--tile {tiling.side} --overlap {tiling.overlap:g}"
        raise UsageError(f"{how}: cuts {dataset.root} into {tiles:,} tiles, of which there may be {MOST_WINDOWS:,}; take larger ones.")
    windows = [_windows(tiling, *size) for size in sizes.tolist()]
    if not any(windows):
        console.say(f"No picture is larger than {tiling.side} pixels, so nothing is cut into tiles.")
        return dataset
    pictures = list(zip(dataset.refs, dataset.targets, windows, strict=True))
    parts = list(in_threads(lambda picture: _parts(*picture, limits), pictures, "Cutting pictures into tiles"))
    rows = np.repeat(np.arange(len(dataset)), [len(part) for part in parts])
    refs, targets = zip(*chain.from_iterable(parts), strict=True)
    _tell(tiling, windows, list(dataset.targets), targets)
    return dataset.select(rows).replace(refs=list(refs), targets=column_of(targets), groups=_groups(dataset)[rows])


def _windows(tiling: Tiling, width: float, height: float) -> list[Window]:
    """The windows of a picture; none where it is not larger than one, or where its size is not known (nan)."""
    if not max(width, height) > tiling.side:
        return []
    return list(chain.from_iterable(tiling.rows(int(width), int(height))))


def _tell(tiling: Tiling, windows: Sequence[Sequence[Window]], targets: Sequence[Any], parts: Sequence[Any]) -> None:
    """What was made of pictures with ``windows`` and ``targets``; ``parts`` are the targets of what was made."""
    large, tiles = sum(map(bool, windows)), sum(map(len, windows))
    bare = sum(not len(target.present) for target in parts)
    console.say(
        f"{large} of {len(windows)} pictures are larger than {tiling.side} pixels: they are cut into {tiles} tiles, whose neighbours share "
        f"at least {tiling.overlap:.0%}. Of all {len(parts)} images {bare} show nothing that is asked for."
    )
    if cut_all := sum(_whole_on_none(target, each) for target, each in zip(targets, windows, strict=True) if isinstance(target, Objects)):
        console.say(
            f"Objects that no tile shows whole, as they are larger than what neighbours share: {cut_all}. More --overlap makes them fewer."
        )


def _whole_on_none(objects: Objects, windows: Sequence[Window]) -> int:
    """How many objects lie in none of a picture's windows as a whole."""
    if not windows:
        return 0
    corners, boxes = np.array(windows)[:, None], objects.boxes[~objects.crowd][None]
    inside = (boxes[..., :2] >= corners[..., :2]).all(axis=2) & (boxes[..., 2:] <= corners[..., 2:]).all(axis=2)
    return int((~inside.any(axis=0)).sum())


def _parts(ref: ImageRef, target: Any, windows: Sequence[Window], limits: Limits) -> list[tuple[ImageRef, Any]]:
    """The windows of a picture, each with its target; the picture where there are none."""
    if not windows:
        return [(ref, target)]
    shown = [objects_in(target, window) for window in windows] if isinstance(target, Objects) else maps_in(target, windows, limits)
    return [(replace(ref, window=window), each) for window, each in zip(windows, shown, strict=True)]


def objects_in(objects: Objects, window: Window) -> Objects:
    """What of a picture's objects lies in a window, in pixels of the window.

    Boxes are cut at its edges, and areas as far as the box is. What it shows little of is neither asked for nor held against the model,
    as crowds are. An object larger than the window is held against the most that the window can show of it. No outlines are kept.
    """
    corner, size = np.array(window[:2] * 2, np.float64), np.array([window[2] - window[0], window[3] - window[1]], np.float64)
    boxes = np.clip(objects.boxes - corner, 0, np.tile(size, 2))
    sides, left = objects.boxes[:, 2:] - objects.boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    shown, whole, most = (np.prod(each, axis=1) for each in (left, sides, np.minimum(sides, size)))
    there = shown > 0
    crowd, areas = objects.crowd | (shown < LITTLE * most), objects.areas * shown / np.where(there, whole, 1)
    return Objects(boxes[there], objects.labels[there], crowd[there], areas[there])


def maps_in(label_map: LabelMap, windows: Sequence[Window], limits: Limits = Limits()) -> list[LabelMap]:
    """What of a picture's label map lies in each window; the map is read once, and each part kept as the bytes of a PNG.

    Raises ImageError where the mask's file cannot be read any more.
    """
    classes, k = read_map(label_map, limits), len(label_map.pixels)
    values: dict[int | tuple[int, int, int], int] = {index: index for index in (*range(k), IGNORED)}
    parts = [classes[top:bottom, left:right] for left, top, right, bottom in windows]
    return [LabelMap(_png(part), values, _counts(part)[:k], (part.shape[1], part.shape[0])) for part in parts]


def _counts(classes: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.bincount(classes.ravel(), minlength=IGNORED + 1)


def _png(classes: NDArray[np.uint8]) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(classes).save(sink, "PNG", compress_level=1)  # flat areas are small at any level
    return sink.getvalue()


def surplus(dataset: Dataset, seed: int) -> NDArray[np.int64]:
    """(m,) rows of the training windows that are too many of those that show nothing, drawn at random: no more of them are wanted in
    training than there are images that show something. Of label maps, ``background`` alone is nothing."""
    if not is_cut(dataset):
        return np.empty(0, np.int64)
    train = dataset.rows_of("train")
    shows = np.array([any(not is_background(name) for name in dataset.label_names(row)) for row in train.tolist()], bool)
    windows = np.array([dataset.refs[row].window is not None for row in train.tolist()], bool)
    bare = np.random.default_rng([seed, len(train)]).permutation(train[~shows & windows])
    return np.sort(bare[int(shows.sum()) :])


def _groups(dataset: Dataset) -> NDArray[Any]:
    """(n,) the group of each picture: its own where it has one, else its name below the root."""
    names = [str(ref).removeprefix(str(dataset.root)).lstrip(f"!/{os.sep}") for ref in dataset.refs]
    given = np.full(len(dataset), "") if dataset.groups is None else dataset.groups
    return np.where(given == "", names, given)
