"""COCO's figures against pycocotools and faster-coco-eval, on random and on real boxes, and the cases in which there is little to judge."""

from __future__ import annotations

import contextlib
import io
import os
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import faster_coco_eval
import numpy as np
import pycocotools.coco
import pycocotools.cocoeval
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.evaluation.detection import (
    average_precision,
    detection_scores,
    difference_intervals,
    mean_average_precision,
    recall,
    summary,
    summary_intervals,
)
from sightline.evaluation.matching import Found, match

BCCD = Path(os.environ.get("SIGHTLINE_DATA", Path(__file__).parents[2] / "shared" / "data")) / "bccd"
LIBRARIES = {
    "pycocotools": (pycocotools.coco.COCO, pycocotools.cocoeval.COCOeval),
    "faster-coco-eval": (faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster),
}


@dataclass(frozen=True)
class Objects:
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray


def objects(boxes=(), labels=(), crowd=None, areas=None) -> Objects:
    boxes = np.array(boxes, np.float64).reshape(-1, 4)
    filled = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return Objects(boxes, np.array(labels, np.int64), np.zeros(len(boxes), bool) if crowd is None else np.array(crowd, bool),
                   filled if areas is None else np.array(areas, np.float64))  # fmt: skip


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
    truth = objects(boxes, labels, rng.random(count) < 0.15, areas)
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


def coco_scores(library: str, found: Found, truth: list[Objects], classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Average precision (a, k, t) and recall (a, k, t, m), NaN where there is no object, and the twelve numbers of the summary."""
    coco, evaluation = LIBRARIES[library]
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = coco()
        theirs.dataset = {
            "info": {},
            "images": [{"id": image + 1, "width": 400, "height": 400} for image in range(len(truth))],
            "categories": [{"id": label + 1, "name": str(label)} for label in range(classes)],
            "annotations": [],
        }
        for image, there in enumerate(truth):
            for box, label, crowd, area in zip(there.boxes.tolist(), there.labels.tolist(), there.crowd, there.areas.tolist(), strict=True):
                theirs.dataset["annotations"].append({
                    "id": len(theirs.dataset["annotations"]) + 1, "image_id": image + 1, "category_id": label + 1,
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]], "area": area, "iscrowd": int(crowd),
                })  # fmt: skip
        theirs.createIndex()
        rows = [
            {"image_id": int(i) + 1, "category_id": int(found.labels[i, j]) + 1, "score": float(found.scores[i, j]),
             "bbox": [*found.boxes[i, j, :2].tolist(), *(found.boxes[i, j, 2:] - found.boxes[i, j, :2]).tolist()]}
            for i, j in zip(*np.nonzero(found.labels >= 0), strict=True)
        ]  # fmt: skip
        run = evaluation(theirs, theirs.loadRes(rows), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    precision, recalls = run.eval["precision"][..., -1], run.eval["recall"]
    ap = np.where(precision[:, 0] >= 0, precision.mean(axis=1), np.nan).transpose(2, 1, 0)
    return ap, np.where(recalls >= 0, recalls, np.nan).transpose(2, 1, 0, 3), np.array(run.stats[:12])


def in_order(scores) -> list[float]:
    return [scores.map, scores.map50, scores.map75, scores.map_small, scores.map_medium, scores.map_large,
            scores.recall_1, scores.recall_10, scores.recall, scores.recall_small, scores.recall_medium, scores.recall_large]  # fmt: skip


def agree(library: str, found: Found, truth: list[Objects], classes: int) -> None:
    matches = match(found, truth, classes)
    ap, recalls, stats = coco_scores(library, found, truth, classes)
    np.testing.assert_allclose(average_precision(matches), ap, atol=1e-9)
    for place, limit in enumerate((1, 10, 100)):
        np.testing.assert_allclose(recall(matches, limit), recalls[..., place], atol=1e-9)
    ours = detection_scores(matches)
    np.testing.assert_allclose(in_order(ours), np.where(stats < 0, np.nan, stats), atol=1e-9)
    np.testing.assert_allclose(mean_average_precision(found, truth, classes), ours.map, atol=1e-12)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("seed", range(20))
def test_every_figure_agrees_on_random_boxes(library, seed):
    found, truth = random_set(seed)
    if (found.labels >= 0).any():
        agree(library, found, truth, classes=4)  # the last class has no object


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 4), st.integers(1, 6))
@settings(deadline=None, max_examples=60)
def test_every_figure_agrees_whatever_the_set(seed, images, classes, most):
    found, truth = random_set(seed, images, classes, most)
    if (found.labels >= 0).any():
        agree("pycocotools", found, truth, classes)


def test_only_the_surest_hundred_of_an_image_and_class_count():
    found, truth = random_set(5, images=3, classes=1, most=120)
    assert (found.labels >= 0).sum(axis=1).max() > 200
    agree("pycocotools", found, truth, classes=1)


@pytest.mark.skipif(not BCCD.is_dir(), reason=f"{BCCD} is absent")
def test_every_figure_agrees_on_real_boxes():
    """Blood cells, found as they are but moved, doubled, swapped and with some left out."""
    names, rng = ["RBC", "WBC", "Platelets"], np.random.default_rng(0)
    truth, found = [], []
    for file in sorted((BCCD / "Annotations").glob("*.xml"))[:120]:
        there = list(ET.parse(file).iter("object"))
        boxes = np.array([[float(cell.find("bndbox").find(side).text) for side in ("xmin", "ymin", "xmax", "ymax")] for cell in there])
        labels = np.array([names.index(cell.find("name").text) for cell in there])
        truth.append(objects(boxes, labels))
        chosen = rng.integers(0, len(boxes), 2 * len(boxes))
        moved = boxes[chosen] + rng.normal(0, 6, (len(chosen), 4))
        swapped = np.where(rng.random(len(chosen)) < 0.1, rng.integers(0, 3, len(chosen)), labels[chosen])
        found.append((moved, rng.normal(0, 1, len(chosen)).astype(np.float32), swapped))
    agree("pycocotools", padded(*found), truth, classes=3)


def test_nothing_found_and_nothing_there():
    nothing = padded(([], [], []))
    there = objects([[0, 0, 10, 10]], [1])
    missed = detection_scores(match(nothing, [there], 3))
    assert (missed.map, missed.recall, missed.ap[1], missed.objects.tolist()) == (0, 0, 0, [0, 1, 0])
    assert np.isnan(missed.ap[[0, 2]]).all()
    empty = detection_scores(match(padded(([[0, 0, 9, 9]], [1.0], [0])), [objects()], 1))
    assert np.isnan([empty.map, empty.map50, empty.recall, empty.ap[0]]).all()
    assert np.isnan(mean_average_precision(nothing, [objects()], 2))


def test_one_image_found_exactly():
    boxes = [[0, 0, 10, 10], [20, 20, 60, 70], [100, 100, 101, 101]]
    scores = detection_scores(match(padded((boxes, [0.3, 0.2, 0.1], [0, 1, 1])), [objects(boxes, [0, 1, 1])], 2))
    assert (scores.map, scores.map50, scores.map75, scores.recall, scores.recall_1) == (1, 1, 1, 1, 0.75)
    assert (scores.map_small, scores.map_medium) == (1, 1)
    assert np.isnan(scores.map_large)


@pytest.mark.parametrize("limit", [100, 10_000])
def test_ten_thousand_boxes_in_an_image(limit):
    rng = np.random.default_rng(0)
    corners = np.stack(np.meshgrid(np.arange(100), np.arange(100)), axis=-1).reshape(-1, 2) * 12.0
    boxes = np.concatenate([corners, corners + 10], axis=1)
    found = padded((boxes + rng.normal(0, 0.5, boxes.shape), rng.random(10_000), np.zeros(10_000)))
    matches = match(found, [objects(boxes, np.zeros(10_000))], 1, limit=limit)
    assert len(matches.image) == limit
    assert recall(matches, limit)[0, 0, 0] == pytest.approx(limit / 10_000, rel=0.01)


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=25)
def test_weighted_images_are_repeated_images(seed):
    found, truth = random_set(seed)
    # Equal scores of different images come in the order of the images, which repetition changes.
    found.scores[:] = np.random.default_rng(seed).permutation(found.scores.size).reshape(found.scores.shape)
    weights = np.random.default_rng(seed).integers(0, 4, len(truth))
    repeated = np.repeat(np.arange(len(truth)), weights)
    copies = Found(found.boxes[repeated], found.scores[repeated], found.labels[repeated])
    expected = match(copies, [truth[image] for image in repeated], 3)
    np.testing.assert_allclose(average_precision(match(found, truth, 3), weights), average_precision(expected), atol=1e-12)


def test_intervals_hold_the_value_and_pairing_narrows_a_difference():
    rng = np.random.default_rng(1)
    truth, exact, loose = [], [], []
    for _ in range(40):
        boxes, labels = random_boxes(rng, 6), rng.integers(0, 2, 6)
        truth.append(objects(boxes, labels))
        noise, scores = rng.normal(0, 1, boxes.shape), rng.random(6)
        exact.append((boxes + noise, scores, labels))
        loose.append((boxes + 1.5 * noise, scores, labels))
    better, worse = match(padded(*exact), truth, 3), match(padded(*loose), truth, 3)
    value, intervals = summary(better), summary_intervals(better, resamples=100)
    assert intervals.shape == (8, 2)
    assert np.isnan(intervals[[4, 7]]).all()  # the third class has no object
    known = [0, 1, 2, 3, 5, 6]
    assert ((intervals[known, 0] <= value[known]) & (value[known] <= intervals[known, 1])).all()
    difference = difference_intervals(worse, better, resamples=100)
    assert 0 < difference[0, 0] < value[0] - summary(worse)[0] < difference[0, 1]
    assert np.diff(difference[0]) < np.diff(intervals[0])
