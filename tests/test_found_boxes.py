"""The benchmarks of boxes: COCO files read, one judge for both sides, differences, and peers' clocks."""

from __future__ import annotations

import json
import time

import found_boxes
import numpy as np
import pytest
from peers import coco_judge, peer

from sightline.evaluation.detection import detection_scores
from sightline.evaluation.matching import match


@pytest.fixture
def truth(tmp_path):
    """Twelve images with a large and a small object each, of the categories 3 and 7, and a crowd on the first."""
    images = [{"id": number, "file_name": f"../images/{number}.jpg", "width": 200, "height": 100} for number in range(1, 13)]
    annotations = []
    for image in images:
        left = 5.0 * image["id"]
        for category, box in ((7, [left, 10, 80, 60]), (3, [left + 90, 40, 12, 18])):
            annotations.append({"image_id": image["id"], "category_id": category, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    annotations.append({"image_id": 1, "category_id": 3, "bbox": [0, 0, 40, 20], "area": 800, "iscrowd": 1})
    annotations = [{"id": number, **entry} for number, entry in enumerate(annotations, 1)]
    categories = [{"id": 7, "name": "cell"}, {"id": 3, "name": "platelet"}]
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "test.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return found_boxes.Truth.of(tmp_path / "coco")


def found(truth, shift=0.0, left_out=()):
    """The objects themselves as results, moved by so many pixels, without those of some categories."""
    entries = []
    for scene in truth.scenes:
        kept = ~scene.crowd & ~np.isin(scene.categories, left_out)
        boxes = (scene.boxes[kept] + shift).tolist()
        scores = np.linspace(0.9, 0.5, len(boxes)).tolist()
        entries += coco_judge.results(scene.number, boxes, scores, scene.categories[kept].tolist())
    return entries


def test_a_coco_file_is_read_with_corners_and_the_images_ways(truth, tmp_path):
    first = truth.scenes[0]
    assert first.path == tmp_path / "images" / "1.jpg"
    assert first.boxes.tolist() == [[5, 10, 85, 70], [95, 40, 107, 58], [0, 0, 40, 20]]
    assert first.crowd.tolist() == [False, False, True]
    assert truth.names == {7: "cell", 3: "platelet"}
    assert truth.objects[0].labels.tolist() == [1, 0, 0]


def test_the_judge_gives_all_for_the_truth_half_without_a_class_and_nothing_for_nothing(truth):
    assert truth.precision(found(truth)) == {"map": 1.0, "map50": 1.0}
    assert truth.precision(found(truth, left_out=[3])) == {"map": 0.5, "map50": 0.5}
    assert truth.precision([]) == {"map": 0.0, "map50": 0.0}


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
def test_our_own_average_precision_of_results_is_the_judges(truth, shift):
    entries = found(truth, shift)
    ours = detection_scores(match(found_boxes.as_found(truth, entries), truth.objects, 2))
    theirs = coco_judge.precision(truth.file, entries)
    assert (ours.map, ours.map50) == pytest.approx((theirs["map"], theirs["map50"]), abs=1e-9)


def test_the_difference_has_its_interval_around_it(truth):
    same = found_boxes.difference(truth, found(truth), found(truth))
    assert same == {"difference_low": 0.0, "difference_high": 0.0}
    better = found_boxes.difference(truth, found(truth, shift=2.5), found(truth))
    gained = 1 - truth.precision(found(truth, shift=2.5))["map"]
    assert 0 < better["difference_low"] <= gained + 1e-4 <= better["difference_high"] + 2e-4
    assert found_boxes.difference(truth, [], found(truth))["difference_low"] == 1.0


def test_what_is_done_aside_is_not_spent():
    before = peer.spent()
    with peer.aside():
        time.sleep(0.2)
    assert peer.spent() - before < 0.15


def test_a_step_is_timed_without_the_first():
    waits = iter([0.3, *[0.02] * 100])
    assert 0.02 <= peer.step_seconds(lambda: time.sleep(next(waits)), 0.1) < 0.2
