"""Random views of training images: the same geometry as evaluation's, inside the image, and drawn from the seed alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sightline.config import AugmentConfig
from sightline.data.prepare import GREY, Prepare
from sightline.training.augment import erase, recolour, sample_affine, sample_colour, warp

OFF = AugmentConfig(crop_scale=1.0, rotate=0.0, flip=False, colour=0.0)
FITS = ("crop", "pad", "squash")
configs = st.builds(AugmentConfig, crop_scale=st.floats(0.01, 1.0), rotate=st.just(0.0), flip=st.booleans(), colour=st.floats(0.0, 1.0))


def smooth_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def view(image: np.ndarray, prepare: Prepare, config: AugmentConfig, seed: int = 0) -> np.ndarray:
    return warp(image, sample_affine(np.random.default_rng(seed), *image.shape[:2], prepare, config), prepare.shape)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 96), (96, 64), (70, 210), (300, 260)])
@pytest.mark.parametrize("crop_fraction", [1.0, 0.875])
def test_without_random_changes_the_view_is_evaluations(fit, height, width, crop_fraction):
    prepare, image = Prepare(56, fit, crop_fraction), smooth_image(height, width)
    expected = prepare(image)[0].astype(int)
    # Padding places whole pixels, so that evaluation's picture may lie half a pixel beside the middle.
    assert np.abs(view(image, prepare, OFF) - expected).mean() < (6 if fit == "pad" else 2.5)


def test_padding_with_even_margins_is_evaluations_padding():
    prepare, image = Prepare(60, "pad"), smooth_image(40, 120)
    assert np.abs(view(image, prepare, OFF) - prepare(image)[0].astype(int)).mean() < 1


@pytest.mark.parametrize("fit", FITS)
def test_the_affine_is_the_one_that_evaluation_returns(fit):
    prepare = Prepare(40, fit, 0.8)
    affine = sample_affine(np.random.default_rng(0), 60, 120, prepare, OFF)
    np.testing.assert_allclose(affine, prepare(smooth_image(60, 120))[1], atol=1e-9)


def test_shrinking_averages_as_evaluation_does():
    """Stripes of one pixel become grey, not a pattern that is not there."""
    stripes = np.zeros((64, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    prepare = Prepare(64, "squash")
    for found in (prepare(stripes)[0], view(stripes, prepare, OFF)):
        assert np.abs(found[:, 1:-1].astype(int) - 127).max() <= 1


def test_a_view_of_the_images_own_size_is_the_image():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    np.testing.assert_array_equal(view(image, Prepare(32), OFF), image)


def test_flipping_mirrors_left_to_right():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    config = AugmentConfig(crop_scale=1.0, rotate=0.0, flip=True, colour=0.0)
    views = [view(image, Prepare(32), config, seed) for seed in range(30)]
    mirrored = [np.array_equal(each, image[:, ::-1]) for each in views]
    assert all(np.array_equal(each, image) or mirror for each, mirror in zip(views, mirrored, strict=True))
    assert 5 < sum(mirrored) < 25


def test_rotation_turns_about_the_middle_and_shows_grey_outside():
    image = np.full((33, 33, 3), 255, np.uint8)
    image[16, 16] = 0
    config = AugmentConfig(crop_scale=1.0, rotate=180.0, flip=False, colour=0.0)
    turned = view(image, Prepare(33), config, seed=1)
    assert turned[16, 16].max() < 128
    assert (turned[0, 0] == GREY).all()


@pytest.mark.parametrize("degrees", [5.0, 30.0])
def test_rotations_keep_to_their_bound(degrees):
    config = AugmentConfig(crop_scale=1.0, rotate=degrees, flip=False)
    affines = [sample_affine(np.random.default_rng(seed), 50, 50, Prepare(50), config) for seed in range(50)]
    angles = np.degrees([np.arctan2(affine[1, 0], affine[0, 0]) for affine in affines])
    assert np.abs(angles).max() <= degrees
    assert angles.min() < -degrees / 2 < degrees / 2 < angles.max()


@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from(FITS), st.floats(0.1, 1.0), configs, st.integers(0, 2**32 - 1))
def test_without_rotation_every_view_lies_in_what_evaluation_may_show(height, width, fit, crop_fraction, config, seed):
    """For crop and squash that is the image, for pad the grey square around it."""
    prepare = Prepare(32, fit, crop_fraction)
    affine = sample_affine(np.random.default_rng(seed), height, width, prepare, config)
    corners = affine @ np.array([[0, 0, 1], [32, 0, 1], [0, 32, 1], [32, 32, 1]]).T
    side = max(height, width)
    slack_x, slack_y = ((side - width) / 2, (side - height) / 2) if fit == "pad" else (0, 0)
    assert corners[0].min() >= -slack_x - 1e-6
    assert corners[1].min() >= -slack_y - 1e-6
    assert corners[0].max() <= width + slack_x + 1e-6
    assert corners[1].max() <= height + slack_y + 1e-6
    assert abs(np.linalg.det(affine[:, :2])) > 0


@given(st.integers(8, 200), st.integers(8, 200), st.floats(0.05, 0.99), st.integers(0, 2**32 - 1))
def test_a_crop_keeps_no_more_than_the_image_and_no_less_than_asked_where_that_fits(height, width, scale, seed):
    config = AugmentConfig(crop_scale=scale, rotate=0.0, flip=False)
    affine = sample_affine(np.random.default_rng(seed), height, width, Prepare(32), config)
    crop_width, crop_height = 32 * affine[0, 0], 32 * affine[1, 1]
    share = crop_width * crop_height / (width * height)
    unclipped = crop_width < width - 1e-9 and crop_height < height - 1e-9
    assert share <= 1 + 1e-9
    assert share >= scale - 1e-9 or not unclipped


def test_the_seed_decides_and_nothing_else():
    image, prepare, config = smooth_image(40, 50), Prepare(24), AugmentConfig()
    np.testing.assert_array_equal(view(image, prepare, config, 3), view(image, prepare, config, 3))
    assert not np.array_equal(view(image, prepare, config, 3), view(image, prepare, config, 4))


def test_colour_factors_keep_to_their_strength():
    factors = np.stack([sample_colour(np.random.default_rng(seed), AugmentConfig(colour=0.3)) for seed in range(100)])
    assert factors.dtype == np.float32
    assert 0.7 <= factors.min() < 0.75 < 1.25 < factors.max() <= 1.3
    assert sample_colour(np.random.default_rng(0), OFF).tolist() == [1, 1, 1]


def test_factors_of_one_change_nothing():
    images = torch.randint(0, 256, (3, 8, 8, 3), dtype=torch.uint8)
    same = recolour(images, torch.ones(3, 3))
    assert same.dtype == torch.float32
    torch.testing.assert_close(same, images.float(), rtol=0, atol=1e-3)


@given(st.integers(0, 2**32 - 1), st.floats(0, 2), st.floats(0, 2), st.floats(0, 2))
def test_colours_stay_in_range(seed, brightness, contrast, saturation):
    images = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (2, 4, 4, 3), np.uint8))
    found = recolour(images, torch.tensor([[brightness, contrast, saturation]] * 2))
    assert found.min() >= 0
    assert found.max() <= 255


def test_each_factor_does_what_its_name_says():
    images = torch.tensor([[[[100.0, 50.0, 20.0], [60.0, 70.0, 90.0]]]])
    half = recolour(images, torch.tensor([[0.5, 1.0, 1.0]]))
    torch.testing.assert_close(half, images / 2)
    flat = recolour(images, torch.tensor([[1.0, 0.0, 1.0]]))
    torch.testing.assert_close(flat, torch.full_like(images, float(images.mean())))
    grey = recolour(images, torch.tensor([[1.0, 1.0, 0.0]]))
    expected = (images * torch.tensor([0.299, 0.587, 0.114])).sum(dim=3, keepdim=True).expand_as(images)
    torch.testing.assert_close(grey, expected)


def test_each_image_of_a_batch_has_its_own_factors():
    images = torch.full((2, 2, 2, 3), 100.0)
    found = recolour(images, torch.tensor([[0.5, 1.0, 1.0], [2.0, 1.0, 1.0]]))
    assert found[0].unique().tolist() == pytest.approx([50.0])
    assert found[1].unique().tolist() == pytest.approx([200.0])


@given(st.integers(8, 200), st.integers(0, 2**32 - 1))
def test_erasing_paints_one_rectangle_of_2_to_33_percent_of_the_area_and_leaves_the_rest(side, seed):
    image = np.full((side, side, 3), 300, np.int16)  # a value that noise never has
    erase(np.random.default_rng(seed), image, 1.0)
    painted = (image != 300).any(axis=2)
    rows, columns = np.flatnonzero(painted.any(axis=1)), np.flatnonzero(painted.any(axis=0))
    assert painted.any()
    assert painted[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    assert painted.sum() == len(rows) * len(columns)
    assert image[painted].min() >= 0
    assert image[painted].max() <= 255
    rounding = (len(rows) + len(columns)) / 2 + 1  # to whole pixels, and one at least
    assert 0.02 * side**2 - rounding <= painted.sum() <= 0.33 * side**2 + rounding


def test_a_share_of_none_erases_never_and_a_share_of_a_half_every_other_time():
    def erased(share: float) -> int:
        images = np.zeros((200, 16, 16, 3), np.uint8)
        for seed, image in enumerate(images):
            erase(np.random.default_rng(seed), image, share)
        return np.count_nonzero(images.any(axis=(1, 2, 3)))

    assert (erased(0.0), erased(1.0)) == (0, 200)
    assert 80 <= erased(0.5) <= 120
