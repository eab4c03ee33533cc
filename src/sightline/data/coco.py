"""Reader of COCO JSON: images, annotations with boxes, polygons or run lengths, and categories; one file, or one for each split.

Boxes are (left, top, width, height) in pixels, whose corner is at (0, 0). A file's name, or else its folder, says the split. The format is
that of the COCO data set (Lin et al. 2014).
"""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.data.decode import Limits
from sightline.data.findings import Faults
from sightline.data.image_finder import ImageFinder
from sightline.data.objects import Listed, gathered
from sightline.data.outlines import Box, extent, unpacked
from sightline.data.sizes import compare_sizes, read_sizes
from sightline.data.tree import Tree, path_split, stem_split
from sightline.errors import ImageError
from sightline.records import SPLITS, Dataset
from sightline.scenes import Outline

SUFFIX = ".json"
KEYS = (b'"images"', b'"annotations"', b'"categories"')
# What COCO's own files with boxes begin with; those for captions and key points lie beside them.
INSTANCES = "instances"
# The folder of annotation files beside those of images.
ANNOTATIONS = "annotations"
MAX_BYTES = 8 * 2**30
MAX_PIXELS = 2**62
GONE = -1


def coco_files(tree: Tree) -> list[str]:
    """The files of a place that are COCO annotations with boxes; a look at their bytes, not yet at what they say."""
    found = [name for name in tree.of_kind(SUFFIX) if _looks_like_coco(tree, name)]
    return [name for name in found if name.rsplit("/", 1)[-1].startswith(INSTANCES)] or found


def _looks_like_coco(tree: Tree, name: str) -> bool:
    try:
        data = tree.read(name, MAX_BYTES)
    except ImageError:  # said below if it is the only one
        return False
    return all(key in data for key in KEYS)


@dataclass
class _Gathering:
    """What several files give together: n images with their names in the place, sizes and splits, and their objects."""

    rows: dict[str, int] = field(default_factory=dict)
    sizes: list[tuple[float, float]] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    listed: Listed = field(default_factory=Listed)
    classes: dict[str, int] = field(default_factory=dict)

    def learn_sizes(self, tree: Tree, before: int, limits: Limits) -> None:
        """From the headers, of the images behind the first so many whose annotations do not state them."""
        images = list(self.rows)
        unknown = [row for row in range(before, len(images)) if np.isnan(self.sizes[row]).any()]
        if unknown:
            found, _ = read_sizes([tree.ref(images[row]) for row in unknown], limits)
            for row, (width, height) in zip(unknown, found.tolist(), strict=True):
                self.sizes[row] = width, height


def read_coco(tree: Tree, names: Sequence[str], limits: Limits = Limits()) -> Dataset:
    """Objects of the images that files of a place list, those without annotations among them; faults are told in one warning.

    Raises DataError where no file can be used, no image is there, or no object is left.
    """
    faults = Faults(tree.root)
    contents = {name: content for name in names if (content := _content(tree, name, faults)) is not None}
    if not contents:
        faults.refuse("holds no COCO annotations that can be read; export them again")
    gathering = _Gathering()
    by_split = {name: stem_split(name) or path_split(name) for name in contents}
    # An image that several files list counts for the split that must stay unseen.
    for name in sorted(contents, key=lambda name: -1 if not by_split[name] else SPLITS.index(by_split[name]), reverse=True):
        _add_file(gathering, tree, name, by_split[name], contents[name], limits, faults)
    if not gathering.rows:
        faults.refuse("not one of the images that its annotations name is there; put them beside the annotations, as these name them")
    images = list(gathering.rows)
    refs = [tree.ref(image) for image in images]
    sizes = np.array(gathering.sizes, np.float64)
    compare_sizes(refs, sizes, limits, faults)
    labels, targets = gathered(gathering.listed, list(gathering.classes), images, sizes, faults)
    faults.tell()
    splits = np.array(gathering.splits)
    return Dataset(tree.root, "detect", labels, refs, targets, splits if splits.astype(bool).any() else None)


def _content(tree: Tree, name: str, faults: Faults) -> dict[str, Any] | None:
    """What a file says, with three lists; None, and a fault, where it is broken."""
    try:
        content = json.loads(tree.read(name, MAX_BYTES))
    except json.JSONDecodeError as error:
        faults.add("files that are broken, left out", f"{name}, line {error.lineno}: {error.msg}")
    except (ImageError, ValueError, RecursionError) as error:
        # Of an integer with thousands of digits Python goes on to say how to allow it.
        faults.add("files that are broken, left out", f"{name}: {str(error).split(' for integer')[0]}")
    else:
        if isinstance(content, dict) and all(isinstance(content.get(key), list) for key in ("images", "annotations", "categories")):
            return content
        faults.add("files that are broken, left out", f"{name}: images, annotations and categories must be lists")
    return None


def _add_file(gathering: _Gathering, tree: Tree, name: str, split: str, content: Mapping[str, Any], limits: Limits, faults: Faults) -> None:
    finder = ImageFinder(tree, name, split, faults)
    before = len(gathering.rows)
    row_of_id: dict[Hashable, int] = {}
    for image in content["images"]:
        if not (isinstance(image, dict) and isinstance(image.get("file_name"), str) and _is_id(image.get("id"))):
            faults.add("entries for images without an id or file_name, left out", name)
        elif image["id"] in row_of_id:
            faults.add("image ids used twice, the first counts", f"{name}: {image['id']}")
        else:
            found = finder.found(image["file_name"])
            row_of_id[image["id"]] = GONE if found is None else _row_of(gathering, found, image, before, split, faults)
    gathering.learn_sizes(tree, before, limits)
    class_of_id: dict[Hashable, int] = {}
    for category in content["categories"]:
        if not (isinstance(category, dict) and _is_id(category.get("id")) and str(category.get("name") or "").strip()):
            faults.add("categories without an id or name, left out", name)
        elif category["id"] in class_of_id:
            faults.add("category ids used twice, the first counts", f"{name}: {category['id']}")
        else:
            class_of_id[category["id"]] = gathering.classes.setdefault(str(category["name"]), len(gathering.classes))
    _add_objects(gathering, name, content["annotations"], row_of_id, class_of_id, faults)


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str | float)


def _row_of(gathering: _Gathering, found: str, image: Mapping[str, Any], before: int, split: str, faults: Faults) -> int:
    """The row of an image that a file lists, of which the first is ``before``; ``GONE`` where it does not count."""
    if (known := gathering.rows.get(found)) is not None:
        if known < before:
            faults.add("images in several files of annotations, kept in the first of test, validation and train", found)
            return GONE
        faults.add("images listed under two ids, taken as one", found)
        return known
    gathering.rows[found] = len(gathering.rows)
    gathering.sizes.append((_positive(image.get("width")), _positive(image.get("height"))))
    gathering.splits.append(split)
    return gathering.rows[found]


def _add_objects(
    gathering: _Gathering, name: str, annotations: Sequence[Any], row_of_id: Mapping[Hashable, int], class_of_id: Mapping[Hashable, int],
    faults: Faults,
) -> None:  # fmt: skip
    seen: dict[Hashable, Any] = {}
    images = list(gathering.rows)
    for annotation in annotations:
        image, category = (annotation.get("image_id"), annotation.get("category_id")) if isinstance(annotation, dict) else (None, None)
        if not (_is_id(image) and _is_id(category)):
            faults.add("annotations without an image_id or category_id, left out", name)
        elif image not in row_of_id:
            faults.add("annotations for images that are not listed, left out", f"{name}: image_id {image}")
        elif category not in class_of_id:
            faults.add("annotations of classes that are not defined, left out", f"{name}: category_id {category}")
        elif (row := row_of_id[image]) != GONE and not _is_repeated(annotation, seen, name, faults):
            _add_object(gathering, row, images[row], class_of_id[category], annotation, faults)


def _is_repeated(annotation: Mapping[str, Any], seen: dict[Hashable, Any], name: str, faults: Faults) -> bool:
    """Whether an annotation was there already; one with the id of another is another object all the same."""
    number = annotation.get("id")
    if not _is_id(number):
        return False
    first = seen.setdefault(number, annotation)
    if first is annotation:
        return False
    same = all(first.get(key) == annotation.get(key) for key in ("image_id", "category_id", "bbox"))
    what = "annotations listed twice, the first counts" if same else "annotation ids used for several objects, all kept"
    faults.add(what, f"{name}: {number}")
    return same


def _add_object(gathering: _Gathering, row: int, image: str, label: int, annotation: Mapping[str, Any], faults: Faults) -> None:
    size = gathering.sizes[row]
    try:
        outline = _outline(annotation.get("segmentation"), size)
    except (ValueError, TypeError, OverflowError):
        faults.add("outlines that are not understood, left out", image)
        outline = None
    try:
        box = _box(annotation.get("bbox"))
    except (ValueError, TypeError, OverflowError):
        if outline is None:
            faults.add("annotations without a box of four numbers, left out", image)
            return
        box = extent(outline, int(size[1]) if isinstance(outline, np.ndarray) else 0)
    crowd = _is_set(annotation.get("iscrowd")) or _is_set(annotation.get("ignore"))
    gathering.listed.add(row, box, label, crowd=crowd, area=_positive(annotation.get("area")), outline=outline)


def _box(value: Any) -> Box:
    left, top, width, height = map(float, value)
    return left, top, left + width, top + height


def _positive(value: Any) -> float:
    """A number above zero; nan for anything else."""
    return float(value) if isinstance(value, int | float) and 0 < value < 1e300 else np.nan


def _is_set(value: Any) -> bool:
    """Whether a flag is: a number, or the same as text."""
    return value.strip().lower() in ("1", "1.0", "true", "yes") if isinstance(value, str) else bool(value)


def _outline(value: Any, size: tuple[float, float]) -> Outline | None:
    """What ``segmentation`` holds: polygons, each a list of x and y, or run lengths, packed or not. Raises ValueError and TypeError."""
    if not value:
        return None
    if isinstance(value, dict):
        height, width = map(int, value.get("size", ()))
        counts = value.get("counts")
        runs = unpacked(counts) if isinstance(counts, str) else np.array(counts, np.int64)
        if runs.ndim != 1 or not _adds_up(runs, height * width) or (width, height) != size:
            raise ValueError("run lengths of another size")
        return runs
    # Some tools leave out the outer list where there is one polygon.
    polygons = tuple(np.array(part, np.float64).reshape(-1, 2) for part in (value if isinstance(value[0], list) else [value]))
    if any(len(polygon) < 3 or not np.isfinite(polygon).all() for polygon in polygons):
        raise ValueError("a polygon of fewer than three points")
    return polygons


def _adds_up(runs: NDArray[np.int64], pixels: int) -> bool:
    """Whether run lengths are of so many pixels; their sum may be more than 64 bits hold."""
    return bool(runs.min(initial=0) >= 0 and runs.sum(dtype=np.float64) < MAX_PIXELS and int(runs.sum()) == pixels)


def coco_tree(path: Path) -> tuple[Tree, list[str]]:
    """The place that a single file's images are looked for in, which is its folder or the one that holds ``annotations``, and its name
    there."""
    if os.path.basename(os.path.dirname(os.path.abspath(path))).lower() != ANNOTATIONS:
        return Tree.of(path.parent), [path.name]
    if path.parent.name.lower() != ANNOTATIONS:  # it is the folder where the command runs
        path = Path(os.path.abspath(path))
    return Tree.of(path.parent.parent), [f"{path.parent.name}/{path.name}"]
