"""What a bundle and the peers find on the test images of a data set of boxes, as COCO results, and how they compare."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from peers import coco_judge

from sightline.evaluation.detection import precision_differences
from sightline.evaluation.matching import ALL_SIZES, Found, match
from sightline.evaluation.multilabel import sigmoid
from sightline.runtime import Model
from sightline.scenes import Objects
from sightline.tasks import kept


@dataclass(frozen=True)
class Truth:
    """The images of a COCO file with their objects, and the name of each category by its id."""

    file: Path
    scenes: list[coco_judge.Scene]
    names: dict[int, str]

    @classmethod
    def of(cls, coco: Path, split: str = "test") -> Truth:
        return cls(coco / f"{split}.json", *coco_judge.read_scenes(coco / f"{split}.json"))

    @property
    def objects(self) -> list[Objects]:
        """With the places of the categories, in order of their ids, as labels."""
        places = {number: place for place, number in enumerate(sorted(self.names))}
        return [
            Objects.of(scene.boxes, [places[category] for category in scene.categories.tolist()], scene.crowd, scene.areas)
            for scene in self.scenes
        ]

    def precision(self, found: Sequence[coco_judge.Result]) -> dict[str, float]:
        """``map`` and ``map50``, by pycocotools."""
        return {name: round(value, 5) for name, value in coco_judge.precision(self.file, found).items()}


def of_bundle(model: Model, truth: Truth) -> list[coco_judge.Result]:
    """All that is left after non-maximum suppression with its score, as mAP is taken of; ``predict`` tells of the sure ones alone."""
    numbers = {name: number for number, name in truth.names.items()}
    found = []
    for batch in model.raw([scene.path for scene in truth.scenes]):
        outputs = kept(model.task, batch.raw)
        for row, position in enumerate(batch.positions):
            there = outputs["labels"][row] >= 0
            categories = [numbers[model.labels[label]] for label in outputs["labels"][row, there].tolist()]
            scores = sigmoid(outputs["scores"][row, there]).tolist()
            found += coco_judge.results(truth.scenes[position].number, outputs["boxes"][row, there].tolist(), scores, categories)
    return found


def of_file(path: Path) -> list[coco_judge.Result]:
    return list(json.loads(path.read_text()))


def difference(truth: Truth, theirs: Sequence[coco_judge.Result], ours: Sequence[coco_judge.Result]) -> dict[str, float]:
    """The 95% interval of our mAP less theirs, by a paired bootstrap over the images: ``difference_low`` and ``difference_high``."""
    reference, other = (
        match(as_found(truth, found), truth.objects, len(truth.names), sizes=ALL_SIZES) for found in (theirs, ours)
    )  # fmt: skip
    low, high = precision_differences(reference, other)[0].tolist()
    return {"difference_low": round(low, 4), "difference_high": round(high, 4)}


def as_found(truth: Truth, found: Sequence[coco_judge.Result]) -> Found:
    """COCO results as arrays over the images, with the labels of ``Truth.objects``."""
    places = {number: place for place, number in enumerate(sorted(truth.names))}
    by_image: dict[int, list[coco_judge.Result]] = {scene.number: [] for scene in truth.scenes}
    for entry in found:
        by_image[entry["image_id"]].append(entry)
    most = max(1, *map(len, by_image.values()))
    boxes, scores, labels = np.zeros((len(by_image), most, 4)), np.zeros((len(by_image), most)), np.full((len(by_image), most), -1)
    for row, entries in enumerate(by_image.values()):
        for place, entry in enumerate(entries):
            left, top, width, height = entry["bbox"]
            boxes[row, place], scores[row, place] = (left, top, left + width, top + height), entry["score"]
            labels[row, place] = places[entry["category_id"]]
    return Found(boxes, scores, labels)
