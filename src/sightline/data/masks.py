"""Masks: the class of each pixel of an image, from a file of its own or painted from outlines.

In ``images`` and ``masks`` beside each other, or in both below each split, an image and its mask have one name apart from the suffix
(``a.jpg`` and ``a.png``, or ``a_mask.png`` where no image is called so). The class table (``class_table.py``) says what the values of the
masks mean: numbers, of palette images their indices, unless it holds colours. Values that it lacks are ignored, and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sightline import console
from sightline.config.opening import MAX_BYTES, MAX_PIXELS
from sightline.data.class_table import MAX_VALUE, ClassTable, Value, find_table, read_class_table
from sightline.data.decode import Limits, read_size, read_values
from sightline.data.findings import Faults
from sightline.data.outlines import painted
from sightline.data.sizes import in_threads
from sightline.data.tree import IMAGE_FOLDERS, MASK_FOLDERS, NOTE_FOLDERS, Tree, folders_of, key_of, path_split
from sightline.errors import DataError, ImageError
from sightline.records import Dataset, ImageRef, column_of
from sightline.scenes import IGNORED, LabelMap, Objects

ENDINGS = ("_mask", "-mask", "_label", "_labels")
_UNKNOWN = -1
# No format takes more for a pixel of a mask, with a header for the smallest ones.
MOST_BYTES_A_PIXEL = 64


@dataclass(frozen=True)
class MaskFiles:
    """Images and masks of a place, by what their names have in common; and what else has a name that is taken, by the kind of fault."""

    images: dict[tuple[str, ...], str]
    masks: dict[tuple[str, ...], str]
    spare: dict[str, list[str]]


def mask_files(tree: Tree) -> MaskFiles | None:
    """The images and masks, where a place has folders for both."""
    if not any(folder.lower() in MASK_FOLDERS | NOTE_FOLDERS for way in tree.folders for folder in way.split("/")):
        return None
    of_images, of_masks = [], []
    for name in tree.images:
        kinds = [folder.lower() for folder in folders_of(name) if folder.lower() in IMAGE_FOLDERS | MASK_FOLDERS | NOTE_FOLDERS]
        if kinds:
            (of_images if kinds[-1] in IMAGE_FOLDERS else of_masks).append(name)
    images, more_images = _by_key(of_images, key_of)
    masks, more_masks = _by_key(of_masks, lambda name: key if (key := key_of(name)) in images else _without_ending(key))
    spare = {"images of one name, the first counts": more_images, "masks of one name, the first counts": more_masks}
    return MaskFiles(images, masks, spare) if images and masks else None


def _by_key(names: Iterable[str], key_for: Callable[[str], tuple[str, ...]]) -> tuple[dict[tuple[str, ...], str], list[str]]:
    """The first name of each key, and all others."""
    first: dict[tuple[str, ...], str] = {}
    return first, [name for name in names if first.setdefault(key_for(name), name) != name]


def _without_ending(key: tuple[str, ...]) -> tuple[str, ...]:
    """A key without what says in a name that it is a mask."""
    *folders, stem = key
    return (*folders, next((stem.removesuffix(ending) for ending in ENDINGS if stem.endswith(ending)), stem))


class _Look(NamedTuple):
    """What is found in a mask: its size, the image's (None where that cannot be read), pixels by place in the class table, and of no
    class; or what is wrong with it."""

    size: tuple[int, int] = (0, 0)
    image_size: tuple[int, int] | None = None
    pixels: NDArray[np.int64] = np.empty(0, np.int64)
    unknown: int = 0
    fault: str = ""


def read_masks(tree: Tree, files: MaskFiles, limits: Limits = Limits()) -> Dataset:
    """Label maps of the images that have a mask; faults are told in one warning.

    Raises DataError without a class table, and where no mask can be used.
    """
    faults = Faults(tree.root)
    table = _table(tree, files, limits)
    for what, names in files.spare.items():
        for name in names:
            faults.add(what, name)
    for key in files.images.keys() - files.masks.keys():
        faults.add("images without a mask, left out", files.images[key])
    for key in files.masks.keys() - files.images.keys():
        faults.add("masks of images that are not there, left out", files.masks[key])
    keys = sorted(files.images.keys() & files.masks.keys())
    pairs = [(tree.ref(files.images[key]), tree.ref(files.masks[key])) for key in keys]
    looks = list(in_threads(lambda pair: _look(*pair, table, limits), pairs, "Counting the pixels of masks"))
    kept = [row for row, look in enumerate(looks) if not _is_faulty(look, files.masks[keys[row]], faults)]
    if not kept:
        faults.refuse("not one mask can be used")
    totals = np.sum([looks[row].pixels for row in kept], axis=0)
    used = np.flatnonzero(totals)
    if not len(used):
        faults.refuse("not one pixel of its masks has a class")
    if absent := [table.names[place] for place in np.flatnonzero(totals == 0).tolist()]:
        console.say(f"{tree.root}: no pixel is of {', '.join(absent)}, left out of the classes.")
    faults.tell()
    index = {place: label for label, place in enumerate(used.tolist())}
    values = {value: index.get(place, IGNORED) for value, place in table.values.items()}
    maps = [LabelMap(pairs[row][1], values, looks[row].pixels[used], looks[row].size) for row in kept]
    splits = np.array([path_split(files.images[keys[row]]) for row in kept])
    labels = tuple(table.names[place] for place in used.tolist())
    came_split = splits if splits.astype(bool).any() else None
    return Dataset(tree.root, "segment", labels, [pairs[row][0] for row in kept], column_of(maps), came_split)


def _table(tree: Tree, files: MaskFiles, limits: Limits) -> ClassTable:
    name = find_table(tree)
    if name is not None:
        return read_class_table(tree, name)
    found: set[int] = set()
    for mask in list(files.masks.values())[:8]:
        try:
            found |= set(np.unique(read_values(tree.ref(mask), limits)).tolist())
        except ImageError:  # said once there is a table
            continue
    example = ", ".join(f'"{value}": "a name"' for value in sorted(found)[:3])
    raise DataError(
        f"{tree.root}: has masks but no class table: write {tree.root / 'classes.json'} with each value's name, as {{{example}}}; "
        "if its folders are classes, use --task classify."
    )


def _look(image: ImageRef, mask: ImageRef, table: ClassTable, limits: Limits) -> _Look:
    try:
        places = _places(read_values(mask, limits, colours=table.in_colour), table.values)
    except ImageError as error:
        return _Look(fault=f"masks that cannot be used, left out: {error.reason}")
    try:
        image_size = read_size(image, limits)
    except ImageError:  # the image is named when it is looked at
        image_size = None
    counts = np.bincount(places.ravel() - _UNKNOWN, minlength=IGNORED + 2)
    height, width = places.shape
    return _Look((width, height), image_size, counts[1 : len(table.names) + 1], int(counts[0]))


def _is_faulty(look: _Look, name: str, faults: Faults) -> bool:
    if look.fault:
        what, reason = look.fault.split(": ", 1)
        faults.add(what, f"{name}: {reason}")
        return True
    if look.image_size not in (None, look.size):
        (width, height), (image_width, image_height) = look.size, look.image_size or (0, 0)
        faults.add("masks of another size than their image, left out", f"{name}: {width} x {height}, not {image_width} x {image_height}")
        return True
    if look.unknown:
        faults.add("pixels with values of no class, ignored", name, look.unknown)
    return False


def _places(values: NDArray[Any], table: Mapping[Value, int]) -> NDArray[np.int16]:
    """(h, w) the class of each pixel, ``IGNORED``, or ``_UNKNOWN``; ``values`` (h, w) numbers or (h, w, 3) colours."""
    if colours := {value: place for value, place in table.items() if isinstance(value, tuple)}:
        return _places_of_colours(values, colours)
    if values.ndim == 3:
        if (values != values[..., :1]).any():
            raise ImageError("", "is in colour, and the class table has no colours")
        values = values[..., 0]
    numbers = {value: place for value, place in table.items() if isinstance(value, int)}
    by_value = np.full(MAX_VALUE + 2, _UNKNOWN, np.int16)
    by_value[list(numbers)] = list(numbers.values())
    if values.dtype not in (np.uint8, np.uint16):
        values = np.where((values >= 0) & (values <= MAX_VALUE), values, MAX_VALUE + 1).astype(np.uint16)
    return np.asarray(by_value[values])


def _places_of_colours(values: NDArray[Any], table: Mapping[tuple[int, int, int], int]) -> NDArray[np.int16]:
    codes = np.array([(red << 16) | (green << 8) | blue for red, green, blue in table], np.int32)
    places = np.array(list(table.values()), np.int16)
    order = np.argsort(codes)
    wide = values.astype(np.int32)
    pixels = (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]
    nearest = order[np.searchsorted(codes, pixels, sorter=order).clip(0, len(codes) - 1)]
    return np.where(codes[nearest] == pixels, places[nearest], np.int16(_UNKNOWN))


def read_map(label_map: LabelMap, limits: Limits | None = None) -> NDArray[np.uint8]:
    """(h, w) uint8 the index of each pixel's class, ``IGNORED`` where it counts for nothing, upright.

    Raises ImageError where the mask's file cannot be read any more; without ``limits``, a mask as large as it was is within them.
    """
    source, pixels = label_map.source, label_map.size[0] * label_map.size[1]
    if isinstance(source, Objects):
        outlines = source.outlines or (None,) * len(source)
        return painted(outlines, source.labels.tolist(), source.boxes, label_map.size, label_map.values[0], IGNORED)
    in_colour = any(isinstance(value, tuple) for value in label_map.values)
    limits = limits or Limits(max(MAX_PIXELS, pixels), max(MAX_BYTES, MOST_BYTES_A_PIXEL * pixels))
    places = _places(read_values(source, limits, colours=in_colour), label_map.values)
    return places.astype(np.uint8)  # of what is unknown, -1, this makes 255
