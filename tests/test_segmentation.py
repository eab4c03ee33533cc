"""Overlap of label maps against torchmetrics, boundary F1 against distance maps, and the cases in which there is little to judge."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_jaccard_index,
)

from sightline.evaluation import segmentation
from sightline.evaluation.boundaries import boundary_counts, boundary_f1, boundary_intervals, boundary_summary
from sightline.evaluation.segmentation import overlap_differences, overlap_intervals, overlap_summary, pixel_confusion, segmentation_scores


@st.composite
def map_pairs(draw):
    """A true and a predicted map of smooth patches and noise, of up to 5 classes of which some may be absent, with ignored places."""
    rng, classes = np.random.default_rng(draw(st.integers(0, 2**32 - 1))), draw(st.integers(1, 5))
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    used = draw(st.integers(1, classes))
    coarse = rng.integers(0, used, (height // 6 + 1, width // 6 + 1))
    truth = np.kron(coarse, np.ones((6, 6), np.uint8))[:height, :width].astype(np.uint8)
    predicted = np.roll(truth, rng.integers(-3, 4, 2), (0, 1))
    noisy = rng.random(truth.shape) < draw(st.sampled_from([0, 0.02, 0.3]))
    predicted = np.where(noisy, rng.integers(0, classes, truth.shape), predicted).astype(np.uint8)
    truth[: draw(st.integers(0, height)), : draw(st.integers(0, 4))] = 255
    return truth, predicted, classes


@given(map_pairs())
def test_overlaps_agree_with_torchmetrics(pair):
    truth, predicted, classes = pair
    if classes < 2 or (truth == 255).all():
        return
    theirs = torch.from_numpy(predicted).long(), torch.from_numpy(truth).long()
    options = {"num_classes": classes, "ignore_index": 255}
    confusion = pixel_confusion(truth, predicted, classes)
    np.testing.assert_array_equal(confusion, multiclass_confusion_matrix(*theirs, **options).numpy())
    scores = segmentation_scores(confusion)
    assert scores.miou == pytest.approx(float(multiclass_jaccard_index(*theirs, average="macro", **options)), abs=1e-6)
    np.testing.assert_allclose(np.nan_to_num(scores.iou), multiclass_jaccard_index(*theirs, average="none", **options), atol=1e-6)
    np.testing.assert_allclose(np.nan_to_num(scores.dice), multiclass_f1_score(*theirs, average="none", **options), atol=1e-6)
    assert scores.mdice == pytest.approx(float(multiclass_f1_score(*theirs, average="macro", **options)), abs=1e-6)
    assert scores.accuracy == pytest.approx(float(multiclass_accuracy(*theirs, average="micro", **options)), abs=1e-6)


def test_a_confusion_in_strips_is_that_of_the_whole(monkeypatch):
    rng = np.random.default_rng(0)
    truth, predicted = rng.choice([0, 1, 2, 255], (50, 30)).astype(np.uint8), rng.integers(0, 3, (50, 30))
    whole = pixel_confusion(truth, predicted, 3)
    assert whole.sum() == (truth != 255).sum()
    monkeypatch.setattr(segmentation, "PIXELS_AT_ONCE", 100)
    np.testing.assert_array_equal(pixel_confusion(truth, predicted, 3), whole)


def test_absent_classes_are_left_out_and_invented_ones_are_not():
    scores = segmentation_scores(np.array([[6, 2, 0], [0, 0, 0], [0, 0, 0]]))
    assert scores.iou[:2] == pytest.approx([0.75, 0])
    assert np.isnan(scores.iou[2])
    assert (scores.miou, scores.accuracy) == (0.375, 0.75)
    assert np.isnan(scores.recall[1:]).all()
    nothing = segmentation_scores(np.zeros((3, 3), np.int64))
    assert np.isnan([nothing.miou, nothing.mdice, nothing.accuracy]).all()


def test_intervals_hold_the_value_and_pairing_narrows_a_difference():
    rng = np.random.default_rng(0)
    share = rng.uniform(0.4, 0.9, 50)
    right, wrong = (share * 1000).astype(int), ((1 - share) * 1000).astype(int)
    good = np.stack([np.stack([right + wrong // 4, wrong - wrong // 4], axis=1), np.stack([wrong // 2, right], axis=1)], axis=1)
    bad = np.stack([np.stack([right, wrong], axis=1), np.stack([wrong // 2, right], axis=1)], axis=1)
    value, intervals = overlap_summary(good), overlap_intervals(good, resamples=200)
    assert ((intervals[:, 0] < value) & (value < intervals[:, 1])).all()
    difference = overlap_differences(bad, good, resamples=200)
    assert 0 < difference[0, 0] < (value - overlap_summary(bad))[0] < difference[0, 1]
    assert np.diff(difference[0]) < np.diff(intervals[0])


def boundary_of(labels: np.ndarray, label: int, *, of: np.ndarray | None = None) -> np.ndarray:
    """Pixels of a class with one of the four neighbours outside of it, or among the pixels ``of``, by shifting a padded copy."""
    inside = labels == label
    outside = np.pad(~inside if of is None else ~inside & of, 1, mode="constant")
    beside = outside[:-2, 1:-1] | outside[2:, 1:-1] | outside[1:-1, :-2] | outside[1:-1, 2:]
    return inside & beside


@given(map_pairs(), st.sampled_from([0.0, 0.02, 0.0751, 0.2]))
def test_boundary_counts_agree_with_distance_maps(pair, tolerance):
    truth, predicted, classes = pair
    counts = boundary_counts(truth, predicted, classes, tolerance)
    reach = tolerance * np.hypot(*truth.shape) + 1e-9
    for label in range(classes):
        there, given_ = boundary_of(truth, label), boundary_of(predicted, label)
        near_truth = distance_transform_edt(~there) <= reach if there.any() else np.zeros(truth.shape, bool)
        near_given = distance_transform_edt(~given_) <= reach if given_.any() else np.zeros(truth.shape, bool)
        judged, asked = given_ & (truth != 255), boundary_of(truth, label, of=truth != 255)
        assert counts[label].tolist() == [(judged & near_truth).sum(), judged.sum(), (asked & near_given).sum(), asked.sum()]


def test_no_boundary_is_asked_for_around_what_is_ignored():
    truth = np.zeros((20, 20), np.uint8)
    truth[5:9, 5:9] = 255
    assert boundary_counts(truth, np.zeros_like(truth), 2).tolist() == [[0, 0, 0, 0], [0, 0, 0, 0]]
    # Where another class is beside it as well, it is; and one that is predicted at what is ignored is right.
    truth[10:] = 1
    assert boundary_counts(truth, truth, 2)[:, 2:].tolist() == [[20, 20], [20, 20]]
    assert boundary_f1(boundary_counts(truth, truth, 2)).tolist() == [1, 1]


def test_a_boundary_within_the_tolerance_is_right():
    truth = np.zeros((240, 320), np.uint8)
    truth[:, 160:] = 1
    assert boundary_f1(boundary_counts(truth, truth, 3))[:2].tolist() == [1, 1]
    # 0.75% of the diagonal of 400 are 3 pixels.
    for moved, expected in ((3, 1), (4, 0)):
        predicted = np.zeros_like(truth)
        predicted[:, 160 + moved :] = 1
        found = boundary_f1(boundary_counts(truth, predicted, 3))
        assert found[:2].tolist() == [expected, expected]
        assert np.isnan(found[2])


def test_boundaries_of_many_images_are_summed_and_resampled():
    counts = np.array([[[4, 4, 4, 4], [0, 0, 0, 0]], [[0, 4, 0, 4], [0, 2, 0, 0]]])
    assert boundary_summary(counts).tolist() == [0.25, 0.5, 0]
    weighted = boundary_summary(counts, np.array([2, 0]))
    assert weighted[:2].tolist() == [1, 1]
    assert np.isnan(weighted[2])
    low, high = boundary_intervals(np.repeat(counts, 20, axis=0), resamples=100)[1]
    assert 0.2 < low < 0.5 < high < 0.8
    assert np.isnan(boundary_summary(np.zeros((1, 2, 4), int))).all()
