"""Claim: whatever bytes are given as an image, decoding gives pixels or one ImageError, in bounded time and memory.

    python benchmarks/fuzz_images.py [--seeds 0 1...] [--count 100000] [--first 0] [--only NUMBER] [--add] [--quick]

Files of every format that is read are flipped, cut, spliced, filled, and their sizes and other fields overwritten, then decoded, with and
without bands and windows, and prepared for a network. The other ways to read a file (its size, a mask's values, its pages) take turns.
"""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import Any

import fuzzing
import mutations
import numpy as np
from PIL import Image

from sightline.data.decode import decode_picture, decode_with_header, pages, read_size, read_values
from sightline.data.prepare import Prepare
from sightline.data.reading import Reading
from sightline.records import ImageRef

WIDTH, HEIGHT = 53, 37
# An image of as many pixels as the limits allow takes 480 MB as RGBA, and is there twice or three times on its way.
MEMORY = 2 << 30
READINGS = (
    Reading(),
    Reading(),
    Reading(),
    Reading((0.0, 4095.0)),
    Reading(None, (1, 2, 3)),
    Reading(None, (1,)),
    Reading((10.0, 200.0), (2, 5)),
)
PREPARES = tuple(Prepare(24, fit=fit) for fit in ("crop", "pad", "squash"))


@lru_cache(1)
def samples() -> tuple[bytes, ...]:
    """Small files of all formats, in many of their ways to store."""
    rng = np.random.default_rng(7)
    smooth = Image.fromarray(rng.integers(0, 256, (5, 6, 4), np.uint8), "RGBA").resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    return (*_by_pillow(smooth), *_tiffs(np.asarray(smooth)), *_dicoms(np.asarray(smooth)))


def _by_pillow(rgba: Image.Image) -> list[bytes]:
    rgb, grey = rgba.convert("RGB"), rgba.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "A maker"
    palette, moving = rgb.quantize(17), {"save_all": True, "append_images": [rgb.rotate(90), rgb.transpose(1)], "duration": 50}
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    ways: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (rgb, "JPEG", {"exif": exif}), (rgb, "JPEG", {"progressive": True, "icc_profile": profile}), (grey, "JPEG", {"quality": 30}),
        (rgb.convert("CMYK"), "JPEG", {}), (rgb, "JPEG", {"subsampling": 2, "comment": b"a remark"}), (rgb, "MPO", moving),
        (rgb, "PNG", {}), (rgba, "PNG", {"exif": exif}), (palette, "PNG", {"transparency": 3}), (deep, "PNG", {}),
        (grey.convert("1"), "PNG", {}), (rgb, "PNG", {"icc_profile": profile}), (grey.convert("LA"), "PNG", {}), (rgb, "PNG", moving),
        (rgb, "WEBP", {}), (rgba, "WEBP", {"lossless": True}), (rgb, "WEBP", moving), (rgb, "WEBP", {"exif": exif}),
        (rgb, "BMP", {}), (palette, "BMP", {}), (grey.convert("1"), "BMP", {}), (rgba, "BMP", {}),
        (palette, "GIF", {}), (palette, "GIF", {**moving, "loop": 0}), (palette, "GIF", {"transparency": 2, "interlace": 1}),
        (rgb, "TIFF", {}), (rgb, "TIFF", {"compression": "tiff_lzw"}), (rgb, "TIFF", {"compression": "jpeg"}), (deep, "TIFF", {}),
        (rgba, "TIFF", {"compression": "tiff_deflate"}), (grey.convert("1"), "TIFF", {"compression": "group4"}),
        (grey.convert("F"), "TIFF", {}), (rgb.convert("CMYK"), "TIFF", {}), (rgb, "AVIF", {"speed": 10}), (rgba, "AVIF", {"speed": 10}),
        (rgb, "AVIF", {**moving, "speed": 10}), (rgb, "PPM", {}), (grey, "PPM", {}), (grey.convert("F"), "PPM", {}),
    ]  # fmt: skip
    return [_saved(image, form, how) for image, form, how in ways]


def _saved(image: Image.Image, form: str, how: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    image.save(sink, form, **how)
    return sink.getvalue()


def _tiffs(pixels: np.ndarray) -> list[bytes]:
    """What only tifffile writes: many bands, deep colours, tiles, planes, the other byte order, 64-bit offsets."""
    import tifffile

    bands = np.concatenate([pixels, pixels[..., :2]], axis=2)
    deep = bands.astype(np.uint16) * 16
    ways: list[tuple[np.ndarray, dict[str, Any]]] = [
        (bands, {}), (deep, {"compression": "zlib"}), (deep, {"byteorder": ">"}), (deep, {"bigtiff": True}),
        (bands, {"tile": (16, 16), "compression": "zlib"}), (np.moveaxis(bands, -1, 0), {"planarconfig": "separate"}),
        (bands.astype(np.float32), {"rowsperstrip": 7}), (deep[..., :1].astype(np.int32) - 500, {}),
        (np.stack([deep[..., 0], deep[..., 1]]), {"photometric": "minisblack"}), (deep[..., :3], {"photometric": "rgb"}),
    ]  # fmt: skip
    found = []
    for values, how in ways:
        sink = io.BytesIO()
        many = {"planarconfig": "contig"} if values.ndim == 3 and values.shape[-1] > 4 and "planarconfig" not in how else {}
        tifffile.imwrite(sink, values, **{"photometric": "minisblack", **many, **how})
        found.append(sink.getvalue())
    return found


def _dicoms(pixels: np.ndarray) -> list[bytes]:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    found = []
    levels = pixels[..., 0].astype(np.uint16) * 16
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        for colours, values, frames in (
            ("MONOCHROME2", levels, 1), ("MONOCHROME1", levels.astype(np.int16) - 1000, 1),
            ("RGB", np.ascontiguousarray(pixels[..., :3]), 1), ("MONOCHROME2", np.stack([levels, levels[::-1]]), 2),
        ):  # fmt: skip
            meta = FileMetaDataset()
            meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
                syntax,
                "1.2.840.10008.5.1.4.1.1.7",
                "1.2.3",
            )
            made = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
            made.Rows, made.Columns, made.SamplesPerPixel, made.PhotometricInterpretation = (
                HEIGHT,
                WIDTH,
                1 + 2 * (colours == "RGB"),
                colours,
            )
            made.BitsAllocated, made.BitsStored = (8, 8) if colours == "RGB" else (16, 12)
            made.HighBit, made.PixelRepresentation, made.NumberOfFrames = made.BitsStored - 1, int(values.dtype.kind == "i"), frames
            made.PlanarConfiguration, made.WindowCenter, made.WindowWidth = 0, 1000, 800
            made.RescaleSlope, made.RescaleIntercept, made.Manufacturer = "1.5", "-100", "A maker"
            made.PixelData = values.tobytes()
            sink = io.BytesIO()
            made.save_as(sink, enforce_file_format=True)
            found.append(sink.getvalue())
    return found


def mutated(seed: int, number: int) -> bytes:
    """The input of a number."""
    rng, files = np.random.default_rng([seed, number]), samples()
    data = bytearray(files[number % len(files)])
    for _ in range((1, 1, 1, 2, 3)[rng.integers(5)]):
        kind = rng.integers(len(mutations.PLAIN) + 3)
        if not data:
            break
        if kind < len(mutations.PLAIN):
            mutations.PLAIN[kind](rng, data)
        elif kind == len(mutations.PLAIN):
            mutations.splice(rng, data, files)
        else:
            mutations.inflate(rng, data, (WIDTH, HEIGHT))
    return mutations.with_checksums(bytes(data)) if rng.integers(4) else bytes(data)


def attempt(seed: int, number: int, folder: Path) -> None:
    data = mutated(seed, number)
    reading, prepare = READINGS[number % len(READINGS)], PREPARES[number % len(PREPARES)]
    if number % 8 == 7:
        path = folder / "image"
        path.write_bytes(data)
        for read in (read_size, pages, read_values, lambda ref: decode_with_header(data, str(ref), frame=1)):
            read(ImageRef(str(path)))
        return
    picture, _ = decode_picture(data, name="it", min_side=prepare.min_side if number % 2 else None, reading=reading)
    if reading.channels == 3:
        image, _ = prepare(picture)
        assert image.shape == (*prepare.shape, 3), image.shape
    else:
        assert isinstance(picture, np.ndarray)
        assert (picture.dtype, picture.shape[2]) == (np.uint8, reading.channels), picture.shape


if __name__ == "__main__":
    claim = "Whatever bytes are given as an image: pixels, or one reason."
    fuzzing.main(__file__, __doc__, "fuzz_images", claim, {"images": (attempt, 100_000)}, MEMORY, samples)
