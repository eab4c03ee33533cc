"""decode: hostile files are used or refused for their own reason, and what is asked of an image is what is given."""

from __future__ import annotations

import io
import os
import struct
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from encoded import (
    ADOBE_PRIMARIES,
    corner,
    gradient,
    refusal,
    rgb_profile,
    saved,
    stored_as,
    watched_pixel_memory,
)
from sightline.data.decode import decode, decode_with_header, read_bytes, read_size
from sightline.errors import ImageError
from sightline.records import ImageRef

DATA = Path(os.environ.get("SIGHTLINE_DATA", Path(__file__).parents[2] / "shared" / "data"))
HOSTILE, PHOTOS = DATA / "hostile", DATA / "photos"
needs_data = pytest.mark.skipif(not HOSTILE.is_dir(), reason=f"no test data at {DATA}; set SIGHTLINE_DATA")

USED = {  # file name -> (height, width)
    "broken_exif_dpi.jpg": (100, 100),
    "exif-dpi-zerodivision.jpg": (200, 200),
    "exif_typeerror.jpg": (531, 800),
    "hopper.jpg": (128, 128),
    "hopper_bad_exif.jpg": (500, 500),
    "hopper_gray.jpg": (128, 128),
    "hopper_16bit.pgm": (128, 128),
    "hopper_orientation_2.jpg": (128, 128),
    "hopper_orientation_6.jpg": (128, 128),
    "hopper_orientation_8.webp": (128, 128),
    "mode_palette_alpha.png": (64, 128),
    "mode_16bit.png": (64, 128),
    "delay.png": (64, 128),
    "pil_sample_cmyk.jpg": (100, 100),
    "rot1mir1.avif": (427, 640),
}
REFUSED = {  # file name -> what the reason says
    "badwidth.bmp": "declares 4294967169 x 64 = 274,877.8988 megapixels, the limit is 120",
    "reallybig.bmp": "declares 3000000 x 2000000 = 6,000,000 megapixels, the limit is 120",
    "decompression_bomb.gif": "declares too many pixels",
    "decompression_bomb.ico": "format ICO is not supported",
    "broken.png": "damaged PNG data",
    "broken_data_stream.png": "damaged PNG data (unrecognized data stream",
    "crash-0c7e0e8e11ce787078f00b5b0ca409a167f070e0.tif": "damaged TIFF data",
    "crash-2020-10-test.tif": "damaged TIFF data",
    "crash-465703f71a0f0094873a3e0e82c9f798161171b8.sgi": "format SGI is not supported",
    "crash-4fb027452e6988530aa5dabee76eecacb3b79f8a.j2k": "format JPEG 2000 is not supported",
    "crash-5762152299364352.fli": "format FLI is not supported (supported: JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF, PPM, DICOM)",
    "fli_overflow.fli": "format FLI is not supported",
    "sunraster.im1": "format SUN is not supported",
    "shortfile.bmp": "truncated BMP data (at least 813 bytes are missing)",
    "truncated_image.png": "truncated PNG data (at least 23639 bytes are missing)",
    "truncated_jpeg.jpg": "truncated JPEG data",
}


@pytest.fixture
def taken_pixel_memory(monkeypatch) -> list[object]:
    return watched_pixel_memory(monkeypatch)


# ---- real files ------------------------------------------------------------------------------------------------------


@needs_data
def test_every_hostile_file_is_listed_here():
    assert {file.name for file in HOSTILE.iterdir()} == USED.keys() | REFUSED.keys()


@needs_data
@pytest.mark.parametrize("file", USED)
def test_a_usable_hostile_file_is_used(file):
    ref = ImageRef(str(HOSTILE / file))
    pixels = decode(ref)
    assert pixels.shape == (*USED[file], 3)
    assert pixels.dtype == np.uint8
    header, same = decode_with_header(read_bytes(ref), ref.path)
    assert (header.height, header.width) == USED[file]
    assert header.note is None
    np.testing.assert_array_equal(pixels, same)


@needs_data
@pytest.mark.parametrize("file", REFUSED)
def test_a_bad_hostile_file_is_refused_with_its_own_reason(file):
    path = str(HOSTILE / file)
    error = refusal(ImageRef(path))
    assert error.path == path
    assert REFUSED[file] in error.reason
    assert error.exit_code == 3
    with pytest.raises(ImageError) as caught:
        decode_with_header(Path(path).read_bytes(), path)
    assert (caught.value.path, caught.value.reason) == (path, error.reason)


@needs_data
@pytest.mark.parametrize("file", ["badwidth.bmp", "reallybig.bmp", "decompression_bomb.gif", "decompression_bomb.ico"])
def test_a_bomb_is_refused_before_pixel_memory_is_taken(file, taken_pixel_memory):
    refusal(ImageRef(str(HOSTILE / file)))
    assert not taken_pixel_memory


@needs_data
@pytest.mark.parametrize("number", range(1, 9))
def test_all_eight_orientations_show_the_same_photograph(number):
    upright = decode(ImageRef(str(PHOTOS / "Landscape_1.jpg"))).astype(np.int16)
    header, turned = decode_with_header((PHOTOS / f"Landscape_{number}.jpg").read_bytes(), "x.jpg")
    assert turned.shape == upright.shape == (header.height, header.width, 3)
    assert np.median(np.abs(turned - upright)) <= 2
    assert np.mean(np.abs(turned - upright)) < 5  # a wrong turn or mirror gives 70


@needs_data
def test_exif_facts_of_real_files():
    def header(file):
        return decode_with_header((HOSTILE / file).read_bytes(), file)[0]

    nikon = header("broken_exif_dpi.jpg")
    assert (nikon.format, nikon.mode, nikon.camera) == ("JPEG", "RGB", "NIKON CORPORATION NIKON D800")
    assert nikon.taken == "2013-09-11T16:45:13"
    assert header("hopper.jpg").camera is None
    assert header("hopper.jpg").taken is None


# ---- draft, window, frame, sources -----------------------------------------------------------------------------------


@settings(max_examples=40)
@given(height=st.integers(1, 200), width=st.integers(1, 200), min_side=st.integers(1, 250))
def test_draft_keeps_the_shorter_side_at_least_min_side(height, width, min_side):
    data = saved(Image.new("RGB", (width, height), "red"), "JPEG")
    header, pixels = decode_with_header(data, "x.jpg", min_side=min_side)
    assert (header.height, header.width) == (height, width)
    assert min(pixels.shape[:2]) >= min(min_side, height, width)
    assert max(pixels.shape[:2]) <= max(height, width)
    np.testing.assert_array_equal(pixels, decode(data, min_side=min_side))


def test_draft_shrinks_by_the_largest_power_that_is_allowed():
    data = saved(Image.new("RGB", (800, 400)), "JPEG")
    assert [decode(data, min_side=side).shape[0] for side in (50, 51, 100, 101, 200, 201, 400, 999)] == [
        50,
        100,
        100,
        200,
        200,
        400,
        400,
        400,
    ]


def test_a_window_is_cut_from_the_upright_full_size_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.png"
    path.write_bytes(saved(stored_as(gradient(), 6), "PNG", exif=exif))
    expected = np.asarray(gradient())[20:40, 10:50]
    np.testing.assert_array_equal(decode(ImageRef(str(path), window=(10, 20, 50, 40)), min_side=2), expected)
    jpeg = tmp_path / "a.jpg"
    jpeg.write_bytes(saved(gradient(), "JPEG"))
    assert decode(ImageRef(str(jpeg), window=(0, 0, 64, 48)), min_side=2).shape == (48, 64, 3)
    for window in [(0, 0, 65, 48), (-1, 0, 5, 5), (5, 5, 5, 9), (9, 0, 3, 5), (0, 40, 5, 49)]:
        assert "window" in refusal(ImageRef(str(path), window=window)).reason


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_first_frame_unless_another_is_asked_for(format, tmp_path):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    path = tmp_path / "moving"
    path.write_bytes(saved(frames[0], format, save_all=True, append_images=frames[1:]))
    for frame, colour in enumerate(np.eye(3) * 255):
        pixels = decode(ImageRef(str(path), frame=frame)).astype(int)
        assert np.abs(pixels - colour).max() <= 4
    assert corner(path.read_bytes()) == corner(ImageRef(str(path)))
    for frame in (3, -1):
        error = refusal(ImageRef(str(path), frame=frame))
        assert error.reason == f"there is no frame {frame}"
        assert error.path == f"{path}#{frame}"


def test_a_broken_second_page_does_not_cost_the_first():
    pages = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime")]
    data = saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    (directory,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, directory)
    link = directory + 2 + 12 * entries  # to the second page
    _, pixels = decode_with_header(data[:link] + struct.pack("<I", 10**9) + data[link + 4 :], "x.tif")
    assert pixels[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4)])
def test_arrays_and_pillow_images_are_sources(shape):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    if shape[2:] == (4,):
        array[..., 3] = 255
    expected = array[..., :3] if array.ndim == 3 else array[..., None]
    pixels = decode(array)
    np.testing.assert_array_equal(pixels, np.broadcast_to(expected, (5, 7, 3)))
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    assert not np.shares_memory(pixels, array)
    if shape[2:] != (1,):
        np.testing.assert_array_equal(decode(Image.fromarray(array)), pixels)
    np.testing.assert_array_equal(decode(array[::-1, ::2]), pixels[::-1, ::2])


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4)),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_any_other_array_is_refused(array):
    assert "an array must be" in refusal(array, name="mine").reason


def test_a_pillow_image_is_turned_upright_and_left_alone():
    exif = Image.Exif()
    exif[0x0112] = 8
    image = Image.open(io.BytesIO(saved(stored_as(gradient(), 8), "PNG", exif=exif)))
    np.testing.assert_array_equal(decode(image, min_side=8), np.asarray(gradient()))
    assert image.size == (48, 64)


def test_anything_else_is_a_mistake_of_the_caller():
    with pytest.raises(TypeError, match="not str"):
        decode("photo.jpg")


# ---- warnings and threads --------------------------------------------------------------------------------------------


def remarkable() -> bytes:
    """A TIFF that Pillow reads with a warning: two values for the planar configuration, which takes one."""
    data = saved(gradient(), "TIFF")
    return data.replace(struct.pack("<HHIHH", 284, 3, 1, 1, 0), struct.pack("<HHIHH", 284, 3, 2, 1, 1))


def test_pillows_remarks_are_muted_for_us_and_not_for_the_user():
    data = remarkable()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with ThreadPoolExecutor(4) as pool:
            shapes = {pixels.shape for pixels in pool.map(decode, [data] * 16)}
        assert shapes == {(48, 64, 3)}
        assert not seen
        Image.open(io.BytesIO(data)).load()
        assert seen


def test_threads_agree_with_one_thread():
    profile = rgb_profile(ADOBE_PRIMARIES)
    sources = [saved(gradient(40 + i, 50), format, icc_profile=profile) for i in range(8) for format in ("JPEG", "PNG", "TIFF")]
    with ThreadPoolExecutor(4) as pool:
        for threaded, alone in zip(pool.map(decode, sources), map(decode, sources), strict=True):
            np.testing.assert_array_equal(threaded, alone)


def test_the_size_is_read_without_decoding(tmp_path, monkeypatch):
    path = tmp_path / "wide.png"
    Image.new("RGB", (30, 20)).save(path)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("pixels were loaded"))
    assert read_size(ImageRef(str(path))) == (30, 20)
