"""COCO's figures against pycocotools and faster-coco-eval, on random and on real boxes, and the cases in which there is little to judge."""

from __future__ import annotations

import contextlib
import io
import os
import xml.etree.ElementTree as ET
from pathlib import Path

import faster_coco_eval
import numpy as np
import pycocotools.coco
import pycocotools.cocoeval
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from random_objects import padded, random_boxes, random_set
from sightline.evaluation.detection import (
    average_precision,
    detection_scores,
    mean_average_precision,
    precision_differences,
    precision_intervals,
    precision_summary,
    recall,
)
from sightline.evaluation.matching import Found, match
from sightline.scenes import Objects

BCCD = Path(os.environ.get("SIGHTLINE_DATA", Path(__file__).parents[2] / "shared" / "data")) / "bccd"
LIBRARIES = {
    "pycocotools": (pycocotools.coco.COCO, pycocotools.cocoeval.COCOeval),
    "faster-coco-eval": (faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster),
}


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
    """As COCO's summary has them."""
    precisions = [scores.map, scores.map50, scores.map75, *scores.map_by_size.values()]
    return [*precisions, scores.recall_1, scores.recall_10, scores.recall, *scores.recall_by_size.values()]


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
@settings(max_examples=60)
def test_every_figure_agrees_whatever_the_set(seed, images, classes, most):
    found, truth = random_set(seed, images, classes, most)
    if (found.labels >= 0).any():
        agree("pycocotools", found, truth, classes)


@pytest.mark.parametrize("library", LIBRARIES)
def test_of_objects_overlapped_alike_the_last_is_taken(library):
    """The surest lies between two objects; the other detection is one of them exactly, and wrong where that was taken."""
    left, between, right = [0, 0, 10, 10], [2, 0, 12, 10], [4, 0, 14, 10]
    for other, expected in ((left, 1.0), (right, 0.5)):
        found, truth = padded(([between, other], [2.0, 1.0], [0, 0])), [Objects.of([left, right], [0, 0])]
        agree(library, found, truth, classes=1)
        assert recall(match(found, truth, 1))[0, 0, 0] == expected


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
        truth.append(Objects.of(boxes, labels))
        chosen = rng.integers(0, len(boxes), 2 * len(boxes))
        moved = boxes[chosen] + rng.normal(0, 6, (len(chosen), 4))
        swapped = np.where(rng.random(len(chosen)) < 0.1, rng.integers(0, 3, len(chosen)), labels[chosen])
        found.append((moved, rng.normal(0, 1, len(chosen)).astype(np.float32), swapped))
    agree("pycocotools", padded(*found), truth, classes=3)


def test_nothing_found_and_nothing_there():
    nothing = padded(([], [], []))
    there = Objects.of([[0, 0, 10, 10]], [1])
    missed = detection_scores(match(nothing, [there], 3))
    assert (missed.map, missed.recall, missed.ap[1], missed.objects.tolist()) == (0, 0, 0, [0, 1, 0])
    assert np.isnan(missed.ap[[0, 2]]).all()
    empty = detection_scores(match(padded(([[0, 0, 9, 9]], [1.0], [0])), [Objects.of([], [])], 1))
    assert np.isnan([empty.map, empty.map50, empty.recall, empty.ap[0]]).all()
    assert np.isnan(mean_average_precision(nothing, [Objects.of([], [])], 2))


def test_one_image_found_exactly():
    boxes = [[0, 0, 10, 10], [20, 20, 60, 70], [100, 100, 101, 101]]
    scores = detection_scores(match(padded((boxes, [0.3, 0.2, 0.1], [0, 1, 1])), [Objects.of(boxes, [0, 1, 1])], 2))
    assert (scores.map, scores.map50, scores.map75, scores.recall, scores.recall_1) == (1, 1, 1, 1, 0.75)
    assert (scores.map_by_size["small"], scores.map_by_size["medium"]) == (1, 1)
    assert np.isnan(scores.map_by_size["large"])


@pytest.mark.parametrize("limit", [100, 10_000])
def test_ten_thousand_boxes_in_an_image(limit):
    rng = np.random.default_rng(0)
    corners = np.stack(np.meshgrid(np.arange(100), np.arange(100)), axis=-1).reshape(-1, 2) * 12.0
    boxes = np.concatenate([corners, corners + 10], axis=1)
    found = padded((boxes + rng.normal(0, 0.5, boxes.shape), rng.random(10_000), np.zeros(10_000)))
    matches = match(found, [Objects.of(boxes, np.zeros(10_000))], 1, limit=limit)
    assert len(matches.image) == limit
    assert recall(matches, limit)[0, 0, 0] == pytest.approx(limit / 10_000, rel=0.01)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25)
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
        truth.append(Objects.of(boxes, labels))
        noise, scores = rng.normal(0, 1, boxes.shape), rng.random(6)
        exact.append((boxes + noise, scores, labels))
        loose.append((boxes + 1.5 * noise, scores, labels))
    better, worse = match(padded(*exact), truth, 3), match(padded(*loose), truth, 3)
    value, intervals = precision_summary(better), precision_intervals(better, resamples=100)
    assert intervals.shape == (8, 2)
    assert np.isnan(intervals[[4, 7]]).all()  # the third class has no object
    known = [0, 1, 2, 3, 5, 6]
    assert ((intervals[known, 0] <= value[known]) & (value[known] <= intervals[known, 1])).all()
    difference = precision_differences(worse, better, resamples=100)
    assert 0 < difference[0, 0] < value[0] - precision_summary(worse)[0] < difference[0, 1]
    assert np.diff(difference[0]) < np.diff(intervals[0])
