"""What detection means: from dense outputs to boxes, thresholds, figures, errors and sentences."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.evaluation.calibration import calibration_gap
from sightline.predictions import Decision
from sightline.records import column_of
from sightline.scenes import Objects, frame_of
from sightline.tasks import detect
from sightline.tasks.blocks import Gallery

LABELS = ("cell", "platelet")
# An input of 100 x 50 px in which originals of 200 x 100 lie.
FRAME = frame_of(np.array([[1.0, 0, 0], [0, 1.0, 0]]), (50, 100), (100, 50), (200, 100))
SURE, DOUBT, FAINT = 4.0, -1.0, -9.0


def dense(*images: list[tuple[float, float, float, float, int, float]]) -> dict[str, np.ndarray]:
    """Raw outputs of images with (left, top, right, bottom, class, logit) in pixels of the input; all other places are faint."""
    places = max(map(len, images)) + 2
    boxes, scores = np.zeros((len(images), places, 4), np.float32), np.full((len(images), places, 2), FAINT, np.float32)
    for row, found in enumerate(images):
        for place, (*box, label, logit) in enumerate(found):
            boxes[row, place], scores[row, place, label] = box, logit
    return {"boxes": boxes, "scores": scores, "frame": np.stack([FRAME] * len(images))}


def truth(*images: list[tuple[float, float, float, float, int]]) -> np.ndarray:
    return column_of([Objects.of([each[:4] for each in found], [each[4] for each in found]) for found in images])


HALF = Decision(thresholds={"cell": 0.5, "platelet": 0.5})


def judged(raw, targets):
    kept = detect.compact(raw, targets)
    return detect.evaluate(kept, targets, LABELS, HALF, [f"{row}.png" for row in range(len(targets))])


def test_boxes_come_back_to_the_original_without_doubles_and_the_faint():
    raw = dense([(10, 10, 30, 30, 0, SURE), (11, 10, 31, 30, 0, 3.0), (11, 10, 31, 30, 1, DOUBT), (60, 10, 120, 30, 1, SURE)])
    (found,) = detect.decode(raw, LABELS, Decision(thresholds={"cell": 0.5, "platelet": 0.2}))
    assert found.labels == ("cell", "platelet", "platelet")
    assert found.boxes == ((20, 20, 60, 60), (120, 20, 200, 60), (22, 20, 62, 60))  # cut at the original's right side
    assert found.scores == pytest.approx((0.982, 0.982, 0.269), abs=1e-3)
    assert found.to_json()[0] == {"label": "cell", "score": pytest.approx(0.982, abs=1e-3), "box": [20, 20, 60, 60]}


def test_what_is_kept_has_one_size_whatever_is_found():
    kept = detect.compact(dense([], [(0, 0, 9, 9, 1, SURE)] * 5), None)
    assert kept["boxes"].shape == (2, detect.KEPT, 4)
    assert (kept["labels"] >= 0).sum(axis=1).tolist() == [0, 1]
    assert np.isneginf(kept["peaks"]).tolist() == [[True, True], [True, False]]


def test_ten_thousand_boxes_of_an_image_are_gone_through():
    rng = np.random.default_rng(0)
    corners = rng.random((10_000, 2)) * (90, 40)
    boxes = np.concatenate([corners, corners + 5], axis=1).astype(np.float32)
    raw = {"boxes": boxes[None], "scores": rng.normal(size=(1, 10_000, 2)).astype(np.float32), "frame": FRAME[None]}
    kept = detect.compact(raw, None)
    assert (kept["labels"] >= 0).sum() == detect.KEPT
    assert (np.diff(kept["scores"][0]) <= 0).all()


def test_a_perfect_answer_has_perfect_figures():
    raw = dense([(10, 10, 30, 30, 0, SURE)], [(5, 5, 15, 15, 1, SURE), (40, 5, 60, 25, 0, SURE)], [])
    test = judged(raw, truth([(20, 20, 60, 60, 0)], [(10, 10, 30, 30, 1), (80, 10, 120, 50, 0)], []))
    assert test["metrics"]["map"] == test["metrics"]["map50"] == test["metrics"]["f1"] == 1.0
    assert test["metrics"]["count_error"] == 0
    assert test["errors"] == []
    assert [entry["n"] for entry in test["classes"]] == [2, 1]
    assert detect.verdict(test)["level"] == "fair"  # three images are too few to call it good
    assert detect.verdict(test)["sentence"].startswith("The model finds 100% of the 3 objects on 3 test images it never saw, and 100% of")


def test_each_kind_of_error_is_told_with_its_place():
    raw = dense(
        [(10, 10, 30, 30, 1, SURE), (60, 10, 80, 30, 0, SURE), (58, 8, 79, 31, 0, 3.0), (5, 35, 9, 39, 0, 2.0), (86, 10, 96, 30, 0, 1.0)]
    )
    test = judged(raw, truth([(20, 20, 60, 60, 0), (120, 20, 160, 60, 0), (160, 20, 180, 60, 0), (0, 90, 4, 94, 1)]))
    found = {(error["kind"], error["label"]) for error in test["errors"]}
    assert {("wrong class", "platelet"), ("background", "cell"), ("missed", "platelet")} <= found
    assert test["kinds"]["correct"] == 1
    swapped = next(error for error in test["errors"] if error["kind"] == "wrong class")
    assert swapped["truth"] == "cell"
    assert swapped["truth_box"] == [20, 20, 60, 60]
    marks = [mark for block in detect.blocks(test) if isinstance(block, Gallery) for picture in block.pictures for mark in picture.marks]
    assert {mark.kind for mark in marks} == {"wrong", "true"}


def test_scores_become_probabilities_of_a_right_box():
    rng = np.random.default_rng(0)
    images, objects = [], []
    for _ in range(60):
        right = rng.random(4) < 0.7
        images.append([(20 * i, 10, 20 * i + 10, 20, 0, -2.0 + rng.normal() + right[i]) for i in range(4)])
        objects.append([(40 * i, 20, 40 * i + 20, 40, 0) for i in range(4) if right[i]])
    kept, targets = detect.compact(dense(*images), None), truth(*objects)
    decision = detect.decide(kept, targets, LABELS)
    before, after = (calibration_gap(*detect.statements(kept, targets, LABELS, which)[:2]) for which in (Decision(), decision))
    assert after < before / 2
    scores, right, image = detect.statements(kept, targets, LABELS, decision)
    assert np.bincount(image, right, len(objects)).tolist() == [len(found) for found in objects]
    assert scores.mean() == pytest.approx(right.mean(), abs=0.01)
    assert 0.3 < decision.thresholds["cell"] < 0.8
    assert decision.thresholds["platelet"] == 0.5  # of which there is none to learn from


def test_outcomes_are_the_f1_of_each_image_and_what_is_promised_of_it():
    raw = dense([(10, 10, 30, 30, 0, SURE), (60, 10, 80, 30, 0, SURE)], [], [])
    targets = truth([(20, 20, 60, 60, 0)], [], [(0, 0, 20, 20, 1)])
    rows = detect.outcomes(detect.compact(raw, None), targets, LABELS, Decision())
    assert [row["right"] for row in rows] == pytest.approx([2 / 3, 1.0, 0.0])
    assert [row["truth"] for row in rows] == ["cell", "", "platelet"]
    assert [row["predicted"] for row in rows] == ["cell", "", ""]
    assert all(0 <= row["score"] <= 1 for row in rows)
    assert rows[0]["score"] > 0.95  # surer than it should be
    assert rows[1]["score"] > 0.9


def test_images_without_an_object_give_no_false_number():
    test = judged(dense([(10, 10, 30, 30, 0, SURE)], []), truth([], []))
    assert test["objects"] == 0
    assert not {"map", "map50", "f1"} & set(test["metrics"])
    assert test["intervals"] == {}
    assert detect.verdict(test)["sentence"] == "None of the 2 test images has an object, so nothing can be said of the model."
    assert detect.blocks(test)
    decision = detect.decide(detect.compact(dense([], []), None), truth([], []), LABELS)
    assert decision.thresholds == {"cell": 0.5, "platelet": 0.5}


def test_a_moved_box_and_a_changed_score_are_differences():
    raw, other = dense([(10, 10, 30, 30, 0, SURE)]), dense([(10, 10, 30, 32, 0, SURE)])
    assert detect.difference(raw, raw, Decision()) == 0
    assert detect.difference(other, raw, Decision()) == pytest.approx(0.1)
    assert detect.difference(dense([(10, 10, 30, 30, 0, 0.0)]), raw, Decision()) == pytest.approx(0.482, abs=1e-3)
    broken = {**raw, "scores": raw["scores"] * np.nan}
    assert np.isnan(detect.difference(broken, raw, Decision()))


def as_set(raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same as given by a network that answers with a set: the last place is no box."""
    boxes = raw["boxes"].copy()
    boxes[:, -1] = -1
    return {**raw, "boxes": boxes}


def test_of_a_set_nothing_is_a_double():
    twice = dense([(10, 10, 30, 30, 0, SURE), (10, 10, 30, 30, 0, 3.0), (11, 10, 31, 30, 1, SURE)])
    (found,), (alone,) = (detect.decode(raw, LABELS, HALF) for raw in (as_set(twice), twice))
    assert found.labels == ("cell", "platelet", "cell")
    assert alone.labels == ("cell", "platelet")


def test_sets_are_compared_in_whatever_order():
    raw = as_set(dense([(10, 10, 30, 30, 0, SURE), (50, 10, 70, 30, 1, 3.0)]))
    turned = as_set(dense([(50, 10, 70, 30, 1, 3.0), (10, 10, 30, 30, 0, SURE)]))
    assert detect.difference(raw, turned, Decision()) == 0
    moved = as_set(dense([(50, 10, 70, 32, 1, 3.0), (10, 10, 30, 30, 0, SURE)]))
    assert detect.difference(moved, raw, Decision()) == pytest.approx(0.1)
    less = as_set(dense([(10, 10, 30, 30, 0, SURE), (50, 10, 70, 30, 1, FAINT)]))
    assert detect.difference(less, raw, Decision()) == detect.difference(raw, less, Decision()) == pytest.approx(0.952, abs=1e-3)
    for broken in ({**raw, "scores": raw["scores"] * np.nan}, {**raw, "boxes": raw["boxes"] * np.nan}):
        assert np.isnan(detect.difference(broken, raw, Decision()))
    assert detect.difference(as_set(dense([])), as_set(dense([])), Decision()) == 0


@pytest.mark.parametrize("crowd", [True, False])
def test_what_is_found_in_a_crowd_counts_for_nothing(crowd):
    targets = column_of([Objects.of([[0, 0, 100, 100], [120, 20, 160, 60]], [0, 0], [crowd, False])])
    kept = detect.compact(dense([(10, 10, 30, 30, 0, SURE), (60, 10, 80, 30, 0, SURE)]), None)
    assert detect.outcomes(kept, targets, LABELS, Decision())[0]["right"] == (1.0 if crowd else 0.5)
