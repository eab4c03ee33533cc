"""Kinds of error, thresholds, statements and counts, on hand-worked images and by what must hold of any."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from random_objects import padded, random_set
from sightline.evaluation.box_errors import FATES, KINDS, box_errors
from sightline.evaluation.counting import count_objects
from sightline.evaluation.matching import match
from sightline.evaluation.precision_recall import best_thresholds, precision_recall, statements
from sightline.scenes import Objects

ANY = np.full(3, -np.inf)


def shifted(box: list[float], across: float) -> list[float]:
    """Of a box 10 wide, IoU (10 - across) / (10 + across) with it."""
    return [box[0] + across, box[1], box[2] + across, box[3]]


def test_each_kind_of_error_on_one_image():
    cell, other, far, crowd = [0, 0, 10, 10], [100, 0, 110, 10], [200, 0, 210, 10], [300, 0, 400, 100]
    truth = Objects.of([cell, other, far, crowd], [0, 1, 0, 0], crowd=[False, False, False, True])
    boxes = [
        (shifted(cell, 1), 9, 0, "correct", 0),
        (shifted(cell, 2), 8, 0, "double", 0),
        (shifted(cell, -5), 7, 0, "badly placed", 0),  # IoU 1/3
        (shifted(other, 1), 6, 0, "wrong class", 1),
        (shifted(other, 5), 5, 2, "stray", 1),
        (shifted(far, 9), 4, 0, "background", -1),  # IoU 1/19
        ([320, 20, 330, 30], 3, 0, "ignored", -1),
        ([320, 20, 330, 30], 2, 1, "background", -1),
    ]
    places, scores, labels, kinds, partners = zip(*boxes, strict=True)
    found = padded((list(places), list(scores), list(labels)))
    errors = box_errors(found, [truth], 3, ANY)
    by_place = np.argsort(errors.place)
    assert [KINDS[kind] for kind in errors.kind[by_place]] == list(kinds)
    assert errors.partner[by_place].tolist() == list(partners)
    assert errors.overlap[by_place][:4] == pytest.approx([9 / 11, 8 / 12, 5 / 15, 9 / 11])
    assert errors.object_index.tolist() == [0, 1, 2]
    assert [FATES[fate] for fate in errors.fate] == ["found", "misjudged", "missed"]
    assert errors.kinds()[0].tolist() == [1, 1, 1, 1, 1, 0, 1]
    assert errors.fates().tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]

    sure = box_errors(found, [truth], 3, np.array([7.5, 5.5, 5.5]))
    assert [KINDS[kind] for kind in sure.kind] == ["correct", "double"]
    assert [FATES[fate] for fate in sure.fate] == ["found", "missed", "missed"]


def test_errors_say_on_which_image_they_are():
    box = [0, 0, 10, 10]
    truth = [Objects.of([], []), Objects.of([box, [50, 50, 60, 60]], [1, 1]), Objects.of([box], [0])]
    found = padded(([box], [1.0], [2]), ([box], [2.0], [1]), ([], [], []))
    errors = box_errors(found, truth, 3, ANY)
    rows = [(KINDS[kind], image, place) for kind, image, place in zip(errors.kind, errors.image, errors.place, strict=True)]
    assert rows == [("correct", 1, 0), ("background", 0, 0)]
    fates = [(FATES[fate], image, index) for fate, image, index in zip(errors.fate, errors.object_image, errors.object_index, strict=True)]
    assert fates == [("found", 1, 0), ("missed", 1, 1), ("missed", 2, 0)]


@given(st.integers(0, 2**32 - 1), st.floats(-3, 3))
@settings(max_examples=50)
def test_each_detection_and_object_has_one_kind(seed, threshold):
    found, truth = random_set(seed)
    errors = box_errors(found, truth, 3, np.full(3, threshold))
    given_ = (found.labels >= 0) & (found.scores >= threshold)
    assert errors.kinds().sum() == given_.sum()
    assert errors.fates().sum() == sum((~there.crowd).sum() for there in truth)
    # Each object found was taken by one correct detection.
    np.testing.assert_array_equal(errors.kinds()[:, 0], errors.fates()[:, 0])
    assert (errors.overlap[errors.kind <= 0] >= 0.5).all()
    # Those right at IoU 0.5 in the ranking that mAP is made of are the correct ones.
    matches = match(found, truth, 3, limit=1000)
    assert errors.kinds()[:, 0].sum() == (matches.hit[0, 0] & (matches.score >= threshold)).sum()


def test_the_curve_and_threshold_of_a_hand_worked_class():
    row = [[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]]
    # Right, right, wrong, right (with the score of another wrong one).
    found = padded(([row[0], row[1], [80, 0, 90, 10], row[2], [80, 50, 90, 60]], [5.0, 4.0, 3.0, 1.0, 1.0], [1] * 5))
    matches = match(found, [Objects.of(row, [1] * 4)], 3)
    curve = precision_recall(matches, 1)
    assert curve.score.tolist() == [5, 4, 3, 1]
    assert curve.precision == pytest.approx([1, 1, 2 / 3, 3 / 5])
    assert curve.recall == pytest.approx([0.25, 0.5, 0.5, 0.75])
    assert curve.f1 == pytest.approx([2 / 5, 4 / 6, 4 / 7, 6 / 9])
    # F1 is 2/3 at 4 and at 1: the higher is taken, halfway to 3. Nothing is known of the other classes.
    assert best_thresholds(matches, neutral=0.0).tolist() == [0, 3.5, 0]
    scores, hits = statements(matches)
    assert scores.tolist() == [5, 4, 3, 1, 1]
    assert hits.tolist() == [True, True, False, True, False]
    assert len(precision_recall(matches, 0).score) == 0
    assert np.isnan(precision_recall(match(found, [Objects.of([], [])], 3), 1).recall).all()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_no_threshold_gives_a_higher_f1(seed):
    found, truth = random_set(seed, images=3, most=8)
    thresholds = best_thresholds(match(found, truth, 3, limit=1000), neutral=0.0)

    def f1(chosen):
        errors = box_errors(found, truth, 3, chosen)
        kinds, fates = errors.kinds(), errors.fates()
        return 2 * kinds[:, 0] / np.maximum(kinds[:, [0, 2, 3, 4, 5, 6]].sum(axis=1) + fates.sum(axis=1), 1)

    best = f1(thresholds)
    for threshold in np.unique(found.scores[found.labels >= 0]):
        assert (f1(np.full(3, threshold)) <= best + 1e-12).all()


def test_crowds_are_no_statements():
    truth = Objects.of([[0, 0, 100, 100]], [0], crowd=[True])
    matches = match(padded(([[10, 10, 20, 20], [200, 0, 210, 10]], [2.0, 1.0], [0, 0])), [truth], 1)
    scores, hits = statements(matches)
    assert (scores.tolist(), hits.tolist()) == ([1.0], [False])


def test_counts_by_hand():
    box = [0, 0, 10, 10]
    truth = [Objects.of([box, box], [0, 0]), Objects.of([box], [1]), Objects.of([box, box], [0, 1], crowd=[True, False])]
    found = padded(([box], [1.0], [0]), ([box] * 3, [1.0, 0.1, 2.0], [0, 0, 1]), ([box] * 3, [1.0] * 3, [0, 0, 0]))
    counts = count_objects(found, truth, 3, np.full(3, 0.5))
    assert counts.given.tolist() == [[1, 0, 0], [1, 1, 0], [3, 0, 0]]
    assert counts.true.tolist() == [[2, 0, 0], [0, 1, 0], [0, 1, 0]]
    # The third image has a crowd of the first class.
    assert counts.absolute() == pytest.approx([1, 1 / 3, 0])
    assert counts.signed() == pytest.approx([0, -1 / 3, 0])
    assert counts.signed(np.array([2, 1, 0])) == pytest.approx([-1 / 3, 0, 0])
    assert np.isnan(counts.absolute(np.array([0, 0, 3]))[0])


def test_ten_thousand_boxes_on_ten_thousand_objects():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 5000, (10_000, 2))
    boxes = np.concatenate([corners, corners + 12], axis=1)
    errors = box_errors(padded((boxes + 1, rng.random(10_000), np.zeros(10_000))), [Objects.of(boxes, np.zeros(10_000))], 1, np.zeros(1))
    assert errors.kinds().sum() == 10_000
    assert errors.fates()[0, 0] > 9_000
