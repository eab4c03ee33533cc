"""Classification's meaning: decoding, metrics, the verdict's words, what the report shows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.predictions import Decision
from sightline.tasks import TASKS, load_task
from sightline.tasks.blocks import Bars, Gallery, Matrix, Table, Tiles
from sightline.tasks.classify import FEW_IMAGES, WORST_ERRORS, blocks, decode, difference, evaluate, verdict

ANIMALS = ("ant", "bee", "cat")


def sure(answers: list[int], classes: int = 3, margin: float = 4.0) -> dict[str, np.ndarray]:
    """Raw outputs that answer with these classes."""
    return {"logits": margin * np.eye(classes, dtype=np.float32)[answers]}


def judged(confusion: list[list[int]], labels: tuple[str, ...] = ANIMALS) -> dict:
    """``evaluate`` of images that are confused in this way."""
    cases = [(truth, answer) for truth, row in enumerate(confusion) for answer, n in enumerate(row) for _ in range(n)]
    targets, answers = np.array([truth for truth, _ in cases]), [answer for _, answer in cases]
    return evaluate(sure(answers, len(labels)), targets, labels, Decision(), [f"{place}.png" for place in range(len(cases))])


def test_decoding_puts_the_most_probable_first_with_its_probability():
    (prediction,) = decode({"logits": np.log(np.array([[0.2, 0.5, 0.3]], np.float32))}, ANIMALS, Decision())
    assert prediction.labels == ("bee", "cat", "ant")
    assert prediction.scores == pytest.approx((0.5, 0.3, 0.2))
    assert (prediction.label, prediction.to_json(top=1)) == ("bee", [{"label": "bee", "score": prediction.score}])


def test_decoding_keeps_the_labels_order_among_equals():
    (prediction,) = decode({"logits": np.array([[1.0, 2.0, 1.0, 2.0]], np.float32)}, "abcd", Decision())
    assert prediction.labels == ("b", "d", "a", "c")


def test_decoding_no_images_gives_no_predictions():
    assert decode({"logits": np.empty((0, 3), np.float32)}, ANIMALS, Decision()) == []


@given(st.integers(1, 20), st.integers(2, 7), st.integers(0, 2**32 - 1), st.floats(0.1, 10))
def test_a_prediction_holds_every_label_once_and_scores_that_fall_and_add_up(n, classes, seed, temperature):
    logits = np.random.default_rng(seed).normal(0, 3, (n, classes)).astype(np.float32)
    labels = [str(index) for index in range(classes)]
    for prediction, row in zip(decode({"logits": logits}, labels, Decision(temperature)), logits, strict=True):
        assert sorted(prediction.labels) == sorted(labels)
        assert sum(prediction.scores) == pytest.approx(1)
        assert list(prediction.scores) == sorted(prediction.scores, reverse=True)
        assert prediction.label == labels[row.argmax()]
        assert all(type(score) is float for score in prediction.scores)


def test_difference_is_the_largest_of_a_probability():
    ours, theirs = {"logits": np.log([[0.5, 0.5], [0.9, 0.1]])}, {"logits": np.log([[0.5, 0.5], [0.7, 0.3]])}
    assert difference(ours, theirs, Decision()) == pytest.approx(0.2)
    assert difference(ours, {"logits": ours["logits"] + 7}, Decision()) == pytest.approx(0, abs=1e-12)
    assert np.isnan(difference(ours, {"logits": np.full((2, 2), np.nan)}, Decision()))


def test_evaluation_of_a_hand_worked_case():
    test = judged([[3, 1, 0], [0, 2, 0], [1, 1, 2]])
    assert test["n"] == 10
    assert test["metrics"]["accuracy"] == pytest.approx(0.7)
    assert test["metrics"]["recall"] == pytest.approx((3 / 4 + 1 + 2 / 4) / 3)
    assert test["metrics"]["precision"] == pytest.approx((3 / 4 + 2 / 4 + 1) / 3)
    assert "top5" not in test["metrics"]
    assert test["confusion"] == [[3, 1, 0], [0, 2, 0], [1, 1, 2]]
    assert test["majority"] == {"label": "ant", "share": 0.4}
    assert [(entry["label"], entry["n"]) for entry in test["classes"]] == [("ant", 4), ("bee", 2), ("cat", 4)]
    assert [(pair["truth"], pair["predicted"], pair["n"]) for pair in test["most_confused"]] == [
        ("ant", "bee", 1), ("cat", "ant", 1), ("cat", "bee", 1),
    ]  # fmt: skip
    assert test["most_confused"][1]["share"] == pytest.approx(1 / 4)


def test_errors_are_named_with_the_surest_first():
    logits = np.log([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8]])
    test = evaluate({"logits": logits}, np.array([1, 1, 1]), ("no", "yes"), Decision(), ["a", "b", "c"])
    assert [(error["key"], error["truth"], error["predicted"]) for error in test["errors"]] == [("b", "yes", "no"), ("a", "yes", "no")]
    assert test["errors"][0]["score"] == pytest.approx(0.9)
    assert test["errors"][0]["truth_score"] == pytest.approx(0.1)


def test_top5_is_there_where_it_says_something():
    labels = tuple("abcdefg")
    logits = np.tile(np.arange(7, 0, -1.0), (2, 1))
    test = evaluate({"logits": logits}, np.array([4, 5]), labels, Decision(), ["x", "y"])
    assert test["metrics"]["top5"] == pytest.approx(0.5)


def test_the_temperature_changes_calibration_and_no_answer():
    targets, raw = np.array([0, 1, 2, 0]), sure([0, 1, 1, 0])
    cold, warm = (evaluate(raw, targets, ANIMALS, Decision(temperature), list("wxyz")) for temperature in (1.0, 3.0))
    assert cold["confusion"] == warm["confusion"]
    assert cold["metrics"]["ece"] != warm["metrics"]["ece"]


def test_a_class_absent_from_the_test_images_counts_for_nothing():
    test = judged([[4, 0, 0], [0, 0, 0], [0, 0, 4]])
    assert test["metrics"]["recall"] == 1
    absent = test["classes"][1]
    assert (absent["n"], absent["recall_interval"]) == (0, [0.0, 1.0])
    assert "bee" not in verdict(test)["sentence"]
    shown = blocks(test)
    bars = next(block for block in shown if isinstance(block, Bars))
    assert [bar.label for bar in bars.bars] == ["ant", "cat"]
    table = next(block for block in shown if isinstance(block, Table))
    assert table.rows[1] == ["bee", "0", "–", "–", "–"]


@pytest.mark.parametrize(
    "confusion", [[[3, 1, 0], [0, 2, 0], [1, 1, 2]], [[1, 0, 0], [0, 0, 0], [0, 0, 0]], [[0, 1, 0], [1, 0, 0], [0, 0, 0]]]
)
def test_evaluation_and_verdict_are_plain_json(confusion):
    test = judged(confusion)
    assert json.loads(json.dumps(test, allow_nan=False)) == test
    assert set(verdict(test)) == {"level", "sentence"}


def test_the_verdict_of_a_good_model_names_its_weakest_class():
    found = verdict(judged([[95, 5, 0], [0, 100, 0], [0, 1, 99]]))
    assert found["level"] == "good"
    assert found["sentence"] == (
        "The model names the right class for 98.0% of 300 test images it never saw (95% interval 95.7% to 99.1%). "
        "Its weakest class is 'ant', which it finds 95 times out of 100."
    )


def test_the_verdict_of_a_fair_and_of_a_poor_model():
    fair = judged([[70, 30, 0], [0, 100, 0], [10, 20, 70]])
    assert fair["metrics"]["accuracy"] == pytest.approx(0.8)
    assert verdict(fair)["level"] == "fair"
    poor = verdict(judged([[50, 50, 0], [25, 50, 25], [0, 50, 50]]))
    assert poor["level"] == "poor"
    assert "not clearly better" not in poor["sentence"]


def test_the_verdict_of_one_no_better_than_the_most_frequent_answer():
    found = verdict(judged([[90, 0, 0], [5, 0, 0], [4, 0, 1]]))
    assert found["level"] == "poor"
    assert found["sentence"].endswith(
        "That is not clearly better than always answering 'ant', which is right for 90.0%: do not use it yet."
    )


def test_few_images_are_said_to_be_few_and_cannot_look_good():
    found = verdict(judged([[4, 0, 0], [0, 4, 0], [0, 0, 4]]))
    assert found["level"] == "fair"
    assert found["sentence"].startswith("The model names the right class for 100.0% of 12 test images")
    assert found["sentence"].endswith("With only 12 test images this is a rough figure.")
    assert "weakest" not in found["sentence"]
    assert "only 3 test images" in verdict(judged([[1, 0, 0], [0, 1, 0], [0, 0, 1]]))["sentence"]


def test_a_perfect_model_has_no_weakest_class():
    n = FEW_IMAGES
    found = verdict(judged([[n, 0, 0], [0, n, 0], [0, 0, n]]))
    assert (found["level"], "weakest" in found["sentence"], "only" in found["sentence"]) == ("good", False, False)


def test_the_report_shows_every_kind_of_block():
    test = judged([[30, 10, 0], [0, 40, 0], [20, 0, 20]])
    tiles, bars, matrix, pairs, worst, table = blocks(test)
    assert isinstance(tiles, Tiles)
    assert tiles.tiles[0].value == "75.0%"
    assert isinstance(bars, Bars)
    assert bars.bars[2].note == "20 times out of 40"
    assert isinstance(matrix, Matrix)
    assert matrix.counts == test["confusion"]
    assert isinstance(pairs, Gallery)
    assert (pairs.pictures[0].caption, pairs.pictures[0].detail) == ("cat taken for ant", "20 times, 50% of cat")
    assert isinstance(worst, Gallery)
    assert len(worst.pictures) == WORST_ERRORS
    assert isinstance(table, Table)
    assert table.rows[0] == ["ant", "40", "0.600", "0.750", "0.667"]


def test_the_table_of_tasks_leads_here():
    assert load_task("classify").OUTPUTS == ("logits",)
    assert TASKS["classify"].meaning == "sightline.tasks.classify"
