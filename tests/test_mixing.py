"""Mixup and cutmix: what is mixed, and that the targets are mixed as much."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sightline.config import AugmentConfig
from sightline.training.mixing import Mixing, mix, sample_mixing, soft


def test_nothing_is_mixed_unless_asked_for():
    assert sample_mixing(np.random.default_rng(0), AugmentConfig()) is None


@given(st.integers(0, 1000), st.sampled_from([(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)]))
def test_what_is_drawn_is_a_share_and_a_box_inside_the_image(seed, alphas):
    mixing = sample_mixing(np.random.default_rng(seed), AugmentConfig(mixup=alphas[0], cutmix=alphas[1]))
    assert 0 <= mixing.share <= 1
    if mixing.box is not None:
        assert alphas[1]
        top, bottom, left, right = mixing.box
        assert 0 <= top <= bottom <= 1
        assert 0 <= left <= right <= 1


def test_both_have_their_turns():
    drawn = [sample_mixing(np.random.default_rng(seed), AugmentConfig(mixup=0.4, cutmix=1.0)).box is None for seed in range(40)]
    assert 8 < sum(drawn) < 32


def test_mixup_blends_an_image_with_its_partner():
    images = torch.stack([torch.zeros(4, 4, 3), torch.full((4, 4, 3), 100.0)])
    mixed, targets = mix(images, torch.eye(2), Mixing(0.75))
    assert mixed[:, 0, 0, 0].tolist() == [25.0, 75.0]
    assert targets.tolist() == [[0.75, 0.25], [0.25, 0.75]]


def test_cutmix_pastes_a_part_and_counts_its_pixels():
    images = torch.stack([torch.zeros(4, 4, 3), torch.full((4, 4, 3), 100.0)])
    mixed, targets = mix(images, torch.eye(2), Mixing(0.8, (0.0, 0.5, 0.5, 1.0)))
    assert (mixed[0] == 100).sum() == 2 * 2 * 3
    assert (mixed[0, :2, 2:] == 100).all()
    assert targets[0].tolist() == pytest.approx([0.75, 0.25])
    assert (images[0] == 0).all()  # what was given stays as it was


def test_classes_and_tags_become_soft_targets():
    assert soft(torch.tensor([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert soft(torch.tensor([[True, True], [False, False]]), 2).tolist() == [[1, 1], [0, 0]]
