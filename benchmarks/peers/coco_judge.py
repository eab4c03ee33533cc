"""COCO's annotations and results, and pycocotools as the one judge of all detectors that are measured, ours and the peers'.

Imports nothing of Sightline or of a peer, so that both sides' Python can run it.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

Result = dict[str, Any]
"""A box that was found, as COCO writes it: image_id, category_id, bbox (left, top, width, height) in original pixels, and score."""


@dataclass(frozen=True)
class Scene:
    """An image of a COCO file: its id, its file, and its objects.

    boxes       (m, 4) float64 left, top, right, bottom in pixels
    categories  (m,) int64 ids of categories
    crowd       (m,) bool
    areas       (m,) float64
    """

    number: int
    path: Path
    boxes: np.ndarray
    categories: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray


def read_scenes(file: Path) -> tuple[list[Scene], dict[int, str]]:
    """The images of a COCO file, in its order, and the name of each category by its id."""
    content = json.loads(file.read_text())
    objects: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        objects[annotation["image_id"]].append(annotation)
    scenes = []
    for image in content["images"]:
        found = objects[image["id"]]
        boxes = np.array([entry["bbox"] for entry in found], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        scenes.append(
            Scene(
                image["id"], (file.parent / image["file_name"]).resolve(), boxes,
                np.array([entry["category_id"] for entry in found], np.int64), np.array([entry["iscrowd"] for entry in found], bool),
                np.array([entry["area"] for entry in found], np.float64),
            )
        )  # fmt: skip
    return scenes, {category["id"]: category["name"] for category in content["categories"]}


def results(number: int, boxes: Iterable[Sequence[float]], scores: Iterable[float], categories: Iterable[int]) -> list[Result]:
    """The boxes (left, top, right, bottom) found on the image with this id, as COCO writes them."""
    return [
        {"image_id": number, "category_id": category, "bbox": [left, top, right - left, bottom - top], "score": score}
        for (left, top, right, bottom), score, category in zip(boxes, scores, categories, strict=True)
    ]


def precision(file: Path, found: Sequence[Result]) -> dict[str, float]:
    """``map`` and ``map50`` of the boxes found on the images of a COCO file, by pycocotools; both 0 where no box was found."""
    if not found:
        return {"map": 0.0, "map50": 0.0}
    with contextlib.redirect_stdout(io.StringIO()):  # it talks
        truth = COCO(str(file))
        judge = COCOeval(truth, truth.loadRes(list(found)), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return {"map": float(judge.stats[0]), "map50": float(judge.stats[1])}
