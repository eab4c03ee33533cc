"""What segmentation means: from coarse logits to classes of pixels, figures and sentences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.predictions import Decision
from sightline.records import ImageRef, column_of
from sightline.scenes import IGNORED, LabelMap, frame_of
from sightline.tasks import segment
from sightline.tasks.blocks import Gallery

LABELS = ("road", "sky", "car")
HEIGHT, WIDTH = 24, 32
FRAME = frame_of(np.array([[1.0, 0, 0], [0, 1.0, 0]]), (HEIGHT, WIDTH), (WIDTH, HEIGHT), (WIDTH, HEIGHT))


def logits_of(classes: np.ndarray, sure: float = 4.0) -> np.ndarray:
    """(k, h, w) that say so of a map (h, w) of classes."""
    return sure * (np.arange(len(LABELS))[:, None, None] == classes).astype(np.float32)


def raw_of(*maps: np.ndarray, sure: float = 4.0) -> dict[str, np.ndarray]:
    return {"logits": np.stack([logits_of(each, sure) for each in maps]), "frame": np.stack([FRAME] * len(maps))}


@pytest.fixture
def halves(tmp_path: Path):
    """Road below, sky above, and a strip of which nobody knows what it is; and its target."""
    classes = np.zeros((HEIGHT, WIDTH), np.uint8)
    classes[: HEIGHT // 2] = 1
    shown = classes.copy()
    shown[:, :4] = IGNORED
    Image.fromarray(shown).save(tmp_path / "m.png")
    pixels = np.bincount(shown[shown != IGNORED], minlength=3)
    return classes, LabelMap(ImageRef(str(tmp_path / "m.png")), {0: 0, 1: 1, 2: 2}, pixels, (WIDTH, HEIGHT))


def judged(raw, targets):
    kept = segment.compact(raw, targets)
    return segment.evaluate(kept, targets, LABELS, Decision(), [f"{row}.png" for row in range(len(targets))])


def test_every_pixel_of_the_original_gets_a_class(halves):
    coarse = np.array([[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 2]])
    about = frame_of(np.array([[2.0, 0, 0], [0, 2.0, 0]]), (12, 16), (32, 24), (64, 48))
    (found,) = segment.decode({"logits": logits_of(coarse)[None], "frame": about[None]}, LABELS, Decision())
    assert found.classes.shape == (48, 64)
    assert found.classes[0, 0] == 1
    assert found.classes[-1, 0] == 0
    assert found.classes[-1, -1] == 2
    assert found.labels == ("sky", "road", "car")
    told = found.to_json(2)
    assert [entry["label"] for entry in told] == ["sky", "road"]
    assert sum(entry["share"] for entry in found.to_json()) == pytest.approx(1)
    assert all(0.9 < entry["score"] < 1 for entry in told)


def test_the_score_of_a_class_is_that_of_its_pixels_and_not_of_what_pads_the_image():
    """An upright image in the middle of a square input, around which the network is hardly sure of anything."""
    logits = np.zeros((1, 3, 8, 8), np.float32)
    logits[:, 0] = 0.1
    logits[:, 0, :4, 2:6], logits[:, 1, 4:, 2:6] = 4, 3
    about = frame_of(np.array([[1.0, 0, -2], [0, 1, 0]]), (8, 8), (4, 8), (4, 8))
    (found,) = segment.decode({"logits": logits, "frame": about[None]}, LABELS, Decision())
    assert found.scores["road"] == pytest.approx(np.exp(4) / (np.exp(4) + 2), abs=1e-6)
    assert found.scores["sky"] == pytest.approx(np.exp(3) / (np.exp(3) + np.exp(0.1) + 1), abs=1e-6)


def test_an_image_that_lies_between_the_cells_has_the_score_of_the_nearest():
    logits = np.zeros((1, 3, 8, 8), np.float32)
    logits[:, 2, 4] = 2
    about = frame_of(np.array([[8.0, 0, 0], [0, 8, -34]]), (8, 8), (64, 1), (64, 1))
    (found,) = segment.decode({"logits": logits, "frame": about[None]}, LABELS, Decision())
    assert found.classes.shape == (1, 64)
    assert found.scores == {"car": pytest.approx(np.exp(2) / (np.exp(2) + 2), abs=1e-6)}


def test_a_perfect_answer_has_perfect_figures_and_what_is_unknown_counts_for_nothing(halves):
    classes, target = halves
    wrong = classes.copy()
    wrong[:, :4] = 2
    test = judged(raw_of(wrong), column_of([target]))
    assert test["metrics"]["miou"] == test["metrics"]["accuracy"] == 1.0
    assert test["metrics"]["boundary_f1"] == pytest.approx(1.0)
    assert [entry["iou"] for entry in test["classes"]] == [1.0, 1.0, None]
    assert test["worst"] == []
    assert sum(map(sum, test["confusion"])) == HEIGHT * (WIDTH - 4)
    assert "1 test images" in segment.verdict(test)["sentence"]


def test_the_worst_image_comes_with_what_is_true_and_what_is_given(halves):
    classes, target = halves
    test = judged(raw_of(classes, np.zeros_like(classes)), column_of([target, target]))
    assert test["metrics"]["accuracy"] == pytest.approx(0.75)
    assert [entry["key"] for entry in test["worst"]] == ["1.png"]
    (gallery,) = (block for block in segment.blocks(test) if isinstance(block, Gallery))
    truth, answer = gallery.pictures[0].layers
    assert sum(length for _, length in truth.runs) == truth.side**2
    assert answer.runs == ((0, answer.side**2),)
    assert {label for label, _ in truth.runs} == {0, 1, IGNORED}


def test_an_answer_no_better_than_one_class_everywhere_is_told(halves):
    classes, target = halves
    verdict = segment.verdict(judged(raw_of(1 - classes), column_of([target])))
    assert verdict["level"] == "poor"
    assert "no better than calling everything 'road'" in verdict["sentence"]


def test_pixels_that_are_too_sure_are_made_less_so(halves):
    classes, target = halves
    noisy = np.where(np.random.default_rng(0).random(classes.shape) < 0.3, 2, classes)
    kept = segment.compact(raw_of(noisy, sure=12.0), column_of([target]))
    decision = segment.decide(kept, column_of([target] * 1), LABELS)
    assert decision.temperature > 1.5
    scores, right, image = segment.statements(kept, column_of([target]), LABELS, decision)
    assert not image.any()
    assert scores.mean() - right.mean() < 0.2  # one image weighs little against the guess that scores are right as they are


def test_outcomes_are_the_share_of_right_pixels(halves):
    classes, target = halves
    targets = column_of([target, target])
    kept = segment.compact(raw_of(classes, np.full_like(classes, 2)), targets)
    rows = segment.outcomes(kept, targets, LABELS, Decision())
    assert [row["right"] for row in rows] == [1.0, 0.0]
    assert [row["truth"] for row in rows] == ["road|sky"] * 2
    assert [row["predicted"] for row in rows] == ["road|sky", "car"]


def test_statements_know_their_image(halves):
    classes, target = halves
    targets = column_of([target, target])
    kept = segment.compact(raw_of(np.full_like(classes, 2), classes), targets)
    _, right, image = segment.statements(kept, targets, LABELS, Decision())
    assert np.bincount(image).tolist() == (kept["sample_truth"] != IGNORED).sum(axis=1).tolist()
    assert np.array_equal(right, image)


def test_without_a_truth_only_what_is_said_is_kept(halves):
    classes, _ = halves
    kept = segment.compact(raw_of(classes), None)
    assert not kept["confusion"].any()
    assert (kept["sample_truth"] == IGNORED).all()
    assert segment.probabilities(kept, Decision()).shape == (1, 3)
    assert segment.confidence(kept, LABELS, Decision())[0] > 0.9


def test_a_map_of_which_nothing_is_known_gives_no_false_number(tmp_path):
    Image.fromarray(np.full((HEIGHT, WIDTH), IGNORED, np.uint8)).save(tmp_path / "m.png")
    target = LabelMap(ImageRef(str(tmp_path / "m.png")), {0: 0, 1: 1, 2: 2}, np.zeros(3, np.int64), (WIDTH, HEIGHT))
    test = judged(raw_of(np.zeros((HEIGHT, WIDTH), np.uint8)), column_of([target]))
    assert "miou" not in test["metrics"]
    assert segment.verdict(test)["sentence"] == "No pixel of the 1 test images has a class, so nothing can be said of the model."
    assert segment.blocks(test)


def test_a_difference_is_that_of_a_probability(halves):
    classes, _ = halves
    raw = raw_of(classes)
    other = {**raw, "logits": raw["logits"] + np.array([0, 0, 1.0], np.float32)[:, None, None]}
    assert segment.difference(raw, raw, Decision()) == 0
    assert 0.01 < segment.difference(other, raw, Decision()) < 0.1
