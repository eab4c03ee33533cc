"""A bundle's promises, for every task: chosen on calibration images, kept on others, and said of each prediction."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from sightline.evaluation.calibration import calibration_gap
from sightline.evaluation.metrics import softmax
from sightline.evaluation.multilabel import sigmoid
from sightline.predictions import Caution, Decision
from sightline.records import column_of
from sightline.report import amounts
from sightline.report.confidence import confidence_blocks
from sightline.scenes import Objects, frame_of
from sightline.tasks import load_task
from sightline.tasks.confidence import Answers, calibrated, cautions
from sightline.trust.confidence import confidence

LABELS = ("ant", "bee", "cat", "dog")


def material(name: str, n: int, seed: int = 0):
    """Raw outputs four times as sure as they should be, and targets drawn from what they should say."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, 2, (n, len(LABELS)))
    if name == "classify":
        targets = np.array([rng.choice(len(LABELS), p=p) for p in softmax(honest)])
    else:
        targets = rng.random(honest.shape) < sigmoid(honest)
    return {"logits": (4 * honest).astype(np.float32)}, targets


@pytest.fixture(params=["classify", "tag"])
def task(request):
    return request.param, load_task(request.param)


def test_promises_hold_on_other_images(task):
    name, task = task
    decision = calibrated(task, *material(name, 2000), LABELS)
    raw, targets = material(name, 4000, seed=1)
    answers = Answers.of(task, raw, targets, LABELS, decision)
    assert decision.temperature == pytest.approx(4, rel=0.1)
    assert calibration_gap(*task.statements(raw, targets, LABELS, decision)[:2]) < 0.03
    found = confidence(task, raw, targets, LABELS, decision, answers, own_images=True).numbers
    assert 0.88 <= found["conformal"]["coverage"] <= 0.92
    if name == "classify":  # overlaps of tags this vague cannot be promised
        assert decision.promise is not None
        assert found["answered_interval"][1] >= decision.promise
        assert found["answered_accuracy"] > answers.right.mean()
    assert "reason" in found["familiar"]
    assert confidence_blocks(found)
    json.dumps(found, allow_nan=False)


def test_an_asked_promise_is_made_or_said_not_to_be(task):
    name, task = task
    raw, targets = material(name, 300)
    decision = calibrated(task, raw, targets, LABELS, promise=0.9999)
    assert decision.promise is decision.answer_from is None
    found = confidence(task, raw, targets, LABELS, decision, Answers.of(task, raw, targets, LABELS, decision), own_images=False,
                       asked=0.9999).numbers  # fmt: skip
    assert found["coverage"] == 1
    assert any("could not be promised" in paragraph for block in confidence_blocks(found) for paragraph in getattr(block, "paragraphs", ()))


def said_of(found) -> tuple[dict[str, str], str]:
    """The report's tiles by their names, and its sentences."""
    tiles, sentences, *_ = confidence_blocks(found)
    return {tile.name: f"{tile.value} {tile.note}" for tile in tiles.tiles}, " ".join(sentences.paragraphs)


def test_a_model_without_a_promise_still_does_not_answer_for_unfamiliar_images():
    task = load_task("classify")
    raw, targets = material("classify", 300)
    decision = calibrated(task, {**raw, "similarity": np.linspace(0.5, 1, 300)}, targets, LABELS, promise=0.9999)
    answers = Answers.of(task, raw, targets, LABELS, decision)

    def said(similarities: np.ndarray | None, **asked: float):
        known = raw if similarities is None else {**raw, "similarity": similarities}
        return said_of(confidence(task, known, targets, LABELS, decision, answers, own_images=True, **asked).numbers)

    tiles, sentences = said(np.r_[np.zeros(30), np.ones(270)], asked=0.9999)
    assert "The model answers every image that is not unlike the training images, however unsure it is: " in sentences
    assert "always answers" not in sentences
    assert tiles["Answered"] == "90.0% of the test images; the others are called unfamiliar"
    assert "Right when it answers" in tiles
    tiles, _ = said(np.zeros(300))
    assert tiles["Answered"].startswith("0.0%")
    assert "Right when it answers" not in tiles
    tiles, sentences = said(None)
    assert "The model always answers: " in sentences
    assert "Answered" not in tiles


def test_a_score_from_which_it_answers_is_not_rounded_to_all():
    task = load_task("classify")
    raw, targets = material("classify", 300)
    decision = replace(calibrated(task, raw, targets, LABELS), promise=0.9, answer_from=0.9973)
    answers = Answers.of(task, raw, targets, LABELS, decision)
    numbers = confidence(task, raw, targets, LABELS, decision, answers, own_images=True).numbers
    assert "Below a score of 99.7% the model says that it does not know" in said_of(numbers)[1]


@pytest.mark.parametrize(("share", "said"), [(0.99, "99%"), (0.995, "99.5%"), (0.9999, "99.99%"), (0.1 + 0.2, "30%")])
def test_a_promise_is_told_with_the_decimals_it_was_asked_with(share, said):
    assert amounts.promised(share) == said


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_handful_of_images_all_right_or_all_wrong(task, n, right):
    """No crash and no promise."""
    name, task = task
    truth = np.arange(n) % 2
    logits = np.full((n, 4), -3.0, np.float32)
    logits[np.arange(n), truth if right else truth + 2] = 3
    targets = truth if name == "classify" else np.eye(4, dtype=bool)[truth]
    raw = {"logits": logits, "similarity": np.linspace(0.5, 1, n)}
    decision = calibrated(task, raw, targets, LABELS)
    assert decision.promise is decision.name_from is None
    answers = Answers.of(task, raw, targets, LABELS, decision)
    found = confidence(task, raw, targets, LABELS, decision, answers, own_images=False).numbers
    assert "reason" in found["conformal"]
    assert found["familiar"]["expected"] == pytest.approx(1 / (n + 1))
    json.dumps(found, allow_nan=False)
    assert confidence_blocks(found)


def test_what_is_said_of_a_prediction():
    task = load_task("classify")
    raw = {"logits": np.log(np.array([[0.9, 0.05, 0.03, 0.02], [0.4, 0.3, 0.2, 0.1], [0.97, 0.01, 0.01, 0.01]]))}
    decision = Decision(promise=0.9, answer_from=0.5, named=0.9, name_from=0.25, familiar_from=0.6)
    assert cautions(task, {**raw, "similarity": np.array([0.7, 0.7, 0.5])}, LABELS, decision) == [
        Caution(False, False, ("ant",)), Caution(True, False, ("ant", "bee")), Caution(True, True, ("ant",)),
    ]  # fmt: skip
    assert cautions(task, raw, LABELS, Decision()) == [None] * 3
    assert cautions(task, raw, LABELS, Decision(name_from=0.99, named=0.9))[0].candidates == ("ant",)  # never none for one label


def test_a_bundle_abstains_and_names_candidates(run, shapes):
    import sightline

    model = sightline.Model.open(run.model)
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    strange = model.predict(noise).caution
    assert strange.unfamiliar
    assert strange.abstained
    assert strange.to_json().keys() == {"abstained", "unfamiliar", "candidates"}
    known = model.predict(sorted(map(str, (shapes / "disc").glob("*.png"))))
    assert sum(prediction.caution.unfamiliar for prediction in known) <= 2
    assert all(set(prediction.caution.candidates) <= set(model.labels) for prediction in known)
    assert run.numbers["confidence"]["n"] == run.numbers["test"]["n"]


def test_what_a_detector_says_before_calibration_knows_neither_its_temperature_nor_its_offset():
    """Boxes on every object, so faint and so alike that calibration has to shift and to stretch them."""
    task, rng = load_task("detect"), np.random.default_rng(0)
    n, there = 80, rng.random(80) < 0.8
    logits = np.where(there, -1.0, -1.5) + rng.normal(0, 0.2, n)
    raw = {"boxes": np.tile(np.float32([[[0, 0, 20, 20]]]), (n, 1, 1)), "scores": np.full((n, 1, len(LABELS)), -9.0, np.float32),
           "frame": np.stack([frame_of(np.eye(2, 3), (50, 50), (50, 50), (50, 50))] * n)}  # fmt: skip
    raw["scores"][:, 0, 0] = logits
    targets = column_of([Objects.of([[0, 0, 20, 20]] if shown else [], [0] if shown else []) for shown in there])
    kept = task.compact(raw, targets)
    decision = calibrated(task, kept, targets, LABELS)
    assert abs(decision.offset) > 1
    answers = Answers.of(task, kept, targets, LABELS, decision)
    found = confidence(task, kept, targets, LABELS, decision, answers, own_images=True).numbers
    assert found["ece_before"] == calibration_gap(*task.statements(kept, targets, LABELS, Decision())[:2])
    assert found["ece_before"] > 0.3 > found["ece"]
