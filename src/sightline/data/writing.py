"""Writes objects as COCO JSON and as YOLO labels, so that reading them gives the same data set."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from sightline import console
from sightline.data.decode import Limits, read_bytes
from sightline.data.outlines import extent
from sightline.data.sizes import read_sizes
from sightline.data.tree import ROLES, folder_split
from sightline.errors import DataError, UsageError
from sightline.records import SPLITS, Dataset, ImageRef
from sightline.scenes import Objects, Outline

# Of an image in no split.
REST = "others"
# An outline stands for its box in YOLO only where it says the same of it.
BOX_TOLERANCE = 0.5


def write_coco(dataset: Dataset, path: str | Path, limits: Limits = Limits()) -> list[Path]:
    """Annotations of a data set of objects: a single ``.json`` of all images, or a folder with one for each split; gives the files.

    Images stay where they are and are named from there. Run lengths are written unpacked, coordinates with all their digits. Raises
    UsageError for other data, for images in archives and for files that are there already; DataError for images that cannot be read.
    """
    path = Path(path)
    targets = _objects(dataset, "write_coco")
    if any(ref.member is not None for ref in dataset.refs):
        raise UsageError(f"write_coco: {dataset.root} is an archive, whose images COCO cannot name; unpack it first.")
    if path.suffix.lower() == ".json":
        parts = {path: np.arange(len(dataset))}
    else:
        splits = np.full(len(dataset), "") if dataset.splits is None else dataset.splits
        names = {"": "annotations" if dataset.splits is None else REST}
        parts = {path / f"{names.get(split, split)}.json": np.flatnonzero(splits == split) for split in ("", *SPLITS)}
    if there := [file for file in parts if file.exists()]:
        raise UsageError(f"write_coco: {there[0]} is there already; name another place.")
    sizes = _sizes(dataset.refs, limits)
    categories = [{"id": place, "name": label} for place, label in enumerate(dataset.labels, 1)]
    written = []
    for file, chosen in parts.items():
        if rows := chosen.tolist():
            images = [
                {"id": row + 1, "file_name": _way(dataset.refs[row], file), "width": sizes[row][0], "height": sizes[row][1]} for row in rows
            ]
            annotations = [entry for row in rows for entry in _entries(targets[row], row + 1, sizes[row])]
            for number, entry in enumerate(annotations, 1):
                entry["id"] = number
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}, ensure_ascii=False))
            written.append(file)
    return written


def _way(ref: ImageRef, file: Path) -> str:
    return Path(os.path.relpath(ref.path, file.parent)).as_posix()


def _entries(objects: Objects, image: int, size: tuple[int, int]) -> Iterable[dict[str, Any]]:
    """COCO's annotations of an image's objects, without ids."""
    for place, (left, top, right, bottom) in enumerate(objects.boxes.tolist()):
        entry = {
            "image_id": image,
            "category_id": int(objects.labels[place]) + 1,
            "bbox": [left, top, right - left, bottom - top],
            "area": float(objects.areas[place]),
            "iscrowd": int(objects.crowd[place]),
        }
        outline = objects.outlines[place] if objects.outlines is not None else None
        if outline is not None:
            entry["segmentation"] = _segmentation(outline, size)
        yield entry


def _segmentation(outline: Outline, size: tuple[int, int]) -> Any:
    if isinstance(outline, np.ndarray):
        return {"counts": outline.tolist(), "size": [size[1], size[0]]}
    return [polygon.ravel().tolist() for polygon in outline]


def write_yolo(dataset: Dataset, folder: str | Path, limits: Limits = Limits()) -> Path:
    """YOLO labels of a data set of objects beside copies of its images: ``images``, ``labels`` and ``data.yaml``, whose path comes back.

    Images in no split go to training where there are splits. A single polygon is written as such where it spans its box. YOLO knows no
    crowds, which are left out, nor several polygons or run lengths of one object, which are written as boxes: both are said. Raises
    UsageError for other data and for a folder that is not empty; DataError for images that cannot be read.
    """
    folder = Path(folder)
    targets = _objects(dataset, "write_yolo")
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"write_yolo: {folder} is not empty; name a new folder.")
    sizes = _sizes(dataset.refs, limits)
    splits = [""] * len(dataset) if dataset.splits is None else [split or "train" for split in dataset.splits.tolist()]
    lost = {"crowds, left out": 0, "outlines, written as boxes": 0}
    taken: set[str] = set()
    for row, ref in enumerate(dataset.refs):
        way = _free(f"{splits[row]}/{_short_way(ref, dataset.root)}".lstrip("/"), taken)
        for kind, content in (("images", read_bytes(ref, limits)), ("labels", _lines(targets[row], sizes[row], lost).encode())):
            place = folder / kind / (way if kind == "images" else f"{os.path.splitext(way)[0]}.txt")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
    for what, count in lost.items():
        if count:
            console.warn(f"{folder}: YOLO labels cannot say everything: {count} {what}.")
    # Ultralytics needs both keys; one folder for both is read as not split.
    places = {"train": "", "val": ""} if dataset.splits is None else {"train": "train", "val": "validation", "test": "test"}
    lines = [f"{key}: images/{split}".rstrip("/") for key, split in places.items() if split in splits]
    names = [f"  {number}: {json.dumps(label, ensure_ascii=False)}" for number, label in enumerate(dataset.labels)]
    (folder / "data.yaml").write_text("\n".join([*lines, "names:", *names, ""]))
    return folder / "data.yaml"


def _short_way(ref: ImageRef, root: Path) -> str:
    """A file's way below the root, without folders that say what YOLO says itself: the split, and that it is an image."""
    path = Path(ref.member if ref.member is not None else os.path.relpath(ref.path, root))
    folders = [part for part in path.parts[:-1] if part != ".." and part.lower() not in ROLES and not folder_split(part)]
    return "/".join([*folders, path.name])


def _free(way: str, taken: set[str]) -> str:
    """The way, numbered where a file of that name with any suffix is there already, since both would have the same labels."""
    stem, suffix = os.path.splitext(way)
    free, number = stem, 2
    while free.lower() in taken:
        free, number = f"{stem}-{number}", number + 1
    taken.add(free.lower())
    return free + suffix


def _lines(objects: Objects, size: tuple[int, int], lost: dict[str, int]) -> str:
    lines = []
    for place, (left, top, right, bottom) in enumerate(objects.boxes.tolist()):
        if objects.crowd[place]:
            lost["crowds, left out"] += 1
            continue
        width, height = size
        numbers = [(left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height]
        outline = objects.outlines[place] if objects.outlines is not None else None
        if isinstance(outline, tuple) and len(outline) == 1 and _spans(outline, objects.boxes[place]):
            numbers = (outline[0] / size).ravel().tolist()
        elif outline is not None:
            lost["outlines, written as boxes"] += 1
        lines.append(" ".join([str(int(objects.labels[place])), *(f"{number:.12g}" for number in numbers)]))
    return "".join(f"{line}\n" for line in lines)


def _spans(outline: Outline, box: np.ndarray[Any, Any]) -> bool:
    return bool(np.abs(np.array(extent(outline, 0)) - box).max() <= BOX_TOLERANCE)


def _objects(dataset: Dataset, what: str) -> Any:
    if dataset.task != "detect" or dataset.targets is None:
        raise UsageError(f"{what}: {dataset.root} is read for {dataset.task or 'no task'}; only objects (detect) can be written so.")
    return dataset.targets


def _sizes(refs: Iterable[ImageRef], limits: Limits) -> list[tuple[int, int]]:
    refs = list(refs)
    sizes, reasons = read_sizes(refs, limits)
    bad = [f"{ref}: {reason}" for ref, reason in zip(refs, reasons, strict=True) if reason]
    if bad:
        raise DataError(f"{len(bad)} image{'s' * (len(bad) != 1)} cannot be read ({'; '.join(bad[:3])}); leave them out first.")
    return [(int(width), int(height)) for width, height in sizes.tolist()]
