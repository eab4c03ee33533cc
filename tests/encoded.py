"""Images in the bytes of a format, with an orientation or a colour profile, and what is said of those that are refused."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageFile

from sightline.data.decode import decode
from sightline.errors import ImageError


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


def watched_pixel_memory(monkeypatch) -> list[object]:
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
