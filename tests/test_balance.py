"""Rare classes get as much weight, or as many turns, as common ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.records import ImageRef, column_of
from sightline.scenes import LabelMap, Objects
from sightline.training.balance import class_weights, imbalance, sampling_shares

CLASSES = np.array([0] * 6 + [1] * 3 + [2])
TAGS = np.array([[1, 0], [1, 0], [1, 1], [0, 0]], bool)
BOX = (0, 0, 4, 4)
# Six objects of one class and two of another, each on both images, and of a third only a crowd.
OBJECTS = column_of([Objects.of([BOX] * 6, [0] * 5 + [1]), Objects.of([BOX] * 3, [0, 1, 2], crowd=[False, False, True])])


def test_class_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    assert class_weights(CLASSES, 3) == pytest.approx(compute_class_weight("balanced", classes=np.arange(3), y=CLASSES))


def test_a_tag_weighs_the_images_without_it_for_each_with_it():
    assert class_weights(TAGS, 2).tolist() == pytest.approx([1 / 3, 3])
    assert class_weights(np.zeros((1000, 1), bool), 1).tolist() == [100]  # no image has it: bounded


def maps_of(*pixels: list[int]) -> np.ndarray:
    return column_of([LabelMap(ImageRef("m.png"), {}, np.array(each), (10, 10)) for each in pixels])


def test_a_class_weighs_by_its_objects_however_many_images_show_it():
    assert class_weights(OBJECTS, 3).tolist() == pytest.approx([8 / 18, 8 / 6, 1])
    assert class_weights(OBJECTS[:1], 2).tolist() == pytest.approx([6 / 10, 6 / 2])
    alone = column_of([Objects.of([BOX] * 7, [0] * 7)] * 5)
    assert class_weights(alone, 1).tolist() == [1]  # a class that is on every image is learned like any other
    assert class_weights(column_of([Objects.of([], [])]), 2).tolist() == [1, 1]


def test_a_class_weighs_by_its_pixels():
    assert class_weights(maps_of([60, 20, 0], [30, 10]), 3).tolist() == pytest.approx([120 / 270, 120 / 90, 1])
    assert class_weights(maps_of([999_999, 1]), 2)[1] == 100  # bounded


@given(st.lists(st.integers(0, 4), min_size=1, max_size=50))
def test_every_class_is_drawn_as_often(targets):
    shares, classes = sampling_shares(np.array(targets), 5), np.bincount(targets, minlength=5)
    assert shares.sum() == pytest.approx(1)
    totals = np.bincount(targets, weights=shares, minlength=5)[classes > 0]
    assert totals == pytest.approx(np.full(len(totals), 1 / len(totals)))


def test_an_image_is_drawn_for_its_rarest_tag_and_bare_ones_as_a_class_of_their_own():
    assert sampling_shares(TAGS, 2) == pytest.approx(np.array([1 / 3, 1 / 3, 1, 1]) / (8 / 3))


def test_imbalance_is_the_ratio_of_the_largest_to_the_smallest_class_there_is():
    assert imbalance(CLASSES, 3) == imbalance(CLASSES, 4) == 6
    assert imbalance(TAGS, 2) == 3
    assert imbalance(OBJECTS, 3) == 3
    assert imbalance(maps_of([60, 20, 0], [30, 10, 0]), 3) == 3
    assert imbalance(np.zeros((3, 2), bool), 2) == 1
