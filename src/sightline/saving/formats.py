"""Predictions in formats that other programs read: JSON as ``predict --json`` prints it, COCO JSON, YOLO labels."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from sightline.data.decode import Limits, read_size
from sightline.records import ImageRef
from sightline.saving.names import free_name, writing


class Writer(Protocol):
    """Takes what is found on one image after the other."""

    def add(self, ref: ImageRef, found: Any) -> None:
        """Take an image and its prediction, or the error for which it has none."""
        ...

    def close(self) -> str:
        """Write what is not written yet; what was done, in a sentence."""
        ...


def told(path: str, found: Any, top: int | None = None) -> dict[str, Any]:
    """A prediction, or the error, as ``predict --json`` prints it."""
    if isinstance(found, Exception):
        return {"path": path, "error": getattr(found, "reason", str(found))}
    return {"path": path, "predictions": found.to_json(top), **(found.caution.to_json() if found.caution else {})}


class JsonFile:
    """A list of what ``predict --json`` prints for each image, at most ``top`` classes, those that could not be read among them."""

    def __init__(self, path: Path, labels: Sequence[str], limits: Limits, top: int | None = None) -> None:
        self.path, self.top = path, top
        self.entries: list[dict[str, Any]] = []

    def add(self, ref: ImageRef, found: Any) -> None:
        self.entries.append(told(str(ref), found, self.top))

    def close(self) -> str:
        return f"Predictions of {len(self.entries)} images written to {_write_new(self.path, self.entries)}."


class CocoFile:
    """Objects as COCO JSON: images with ids, annotations with a ``score`` each, and categories; ``annotations`` alone is what COCO's
    evaluation takes as results. Files are named from where the JSON lies."""

    def __init__(self, path: Path, labels: Sequence[str], limits: Limits, top: int | None = None) -> None:
        self.path, self.labels, self.limits = path, labels, limits
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.unnamed = 0

    def add(self, ref: ImageRef, found: Any) -> None:
        if isinstance(found, Exception):
            return
        (width, height), image = read_size(ref, self.limits), len(self.images) + 1
        self.unnamed += bool(ref.member or ref.frame)
        name = str(ImageRef(_way(ref.path, self.path.parent), ref.member, ref.frame))
        self.images.append({"id": image, "file_name": name, "width": width, "height": height})
        for label, score, (left, top, right, bottom) in zip(found.labels, found.scores, found.boxes, strict=True):
            wide, high = right - left, bottom - top
            self.annotations.append({
                "id": len(self.annotations) + 1, "image_id": image, "category_id": self.labels.index(label) + 1,
                "bbox": [left, top, round(wide, 2), round(high, 2)], "area": round(wide * high, 2), "iscrowd": 0, "score": score,
            })  # fmt: skip

    def close(self) -> str:
        categories = [{"id": place, "name": label} for place, label in enumerate(self.labels, 1)]
        content = {"images": self.images, "annotations": self.annotations, "categories": categories}
        said = f"{len(self.annotations)} boxes on {len(self.images)} images written to {_write_new(self.path, content)}."
        aside = f" {self.unnamed} of the images are in archives or further pages of a file, by whose names nothing can read them again."
        return said + (aside if self.unnamed else "")


class YoloFolder:
    """Objects as YOLO labels: ``labels/NAME.txt`` with a line of class, middle, size and score for each, and ``data.yaml`` with the names.

    Below ``labels`` are the folders that tell the images apart.
    """

    def __init__(self, folder: Path, labels: Sequence[str], limits: Limits, top: int | None = None) -> None:
        taken = folder.is_dir() and any(folder.iterdir())
        self.folder, self.labels, self.limits = free_name(folder) if taken or folder.is_file() else folder, labels, limits
        self.texts: list[tuple[Path, str]] = []

    def add(self, ref: ImageRef, found: Any) -> None:
        if isinstance(found, Exception):
            return
        width, height = read_size(ref, self.limits)
        lines = [
            f"{self.labels.index(label)} {(left + right) / 2 / width:.6f} {(top + bottom) / 2 / height:.6f} "
            f"{(right - left) / width:.6f} {(bottom - top) / height:.6f} {score:.6f}\n"
            for label, score, (left, top, right, bottom) in zip(found.labels, found.scores, found.boxes, strict=True)
        ]
        page = f"-{ref.frame}" if ref.frame else ""
        name = Path(ref.path, ref.member) if ref.member else Path(ref.path)
        self.texts.append((Path(os.path.abspath(name.with_suffix(""))), f"{page}.txt\n{''.join(lines)}"))

    def close(self) -> str:
        root = os.path.commonpath([path.parent for path, _ in self.texts]) if self.texts else ""
        with writing("--out", self.folder):
            for path, text in self.texts:
                ending, lines = text.split("\n", 1)
                way = path.relative_to(root)
                file = free_name(self.folder / "labels" / way.with_name(way.name + ending))
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(lines)
            names = "".join(f"  {number}: {json.dumps(label, ensure_ascii=False)}\n" for number, label in enumerate(self.labels))
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "data.yaml").write_text(f"names:\n{names}", "utf-8")
        return f"YOLO labels of {len(self.texts)} images written to {self.folder}."


def _way(path: str, folder: Path) -> str:
    """How to get to a file from a folder; the whole path where there is no way, as on Windows from one drive to another."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return Path(path).absolute().as_posix()


def _write_new(wanted: Path, content: Any) -> Path:
    """Write JSON under the first name that is free."""
    with writing("--out", wanted):
        wanted.parent.mkdir(parents=True, exist_ok=True)
        path = free_name(wanted)
        with path.open("x", encoding="utf-8", errors="backslashreplace") as file:
            json.dump(content, file, ensure_ascii=False)
    return path


# ``top`` limits the classes of an image, of which boxes are none.
FORMATS: dict[str, Callable[[Path, Sequence[str], Limits, int | None], Writer]] = {"json": JsonFile, "coco": CocoFile, "yolo": YoloFolder}
# Formats that hold boxes and nothing else.
OF_BOXES = ("coco", "yolo")
