"""Without metadata a file holds the same picture, bit for bit, and nothing else."""

from __future__ import annotations

import io
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from conftest import DATA, needs_data
from planted import MAKERS, PROFILE, SECRET, assert_clean, exif, jpeg, picture, png, webp
from sightline.auditing.metadata import FORMATS, is_animated, is_lossless, without_metadata
from sightline.data.decode import decode, decode_with_header
from sightline.errors import ImageError


def raw_pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_every_format_that_is_rewritten_is_tested():
    assert {str(Image.open(io.BytesIO(make())).format) for make in MAKERS.values()} == {name.upper() for name in FORMATS}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", MAKERS)
def test_only_the_picture_and_its_profile_are_left(name, orientation):
    original = MAKERS[name](orientation)
    assert SECRET.encode() in original
    clean = without_metadata(original, orientation, name)
    assert_clean(clean, orientation)
    assert Image.open(io.BytesIO(clean)).info["icc_profile"] == PROFILE
    np.testing.assert_array_equal(raw_pixels(clean), raw_pixels(original))
    before, after = (decode_with_header(data, name) for data in (original, clean))
    np.testing.assert_array_equal(before[1], after[1])
    assert before[0].orientation == after[0].orientation == orientation
    assert not after[0].position
    assert without_metadata(clean, orientation, name) == clean


KINDS = [
    (jpeg, "L", {}), (jpeg, "CMYK", {}), (jpeg, "RGB", {"progressive": True}), (jpeg, "RGB", {"restart_marker_rows": 1}),
    (jpeg, "RGB", {"keep_rgb": True}), (png, "P", {}), (png, "LA", {}), (png, "1", {}), (png, "I;16", {}),
    (webp, "RGBA", {}), (webp, "RGB", {"lossless": True}),
]  # fmt: skip


@pytest.mark.parametrize(("make", "mode", "settings"), KINDS)
def test_every_kind_of_picture_stays_bit_for_bit(make, mode, settings):
    original = make(1, mode, **settings)
    clean = without_metadata(original, 1, "x")
    assert_clean(clean)
    np.testing.assert_array_equal(raw_pixels(clean), raw_pixels(original))
    np.testing.assert_array_equal(decode(clean), decode(original))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_films_keep_all_their_pictures(kind):
    sink = io.BytesIO()
    frames = [picture().rotate(angle) for angle in (0, 90, 180)]
    frames[0].save(sink, kind, save_all=True, append_images=frames[1:], exif=exif(), lossless=True)
    assert is_animated(sink.getvalue(), "x")
    clean = without_metadata(sink.getvalue(), 1, "x")
    assert_clean(clean)
    before, after = (Image.open(io.BytesIO(data)) for data in (sink.getvalue(), clean))
    assert after.n_frames == 3
    for number in range(3):
        before.seek(number)
        after.seek(number)
        assert before.tobytes() == after.tobytes()


def test_of_two_pictures_in_a_jpeg_file_the_first_is_left():
    sink = io.BytesIO()
    picture().save(sink, "MPO", save_all=True, append_images=[picture().rotate(90)], exif=exif())
    clean = without_metadata(sink.getvalue(), 1, "x")
    assert_clean(clean)
    assert Image.open(io.BytesIO(clean)).format == "JPEG"
    assert clean.count(b"\xff\xd8\xff") == 1
    np.testing.assert_array_equal(raw_pixels(clean), raw_pixels(sink.getvalue()))


def test_webp_tells_how_it_was_stored():
    assert [is_lossless(webp(lossless=lossless), "x") for lossless in (True, False)] == [True, False]
    assert not any(is_animated(make(), "x") for make in (jpeg, png, webp))


@given(st.sampled_from(sorted(MAKERS)), st.data())
def test_damaged_files_are_cleaned_or_refused(name, data):
    """Bytes cut off, or one of the first kilobyte changed: nothing but an ImageError may come of it."""
    whole = MAKERS[name]()
    if data.draw(st.booleans()):
        broken = whole[: data.draw(st.integers(16, len(whole)))]
    else:
        place = data.draw(st.integers(16, 1000))
        broken = whole[:place] + bytes([data.draw(st.integers(0, 255))]) + whole[place + 1 :]
    with suppress(ImageError):
        assert without_metadata(broken, 1, name)[:2] == whole[:2]


@needs_data
def test_real_files_stay_bit_for_bit():
    looked = 0
    for folder in ("hostile", "photos", "pennfudan/images"):
        for path in sorted((DATA / folder).iterdir())[:40]:
            data = path.read_bytes()
            try:
                header, pixels = decode_with_header(data, path.name)
            except ImageError:
                continue
            if header.format not in ("JPEG", "PNG", "WEBP"):
                continue
            clean = without_metadata(data, header.orientation, path.name)
            np.testing.assert_array_equal(decode(clean), pixels)
            assert decode_with_header(clean, "x")[0].camera is None
            looked += 1
    assert looked > 50
