"""Images with objects on them and what a detector might find there, without the images."""

from __future__ import annotations

import numpy as np

from sightline.evaluation.matching import Found
from sightline.scenes import Objects


def padded(*images: tuple[list, list, list]) -> Found:
    """From (boxes, scores, labels) of each image."""
    most = max(len(labels) for _, _, labels in images)
    found = Found(np.zeros((len(images), most, 4)), np.full((len(images), most), -9.0), np.full((len(images), most), -1))
    for image, (boxes, scores, labels) in enumerate(images):
        if len(labels):
            found.boxes[image, : len(labels)], found.scores[image, : len(labels)] = boxes, scores
            found.labels[image, : len(labels)] = labels
    return found


def random_boxes(rng: np.random.Generator, count: int, side: int = 160) -> np.ndarray:
    """Boxes on whole and half pixels from 1 pixel to 160, so that overlaps and areas often lie right on a threshold."""
    sizes = np.ceil(2 ** rng.uniform(0, np.log2(side), (count, 2)))
    corners = np.floor(rng.uniform(0, 1, (count, 2)) * (side - sizes) * 2) / 2
    return np.concatenate([corners, corners + sizes], axis=1)


def random_scene(rng: np.random.Generator, classes: int, most: int) -> tuple[Objects, tuple]:
    """Objects, and detections of which many are objects, moved and sometimes of another class, with scores that are often equal."""
    count = rng.integers(0, most + 1) * (rng.random() < 0.85)
    boxes, labels = random_boxes(rng, count), rng.integers(0, classes, count)
    areas = np.where(rng.random(count) < 0.3, 0.5, 1) * np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    truth = Objects.of(boxes, labels, rng.random(count) < 0.15, areas)
    near = rng.integers(0, count, rng.integers(0, 3 * count + 1)) if count else np.zeros(0, np.int64)
    moved = boxes[near] + np.round(rng.normal(0, rng.choice([0, 0.5, 3, 8]), (len(near), 4)) * 2) / 2
    moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
    others = rng.integers(0, rng.integers(1, 2 * most), 1)[0]
    all_boxes = np.concatenate([moved, random_boxes(rng, others)]) if rng.random() < 0.9 else np.zeros((0, 4))
    names = np.concatenate([labels[near], rng.integers(0, classes, others)])[: len(all_boxes)]
    names = np.where(rng.random(len(names)) < 0.1, rng.integers(0, classes, len(names)), names)
    return truth, (all_boxes, np.round(rng.normal(0, 2, len(all_boxes)), rng.integers(0, 3)), names)


def random_set(seed: int, images: int = 6, classes: int = 3, most: int = 12) -> tuple[Found, list[Objects]]:
    rng = np.random.default_rng(seed)
    truth, found = zip(*(random_scene(rng, classes, most) for _ in range(images)), strict=True)
    return padded(*found), list(truth)
