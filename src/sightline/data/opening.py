"""A file's bytes, and its header as Pillow or the TIFF reader has it, before any pixel is read."""

from __future__ import annotations

import io
import os
from importlib import import_module
from itertools import islice

from PIL import Image

from sightline.data import tiff
from sightline.data.container import read_member
from sightline.data.formats import FORMATS, format_of, why_unsupported
from sightline.data.limits import Limits
from sightline.data.quiet import mute_libtiff
from sightline.errors import ImageError
from sightline.records import ImageRef


def read_bytes(ref: ImageRef, limits: Limits = Limits()) -> bytes:
    """The bytes of the file or archive member that ``ref`` names, whatever its frame and window; raises ImageError."""
    if ref.member is not None:
        return read_member(ref.path, ref.member, limits.max_bytes)
    name = str(ref)
    try:
        size = os.stat(ref.path).st_size
        if not os.path.isfile(ref.path):  # reading a pipe would wait for ever
            raise ImageError(name, "is a folder, not an image" if os.path.isdir(ref.path) else "is a device or pipe, not a file")
        limits.check_bytes(size, name)
        with open(ref.path, "rb") as file:
            return file.read(size)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a null character in the path
        raise ImageError(name, "no such file") from error
    except PermissionError as error:
        raise ImageError(name, "permission denied") from error
    except OSError as error:
        raise ImageError(name, f"cannot be read ({error.strerror})") from error


def opened(data: bytes, name: str, limits: Limits, frame: int = 0) -> Image.Image:
    """The image at a frame or page, with its header read and no pixels yet."""
    if not data:
        raise ImageError(name, "the file is empty")
    limits.check_bytes(len(data), name)
    if (found := format_of(data)) is None:
        raise ImageError(name, why_unsupported(data))
    import_module(f"PIL.{FORMATS[found].plugin}ImagePlugin")  # registers itself
    if found == "TIFF":
        mute_libtiff()
    image = Image.OPEN[found.upper()][0](io.BytesIO(data), "")
    try:
        for number in (0, frame):  # a page has its own size
            image.seek(number)
            limits.check_pixels(image.width, image.height, name)
    except EOFError as error:
        raise ImageError(name, f"there is no frame {frame}") from error
    return image


def page_of(data: bytes, name: str, frame: int) -> tiff.Page | None:
    """The header of a TIFF's page; None for other formats and where none is sound, which is Pillow's to say."""
    if format_of(data) != "TIFF":
        return None
    found = list(islice(tiff.pages_of(data), max(frame, 0) + 1))
    if found and not 0 <= frame < len(found):
        raise ImageError(name, f"there is no frame {frame}")
    return found[frame] if found else None
