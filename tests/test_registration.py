"""registration: a crop is laid where it was cut, and what is no crop is told from one."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sightline.auditing.registration import lay


def soft(seed: int, side: int = 64) -> Image.Image:
    patches = np.random.default_rng(seed).integers(0, 256, (9, 9), np.uint8)
    return Image.fromarray(patches).resize((4 * side, 4 * side), Image.Resampling.BICUBIC)


def seen(image: Image.Image, side: int = 32) -> np.ndarray:
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR), np.float32)[None]


@pytest.mark.parametrize("box", [(0, 0, 0.95, 0.95), (0.05, 0.02, 1, 0.97), (0.03, 0.0, 1.0, 1.0)])
def test_a_crop_is_laid_where_it_was_cut(box):
    image = soft(0)
    left, top, right, bottom = box
    crop = image.crop(tuple(round(share * image.width) for share in box))
    laid = lay(seen(crop), seen(image))
    # From -1 to 1, the crop's middle is at left + right - 1 of the whole.
    np.testing.assert_allclose(laid.place[0], [right - left - 1, left + right - 1, bottom - top - 1, top + bottom - 1], atol=0.01)
    assert laid.correlation[0] > 0.99
    assert laid.detail[0] > 0.95
    assert laid.is_crop[0]
    assert lay(seen(image), seen(crop)).is_crop[0]


def test_two_windows_of_one_picture_are_no_crop_of_each_other():
    image = soft(1)
    a, b = image.crop((0, 0, 230, 256)), image.crop((26, 0, 256, 256))
    laid = lay(seen(a), seen(b))
    assert laid.correlation[0] > 0.98
    assert not laid.is_crop[0]


def test_brightness_and_contrast_do_not_count():
    laid = lay(seen(soft(2)), 0.7 * seen(soft(2)) + 40)
    np.testing.assert_allclose([laid.correlation[0], laid.detail[0]], 1, atol=1e-3)
    np.testing.assert_allclose(laid.place, 0, atol=1e-3)


def test_other_pictures_do_not_lie_over_each_other():
    a = np.concatenate([seen(soft(seed)) for seed in range(3, 23)])
    laid = lay(a, np.roll(a, 1, axis=0))
    assert laid.detail.max() < 0.85


def test_even_pictures_and_none_at_all_are_taken():
    even = np.full((2, 16, 16), 7, np.float32)
    assert lay(even, even).correlation.tolist() == [0, 0]
    assert len(lay(even[:0], even[:0]).place) == 0
