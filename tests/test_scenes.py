"""Objects, label maps and frames: what they say, and that boxes come back to where they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from sightline.data.prepare import FITS, Prepare
from sightline.evaluation.calibration import fit_scale
from sightline.evaluation.enlarging import classes_of, logits_at
from sightline.records import Dataset, ImageRef, column_of, presence
from sightline.scenes import IGNORED, LabelMap, Objects, frame_of, laid_back, laid_in

SIDES = st.integers(1, 400)


def frame(prepare: Prepare, width: int, height: int, reduced: int = 1) -> np.ndarray:
    seen = max(1, width // reduced), max(1, height // reduced)
    return frame_of(prepare.way_back(*seen), prepare.shape, seen, (width, height))


def dataset(targets: list) -> Dataset:
    refs = [ImageRef(f"{number}.png") for number in range(len(targets))]
    return Dataset(Path("data"), "detect", ("cat", "dog", "bird"), refs, column_of(targets))


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(FITS), st.integers(1, 3), st.integers(0, 99))
def test_boxes_that_are_laid_in_and_back_are_where_they_were(width, height, rows, columns, fit, reduced, seed):
    about = frame(Prepare(columns, fit, height=rows), width, height, reduced)
    corners = np.sort(np.random.default_rng(seed).random((5, 2, 2)), axis=1) * (width, height)
    boxes = corners.reshape(5, 4)
    np.testing.assert_allclose(laid_back(laid_in(boxes, about)[None], about[None])[0], boxes, atol=1e-6 * max(width, height))


@pytest.mark.parametrize("fit", FITS)
def test_a_box_in_the_input_is_around_the_same_pixels(fit):
    image = np.zeros((60, 100, 3), np.uint8)
    image[20:40, 30:60] = 255
    prepare = Prepare(80, fit, height=64)
    about = frame(prepare, 100, 60)
    left, top, right, bottom = laid_in(np.array([[30.0, 20.0, 60.0, 40.0]]), about)[0]
    rows, columns = np.nonzero(prepare(image)[0][:, :, 0] > 200)
    assert prepare(image)[0].shape == (64, 80, 3)
    np.testing.assert_allclose([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], [left, top, right, bottom], atol=1.01)


def test_boxes_outside_the_original_are_cut():
    about = frame(Prepare(10, "pad"), 20, 10)
    assert laid_back(np.array([[[-5.0, 0, 30, 30]]]), about[None])[0].tolist() == [[0, 0, 20, 10]]


def test_what_an_image_shows_leaves_crowds_out():
    objects = Objects.of([[0, 0, 2, 2], [1, 1, 3, 3], [0, 0, 9, 9]], [2, 2, 0], [False, False, True])
    data = dataset([objects, Objects.of([], [])])
    assert data.label_names(0) == ("bird",)
    assert data.label_names(1) == ()
    assert [each.tolist() for each in data.labelled()] == [[0], [2]]
    assert data.as_tags().targets.tolist() == [[False, False, True], [False, False, False]]
    assert data.as_tags().task == "tag"
    assert presence(np.array([1, 2]), 3).tolist() == [1, 2]


def test_targets_in_terms_of_other_labels():
    objects = Objects.of([[0, 0, 2, 2]], [1])
    table = {0: 0, 7: 2, 9: IGNORED}
    classes = LabelMap(ImageRef("m.png"), table, np.array([4, 0, 2]), (3, 2))
    there = dataset([objects, classes]).targets_among(("bird", "cat", "dog", "fish"))
    assert there[0].labels.tolist() == [2]
    assert there[1].present.tolist() == [0, 1]
    assert there[1].values == {0: 1, 7: 0, 9: IGNORED}


def test_the_fingerprint_changes_with_a_box():
    some, moved = (dataset([Objects.of([[0, 0, side, 2]], [1])]) for side in (2, 3))
    assert some.fingerprint == dataset([Objects.of([[0, 0, 2, 2]], [1])]).fingerprint != moved.fingerprint


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 60), st.integers(1, 60), st.integers(0, 50))
@settings(max_examples=40)
def test_classes_at_the_originals_size_are_those_of_torch(rows, columns, height, width, seed):
    logits = np.random.default_rng(seed).normal(size=(3, rows, columns)).astype(np.float32)
    about = frame(Prepare(4 * columns, "squash", height=4 * rows), width, height)
    expected = torch.nn.functional.interpolate(torch.from_numpy(logits)[None], size=(height, width), mode="bilinear")[0].numpy()
    best, second = np.sort(expected, axis=0)[-1], np.sort(expected, axis=0)[-2]
    clear = best - second > 1e-4
    assert (classes_of(logits, about) == expected.argmax(axis=0))[clear].all()
    places = np.random.default_rng(seed).integers(0, [width, height], (9, 2))
    found = logits_at(logits, about, places[:, 0] + 0.5, places[:, 1] + 0.5)
    np.testing.assert_allclose(found, expected[:, places[:, 1], places[:, 0]].T, atol=1e-4)


def test_a_large_image_is_done_in_parts(monkeypatch):
    logits = np.random.default_rng(0).normal(size=(4, 9, 7)).astype(np.float32)
    about = frame(Prepare(28, "pad", height=36), 50, 80)
    whole = classes_of(logits, about)
    monkeypatch.setattr("sightline.evaluation.enlarging.NUMBERS_AT_ONCE", 1000)
    assert np.array_equal(classes_of(logits, about), whole)


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_scaled_as_by_logistic_regression(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=4000)
    right = rng.random(4000) < 1 / (1 + np.exp(-(0.6 * logits - 0.8)))
    temperature, offset = fit_scale(logits, right)
    fitted = LogisticRegression(C=1e6).fit(logits[:, None], right)
    assert 1 / temperature == pytest.approx(fitted.coef_[0, 0], abs=0.01)
    assert offset == pytest.approx(fitted.intercept_[0], abs=0.01)


@pytest.mark.parametrize("right", [np.ones(3, bool), np.zeros(3, bool), np.zeros(0, bool)])
def test_few_scores_that_are_all_alike_give_a_finite_scale(right):
    temperature, offset = fit_scale(np.array([3.0, 1.0, 2.0])[: len(right)], right)
    assert 0.05 <= temperature <= 20
    assert abs(offset) < 20
