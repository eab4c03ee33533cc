"""Metrics of several labels an image against scikit-learn, and hand-worked cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve

from sightline.evaluation.multilabel import (
    Ranking,
    average_precision,
    best_threshold,
    calibration_error,
    chance_average_precision,
    expected_overlaps,
    hamming_loss,
    label_scores,
    mean_average_precision,
    overlaps,
    sigmoid,
    subset_accuracy,
)


@st.composite
def cases(draw):
    """Targets (n, k) bool and scores (n, k) in [0, 1], often tied; labels may lack positives, or negatives."""
    n, labels = draw(st.integers(1, 30)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    targets = rng.random((n, labels)) < draw(st.sampled_from([0.0, 0.1, 0.4, 0.9, 1.0]))
    scores = rng.random((n, labels))
    steps = draw(st.sampled_from([0, 1, 2, 5, 20]))
    return targets, np.round(scores * steps) / steps if steps else scores


def theirs(targets: np.ndarray, given_: np.ndarray, **options):
    return sklearn_metrics.precision_recall_fscore_support(targets.astype(int), given_.astype(int), zero_division=0, **options)


@given(cases())
def test_average_precision_agrees_with_scikit_learn(case):
    targets, scores = case
    found = average_precision(targets, scores)
    for label, value in enumerate(found):
        if targets[:, label].any():
            assert value == pytest.approx(sklearn_metrics.average_precision_score(targets[:, label], scores[:, label]))
        else:
            assert np.isnan(value)
    if targets.any(axis=0).all():
        expected = sklearn_metrics.average_precision_score(targets.astype(int), scores, average="macro")
        assert mean_average_precision(found) == pytest.approx(expected)


@given(cases(), st.integers(0, 2**32 - 1))
def test_a_weighted_average_precision_is_that_of_repeated_images(case, seed):
    targets, scores = case
    weights = np.random.default_rng(seed).integers(0, 4, len(targets))
    repeated = np.repeat(np.arange(len(targets)), weights)
    found = Ranking.of(targets, scores).average_precision(weights)
    if len(repeated):
        np.testing.assert_allclose(found, average_precision(targets[repeated], scores[repeated]))
    else:
        assert np.isnan(found).all()


def test_the_mean_is_over_the_labels_with_a_positive():
    assert mean_average_precision(np.array([0.5, np.nan, 1.0])) == 0.75
    assert np.isnan(mean_average_precision(np.array([np.nan])))


@pytest.mark.parametrize(("n", "positives"), [(1, 1), (5, 1), (5, 5), (12, 4), (40, 3)])
def test_chance_is_the_mean_over_random_orders(n, positives):
    rng = np.random.default_rng(0)
    targets = np.repeat((np.arange(n) < positives)[:, None], 20_000, axis=1)
    measured = average_precision(targets, rng.random(targets.shape)).mean()
    assert chance_average_precision(np.array([positives]), n)[0] == pytest.approx(measured, abs=0.005)


def test_chance_nears_the_share_of_positives_and_is_unknown_without_one():
    found = chance_average_precision(np.array([300_000, 0]), 1_000_000)
    assert found[0] == pytest.approx(0.3, abs=1e-4)
    assert np.isnan(found[1])


@given(cases(), st.floats(0, 1))
def test_label_scores_agree_with_scikit_learn(case, threshold):
    targets, scores = case
    answers = scores >= threshold
    found = label_scores(targets, answers)
    # scikit-learn takes one column for a binary problem with two classes, so a second label keeps it apart.
    padded, padded_answers = (np.column_stack([array, np.ones(len(array), bool)]) for array in (targets, answers))
    expected = [column[:-1] for column in theirs(padded, padded_answers)]
    for ours, column in zip((found.precision, found.recall, found.f1, found.support), expected, strict=True):
        np.testing.assert_allclose(ours, column)


@given(cases(), st.floats(0, 1))
def test_means_over_labels_and_over_decisions_agree_with_scikit_learn(case, threshold):
    targets, scores = case
    answers = scores >= threshold
    found = label_scores(targets, answers)
    flat = theirs(targets.ravel(), answers.ravel(), labels=[1], average="micro")
    assert list(found.micro().values()) == pytest.approx(list(flat[:3]))
    present = targets.any(axis=0)
    macro = [theirs(targets[:, label], answers[:, label], labels=[1])[:3] for label in np.flatnonzero(present)]
    assert list(found.macro().values()) == pytest.approx(np.ravel(np.mean(macro, axis=0)).tolist() if macro else [])


@given(cases(), st.floats(0, 1))
def test_whole_images_and_single_decisions_agree_with_scikit_learn(case, threshold):
    targets, scores = case
    answers = scores >= threshold
    # A constant last label keeps scikit-learn from taking one column for a problem with two classes.
    padded, padded_answers = (np.column_stack([array, np.ones(len(array), bool)]).astype(int) for array in (targets, answers))
    labels = targets.shape[1]
    assert subset_accuracy(targets, answers) == pytest.approx(sklearn_metrics.accuracy_score(padded, padded_answers))
    assert hamming_loss(targets, answers) == pytest.approx(sklearn_metrics.hamming_loss(padded, padded_answers) * (labels + 1) / labels)
    for row, found in enumerate(overlaps(targets, answers)):
        expected = sklearn_metrics.jaccard_score(targets[row], answers[row], zero_division=1.0)
        assert found == pytest.approx(expected)


@given(cases())
def test_no_threshold_has_a_higher_f1_than_the_best(case):
    targets, scores = case[0][:, 0], case[1][:, 0]
    threshold = best_threshold(targets, scores)
    assert 0 <= threshold <= 1
    if not targets.any():
        assert threshold == 0.5
        return
    precision, recall, _ = sklearn_metrics.precision_recall_curve(targets, scores)
    highest = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
    assert sklearn_metrics.f1_score(targets, scores >= threshold) == pytest.approx(highest)


def test_the_best_threshold_lies_halfway_between_neighbours():
    targets, scores = np.array([0, 0, 1, 1], bool), np.array([0.1, 0.3, 0.7, 0.9])
    assert best_threshold(targets, scores) == pytest.approx(0.5)
    assert best_threshold(np.ones(2, bool), np.array([0.4, 0.6])) == pytest.approx(0.2)
    # F1 is 2/3 at 0.9 as at 0.3 (2 right of 4 given, 2 true); the label is given where it is the surer.
    assert best_threshold(np.array([1, 0, 0, 1], bool), np.array([0.9, 0.5, 0.4, 0.3])) == pytest.approx(0.7)


def test_the_best_threshold_parts_neighbouring_numbers():
    low = 0.7
    high = np.nextafter(low, 1)
    scores = np.array([low, high])
    assert (scores >= best_threshold(np.array([False, True]), scores)).tolist() == [False, True]


@given(cases())
def test_the_calibration_error_is_that_of_scikit_learns_curve(case):
    targets, scores = case[0].ravel(), case[1].ravel()
    bins = 15
    share, stated = calibration_curve(targets, scores, n_bins=bins, strategy="uniform")
    counts = np.bincount(np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], scores), minlength=bins)
    expected = (np.abs(share - stated) * counts[counts > 0]).sum() / len(scores)
    assert calibration_error(*case, bins=bins) == pytest.approx(expected)


def test_the_expected_overlap_of_hand_worked_cases():
    probabilities = np.array([[0.8, 0.5, 0.1], [0.2, 0.1, 0.0]])
    found = expected_overlaps(probabilities, probabilities >= 0.5)
    assert found.tolist() == pytest.approx([1.3 / 2.1, 0.8 * 0.9])


@given(st.integers(1, 6), st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(0.1, 10))
def test_sigmoid_is_the_logistic_function_whatever_the_size(labels, n, seed, temperature):
    logits = np.random.default_rng(seed).normal(0, 5, (n, labels)).astype(np.float32)
    np.testing.assert_allclose(sigmoid(logits, temperature), 1 / (1 + np.exp(-logits.astype(np.float64) / temperature)))
    assert sigmoid(np.array([-1e4, 0, 1e4], np.float32)).tolist() == [0, 0.5, 1]
