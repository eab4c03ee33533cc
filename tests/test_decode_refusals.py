"""decode: what is refused is refused with its reason, before memory is taken, and any bytes give pixels or a refusal."""

from __future__ import annotations

import io
import os
import pickle
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from encoded import (
    ADOBE_PRIMARIES,
    gradient,
    refusal,
    rgb_profile,
    saved,
    watched_pixel_memory,
)
from sightline.data.decode import Limits, decode, decode_with_header, read_bytes
from sightline.errors import ImageError
from sightline.records import ImageRef


@pytest.fixture
def taken_pixel_memory(monkeypatch) -> list[object]:
    return watched_pixel_memory(monkeypatch)


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
