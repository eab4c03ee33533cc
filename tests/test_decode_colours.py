"""decode: orientation, modes and colour profiles are applied, so that what is used is what a viewer shows."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from encoded import (
    ADOBE_PRIMARIES,
    SRGB_PRIMARIES,
    corner,
    gradient,
    icc_profile,
    rgb_profile,
    saved,
    stored_as,
)
from sightline.data.decode import decode, decode_with_header

# ---- orientation, metadata -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "AVIF", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_in_every_format_that_has_it(format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}, "JPEG": {"quality": 100, "subsampling": 0}}
    data = saved(stored_as(gradient(), orientation), format, exif=exif, **lossless.get(format, {}))
    header, pixels = decode_with_header(data, "x")
    assert (header.width, header.height) == (64, 48)
    np.testing.assert_allclose(pixels.astype(int), np.asarray(gradient()).astype(int), atol=6)


def test_header_tells_camera_time_and_a_lying_name():
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0132] = "ACME\0", "ACME One\x1b", "2021:02:03 04:05:06"
    header, _ = decode_with_header(saved(gradient(), "PNG", exif=exif), "a/photo.JPG")
    assert (header.camera, header.taken) == ("ACME One", "2021-02-03T04:05:06")
    assert header.note == "named .JPG but holds PNG data"
    exif.get_ifd(0x8769)[0x9003] = "2020:02:03 04:05:06"
    exif[0x010F] = "Firm"
    header, _ = decode_with_header(saved(gradient(), "JPEG", exif=exif), "photo.jpeg")
    assert (header.camera, header.taken, header.note) == ("Firm ACME One", "2020-02-03T04:05:06", None)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01" * 40]
)
def test_broken_exif_costs_the_facts_not_the_image(exif):
    header, pixels = decode_with_header(saved(gradient(), "JPEG", exif=exif), "x.jpg")
    assert pixels.shape == (48, 64, 3)
    assert header.taken is None


@pytest.mark.parametrize("value", [0, 9, -1, 65535])
def test_an_orientation_out_of_range_is_ignored(value):
    exif = Image.Exif()
    exif[0x0112] = value % 65536
    assert decode(saved(gradient(), "JPEG", exif=exif)).shape == (48, 64, 3)


# ---- modes and colours -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 257, 32768, 65535]], np.uint16), [0, 1, 128, 255]),
        (np.array([[0, 128, 129, 65406]], np.uint16), [0, 0, 1, 254]),  # rounded, 257 to 1
        (np.array([[0, 257, 32768, 65535]], np.int32), [0, 1, 128, 255]),
        (np.array([[-100, 0, 100, 155]], np.int32), [0, 100, 200, 255]),  # from its own minimum to maximum
        (np.array([[0, 1_000_000, 500_000, 0]], np.int32), [0, 255, 128, 0]),
        (np.array([[0.0, 0.2, 0.5, 1.0]], np.float32), [0, 51, 128, 255]),
        (np.array([[np.nan, -1.0, np.inf, 1.0]], np.float32), [0, 0, 255, 255]),
        (np.array([[7.0, 7.0]], np.float32), [0, 0]),
        (np.array([[np.nan, np.inf]], np.float32), [0, 0]),
    ],
)
def test_deep_grey_is_scaled_not_clipped(values, expected):
    expected = [[[grey] * 3 for grey in expected]]
    assert decode(Image.fromarray(values)).tolist() == expected
    assert decode(saved(Image.fromarray(values), "TIFF")).tolist() == expected


def test_sixteen_bits_in_png_and_both_byte_orders_of_pgm_and_tiff():
    values = np.array([[0, 257, 32768, 65535]], np.uint16)
    expected = [[[grey] * 3 for grey in (0, 1, 128, 255)]]
    assert decode(saved(Image.fromarray(values), "PNG")).tolist() == expected
    assert decode(b"P5 4 1 65535\n" + values.astype(">u2").tobytes()).tolist() == expected
    assert decode(Image.frombytes("I;16B", (4, 1), values.astype(">u2").tobytes())).tolist() == expected


def test_every_sixteen_bit_level_is_rounded_as_by_division():
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(decode(Image.fromarray(levels))[..., 0], np.rint(levels / 257).astype(np.uint8))


def palette_image(transparency: bytes | int) -> bytes:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 100, 0, 0, 0, 255])
    return saved(image, "PNG", transparency=transparency)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (Image.new("CMYK", (4, 4), (0, 255, 255, 0)), [255, 0, 0]),
        (saved(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "TIFF"), [0, 255, 255]),
        (Image.new("L", (4, 4), 77), [77, 77, 77]),
        (Image.new("1", (4, 4), 1), [255, 255, 255]),
        (saved(Image.new("1", (9, 4), 0), "PNG"), [0, 0, 0]),
        (b"P4 1 1\n\x80", [0, 0, 0]),  # in PBM a one is black
        (b"P3 1 1 255 1 2 3\n", [1, 2, 3]),
        (Image.new("LA", (4, 4), (0, 255)), [0, 0, 0]),
        (saved(Image.new("LA", (4, 4), (0, 102)), "PNG"), [153, 153, 153]),  # 40% black on white
        (saved(Image.new("RGBA", (4, 4), (255, 0, 0, 51)), "PNG"), [255, 204, 204]),  # 20% red on white
        (saved(Image.new("RGBA", (4, 4), (9, 9, 9, 0)), "WEBP", lossless=True), [255, 255, 255]),
        (Image.new("RGBa", (4, 4), (51, 0, 0, 51)), [255, 204, 204]),  # the same, premultiplied
        (Image.new("La", (4, 4), (0, 102)), [153, 153, 153]),
        (palette_image(bytes([255, 51, 255])), [244, 224, 204]),  # 20% of (200, 100, 0) on white
        (palette_image(1), [255, 255, 255]),
        (palette_image(0), [200, 100, 0]),
        (saved(Image.new("RGB", (4, 4), (1, 2, 3)), "PNG", transparency=(1, 2, 3)), [255, 255, 255]),
        (Image.new("YCbCr", (4, 4), (128, 128, 128)), [128, 128, 128]),
        (Image.new("HSV", (4, 4), (0, 255, 255)), [255, 0, 0]),
        (Image.new("LAB", (4, 4), (255, 128, 128)), [255, 255, 255]),
    ],
)
def test_a_mode_becomes_the_rgb_a_viewer_shows(source, expected):
    assert np.abs(decode(source).astype(int) - expected).max() <= 1


def as_srgb(linear: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1: linear light in 0..1 as 0..255."""
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clip(0) ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_an_embedded_profile_is_converted_to_srgb(format):
    colour = np.array([120, 160, 130])
    linear = (colour / 255) ** 2.19921875 @ ADOBE_PRIMARIES @ np.linalg.inv(SRGB_PRIMARIES)
    options = {"lossless": True} if format == "WEBP" else {}
    data = saved(Image.new("RGB", (4, 4), tuple(colour)), format, icc_profile=rgb_profile(ADOBE_PRIMARIES), **options)
    assert np.abs(decode(data)[0, 0] - as_srgb(linear)).max() <= 2
    assert np.abs(as_srgb(linear) - colour).max() > 15  # the test would see a profile that was ignored


def test_profiles_with_exchanged_primaries_exchange_the_colours():
    exchanged = rgb_profile(SRGB_PRIMARIES[[1, 0, 2]])
    opaque, alpha = Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("RGBA", (4, 4), (255, 0, 0, 255))
    assert np.abs(decode(saved(opaque, "JPEG", icc_profile=exchanged))[0, 0].astype(int) - [0, 255, 0]).max() <= 3
    assert np.abs(decode(saved(alpha, "PNG", icc_profile=exchanged))[0, 0].astype(int) - [0, 255, 0]).max() <= 3


def test_a_grey_profile_is_converted():
    linear = icc_profile(b"GRAY", {b"kTRC": 1.0}, {})
    assert corner(saved(Image.new("L", (4, 4), 128), "PNG", icc_profile=linear)) == [188, 188, 188]  # half the light


@pytest.mark.parametrize("profile", [b"junk", b"\0" * 200, rgb_profile(ADOBE_PRIMARIES)[:150], icc_profile(b"GRAY", {b"kTRC": 1.0}, {})])
def test_a_broken_or_foreign_profile_is_ignored(profile):
    assert corner(saved(Image.new("RGB", (4, 4), (10, 200, 30)), "PNG", icc_profile=profile)) == [10, 200, 30]
