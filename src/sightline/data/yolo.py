"""Reader of YOLO labels: ``labels/a.txt`` for ``images/a.jpg``, with ``data.yaml`` for the names and splits, or ``classes.txt``.

A line is ``class x y width height``, the box's middle and size as shares of the upright image's width and height, or, with more numbers,
``class x1 y1 x2 y2 x3 y3 ...``, the corners of an outline. A box may have a score behind it, as detectors write them, ``predict`` among
them; it is set aside, and so are key points, which follow the box where the description has ``kpt_shape``. An image without a text file
shows none of the objects.
"""

from __future__ import annotations

import itertools
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sightline import console
from sightline.data.decode import Limits, read_size
from sightline.data.findings import Faults
from sightline.data.image_finder import ImageFinder
from sightline.data.objects import Listed, gathered
from sightline.data.outlines import extent
from sightline.data.sizes import in_threads
from sightline.data.tree import IMAGE_FOLDERS, ROLES, Tree, folder_split, folders_of, key_of, path_split
from sightline.data.yaml_keys import NotUnderstood, Value, read_keys
from sightline.errors import DataError, ImageError
from sightline.records import SPLITS, Dataset

SUFFIXES = (".yaml", ".yml")
NAMES_FILES = ("classes.txt", "obj.names")
MAX_BYTES = 64_000_000
# Of the file that says the names.
NAMES_BYTES = 1_000_000
SPLIT_KEYS = {"train": "train", "val": "validation", "valid": "validation", "test": "test"}
KEY_POINTS = "kpt_shape"
# Label files in which rows are looked for, and how many are opened for it, as some may be empty.
FILLED_FILES = 8
OPENED_FILES = 1000
# A box's numbers with its score.
SCORED = 5
_ROW = re.compile(rb"\s*\d+(\s+[-+.\deE]+){4,}\s*")


@dataclass(frozen=True)
class YoloFiles:
    """The file that says the names, and the text files by what they have in common with their images."""

    names: str | None
    labels: Mapping[tuple[str, ...], str]


def yolo_files(tree: Tree, described: str | None = None) -> YoloFiles | None:
    """What a place holds in YOLO's layout, described by one YAML file that is given or found; raises DataError for several of them."""
    tables = [described] if described else _descriptions(tree)
    labels = {key_of(name): name for name in tree.others if name.lower().endswith(".txt") and name.rsplit("/", 1)[-1] not in NAMES_FILES}
    if not tables:
        starts = (_start(tree, name) for name in [name for name in labels.values() if _is_in_labels(name)][:OPENED_FILES])
        if not any(map(_ROW.match, itertools.islice(filter(None, starts), FILLED_FILES))):
            return None
        tables = [name for name in NAMES_FILES if name in tree.known][:1]
    if len(tables) > 1:
        raise DataError(f"{tree.root}: has several descriptions of YOLO data ({', '.join(tables)}); give the path of one instead.")
    if not described and not any(key_of(image) in labels for image in tree.images):
        return None
    return YoloFiles(tables[0] if tables else None, labels)


def _descriptions(tree: Tree) -> list[str]:
    """The YAML files at the top that name classes; ``data.yaml`` alone where it is one of them."""
    tops = [name for name in tree.others if "/" not in name and name.lower().endswith(SUFFIXES)]
    found = [name for name in tops if re.search(rb"^names\s*:", _letters(tree, name), re.MULTILINE)]
    return [name for name in found if name.lower().startswith("data.")] or found


def _letters(tree: Tree, name: str) -> bytes:
    """A file for a look at what it may be: without a byte order mark, and in UTF-16 too, so that who reads it can say what is wrong."""
    try:
        return tree.read(name, MAX_BYTES).lstrip(b"\xef\xbb\xbf\xff\xfe").replace(b"\0", b"")
    except ImageError:  # said when it is read
        return b""


def _start(tree: Tree, name: str) -> bytes:
    return _letters(tree, name).strip().partition(b"\n")[0]


def _is_in_labels(name: str) -> bool:
    return any(folder.lower() == "labels" for folder in folders_of(name))


class _Labelled(NamedTuple):
    """An image's size, or why it cannot be read, and the lines of its text file, if it has one."""

    size: tuple[int, int] | None
    lines: list[str]
    fault: str = ""


def read_yolo(tree: Tree, files: YoloFiles, limits: Limits = Limits()) -> Dataset:
    """Objects of all images that the description's splits hold, or, without any, of all; faults are told in one warning.

    Raises DataError where the names of the classes are not known, no image can be read, or no object is left.
    """
    faults = Faults(tree.root)
    described = _described(tree, files.names)
    names = _names(tree, files, described)
    splits = _splits(tree, described, faults)
    images = sorted(splits)
    for key in files.labels.keys() - {key_of(image) for image in tree.images}:
        if _is_in_labels(files.labels[key]):
            faults.add("annotations of images that are not there, left out", files.labels[key])
    jobs = [(image, files.labels.get(key_of(image))) for image in images]
    found = list(in_threads(lambda job: _labelled(tree, *job, limits), jobs, "Reading labels"))
    listed = Listed()
    kept: list[tuple[str, tuple[int, int] | None]] = []
    for image, labelled in zip(images, found, strict=True):
        if labelled.fault:
            faults.add("images that cannot be used, left out", f"{image}: {labelled.fault}")
        else:
            _add_objects(listed, len(kept), image, labelled, names, KEY_POINTS in described, faults)
            kept.append((image, labelled.size))
    if not kept:
        faults.refuse("holds YOLO labels, but not one image that belongs to them; put the images into images, beside labels")
    sizes = np.array([size for _, size in kept], np.float64)
    labels, targets = gathered(listed, names, [image for image, _ in kept], sizes, faults)
    faults.tell()
    parts = np.array([splits[image] for image, _ in kept])
    came_split = parts if parts.astype(bool).any() else None
    return Dataset(tree.root, "detect", labels, [tree.ref(image) for image, _ in kept], targets, came_split)


def _described(tree: Tree, name: str | None) -> dict[str, Value]:
    if name is None or not name.lower().endswith(SUFFIXES):
        return {}
    try:
        return read_keys(tree.text(name, NAMES_BYTES), ("names", "path", KEY_POINTS, *SPLIT_KEYS))
    except (ImageError, NotUnderstood) as error:
        said = error.reason if isinstance(error, ImageError) else str(error)
        raise DataError(f"{tree.shown(name)}: is not understood ({said}); write names: [a, b] and train: images/train.") from error


def _names(tree: Tree, files: YoloFiles, described: Mapping[str, Value]) -> list[str]:
    """The name of each class by its number; "" where a number has none."""
    written = described.get("names")
    if files.names and not files.names.lower().endswith(SUFFIXES):
        try:
            return [line.strip() for line in tree.text(files.names, NAMES_BYTES).strip().splitlines()]
        except ImageError as error:
            raise DataError(f"{tree.shown(files.names)}: is not understood ({error.reason}); write one name a line.") from error
    if isinstance(written, list) and written:
        return written
    if isinstance(written, dict) and written and all(re.fullmatch("[0-9]{1,5}", number) for number in written):
        by_number = {int(number): name for number, name in written.items()}
        return [by_number.get(number, "") for number in range(max(by_number) + 1)]
    example = 'names: ["first class", "second class"]'
    raise DataError(f"{tree.root}: holds YOLO labels, whose classes are numbers, and no names for them; write data.yaml with {example}.")


def _splits(tree: Tree, described: Mapping[str, Value], faults: Faults) -> dict[str, str]:
    """The images that count, and the split of each: what the description says, or else what the folders say."""
    said: dict[str, set[str]] = {}
    for key, split in SPLIT_KEYS.items():
        written = described.get(key)
        for place in written if isinstance(written, list) else [written] if isinstance(written, str) else []:
            if (members := _members(tree, str(described.get("path", "")), place, faults)) is None:
                faults.add("places of splits that are not there, left out", f"{key}: {place}")
            for image in members or ():
                said.setdefault(image, set()).add(split)
    images = [image for image in tree.images if _may_be_labelled(image)]
    if not said:
        return {image: path_split(image) for image in images}
    if all(splits == {"train", "validation"} for splits in said.values()):
        console.say(f"{tree.root}: training and validation are the same images here, so they are taken as not split.")
        return dict.fromkeys(said, "")
    for image in images:
        if image not in said:
            faults.add("images in no split that the description names, left out", image)
    for image, splits in said.items():
        if len(splits) > 1:
            faults.add("images in several splits, kept in the last of train, validation and test", image)
    return {image: max(splits, key=SPLITS.index) for image, splits in said.items()}


def _may_be_labelled(image: str) -> bool:
    """Images in folders for masks and the like are something else."""
    kinds = [folder.lower() for folder in folders_of(image) if folder.lower() in ROLES]
    return not kinds or kinds[-1] in IMAGE_FOLDERS


def _members(tree: Tree, base: str, written: str, faults: Faults) -> list[str] | None:
    """The images of a split, which is a folder, or a list in a text file; None where neither is there.

    The ways are those of the machine where the description was written: they are tried from there, and from their end.
    """
    ways = [posixpath.normpath(way.replace("\\", "/")) for way in (posixpath.join(base, written), written)]
    for way in itertools.chain.from_iterable(map(_ends, ways)):
        if way.lower().endswith(".txt") and way in tree.known:
            return _listed_in(tree, way, faults)
        inside = [image for image in tree.images if way == "." or image.startswith(f"{way}/")]
        if inside:
            return [image for image in inside if _may_be_labelled(image)]
    return None


def _listed_in(tree: Tree, name: str, faults: Faults) -> list[str]:
    try:
        lines = tree.text(name, MAX_BYTES).split("\n")
    except ImageError as error:
        faults.add("files that are broken, left out", f"{name}: {error.reason}")
        return []
    finder = ImageFinder(tree, name, "", faults, "images in lists")
    return [image for line in lines if line.strip() and (image := finder.found(line.strip()))]


def _ends(way: str) -> list[str]:
    """A way, and its ends from each of its folders on, but none that says less of a split."""
    parts = [part for part in way.split("/") if part not in ("", "..")]
    ends = [parts[start:] for start in range(len(parts))]
    return ["/".join(end) for end in ends if any(map(folder_split, end)) or not any(map(folder_split, parts))]


def _labelled(tree: Tree, image: str, labels: str | None, limits: Limits) -> _Labelled:
    try:
        size = read_size(tree.ref(image), limits)
    except ImageError as error:
        return _Labelled(None, [], error.reason)
    try:
        return _Labelled(size, tree.text(labels, MAX_BYTES).splitlines() if labels else [])
    except ImageError as error:
        return _Labelled(None, [], f"{labels} {error.reason}")


def _add_objects(
    listed: Listed, row: int, image: str, labelled: _Labelled, names: Sequence[str], with_key_points: bool, faults: Faults
) -> None:
    """What the lines of an image's text file say; ``with_key_points`` behind each box."""
    assert labelled.size is not None
    width, height = labelled.size
    for number, line in enumerate(labelled.lines, 1):
        if not line.strip():
            continue
        try:
            label, *rest = map(float, line.split())
        except ValueError:
            rest, label = [], np.nan
        if with_key_points and len(rest) > SCORED:
            faults.add("boxes with key points behind them, which are set aside", image)
            del rest[4:]
        elif len(rest) == SCORED and 0 <= rest[-1] <= 1:
            faults.add("boxes with a score behind them, which is set aside", image)
            rest.pop()
        if len(rest) < 4 or len(rest) % 2 or label != np.floor(label):
            faults.add("lines that are not understood, left out", f"{image}, line {number}")
        elif not (0 <= label < len(names) and names[int(label)]):
            faults.add("annotations of classes that are not defined, left out", f"{image}: {label:g}")
        elif len(rest) == 4:
            x, y, wide, high = rest
            box = (x - wide / 2) * width, (y - high / 2) * height, (x + wide / 2) * width, (y + high / 2) * height
            listed.add(row, box, int(label))
        else:
            polygon: NDArray[np.float64] = np.array(rest, np.float64).reshape(-1, 2) * (width, height)
            listed.add(row, extent((polygon,), height), int(label), outline=(polygon,))
