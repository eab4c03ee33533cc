"""Temperature, reliability and risk-coverage, against scipy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from sightline.data.calibration import FEWEST_TO_DIVIDE, validation_parts
from sightline.evaluation.calibration import calibration_gap, fit_temperature, gap_by_chance, reliability, risk_coverage
from sightline.evaluation.metrics import expected_calibration_error, softmax
from sightline.records import Dataset, ImageRef
from sightline.tasks import classify, tag


def answers(n: int, classes: int = 5, sharpness: float = 3.0, seed: int = 0):
    """(n, k) logits ``sharpness`` times as large as they should be, and targets drawn from what they should be."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, 1.5, (n, classes))
    targets = np.array([rng.choice(classes, p=p) for p in softmax(honest)])
    return (sharpness * honest).astype(np.float32), targets


def test_the_temperature_is_what_scipy_finds():
    logits, targets = answers(4000)
    found = classify.decide({"logits": logits}, targets, list("abcde")).temperature
    best = minimize_scalar(
        lambda t: log_loss(targets, softmax(logits, float(np.exp(t))), labels=range(5)), bounds=(-3, 3), method="bounded",
        options={"xatol": 1e-7},
    )  # fmt: skip
    assert found == pytest.approx(np.exp(best.x), rel=1e-3)
    assert found == pytest.approx(3.0, rel=0.1)
    assert expected_calibration_error(targets, softmax(logits, found)) < 0.02 < expected_calibration_error(targets, softmax(logits))


def test_tags_get_one_temperature_for_all_labels():
    rng = np.random.default_rng(0)
    honest = rng.normal(-1, 1.5, (3000, 4))
    truth = rng.random(honest.shape) < tag.sigmoid(honest)
    decision = tag.decide({"logits": 2.5 * honest}, truth, list("abcd"))
    best = minimize_scalar(
        lambda t: log_loss(truth.ravel(), tag.sigmoid(2.5 * honest, float(np.exp(t))).ravel()), bounds=(-3, 3), method="bounded"
    )
    assert decision.temperature == pytest.approx(np.exp(best.x), rel=5e-3)  # the prior pulls a little


@pytest.mark.parametrize("right", [True, False])
def test_five_images_all_right_or_all_wrong_leave_a_finite_temperature(right):
    logits = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1]] * 4
    targets = np.array([0, 1, 2, 0, 1]) if right else np.array([1, 2, 0, 1, 2])
    temperature = classify.decide({"logits": logits}, targets, list("abc")).temperature
    assert (0.05 <= temperature < 1) if right else (1 < temperature <= 20)


def test_a_flat_loss_leaves_the_temperature_at_one():
    assert fit_temperature(lambda temperature: 0.0, 10) == pytest.approx(1, abs=1e-3)


def test_reliability_agrees_with_scikit_learn():
    rng = np.random.default_rng(1)
    scores = rng.uniform(0.001, 1, 2000)
    right = (rng.random(2000) < scores**2).astype(float)
    share, mean = calibration_curve(right, scores, n_bins=10)
    found = reliability(scores, right, 10)
    assert [entry.right for entry in found] == pytest.approx(share.tolist())
    assert [entry.score for entry in found] == pytest.approx(mean.tolist())
    assert sum(entry.n for entry in found) == 2000
    assert all(entry.low <= entry.right <= entry.high for entry in found)
    assert calibration_gap(scores, right, 10) == pytest.approx(sum(entry.n * abs(entry.right - entry.score) for entry in found) / 2000)


def test_the_gap_of_top_answers_is_the_expected_calibration_error():
    logits, targets = answers(500)
    stated, held, image = classify.statements({"logits": logits}, targets, list("abcde"), classify.Decision())
    assert image.tolist() == list(range(500))
    assert calibration_gap(stated, held) == pytest.approx(expected_calibration_error(targets, softmax(logits)))


def test_chance_explains_the_gap_of_scores_that_are_right():
    rng, each = np.random.default_rng(0), np.arange(200)
    gaps, bounds = [], []
    for _ in range(400):
        scores = rng.beta(4, 1.5, 200)
        right = (rng.random(200) < scores).astype(float)
        gaps.append(calibration_gap(scores, right))
        bounds.append(gap_by_chance(scores, right, each))
    assert 0.02 < np.mean(np.array(gaps) > np.array(bounds)) < 0.09
    right = (rng.random(200) < scores - 0.2).astype(float)
    assert calibration_gap(scores, right) > gap_by_chance(scores, right, each)


def test_pixels_of_an_image_are_not_as_many_chances():
    """Thirty images of 64 pixels with scores that are right; half of an image's pixels stand and fall together."""
    rng, image = np.random.default_rng(0), np.repeat(np.arange(30), 64)

    def drawn(off=0.0):
        scores = rng.beta(4, 1.5, len(image))
        luck = np.where(rng.random(len(image)) < 0.5, rng.random(30)[image], rng.random(len(image)))
        return scores, (luck < scores - off).astype(float)

    def seen(all_stated, image):
        return np.mean([calibration_gap(*stated) > gap_by_chance(*stated, image) for stated in all_stated])

    honest = [drawn() for _ in range(100)]
    assert seen(honest, image) < 0.09
    assert seen(honest, np.arange(len(image))) > 0.5
    assert seen([drawn(off=0.3) for _ in range(20)], image) > 0.9


def test_the_labels_of_an_image_are_its_statements():
    logits = np.zeros((3, 4))
    assert tag.statements({"logits": logits}, logits > 0, list("abcd"), tag.Decision())[2].tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_the_surest_are_answered_first_and_equal_scores_together():
    scores = np.array([0.9, 0.5, 0.5, 0.2])
    assert risk_coverage(scores, np.array([1.0, 1.0, 0.0, 0.0])) == [(0.25, 1.0), (0.75, pytest.approx(2 / 3)), (1.0, 0.5)]


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=60))
def test_risk_coverage_ends_with_all_images(pairs):
    scores, right = (np.array(column) for column in zip(*pairs, strict=True))
    points = risk_coverage(scores, right)
    assert points[-1][0] == 1
    assert points[-1][1] == pytest.approx(right.mean())
    assert [coverage for coverage, _ in points] == sorted({coverage for coverage, _ in points})


def data(n: int, groups: list[str] | None = None) -> Dataset:
    ids = np.array([f"{number:08d}" for number in range(n)])
    return Dataset(
        root="x", task="classify", labels=("a",), refs=[ImageRef(f"{number}.png") for number in range(n)], targets=np.zeros(n, np.int64),
        splits=np.full(n, "validation"), groups=None if groups is None else np.array(groups), content_ids=ids,
    )  # fmt: skip


def test_many_validation_images_are_divided_and_few_serve_both_purposes():
    stopping, calibrating = validation_parts(data(FEWEST_TO_DIVIDE))
    assert sorted([*stopping, *calibrating]) == list(range(FEWEST_TO_DIVIDE))
    assert 0.4 < len(stopping) / FEWEST_TO_DIVIDE < 0.6
    few = validation_parts(data(FEWEST_TO_DIVIDE - 1))
    assert few[0].tolist() == few[1].tolist() == list(range(FEWEST_TO_DIVIDE - 1))


def test_no_group_is_divided():
    groups = [f"patient {number % 40}" for number in range(800)]
    stopping, calibrating = validation_parts(data(800, groups))
    assert not {groups[row] for row in stopping} & {groups[row] for row in calibrating}
    one = validation_parts(data(800, ["the same"] * 800))
    assert one[0].tolist() == one[1].tolist()
