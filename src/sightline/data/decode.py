"""The only place that opens an image: bytes of unknown honesty in, upright RGB pixels or one ``ImageError`` out.

What a viewer would show comes back: EXIF orientation applied, transparency laid over white, embedded colour profiles converted to
sRGB, 16 bits scaled to 8; or, with a ``Reading``, the bands and levels it states. Pillow's plugins are called directly, which
``Image.open`` would do after a look at the process-wide ``PIL.Image.MAX_IMAGE_PIXELS``: ``Limits`` takes its place, checked on the
declared size before pixel memory is taken, and nobody's setting is changed. (The GIF, TIFF and WebP plugins ask that setting too; for
more than twice its value it has to be raised.)
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.data import dicom, exif, tiff
from sightline.data.colour import as_stored, srgb
from sightline.data.compression import jpeg_quality
from sightline.data.formats import format_of, note_on_name
from sightline.data.kept import Kept, file_key
from sightline.data.limits import Limits as Limits
from sightline.data.opening import opened, page_of
from sightline.data.opening import read_bytes as read_bytes
from sightline.data.quiet import quiet
from sightline.data.reading import Reading, channels_of
from sightline.data.reasons import one_reason
from sightline.errors import ImageError
from sightline.records import ImageRef

Pixels = NDArray[np.uint8]
Picture = Image.Image | Pixels  # in mode RGB, or (h, w, channels)
Window = tuple[int, int, int, int]


@dataclass(frozen=True)
class Header:
    """Facts about an image file; ``width`` and ``height`` are those a viewer shows, before any scaled decoding."""

    format: str  # Pillow's name, such as "JPEG"
    mode: str  # Pillow's name, such as "RGB", or what Pillow does not hold: "5 x 16 bits", "MONOCHROME2"
    width: int
    height: int
    camera: str | None  # EXIF make and model
    taken: str | None  # EXIF DateTimeOriginal, else DateTime, in ISO 8601
    note: str | None  # what is odd about a file that can be used all the same
    position: bool = False  # whether EXIF tells where it was taken
    quality: int = 0  # of JPEG compression, 1 to 100 as the IJG counts; 0 for other formats
    orientation: int = 1  # how the pixels are stored, 1 (upright) to 8 as EXIF counts


UNNAMED = "the image"
# Of a JPEG, enough for what a camera writes in front of the pixels.
HEAD_BYTES = 2**16
# The pictures that windows were last cut from.
_WHOLE: Kept[tuple[Header, Pixels]] = Kept()
_BY_ORIENTATION = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")  # from 2


def read_size(source: ImageRef | bytes, limits: Limits = Limits()) -> tuple[int, int]:
    """(width, height) that a viewer shows, by the file's header alone, or of a window; of a file's bytes too. Raises ImageError."""
    ref = source if isinstance(source, ImageRef) else ImageRef(UNNAMED)
    if ref.window is not None:
        left, top, right, bottom = _inside(ref.window, read_size(replace(ref, window=None), limits), str(ref))
        return right - left, bottom - top
    name, data = str(ref), source if isinstance(source, bytes) else _head(ref, limits)
    with one_reason(name, data):
        if format_of(data) == "DICOM":
            scan = dicom.open_scan(data, name, limits)
            return scan.width, scan.height
        page = page_of(data, name, ref.frame)
        if page and not page.read_by_pillow(Reading()):
            limits.check_bytes(len(data), name)
            limits.check_pixels(*page.size, name, page.bands)
            size, orientation = page.size, page.orientation
        else:
            image = opened(data, name, limits, ref.frame)
            size, orientation = image.size, exif.orientation_ahead(image, data)
    return size[::-1] if orientation >= 5 else size


def _head(ref: ImageRef, limits: Limits) -> bytes:
    """The part of a file that tells its size and orientation: of a JPEG on disk the beginning, where that is enough."""
    if ref.member is None and os.path.isfile(ref.path):
        with suppress(Exception), open(ref.path, "rb") as file, quiet():  # what is wrong is said by who reads all of it
            if format_of(data := file.read(HEAD_BYTES)) == "JPEG":
                opened(data, str(ref), limits)
                return data
    return read_bytes(ref, limits)


def read_values(source: ImageRef | bytes, limits: Limits = Limits(), *, colours: bool = False) -> NDArray[Any]:
    """What the pixels of a mask say, upright: the numbers that are stored, (h, w), of a palette its indices; raises ImageError.

    ``source`` is a reference, whose window is not heeded, or a file's bytes. With ``colours``, and where a file has nothing else,
    (h, w, 3) uint8: red, green and blue as they are stored.
    """
    ref = source if isinstance(source, ImageRef) else ImageRef(UNNAMED)
    name, data = str(ref), read_bytes(ref, limits) if isinstance(source, ImageRef) else source
    with one_reason(name, data):
        if format_of(data) == "DICOM":
            raise ImageError(name, "is a DICOM file, which is not read as a mask; save it as PNG")
        image = opened(data, name, limits, ref.frame)
        # Pillow stretches grey of 2 and 4 bits to 0..255.
        few = {"L;2": 85, "L;4": 17}.get(next((str(tile[3]) for tile in getattr(image, "tile", ())), ""), 1)
        image.load()
        orientation = exif.orientation(image)
        if image.mode in ("LA", "PA", "La"):
            image = image.convert("RGB") if colours else image.getchannel(0)
        elif colours or image.mode not in ("1", "L", "P", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"):
            image = image.convert("RGB")
        values = np.asarray(image)
    if values.dtype == bool:
        values = values.astype(np.uint8)
    return tiff.upright(values if few == 1 or colours else values // few, orientation)


def pages(ref: ImageRef, limits: Limits = Limits()) -> int:
    """How many frames can be asked for, by the headers: a TIFF's pages, a DICOM's frames; 1 for other formats. Raises ImageError."""
    data = read_bytes(ref, limits)
    with one_reason(str(ref), data):
        return dicom.open_scan(data, str(ref), limits).frames if format_of(data) == "DICOM" else _count_pages(data)


def decode(
    source: ImageRef | bytes | Pixels | Image.Image,
    *,
    name: str = "",
    min_side: int | None = None,
    limits: Limits = Limits(),
    reading: Reading = Reading(),
) -> Pixels:
    """What ``decode_picture`` gives, as pixels (h, w, reading.channels) uint8."""
    picture, _ = decode_picture(source, name=name, min_side=min_side, limits=limits, reading=reading)
    return _array(picture, name or (str(source) if isinstance(source, ImageRef) else UNNAMED))


def decode_picture(
    source: ImageRef | bytes | Pixels | Image.Image,
    *,
    name: str = "",
    min_side: int | None = None,
    limits: Limits = Limits(),
    reading: Reading = Reading(),
) -> tuple[Picture, tuple[int, int]]:
    """Upright pixels, sRGB as a viewer would show them, unless ``reading`` states bands; and their width and height at full size.

    They come as Pillow or numpy has them: copies of a large image take longer than making it small.
    ``source`` is a reference, a file's bytes, a Pillow image, or an array (h, w), (h, w, 1), (h, w, 3) or (h, w, 4) uint8; where a
    window or bands are stated, an array (h, w) or (h, w, n) of any kind of number.
    With ``min_side`` the JPEG decoder may shrink the image by 2, 4 or 8 while its shorter side stays at least that long; a window
    is cut from the full size. Deep pixels without stated levels: whole numbers in 0..65535 are scaled to 0..255, or from as many bits
    as the file says it uses, all others from their own minimum and maximum. Raises ImageError, which carries ``name`` (of a
    reference, unless given, the reference) and one reason.
    """
    ref = source if isinstance(source, ImageRef) else ImageRef(UNNAMED)
    name = name or str(ref)
    if isinstance(source, ImageRef):
        if source.window is not None:
            _, pixels = decode_window(source, name=name, limits=limits, reading=reading)
            return pixels, size_of(pixels)
        source = read_bytes(source, limits)
    elif not isinstance(source, bytes | np.ndarray | Image.Image):
        raise TypeError(f"decode takes an ImageRef, bytes, an array or a Pillow image, not {type(source).__name__}")
    if isinstance(source, bytes):
        header, picture = picture_with_header(source, name, ref.frame, min_side, limits, reading)
        return picture, (header.width, header.height)
    with one_reason(name, source):
        picture = _picture_of(source, name, reading)
    return picture, size_of(picture)


def decode_window(ref: ImageRef, *, name: str = "", limits: Limits = Limits(), reading: Reading = Reading()) -> tuple[Header, Pixels]:
    """The facts about a file, with the window's width and height, and the pixels in its window, (h, w, reading.channels) uint8.

    Of windows that are asked for one after the other, the picture is decoded once. Raises ImageError, also for a window outside it.
    """
    name, key = name or str(ref), (file_key(ref), ref.frame, limits, reading)

    def decoded() -> tuple[Header, Pixels]:
        return decode_with_header(read_bytes(ref, limits), name, frame=ref.frame, limits=limits, reading=reading)

    header, whole = _WHOLE.get(key, decoded, lambda made: made[1].nbytes)
    left, top, right, bottom = _inside(ref.window, (header.width, header.height), name)
    return replace(header, width=right - left, height=bottom - top), whole[top:bottom, left:right].copy()


def _inside(window: Window | None, size: tuple[int, int], name: str) -> Window:
    """A window of a picture of this size, or all of it; raises ImageError for one that is not inside."""
    width, height = size
    left, top, right, bottom = window or (0, 0, width, height)
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ImageError(name, f"its window {left},{top},{right},{bottom} is not inside the image of {width} x {height} pixels")
    return left, top, right, bottom


def size_of(picture: Picture) -> tuple[int, int]:
    """Width and height."""
    return picture.size if isinstance(picture, Image.Image) else (picture.shape[1], picture.shape[0])


def _array(picture: Picture, name: str) -> Pixels:
    with one_reason(name, picture):  # there may be no memory for a copy
        return picture if isinstance(picture, np.ndarray) else np.array(picture)


def decode_with_header(
    data: bytes,
    name: str,
    *,
    frame: int = 0,
    min_side: int | None = None,
    limits: Limits = Limits(),
    reading: Reading = Reading(),
) -> tuple[Header, Pixels]:
    """The facts about a file and what ``decode`` gives for its bytes, opened once; raises ImageError."""
    header, picture = picture_with_header(data, name, frame, min_side, limits, reading)
    return header, _array(picture, name)


def picture_with_header(
    data: bytes, name: str, frame: int, min_side: int | None, limits: Limits, reading: Reading
) -> tuple[Header, Picture]:
    """The facts about a file and what ``decode_picture`` gives for its bytes, opened once; raises ImageError."""
    with one_reason(name, data):
        if format_of(data) == "DICOM":
            scan = dicom.open_scan(data, name, limits)
            pixels, note = dicom.read_scan(scan, frame, reading), _notes(name, data, frame, scan.frames)
            return Header("DICOM", scan.colours, scan.width, scan.height, scan.camera, None, note), pixels
        page = page_of(data, name, frame)
        if page and not page.read_by_pillow(reading):
            return _wide(data, page, name, frame, limits, reading)
        image = opened(data, name, limits, page.place if page else frame)
        if reading.window and _lost_levels(image):
            raise ImageError(name, "its levels are not read at full depth, so that no window can be applied; save it as TIFF")
        mode, size, quality = image.mode, image.size, jpeg_quality(image)
        if min_side:
            image.draft(None, (min_side, min_side))  # does nothing unless the format is JPEG
        picture, orientation = _upright(image, name, reading, page.most if page else None)
        width, height = size[::-1] if orientation >= 5 else size
        written = exif.camera(image), exif.time_taken(image), _notes(name, data, frame, _count_pages(data)), exif.has_position(image)
        return Header(str(image.format), mode, width, height, *written, quality, orientation), picture


def _wide(data: bytes, page: tiff.Page, name: str, frame: int, limits: Limits, reading: Reading) -> tuple[Header, Pixels]:
    """A page that Pillow does not hold."""
    limits.check_bytes(len(data), name)
    values = tiff.upright(tiff.read_page(data, page, name, limits), page.orientation)
    shown = f"has {page.bands} bands, of which the first three are shown; state which with bands"
    note = _notes(name, data, frame, _count_pages(data), shown if page.bands > 3 and reading.bands is None else None)
    height, width, bands = values.shape
    header = Header("TIFF", f"{bands} x {page.bits} bits", width, height, None, None, note)
    return header, channels_of(values, reading, name, page.most)


def _count_pages(data: bytes) -> int:
    return max(1, sum(1 for _ in tiff.pages_of(data))) if format_of(data) == "TIFF" else 1


def _notes(name: str, data: bytes, frame: int, count: int, *others: str | None) -> str | None:
    """All that is odd about a file with so many pages, in one text."""
    several = f"has {count} pages, of which this is the first" if count > 1 and frame == 0 else None
    return "; ".join(note for note in (note_on_name(name, data), several, *others) if note) or None


def _lost_levels(image: Image.Image) -> bool:
    """Whether Pillow will reduce deep colour to 8 bits, or stretch levels to its own range; to be asked before pixels are loaded."""
    arguments = [part for tile in getattr(image, "tile", ()) for part in (tile[3] if isinstance(tile[3], tuple) else (tile[3],))]
    deep = image.mode[0] not in "IF" and any(isinstance(part, str) and ";16" in part for part in arguments)
    return deep or (image.format == "PPM" and any(isinstance(part, int) and part > 255 for part in arguments))


def _upright(image: Image.Image, name: str, reading: Reading, most: int | None = None) -> tuple[Picture, int]:
    """The picture as it is read, upright, and the EXIF orientation (1 to 8) that they were stored in."""
    image.load()  # before asking for EXIF data, which may stand behind the pixels: reading that far would hide a fault in them
    orientation = exif.orientation(image)
    if reading.bands:
        values = np.asarray(as_stored(image))
        values = values if values.ndim == 3 else values[:, :, None]
        return channels_of(tiff.upright(values, orientation), reading, name, most), orientation
    image = srgb(image, reading.window, most)
    return image if orientation == 1 else image.transpose(Image.Transpose[_BY_ORIENTATION[orientation - 2]]), orientation


def _picture_of(source: NDArray[Any] | Image.Image, name: str, reading: Reading) -> Picture:
    """What ``decode_picture`` gives for an array or a Pillow image."""
    if isinstance(source, Image.Image):
        return _upright(source, name, reading)[0]
    if reading != Reading() and source.ndim in (2, 3) and source.dtype.kind in "uif" and source.size:
        return channels_of(source if source.ndim == 3 else source[:, :, None], reading, name)
    if source.dtype != np.uint8 or source.ndim not in (2, 3) or source.shape[2:] not in ((), (1,), (3,), (4,)) or not source.size:
        given = f"{source.shape} {source.dtype}"
        raise ImageError(name, f"an array must be (h, w), (h, w, 1), (h, w, 3) or (h, w, 4) uint8, not {given}")
    return _upright(Image.fromarray(source[:, :, 0] if source.shape[2:] == (1,) else source), name, reading)[0]
