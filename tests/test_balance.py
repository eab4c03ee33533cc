"""Rare classes get as much weight, or as many turns, as common ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.training.balance import class_weights, imbalance, sampling_shares

CLASSES = np.array([0] * 6 + [1] * 3 + [2])
TAGS = np.array([[1, 0], [1, 0], [1, 1], [0, 0]], bool)


def test_class_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    assert class_weights(CLASSES, 3) == pytest.approx(compute_class_weight("balanced", classes=np.arange(3), y=CLASSES))


def test_a_tag_weighs_the_images_without_it_for_each_with_it():
    assert class_weights(TAGS, 2).tolist() == pytest.approx([1 / 3, 3])
    assert class_weights(np.zeros((1000, 1), bool), 1).tolist() == [100]  # no image has it: bounded


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
    assert imbalance(np.zeros((3, 2), bool), 2) == 1
