"""prepare: one picture in, one square out, and the way back to its pixels."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sightline.data.prepare import FITS, GREY, RESAMPLE, Prepare
from sightline.errors import ModelFileError

CONTRACT = Prepare(224, "pad", 0.875, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def columns(*levels: int, height: int) -> np.ndarray:
    """A picture whose columns have these grey levels."""
    return np.broadcast_to(np.array(levels, np.uint8)[None, :, None], (height, len(levels), 3)).copy()


def levels(prepared: np.ndarray) -> list[list[int]]:
    return prepared[:, :, 0].tolist()


# ---- by hand ---------------------------------------------------------------------------------------------------------


def test_crop_takes_the_middle_square():
    out, back = Prepare(2, "crop")(columns(10, 20, 30, 40, height=2))
    assert levels(out) == [[20, 30], [20, 30]]
    assert back.tolist() == [[1, 0, 1], [0, 1, 0]]


def test_crop_keeps_its_fraction_of_the_shorter_side():
    out, back = Prepare(2, "crop", crop_fraction=0.5)(columns(10, 20, 30, 40, 50, 60, height=4))
    assert levels(out) == [[30, 40], [30, 40]]
    assert back.tolist() == [[1, 0, 2], [0, 1, 1]]


def test_pad_keeps_everything_on_grey():
    out, back = Prepare(4, "pad")(columns(10, 20, 30, 40, height=2))
    assert levels(out) == [[GREY] * 4, [10, 20, 30, 40], [10, 20, 30, 40], [GREY] * 4]
    assert back.tolist() == [[1, 0, 0], [0, 1, -1]]


def test_squash_keeps_everything_and_loses_the_aspect_ratio():
    out, back = Prepare(2, "squash")(columns(10, 10, 50, 50, height=2))
    assert np.abs(np.array(levels(out)) - [[10, 50], [10, 50]]).max() <= 6  # the filter reaches a little beyond its two columns
    assert back.tolist() == [[2, 0, 0], [0, 1, 0]]


def test_the_interpolation_is_the_one_asked_for():
    image = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    for name, resample in RESAMPLE.items():
        expected = np.asarray(Image.fromarray(image).resize((5, 5), resample))
        np.testing.assert_array_equal(Prepare(5, "squash", interpolation=name)(image)[0], expected)


# ---- for any picture -------------------------------------------------------------------------------------------------


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.sampled_from(FITS), st.floats(0.05, 1.0))
def test_any_picture_gives_the_square_and_an_even_one_stays_even(width, height, size, fit, fraction):
    out, back = Prepare(size, fit, fraction)(np.full((height, width, 3), 77, np.uint8))
    assert out.shape == (size, size, 3)
    assert out.dtype == np.uint8
    assert set(np.unique(out)) <= {77, GREY}
    assert 77 in out
    assert np.isfinite(back).all()


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(1, 1), (1, 1000), (1000, 1)])
def test_the_narrowest_pictures_can_be_prepared(fit, size):
    out, back = Prepare(32, fit)(np.full((*size, 3), 200, np.uint8))
    assert out.shape == (32, 32, 3)
    assert out.max() == 200
    assert (np.diag(back[:, :2]) > 0).all()


@settings(max_examples=80)
@given(
    st.integers(90, 300), st.integers(90, 300), st.integers(24, 64), st.sampled_from(FITS), st.floats(0.7, 1.0), st.floats(0, 1),
    st.floats(0, 1),
)  # fmt: skip
def test_what_is_seen_in_the_input_lies_where_the_affine_says(width, height, size, fit, fraction, across, down):
    image = np.zeros((height, width, 3), np.uint8)
    prepare = Prepare(size, fit, fraction)
    back = prepare(image)[1]
    # A dot that lies in the middle 80 percent of what the input shows, wherever that is in the picture.
    x, y = (back @ (size * (0.1 + 0.8 * across), size * (0.1 + 0.8 * down), 1)).clip(4, (width - 5, height - 5))
    column, row = int(x), int(y)
    image[row - 3 : row + 4, column - 3 : column + 4] = 255
    out = prepare(image)[0][:, :, 0].astype(float)
    out[out == GREY] = 0
    ys, xs = np.mgrid[:size, :size] + 0.5
    found = back @ ((out * xs).sum() / out.sum(), (out * ys).sum() / out.sum(), 1)
    step = np.diag(back[:, :2])
    assert (np.abs(found - (column + 0.5, row + 0.5)) <= 0.6 * step + 0.5).all()


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 300), st.sampled_from(FITS))
def test_the_corners_of_the_input_map_into_the_picture_or_to_the_edge_of_its_padding(width, height, size, fit):
    back = Prepare(size, fit)(np.zeros((height, width, 3), np.uint8))[1]
    (left, top), (right, bottom) = back @ (0, 0, 1), back @ (size, size, 1)
    if fit == "pad":
        assert left <= 1e-9
        assert top <= 1e-9
        assert right >= width - 1e-9
        assert bottom >= height - 1e-9
    else:
        assert -1e-9 <= left < right <= width + 1e-9
        assert -1e-9 <= top < bottom <= height + 1e-9


# ---- the contract ----------------------------------------------------------------------------------------------------


def test_the_contract_survives_json():
    assert Prepare.from_json(json.loads(json.dumps(CONTRACT.to_json()))) == CONTRACT


def test_decoding_leaves_two_pixels_for_one():
    assert CONTRACT.min_side == 448


@pytest.mark.parametrize(
    "change",
    [
        {"size": 0}, {"size": 10**6}, {"size": "224"}, {"size": 2.5}, {"size": True}, {"size": None}, {"fit": "stretch"}, {"fit": ["crop"]},
        {"crop_fraction": 0}, {"crop_fraction": 1.5}, {"crop_fraction": "1"}, {"crop_fraction": float("nan")}, {"crop_fraction": None},
        {"interpolation": "nearest"}, {"interpolation": ["bilinear"]}, {"channels": 4}, {"mean": [0.5]}, {"mean": "abc"}, {"mean": 0.5},
        {"mean": [None] * 3}, {"mean": [float("inf"), 0, 0]}, {"mean": [10**400, 0, 0]}, {"std": [0, 1, 1]}, {"std": [-1, 1, 1]},
        {"std": [float("nan"), 1, 1]}, {"std": ["1", "1", "1"]}, {"gamma": 2.2},
    ],
    ids=str,
)  # fmt: skip
def test_a_contract_this_version_does_not_know_is_refused(change):
    with pytest.raises(ModelFileError, match=r"preprocessing is not understood .* upgrade Sightline\."):
        Prepare.from_json({**CONTRACT.to_json(), **change})


@pytest.mark.parametrize("fields", [{}, {"size": 224}, [], None, "crop", 3])
def test_what_is_no_contract_at_all_is_refused(fields):
    with pytest.raises(ModelFileError, match="not understood"):
        Prepare.from_json(fields)
