"""The only place that opens an image: bytes of unknown honesty in, upright RGB pixels or one ``ImageError`` out.

What a viewer would show comes back: EXIF orientation applied, transparency laid over white, embedded colour profiles converted to
sRGB, 16 bits scaled to 8. Pillow's plugins are called directly, which ``Image.open`` would do after a look at the process-wide
``PIL.Image.MAX_IMAGE_PIXELS``: ``Limits`` takes its place, checked on the declared size before pixel memory is taken, and nobody's
setting is changed. (The GIF, TIFF and WebP plugins ask that setting too; for more than twice its value it has to be raised.)
"""

from __future__ import annotations

import ctypes
import io
import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms
from PIL.ExifTags import IFD, Base

from sightline.data.container import read_member
from sightline.data.formats import FORMATS, format_of, missing_bytes, note_on_name, why_unsupported
from sightline.errors import ImageError
from sightline.records import ImageRef

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Limits:
    """The largest image that is opened: pixels of one frame as its header declares them, and bytes of the file."""

    max_pixels: int = 120_000_000
    max_bytes: int = 256_000_000


@dataclass(frozen=True)
class Header:
    """Facts about an image file; ``width`` and ``height`` are those a viewer shows, before any scaled decoding."""

    format: str  # Pillow's name, such as "JPEG"
    mode: str  # Pillow's name, such as "RGB"
    width: int
    height: int
    camera: str | None  # EXIF make and model
    taken: str | None  # EXIF DateTimeOriginal, else DateTime, in ISO 8601
    note: str | None  # what is odd about a file that can be used all the same


_BY_ORIENTATION = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")  # from 2
# Pillow remarks on odd tags of files that it reads well, and ``warnings.catch_warnings`` would exchange the filters of all threads.
# So this filter stays where it is put; its module pattern matches Pillow's modules, in a thread that is decoding.
_THREAD = threading.local()
_PILLOW_WHILE_DECODING = SimpleNamespace(match=lambda module: module.startswith("PIL.") and getattr(_THREAD, "decoding", False))
_MUTE: Any = ("ignore", None, Warning, _PILLOW_WHILE_DECODING, 0)


def read_bytes(ref: ImageRef, limits: Limits = Limits()) -> bytes:
    """The bytes of the file or archive member that ``ref`` names, whatever its frame and window; raises ImageError."""
    if ref.member is not None:
        return read_member(ref.path, ref.member, limits.max_bytes)
    name = str(ref)
    try:
        size = os.stat(ref.path).st_size
        if not os.path.isfile(ref.path):  # reading a pipe would wait for ever
            raise ImageError(name, "is a folder, not an image" if os.path.isdir(ref.path) else "is a device or pipe, not a file")
        _check_limit(size, limits.max_bytes, name, "holds", "megabytes")
        with open(ref.path, "rb") as file:
            return file.read(size)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a null character in the path
        raise ImageError(name, "no such file") from error
    except PermissionError as error:
        raise ImageError(name, "permission denied") from error
    except OSError as error:
        raise ImageError(name, f"cannot be read ({error.strerror})") from error


def read_size(ref: ImageRef, limits: Limits = Limits()) -> tuple[int, int]:
    """(width, height) of a file as its header declares them, before orientation; raises ImageError."""
    data = read_bytes(ref, limits)
    with _one_reason(str(ref), data):
        return _opened(data, str(ref), limits, ref.frame).size


def decode(
    source: ImageRef | bytes | Pixels | Image.Image, *, name: str = "", min_side: int | None = None, limits: Limits = Limits()
) -> Pixels:
    """Upright sRGB pixels, (h, w, 3) uint8, as a viewer would show them.

    ``source`` is a reference, a file's bytes, a Pillow image, or an array (h, w), (h, w, 1), (h, w, 3) or (h, w, 4) uint8.
    With ``min_side`` the JPEG decoder may shrink the image by 2, 4 or 8 while its shorter side stays at least that long; a window
    is cut from the full size. Deep pixels: whole numbers in 0..65535 are scaled to 0..255, all others from their own minimum and
    maximum. Raises ImageError, which carries ``name`` (of a reference, unless given, the reference) and one reason.
    """
    ref = source if isinstance(source, ImageRef) else ImageRef("the image")
    name = name or str(ref)
    if isinstance(source, ImageRef):
        source = read_bytes(source, limits)
    elif not isinstance(source, bytes | np.ndarray | Image.Image):
        raise TypeError(f"decode takes an ImageRef, bytes, an array or a Pillow image, not {type(source).__name__}")
    with _one_reason(name, source):
        if isinstance(source, np.ndarray):
            source = _image_of(source, name)
        image = _opened(source, name, limits, ref.frame) if isinstance(source, bytes) else source
        if min_side and ref.window is None and image is not source:
            image.draft(None, (min_side, min_side))  # does nothing unless the format is JPEG
        pixels, _ = _upright(image)
    if ref.window is None:
        return pixels
    (left, top, right, bottom), (height, width, _) = ref.window, pixels.shape
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ImageError(name, f"its window {left},{top},{right},{bottom} is not inside the image of {width} x {height} pixels")
    return pixels[top:bottom, left:right].copy()


def decode_with_header(data: bytes, name: str, *, min_side: int | None = None, limits: Limits = Limits()) -> tuple[Header, Pixels]:
    """The facts about a file and what ``decode`` gives for its bytes, opened once; raises ImageError."""
    with _one_reason(name, data):
        image = _opened(data, name, limits)
        mode, size = image.mode, image.size
        if min_side:
            image.draft(None, (min_side, min_side))
        pixels, orientation = _upright(image)
        width, height = size[::-1] if orientation >= 5 else size
        make, model = ("".join(filter(str.isprintable, str(_tag(image, tag) or ""))).strip() for tag in (Base.Make, Base.Model))
        camera = model if model.startswith(make) else f"{make} {model}".strip()
        taken = _iso_time(_tag(image, Base.DateTimeOriginal, IFD.Exif)) or _iso_time(_tag(image, Base.DateTime))
        return Header(str(image.format), mode, width, height, camera or None, taken, note_on_name(name, data)), pixels


@contextmanager
def _one_reason(name: str, source: object) -> Iterator[None]:
    """Turns whatever Pillow raises on bad data into one ImageError, and mutes its warnings."""
    if _MUTE not in warnings.filters:
        warnings.filters.insert(0, _MUTE)  # type: ignore[attr-defined]
    _THREAD.decoding = True
    try:
        yield
    except ImageError:
        raise
    except Exception as error:  # a dozen types in Pillow alone, AttributeError among them
        raise ImageError(name, _fault(error, source if isinstance(source, bytes) else b"")) from error
    finally:
        _THREAD.decoding = False


def _fault(error: Exception, data: bytes) -> str:
    text = re.sub(r" \(chunk .*\)", "", str(error).removesuffix(" when reading image file").split("\n")[0][:100])
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    if isinstance(error, Image.DecompressionBombError):
        pixels = re.search(r"\d+", text)
        amount = f": {int(pixels.group()) / 1e6:,.10g} megapixels" if pixels else ""
        return f"declares too many pixels for Pillow{amount}"
    kind, missing = format_of(data) or "image", missing_bytes(data)
    if missing:
        return f"truncated {kind} data (at least {missing} bytes are missing)"
    if isinstance(error, EOFError) or re.search("(?i)truncated|not enough|end of file|eof", text):
        return f"truncated {kind} data"
    return f"damaged {kind} data ({text or type(error).__name__})"


def _opened(data: bytes, name: str, limits: Limits, frame: int = 0) -> Image.Image:
    """The image at a frame or page, with its header read and no pixels yet."""
    if not data:
        raise ImageError(name, "the file is empty")
    _check_limit(len(data), limits.max_bytes, name, "holds", "megabytes")
    found = format_of(data)
    if found is None:
        raise ImageError(name, why_unsupported(data))
    import_module(f"PIL.{FORMATS[found].plugin}ImagePlugin")  # registers itself
    if found == "TIFF":
        _mute_libtiff()
    image = Image.OPEN[found.upper()][0](io.BytesIO(data), "")
    try:
        for number in (0, frame):  # a page has its own size
            image.seek(number)
            declared = f"declares {image.width} x {image.height} ="
            _check_limit(image.width * image.height, limits.max_pixels, name, declared, "megapixels")
    except EOFError as error:
        raise ImageError(name, f"there is no frame {frame}") from error
    return image


@lru_cache(1)
def _mute_libtiff() -> None:
    """Libtiff writes a line to stderr for each oddity of a broken file, past Python; what matters of them is in the ImageError."""
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:  # only Linux tells which library Pillow brought
        return
    if found := re.search(r"/\S*libtiff[^/\s]*", maps):
        libtiff = ctypes.CDLL(found.group())
        libtiff.TIFFSetErrorHandler(None)
        libtiff.TIFFSetWarningHandler(None)


def _check_limit(count: int, most: int, name: str, verb: str, unit: str) -> None:
    if count > most:
        raise ImageError(name, f"{verb} {count / 1e6:,.10g} {unit}, the limit is {most / 1e6:,.10g}")


def _tag(image: Image.Image, tag: int, directory: int | None = None) -> Any:
    """An EXIF value, or None where there is none or it cannot be parsed: broken EXIF does not cost the image."""
    with suppress(Exception):
        return (image.getexif().get_ifd(directory) if directory else image.getexif()).get(tag)
    return None


def _iso_time(value: object) -> str | None:
    with suppress(ValueError):
        return datetime.strptime(str(value)[:19], "%Y:%m:%d %H:%M:%S").isoformat()
    return None


def _upright(image: Image.Image) -> tuple[Pixels, int]:
    """The pixels as a viewer shows them, and the EXIF orientation (1 to 8) that they were stored in."""
    image.load()  # before asking for EXIF data, which may stand behind the pixels: reading that far would hide a fault in them
    stored = _tag(image, Base.Orientation)
    orientation = stored if isinstance(stored, int) and 1 <= stored <= 8 else 1
    image = _rgb(image)
    return np.array(image if orientation == 1 else image.transpose(Image.Transpose[_BY_ORIENTATION[orientation - 2]])), orientation


def _rgb(image: Image.Image) -> Image.Image:
    """A loaded image of any mode as sRGB."""
    profile = image.info.get("icc_profile")
    if image.mode[0] in "IF":  # 16 or 32 bits a pixel
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    elif image.has_transparency_data:
        layer = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")  # premultiplied grey has no direct way
        image = Image.new("RGB", image.size, "white")
        image.paste(layer, mask=layer)
    elif image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGB")
    if profile and (transform := _to_srgb(profile, image.mode)):
        return transform.apply(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(values: NDArray[Any]) -> Pixels:
    """Deep grey levels (h, w) as uint8: 65535 becomes 255; outside 0..65535 or not whole, from their own minimum to maximum."""
    if values.dtype.kind != "f" and values.min() >= 0 and values.max() <= 65535:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    above = np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low) - low
    return np.rint(above * (255 / (high - low) if high > low else 0)).astype(np.uint8)


@lru_cache(maxsize=16)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From an embedded profile to sRGB; None where the profile is broken, for another mode, or sRGB itself under whatever name."""
    try:
        source, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        if source.profile.xcolor_space.strip() != {"L": "GRAY"}.get(mode, mode):
            return None
        transform = ImageCms.buildTransform(source, srgb, mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC)
        levels = np.arange(0, 256, 51, dtype=np.uint8)
        samples = Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), -1).reshape(36, 6, 3)).convert(mode)
        change = np.asarray(transform.apply(samples), np.int16) - np.asarray(samples.convert("RGB"))
        return transform if np.abs(change).max() > 2 else None
    except (ImageCms.PyCMSError, ImportError, OSError, ValueError, TypeError):  # ImportError: a Pillow without littleCMS
        return None


def _image_of(array: NDArray[Any], name: str) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (1,), (3,), (4,)) or not array.size:
        raise ImageError(name, f"an array must be (h, w), (h, w, 1), (h, w, 3) or (h, w, 4) uint8, not {array.shape} {array.dtype}")
    return Image.fromarray(array[:, :, 0] if array.shape[2:] == (1,) else array)
