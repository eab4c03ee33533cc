"""Classification metrics against scikit-learn, and hand-worked cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics as sklearn_metrics

from sightline.evaluation.metrics import (
    accuracy,
    class_scores,
    confusion_matrix,
    expected_calibration_error,
    softmax,
    top_k_accuracy,
)


@st.composite
def answers(draw):
    """Targets, predictions and the number of classes; classes may lack images, predictions or both."""
    classes = draw(st.integers(2, 6))
    n = draw(st.integers(1, 40))
    indices = st.lists(st.integers(0, classes - 1), min_size=n, max_size=n)
    return np.array(draw(indices)), np.array(draw(indices)), classes


@given(answers())
def test_confusion_and_accuracy_agree_with_scikit_learn(case):
    targets, predicted, classes = case
    confusion = confusion_matrix(targets, predicted, classes)
    np.testing.assert_array_equal(confusion, sklearn_metrics.confusion_matrix(targets, predicted, labels=range(classes)))
    assert confusion.dtype == np.int64
    assert accuracy(confusion) == pytest.approx(sklearn_metrics.accuracy_score(targets, predicted))


@given(answers())
def test_class_scores_agree_with_scikit_learn(case):
    targets, predicted, classes = case
    scores = class_scores(confusion_matrix(targets, predicted, classes))
    expected = sklearn_metrics.precision_recall_fscore_support(targets, predicted, labels=range(classes), zero_division=0)
    for found, theirs in zip((scores.precision, scores.recall, scores.f1, scores.support), expected, strict=True):
        np.testing.assert_allclose(found, theirs)


@given(answers())
def test_macro_means_are_over_the_classes_with_images(case):
    targets, predicted, classes = case
    macro = class_scores(confusion_matrix(targets, predicted, classes)).macro()
    present = np.unique(targets)
    expected = sklearn_metrics.precision_recall_fscore_support(targets, predicted, labels=present, average="macro", zero_division=0)[:3]
    assert [macro["precision"], macro["recall"], macro["f1"]] == pytest.approx(list(expected))


def test_a_class_absent_from_the_split_is_not_a_failed_one():
    targets, predicted = np.array([0, 0, 2, 2]), np.array([0, 0, 2, 2])
    scores = class_scores(confusion_matrix(targets, predicted, 3))
    assert scores.support.tolist() == [2, 0, 2]
    assert scores.recall.tolist() == [1, 0, 1]
    assert scores.macro() == {"precision": 1.0, "recall": 1.0, "f1": 1.0}


@given(st.integers(2, 7), st.integers(1, 30), st.integers(0, 2**32 - 1), st.data())
def test_top_k_agrees_with_scikit_learn(classes, n, seed, data):
    rng = np.random.default_rng(seed)
    probabilities = softmax(rng.normal(0, 2, (n, classes)))
    targets = rng.integers(0, classes, n)
    k = data.draw(st.integers(1, classes - 1))
    expected = sklearn_metrics.top_k_accuracy_score(
        targets, probabilities[:, 1] if classes == 2 else probabilities, k=k, labels=range(classes)
    )
    assert top_k_accuracy(targets, probabilities, k) == pytest.approx(expected)


def test_top_k_gives_ties_to_the_lower_index():
    even = np.full((1, 4), 0.25)
    assert [top_k_accuracy(np.array([target]), even, 2) for target in range(4)] == [1, 1, 0, 0]


def test_top_k_is_one_when_every_class_may_be_named():
    assert top_k_accuracy(np.array([3, 0]), np.eye(4)[[0, 1]], 4) == 1


def test_calibration_error_of_a_hand_worked_case():
    # Bins of a tenth. (0.5, 0.6]: two images, one right, mean confidence 0.575: gap 0.075 for 2 of 5.
    # (0.8, 0.9]: two images, both right, mean confidence 0.875: gap 0.125 for 2 of 5. 1.0: one image, wrong: gap 1 for 1 of 5.
    confidence = np.array([0.55, 0.6, 0.85, 0.9, 1.0])
    probabilities = np.column_stack([confidence, 1 - confidence])
    targets = np.array([0, 1, 0, 0, 1])
    expected = 0.4 * 0.075 + 0.4 * 0.125 + 0.2 * 1.0
    assert expected_calibration_error(targets, probabilities, bins=10) == pytest.approx(expected)


def test_calibration_error_is_zero_where_confidence_is_the_share_of_right_answers():
    probabilities = np.tile([0.75, 0.25], (4, 1))
    assert expected_calibration_error(np.array([0, 0, 0, 1]), probabilities) == pytest.approx(0)


@given(st.integers(1, 5), st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_calibration_error_is_a_share_and_no_larger_than_the_mean_gap_of_single_images(classes, n, seed):
    rng = np.random.default_rng(seed)
    probabilities = softmax(rng.normal(0, 3, (n, classes)))
    targets = rng.integers(0, classes, n)
    gaps = np.abs((probabilities.argmax(axis=1) == targets) - probabilities.max(axis=1))
    assert 0 <= expected_calibration_error(targets, probabilities) <= gaps.mean() + 1e-12


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 6)), elements=st.floats(-1e4, 1e4, width=32)))
def test_softmax_gives_probabilities_in_the_order_of_the_logits(logits):
    probabilities = softmax(logits)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    rows = np.arange(len(logits))
    np.testing.assert_array_equal(probabilities[rows, logits.argmax(axis=1)], probabilities.max(axis=1))


def test_temperature_makes_less_sure_and_leaves_its_input_alone():
    logits = np.array([[2.0, 0.0]])
    assert softmax(logits, 1.0)[0, 0] == pytest.approx(1 / (1 + np.exp(-2)))
    assert softmax(logits, 2.0)[0, 0] == pytest.approx(1 / (1 + np.exp(-1)))
    assert logits.tolist() == [[2.0, 0.0]]
