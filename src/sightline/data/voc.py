"""Reader of Pascal VOC: an XML file of boxes for each image, and lists that say the splits.

VOC counts pixels from 1 and includes the last one: xmin 1, xmax 1 is the first column, here 0 to 1. So left = xmin - 1, top = ymin - 1,
right = xmax and bottom = ymax. An object marked difficult is neither right nor wrong to find, as in VOC's own figures: ``crowd``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from xml.etree import ElementTree

import numpy as np

from sightline.data.decode import Limits
from sightline.data.findings import Faults
from sightline.data.objects import Listed, gathered
from sightline.data.outlines import Box
from sightline.data.sizes import compare_sizes, read_sizes
from sightline.data.tree import Tree, folders_of, key_of, path_split, stem_of
from sightline.errors import ImageError
from sightline.records import SPLITS, Dataset

SUFFIX = ".xml"
MAX_BYTES = 32_000_000
LISTS = {"train": "train", "trainval": "train", "val": "validation", "test": "test"}
# What stands behind a name in the lists of single classes.
FLAGS = ("1", "0", "-1")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def voc_files(tree: Tree) -> list[str]:
    """The XML files of a place, where the first says that it is an annotation."""
    names = tree.of_kind(SUFFIX)
    return names if any(_says_annotation(tree, name) for name in names[:3]) else []


def _says_annotation(tree: Tree, name: str) -> bool:
    try:
        return b"<annotation" in tree.read(name, MAX_BYTES)
    except ImageError:  # said when it is read
        return False


def read_voc(tree: Tree, names: list[str], limits: Limits = Limits()) -> Dataset:
    """Objects of the images that have an XML file or stand in a list; faults are told in one warning.

    Raises DataError where no image is there or no object is left.
    """
    faults = Faults(tree.root)
    stems = {stem_of(name) for name in tree.images}
    splits = _lists(tree, stems, faults)
    image_of = _Images(tree)
    annotated: dict[str, ElementTree.Element | None] = {}
    for name in names:
        if (root := _parsed(tree, name, faults)) is None:
            continue
        image = image_of.annotated_by(name, root.findtext("filename") or "")
        if image is None:
            faults.add("annotations of images that are not there, left out", name)
        elif image in annotated:
            faults.add("images with two files of annotations, the first counts", image)
        else:
            annotated[image] = root
    bare = [name for name in tree.images if name not in annotated and _may_be_annotated(name)]
    for name in bare:
        if stem_of(name) in splits:
            annotated[name] = None
            faults.add("images that are listed and have no annotations, taken to show no object", name)
        else:
            faults.add("images without annotations, left out", name)
    for stem in splits:
        if stem not in stems:
            faults.add("names in lists that no image has", stem)
    if not annotated:
        faults.refuse("not one of its annotations belongs to an image that is there; put the images beside them or into JPEGImages")
    return _dataset(tree, dict(sorted(annotated.items())), splits, limits, faults)


def _may_be_annotated(name: str) -> bool:
    """Whether a file lies where the images of annotations do; masks of segmentation lie elsewhere."""
    return not any(folder.lower().startswith("segmentation") for folder in folders_of(name))


def _dataset(
    tree: Tree, annotated: dict[str, ElementTree.Element | None], splits: dict[str, str], limits: Limits, faults: Faults
) -> Dataset:
    images = list(annotated)
    refs = [tree.ref(image) for image in images]
    sizes = np.array([_stated_size(root) for root in annotated.values()], np.float64)
    compare_sizes(refs, sizes, limits, faults)
    if len(unknown := np.flatnonzero(np.isnan(sizes).any(axis=1))):
        sizes[unknown], _ = read_sizes([refs[row] for row in unknown.tolist()], limits)
    listed, classes = Listed(), sorted({_name(thing) for root in annotated.values() if root is not None for thing in root.iter("object")})
    index = {name: place for place, name in enumerate(classes)}
    for row, (image, root) in enumerate(annotated.items()):
        for thing in root.iter("object") if root is not None else ():
            _add_object(listed, row, image, thing, index, faults)
    labels, targets = gathered(listed, classes, images, sizes, faults)
    faults.tell()
    parts = np.array([splits.get(stem_of(image), "") or path_split(image) for image in images])
    return Dataset(tree.root, "detect", labels, refs, targets, parts if parts.astype(bool).any() else None)


def _add_object(listed: Listed, row: int, image: str, thing: ElementTree.Element, index: dict[str, int], faults: Faults) -> None:
    if not _name(thing).strip():
        faults.add("objects without a name, left out", image)
        return
    try:
        box = _box(thing.find("bndbox"))
    except ValueError:
        faults.add("objects without a box of four numbers, left out", image)
        return
    listed.add(row, box, index[_name(thing)], crowd=(thing.findtext("difficult") or "").strip() == "1")


def _box(corners: ElementTree.Element | None) -> Box:
    left, top, right, bottom = (float((corners.findtext(name) if corners is not None else None) or "") for name in _CORNERS)
    return max(left - 1, 0.0) if left >= 0 else left - 1, max(top - 1, 0.0) if top >= 0 else top - 1, right, bottom


def _name(thing: ElementTree.Element) -> str:
    return thing.findtext("name") or ""


def _stated_size(root: ElementTree.Element | None) -> tuple[float, float]:
    try:
        width, height = (float((root.findtext(f"size/{side}") if root is not None else None) or "") for side in ("width", "height"))
    except ValueError:
        return np.nan, np.nan
    return (width, height) if 0 < width < 1e9 and 0 < height < 1e9 else (np.nan, np.nan)


def _parsed(tree: Tree, name: str, faults: Faults) -> ElementTree.Element | None:
    """The root of an XML file; None, and a fault, where it is broken. Document types, which can define entities, are refused."""
    try:
        data = tree.read(name, MAX_BYTES)
        if b"<!DOCTYPE" in data or b"<!ENTITY" in data or b"\0" in data:
            faults.add("files that are broken, left out", f"{name}: has a document type, or is not in UTF-8")
            return None
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        faults.add("files that are broken, left out", f"{name}, line {error.position[0]}: {str(error).split(':')[0]}")
    except (ImageError, ValueError, LookupError) as error:  # an encoding that is not known
        faults.add("files that are broken, left out", f"{name}: {error}")
    else:
        if root.tag == "annotation":
            return root
        faults.add("files that are no annotations, left out", name)
    return None


class _Images:
    """The image that an annotation belongs to: that of its own name in the folder that corresponds, or of the name written in it."""

    def __init__(self, tree: Tree) -> None:
        self._by_key: dict[tuple[str, ...], str] = {}
        self._by_stem: defaultdict[str, list[str]] = defaultdict(list)
        for name in tree.images:
            if _may_be_annotated(name):
                self._by_key.setdefault(key_of(name), name)
                self._by_stem[stem_of(name)].append(name)

    def annotated_by(self, name: str, written: str) -> str | None:
        if found := self._by_key.get(key_of(name)):
            return found
        for stem in (stem_of(name), stem_of(written.replace("\\", "/").strip())):
            if len(able := self._by_stem.get(stem, [])) == 1:
                return able[0]
        return None


def _lists(tree: Tree, stems: Collection[str], faults: Faults) -> dict[str, str]:
    """The split that ``ImageSets/Main`` says for each image, by its name without suffix; ``stems`` are those that are there.

    What stands in trainval alone is for training; what stands in several other lists is in the last of train, validation and test.
    """
    said: defaultdict[str, set[str]] = defaultdict(set)
    for name in tree.others:
        if found := re.search(r"(?:^|/)ImageSets/Main/(train|trainval|val|test)\.txt$", name, re.IGNORECASE):
            try:
                lines = tree.text(name, MAX_BYTES).splitlines()
            except ImageError as error:
                faults.add("files that are broken, left out", f"{name}: {error.reason}")
                continue
            for line in filter(None, map(str.strip, lines)):
                said[_stem_meant(line, stems)].add(found[1].lower())
    splits = {}
    for stem, lists in said.items():
        parts = {LISTS[name] for name in (lists - {"trainval"} or lists)}
        splits[stem] = max(parts, key=SPLITS.index)
        if len(parts) > 1:
            faults.add("images in several lists, kept in the last of train, validation and test", stem)
    return splits


def _stem_meant(line: str, stems: Collection[str]) -> str:
    """Which of the stems a line of a list means, possibly with folders, a suffix, or a flag behind it; where it is none of them, what the
    line says."""
    last = line.replace("\\", "/").rsplit("/", 1)[-1]
    words = last.rsplit(maxsplit=1)
    bare = words[0] if len(words) > 1 and words[1] in FLAGS else last
    able = (name for text in (last, bare) for name in (text, re.sub(r"\.[A-Za-z]\w{1,4}$", "", text)))
    return next((name for name in able if name in stems), bare)
