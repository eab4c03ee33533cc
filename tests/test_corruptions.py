"""Harder conditions: images of any size and kind, the same from the same random numbers, and stronger as their strength says."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from sightline.evaluation.camera import convolved, disc_kernel, line_kernel
from sightline.evaluation.corruptions import CORRUPTIONS, FAMILIES, STRENGTHS
from sightline.evaluation.weather import smooth_noise

names = st.sampled_from(sorted(CORRUPTIONS))
# Sizes from 16 px on are promised; a network may be as small as 8.
images = st.tuples(st.integers(8, 70), st.integers(8, 70), st.sampled_from((1, 2, 3, 4, 7)), st.integers(0, 2**32 - 1))


def photograph(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Cloudy areas, the edges of a disc, and a little texture, in middle tones."""
    rng = np.random.default_rng(seed)
    planes = np.stack([smooth_noise(rng, height, width) for _ in range(channels)], axis=-1)
    rows, columns = np.mgrid[:height, :width]
    disc = np.hypot(rows - rng.uniform(0.3, 0.7) * height, columns - rng.uniform(0.3, 0.7) * width) < 0.3 * min(height, width)
    return np.clip(40 + 130 * planes + 60 * disc[..., None] + rng.normal(0, 5, planes.shape), 0, 255).astype(np.uint8)


def changed(name: str, image: np.ndarray, strength: int, seed: int = 0) -> np.ndarray:
    return CORRUPTIONS[name](image, strength, np.random.default_rng(seed))


def change(name: str, image: np.ndarray, strength: int, seed: int = 0) -> float:
    return float(np.abs(changed(name, image, strength, seed) - image.astype(int)).mean())


@given(names, images, st.sampled_from(STRENGTHS))
@settings(max_examples=150)
def test_an_image_of_any_size_and_number_of_channels_keeps_them_and_is_the_same_again(name, shape, strength):
    height, width, channels, seed = shape
    image = photograph(height, width, channels, seed)
    before = image.copy()
    found = changed(name, image, strength, seed)
    assert found.shape == image.shape
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(found, changed(name, image, strength, seed))


@pytest.mark.parametrize("name", CORRUPTIONS)
@given(st.integers(16, 96), st.integers(16, 96), st.sampled_from((1, 3, 4)), st.integers(0, 1000))
@settings(max_examples=15)
def test_the_same_case_changes_the_image_more_at_every_strength(name, height, width, channels, seed):
    cases = [(photograph(height, width, channels, seed + number), seed + number) for number in range(6)]
    changes = [np.mean([change(name, image, strength, number) for image, number in cases]) for strength in STRENGTHS]
    # Rounding to whole pixels may make two strengths of a small image nearly the same.
    assert all(stronger > 0.9 * weaker for weaker, stronger in pairwise(changes)), changes
    assert changes[4] > 1.2 * changes[0] > 0


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_lowest_strength_is_mild_and_the_highest_leaves_something_to_see(name):
    image = photograph(224, 224)
    assert change(name, image, 1) < 25
    strongest = changed(name, image, 5)
    if name != "rotation":  # which moves everything and hides nothing
        assert np.corrcoef(image.mean(axis=2).ravel(), strongest.mean(axis=2).ravel())[0, 1] > 0.3


@pytest.mark.parametrize("name", set(CORRUPTIONS) - {"JPEG compression", "low resolution", "rotation", "defocus"})
def test_images_differ_in_what_chance_does_to_them(name):
    image = photograph(64, 64)
    assert (changed(name, image, 3, seed=1) != changed(name, image, 3, seed=2)).any()


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("strength", [0, 6, 2.5])
def test_other_strengths_are_refused(name, strength):
    with pytest.raises(ValueError, match="strength"):
        changed(name, photograph(16, 16), strength)


def test_the_issues_conditions_are_there_and_explained():
    assert list(CORRUPTIONS) == ["night", "glare", "rain", "fog", "snow", "motion blur", "defocus", "noise", "JPEG compression",
                                 "low resolution", "rotation"]  # fmt: skip
    for name, corruption in CORRUPTIONS.items():
        assert corruption.name == name
        assert corruption.family in FAMILIES
        assert corruption.words[0].isupper()
        assert corruption.words.endswith(".")


def test_night_is_dark_and_bluish():
    grey = np.full((64, 64, 3), 150, np.uint8)
    means = [changed("night", grey, strength).mean() for strength in STRENGTHS]
    assert means == sorted(means, reverse=True)
    assert means[0] > 110
    assert means[4] < 45
    red, _, blue = changed("night", grey, 3).mean(axis=(0, 1))
    assert blue > red


def test_night_lasts_longest_in_the_shadows():
    def kept(level: int) -> float:
        return float(changed("night", np.full((64, 64, 3), level, np.uint8), 4).mean() / level)

    assert kept(50) < kept(200)


def test_glare_saturates_around_its_light_only():
    found = changed("glare", np.full((128, 128, 3), 60, np.uint8), 3)
    white = (found == 255).all(axis=2)
    assert 0.005 < white.mean() < 0.2
    labelled, parts = ndimage.label(white)
    assert parts == 1
    assert labelled.max() == 1


@pytest.mark.parametrize("name", ["fog", "snow", "rain"])
def test_weather_veils_contrast(name):
    image = photograph(128, 128)
    smooth = [ndimage.median_filter(changed(name, image, strength), (9, 9, 1)).std() for strength in (1, 3, 5)]
    assert smooth[0] > smooth[1] > smooth[2]


def test_fog_is_thicker_at_the_top_on_average():
    black = np.zeros((64, 64, 3), np.uint8)
    veils = np.mean([changed("fog", black, 3, seed) for seed in range(20)], axis=(0, 2, 3))
    assert veils[:16].mean() > veils[-16:].mean() + 20


def test_noise_has_the_spread_that_its_words_say():
    grey = np.full((224, 224, 3), 127, np.uint8)
    for strength, share in ((1, 0.03), (3, 0.10)):
        assert changed("noise", grey, strength).std() == pytest.approx(255 * share, rel=0.03)
    dark, bright = (changed("noise", np.full((224, 224, 3), level, np.uint8), 1).std() for level in (40, 215))
    assert bright > 1.2 * dark


def test_jpeg_is_pillows(tmp_path):
    image = photograph(224, 224)
    Image.fromarray(image).save(tmp_path / "image.jpg", quality=38)
    np.testing.assert_array_equal(changed("JPEG compression", image, 1), np.asarray(Image.open(tmp_path / "image.jpg")))


@pytest.mark.parametrize("name", ["motion blur", "defocus", "low resolution", "rotation", "JPEG compression"])
def test_what_has_no_detail_has_none_to_lose(name):
    plain = np.full((50, 40, 3), 117, np.uint8)
    assert change(name, plain, 5) <= 1


def test_rotation_leaves_a_disc_around_the_centre_and_turns_what_is_beside_it():
    rows, columns = np.mgrid[:65, :65] - 32.0
    disc = np.where(np.hypot(rows, columns) < 15, 220, 30).astype(np.uint8)[..., None].repeat(3, axis=2)
    found = changed("rotation", disc, 5).astype(int)
    core = np.abs(np.hypot(rows, columns) - 15) > 1.5
    assert np.abs(found - disc)[core].max() <= 2
    spot = np.zeros((65, 65, 1), np.uint8)
    spot[30:35, 48:53] = 255
    turned = changed("rotation", spot, 5)[:, :, 0]
    y, x = ndimage.center_of_mass(turned)
    assert abs(np.degrees(np.arctan2(y - 32, x - 32))) == pytest.approx(38, abs=5)
    assert np.hypot(y - 32, x - 32) == pytest.approx(18, abs=1)


def test_rotation_goes_both_ways():
    image = photograph(32, 32)
    right = ndimage.rotate(image.astype(float), 24, reshape=False, order=1, mode="reflect")
    nearer = {
        min((-1, 1), key=lambda way: np.abs(changed("rotation", image, 4, seed) - (right if way == 1 else _left(image))).mean())
        for seed in range(12)
    }
    assert nearer == {-1, 1}


def _left(image: np.ndarray) -> np.ndarray:
    return ndimage.rotate(image.astype(float), -24, reshape=False, order=1, mode="reflect")


@given(st.integers(8, 60), st.integers(8, 60), st.floats(0, 12), st.floats(0, 3.15), st.booleans())
@settings(max_examples=40)
def test_blurring_is_scipys_convolution(height, width, reach, angle, line):
    image = photograph(height, width)
    kernel = line_kernel(reach, angle) if line else disc_kernel(reach)
    expected = np.stack([ndimage.convolve(image[:, :, c].astype(float), kernel, mode="reflect") for c in range(3)], axis=-1)
    assert np.abs(convolved(image, kernel) - expected).max() <= 0.51


@given(st.floats(0, 30), st.floats(-4, 4))
def test_kernels_are_centred_and_add_up(size, angle):
    for kernel in (line_kernel(size, angle), disc_kernel(size)):
        assert kernel.shape[0] == kernel.shape[1]
        assert kernel.shape[0] % 2
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-6)
    np.testing.assert_allclose(disc_kernel(size), disc_kernel(size).T, atol=1e-7)


def test_a_kernel_of_no_size_changes_nothing():
    image = photograph(20, 30)
    np.testing.assert_array_equal(convolved(image, disc_kernel(0)), image)
    np.testing.assert_array_equal(convolved(image, line_kernel(0, 1.0)), image)


@given(st.integers(1, 80), st.integers(1, 80), st.integers(0, 2**32 - 1))
def test_cloudy_noise_stays_in_range(height, width, seed):
    found = smooth_noise(np.random.default_rng(seed), height, width)
    assert found.shape == (height, width)
    assert found.min() >= 0
    assert found.max() <= 1
