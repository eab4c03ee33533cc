"""decode: hostile files are used or refused for their own reason, and what is used is what a viewer shows."""

from __future__ import annotations

import io
import os
import pickle
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from sightline.data.decode import Limits, decode, decode_with_header, read_bytes, read_size
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


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def gradient(height: int = 48, width: int = 64) -> Image.Image:
    """An image whose every pixel tells where it belongs: red grows to the right, green downwards."""
    down, right = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([right * 255 // (width - 1), down * 255 // (height - 1), 0 * down], -1).astype(np.uint8))


def refusal(source: object, **options: object) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(source, **options)
    assert "\n" not in caught.value.reason
    return caught.value


def corner(source: object) -> list[int]:
    return decode(source)[0, 0].tolist()


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


@pytest.fixture
def taken_pixel_memory(monkeypatch) -> list[object]:
    """Sizes of the pixel memory that Pillow takes."""
    sizes: list[object] = []

    class Core:
        def __getattr__(self, name):
            return getattr(core, name)

        def new(self, mode, size):
            sizes.append(size)
            return core.new(mode, size)

    core = Image.core
    monkeypatch.setattr(Image, "core", Core())
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: sizes.append(image.size))
    return sizes


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


# ---- orientation, metadata -------------------------------------------------------------------------------------------


def stored_as(image: Image.Image, orientation: int) -> Image.Image:
    """How a camera would store ``image`` with that EXIF value: the table of the EXIF standard, read backwards."""
    pixels = np.asarray(image)
    stored = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels),
        7: np.rot90(pixels.transpose(1, 0, 2), 2),
        8: np.rot90(pixels, -1),
    }
    return Image.fromarray(np.ascontiguousarray(stored[orientation]))


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


def icc_profile(space: bytes, curves: dict[bytes, float], primaries: dict[bytes, tuple[float, float, float]]) -> bytes:
    """A matrix and gamma profile after ICC.1:2001-04: header, tag table, tags."""
    white = (0.9642, 1.0, 0.8249)

    def xyz(values):
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))

    tags = {b"wtpt": xyz(white)} | {name: xyz(values) for name, values in primaries.items()}
    tags |= {name: b"curv\0\0\0\0" + struct.pack(">IHxx", 1, round(gamma * 256)) for name, gamma in curves.items()}
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content
    header = struct.pack(">I4sI4s4s4s12x4s24xI", start + len(body), b"lcms", 0x02400000, b"mntr", space, b"XYZ ", b"acsp", 0)
    return (header + xyz(white)[8:]).ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


SRGB_PRIMARIES = np.array([(0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)])  # rows, for D50
ADOBE_PRIMARIES = np.array([(0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)])


def rgb_profile(primaries: np.ndarray, gamma: float = 2.19921875) -> bytes:
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma)
    return icc_profile(b"RGB ", curves, dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), map(tuple, primaries), strict=True)))


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


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "fragment"),
    [
        (b"", "the file is empty"),
        (b"<!DOCTYPE html><html>not found</html>", "not an image but an HTML page"),
        (b"%PDF-1.7 ...", "not an image but a PDF document"),
        (b"PK\x03\x04....", "not an image but a ZIP archive"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "not an image but a video"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"\0" * 600, "not an image but zero bytes only"),
        ("Grüße\n".encode(), "not an image but text"),
        (b"\x02\x03\x04\x05\x06" * 20, "not an image in a known format (supported: JPEG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "format HEIC is not supported"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "format HEIC is not supported"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "format JPEG XL is not supported"),
        (b"8BPS\0\1", "format PSD is not supported"),
        (b"II*\0\x10\0\0\0CR\2\0", "format camera raw is not supported"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg">', "format SVG is not supported"),
        (b"\xff\xd8\xff\xe0", "damaged JPEG data"),
        (b"II*\0\x08\0\0\0\0\0\0\0\0\0", "damaged TIFF data"),
        (b"GIF89a", "GIF data"),
        (b"P5 x y z\n", "damaged PPM data"),
    ],
)
def test_a_refusal_says_what_the_file_is(data, fragment):
    assert fragment in refusal(data).reason
    with pytest.raises(ImageError) as caught:
        decode_with_header(data, "x.jpg")
    assert fragment in caught.value.reason
    assert str(caught.value).startswith("x.jpg: ")


@pytest.mark.parametrize(
    ("format", "untold"),  # bytes that are missing without the file saying so; None where it says nothing
    [("PNG", 12), ("WEBP", 0), ("BMP", 0), ("JPEG", None), ("TIFF", None), ("PPM", None)],
)
def test_half_a_file_is_truncated(format, untold):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = saved(noise, format)
    half = data[: len(data) // 2]
    missing = "" if untold is None else f" (at least {len(data) - len(half) - untold} bytes are missing)"
    assert refusal(half).reason == f"truncated {format.replace('WEBP', 'WebP')} data{missing}"


def declared(format: str, width: int, height: int) -> bytes:
    """A file whose header declares more pixels than it has."""
    if format == "PPM":
        return b"P5 %d %d 255\n" % (width, height)
    data = bytearray(saved(Image.new("RGB", (16, 16)), format, lossless=True))  # WebP's header is simpler then, the others do not mind
    if format == "PNG":
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif format == "JPEG":
        frame = data.index(b"\xff\xc0")
        data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    elif format == "GIF":
        data[6:10] = struct.pack("<HH", width, height)
    elif format == "BMP":
        data[18:26] = struct.pack("<ii", width, height)
    else:
        data[21:25] = struct.pack("<I", (width - 1) | (height - 1) << 14)
    return bytes(data)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "PPM"])
def test_too_many_declared_pixels_are_refused_before_memory_is_taken(format, taken_pixel_memory):
    error = refusal(declared(format, 12_001, 10_000))
    assert error.reason == "declares 12001 x 10000 = 120.01 megapixels, the limit is 120"
    assert not taken_pixel_memory
    refusal(declared(format, 16, 17), limits=Limits(max_pixels=300))  # within the limit: the watch would have seen it
    assert taken_pixel_memory


def test_limits_are_ours_and_not_pillows(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    data = saved(gradient(), "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(data).shape == (48, 64, 3)  # 30 times what Pillow allows
    assert "0.003072 megapixels, the limit is 0.003" in refusal(data, limits=Limits(max_pixels=3000)).reason
    assert "Pillow" in refusal(saved(gradient(), "TIFF")).reason  # its plugin asks by itself
    assert Image.MAX_IMAGE_PIXELS == 100


def test_too_many_bytes_are_refused(tmp_path):
    path = tmp_path / "big.png"
    path.write_bytes(saved(gradient(), "PNG"))
    limits = Limits(max_bytes=100)
    for source in (ImageRef(str(path)), path.read_bytes()):
        assert "megabytes, the limit is 0.0001" in refusal(source, limits=limits).reason
    with pytest.raises(ImageError, match="the limit is"):
        read_bytes(ImageRef(str(path)), limits)


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    assert refusal(ImageRef(str(tmp_path / "absent.jpg"))).reason == "no such file"
    assert refusal(ImageRef("a\0b.jpg")).reason == "no such file"
    assert refusal(ImageRef(str(tmp_path))).reason == "is a folder, not an image"
    assert "cannot be read" in refusal(ImageRef(str(tmp_path / ("x" * 5000)))).reason
    assert "archive" in refusal(ImageRef("a.zip", member="b.jpg")).reason
    path = tmp_path / "secret.jpg"
    path.write_bytes(b"x")
    assert refusal(ImageRef(f"{path}/inside.jpg")).reason == "no such file"

    def forbidden(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", forbidden)
    assert refusal(ImageRef(str(path))).reason == "permission denied"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "pipe" in refusal(ImageRef(str(tmp_path / "pipe.jpg"))).reason


def test_memory_and_interrupts_are_not_called_damage(monkeypatch):
    def raising(error):
        def load(image):
            raise error

        return load

    data = saved(gradient(), "BMP")
    monkeypatch.setattr(ImageFile.ImageFile, "load", raising(MemoryError()))
    assert "memory" in refusal(data).reason
    monkeypatch.setattr(ImageFile.ImageFile, "load", raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        decode(data)


def test_the_error_survives_a_process_pool():
    error = pickle.loads(pickle.dumps(refusal(b"", name="a.png")))
    assert (error.path, error.reason) == ("a.png", "the file is empty")


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


# ---- any bytes -------------------------------------------------------------------------------------------------------

WHOLE = [
    saved(
        gradient(),
        "JPEG",
        exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0",
        icc_profile=rgb_profile(ADOBE_PRIMARIES),
    ),
    saved(gradient(), "JPEG", progressive=True),
    saved(gradient(), "PNG"),
    saved(gradient().convert("P"), "PNG", transparency=bytes(range(200))),
    saved(gradient(), "GIF", save_all=True, append_images=[gradient().rotate(90)]),
    saved(gradient(), "BMP"),
    saved(gradient(), "WEBP"),
    saved(gradient().convert("L"), "PPM"),
]


def pixels_or_image_error(data: bytes) -> None:
    for call in (decode, lambda data: decode_with_header(data, "x", min_side=8)[1]):
        try:
            pixels = call(data)
        except ImageError:
            continue
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3


@settings(max_examples=100)
@given(st.binary(max_size=300), st.sampled_from([b"", *(whole[:12] for whole in WHOLE), b"II*\0", b"\0\0\0\x1cftypavif", b"P2 ", b"Pf "]))
def test_random_bytes_give_pixels_or_an_image_error(data, start):
    pixels_or_image_error(start + data)


@settings(max_examples=100)
@given(st.sampled_from(WHOLE), st.floats(0, 1))
def test_any_truncation_gives_pixels_or_an_image_error(whole, share):
    pixels_or_image_error(whole[: round(share * len(whole))])


@settings(max_examples=200)
@given(st.sampled_from(WHOLE), st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=8))
def test_any_flipped_bits_give_pixels_or_an_image_error(whole, flips):
    data = bytearray(whole)
    for share, bits in flips:
        data[int(share * len(data))] ^= bits
    pixels_or_image_error(bytes(data))


def test_the_size_is_read_without_decoding(tmp_path, monkeypatch):
    path = tmp_path / "wide.png"
    Image.new("RGB", (30, 20)).save(path)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("pixels were loaded"))
    assert read_size(ImageRef(str(path))) == (30, 20)


@pytest.mark.parametrize(("tag", "what"), [(256, "0 x 37"), (257, "53 x 0")])
def test_a_tiff_of_many_bands_that_declares_no_pixels_is_refused(tag, what):
    """Found by benchmarks/fuzz_images.py: an image of no width came back, at which preparing divided by nought."""
    tifffile = pytest.importorskip("tifffile", reason="needs the extra 'tiff'")
    sink = io.BytesIO()
    tifffile.imwrite(sink, np.zeros((37, 53, 6), np.uint8), photometric="minisblack", planarconfig="contig")
    data = bytearray(sink.getvalue())
    at = data.index(struct.pack("<HHI", tag, 4 if struct.pack("<HHI", tag, 4, 1) in data else 3, 1))
    data[at + 8 : at + 12] = bytes(4)
    with pytest.raises(ImageError, match=f"declares {what} pixels in 6 bands, which is no image"):
        decode(bytes(data))
