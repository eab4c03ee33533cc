"""TIFF files beyond what Pillow holds: the headers of all pages, and pixels of any number of bands through tifffile.

Pillow shows grey, colour and transparency as a viewer would, and keeps one band of most depths. It drops or refuses further bands, and
drops the lower bits of deep colour. Such files are read with tifffile, which is asked for only where it is needed.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sightline.data.limits import Limits
from sightline.data.reading import Reading
from sightline.errors import ImageError

MAX_PAGES, MAX_ENTRIES, MAX_VALUES = 100_000, 4096, 64
MAX_DEFLATE_RATIO = 1032
WIDTH, HEIGHT, BITS, COMPRESSION, COLOURS, ORIENTATION, BANDS = 256, 257, 258, 259, 262, 274, 277
HIGHEST, PLANAR, EXTRA, KIND, SIGNED_HIGHEST, USE = 281, 284, 338, 339, 341, 254
_WANTED = (WIDTH, HEIGHT, BITS, COMPRESSION, COLOURS, ORIENTATION, BANDS, HIGHEST, PLANAR, EXTRA, KIND, SIGNED_HIGHEST, USE)
_NUMBERS = {1: "u1", 3: "u2", 4: "u4", 6: "i1", 8: "i2", 9: "i4", 13: "u4", 16: "u8", 17: "i8"}  # of the types of whole numbers
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3  # values of the tag SampleFormat
_GREYS, _RGB, _STRAIGHT_ALPHA = (0, 1), 2, 2
_SMALLER_COPY, _MASK = 1, 4  # bits of the tag NewSubfileType
_PILLOW_SHOWS = {_UNSIGNED: (1, 2, 4, 8, 12, 16, 32), _SIGNED: (8, 16, 32), _FLOAT: (32,)}  # of one band
_PILLOW_KEEPS = {_UNSIGNED: (1, 2, 4, 8, 12, 16), _SIGNED: (16, 32), _FLOAT: (32,)}
_DEFLATE = (8, 32946)
_PLAIN_COMPRESSIONS = (1, 32773, *_DEFLATE)  # what tifffile undoes alone
_NAMES = {2: "CCITT", 3: "CCITT", 4: "CCITT", 5: "LZW", 6: "JPEG", 7: "JPEG", 34712: "JPEG 2000", 34887: "LERC", 34925: "LZMA",
          50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL"}  # fmt: skip


class Page(NamedTuple):
    """What a page's header says; ``place`` is its number among all directories of the file."""

    place: int
    little_endian: bool
    tags: dict[int, tuple[int, ...]]

    def tag(self, number: int, default: int) -> int:
        return next(iter(self.tags.get(number, ())), default)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as stored."""
        return self.tag(WIDTH, 0), self.tag(HEIGHT, 0)

    @property
    def bands(self) -> int:
        return self.tag(BANDS, 1)

    @property
    def bits(self) -> int:
        return max(self.tags.get(BITS, (1,)))

    @property
    def orientation(self) -> int:
        stored = self.tag(ORIENTATION, 1)
        return stored if 1 <= stored <= 8 else 1

    @property
    def most(self) -> int | None:
        """The highest level of the bits that are in use, where the file uses fewer than it has room for.

        Writers put the highest level of this very image there, or of all. Rounded up to whole bits, both give the same scale.
        """
        stated = max(self.tags.get(HIGHEST, self.tags.get(SIGNED_HIGHEST, (0,))))
        used = min(stated.bit_length() if stated > 255 else self.bits, self.bits)
        return 2**used - 1 if self.tag(KIND, _UNSIGNED) == _UNSIGNED and 8 < used < 16 else None

    def read_by_pillow(self, reading: Reading) -> bool:
        """Whether Pillow gives what is asked for: what a viewer shows, or every band at its full depth."""
        kind, colours, whole = self.tag(KIND, _UNSIGNED), self.tag(COLOURS, 0), reading != Reading()
        if self.bands == 1:
            depths = (_PILLOW_KEEPS if whole else _PILLOW_SHOWS).get(kind, ())
            return self.bits in depths and (self.bits != 12 or self.little_endian)
        if colours not in (*_GREYS, _RGB):
            return True
        if whole:
            return self.bits == 8 and kind == _UNSIGNED and colours == _RGB and self.tags.get(EXTRA, ()) in ((), (_STRAIGHT_ALPHA,))
        if colours == _RGB:
            return kind == _UNSIGNED and (self.bits == 8 or (self.bits == 16 and self.most is None)) and self.bands <= 6
        return kind == _UNSIGNED and self.bits == 8 and self.bands == 2 and self.tag(PLANAR, 1) == 1


def pages_of(data: bytes) -> Iterator[Page]:
    """The pages as their headers state them, without smaller copies and masks of others; ends before a damaged header."""
    order, big = "<" if data[:2] == b"II" else ">", 43 in data[2:4]
    offset = "u8" if big else "u4"
    seen: set[int] = set()
    try:
        following = int(np.frombuffer(data, order + offset, 1, 8 if big else 4)[0])
        while following and following not in seen and len(seen) < MAX_PAGES:
            seen.add(following)
            tags, following = _directory(data, following, order, big)
            if not next(iter(tags.get(USE, ())), 0) & (_SMALLER_COPY | _MASK):
                yield Page(len(seen) - 1, order == "<", tags)
    except (ValueError, OverflowError):  # it points beyond the file; whoever needs that page hears of it from the decoder
        return


def _directory(data: bytes, start: int, order: str, big: bool) -> tuple[dict[int, tuple[int, ...]], int]:
    """The tags we want of a directory that hold whole numbers, at most the first of many, and where the next directory is."""
    counter, offset = np.dtype(order + ("u8" if big else "u2")), np.dtype(order + ("u8" if big else "u4"))
    kinds: Any = [("tag", order + "u2"), ("kind", order + "u2"), ("count", offset), ("value", f"V{offset.itemsize}")]
    count = int(np.frombuffer(data, counter, 1, start)[0])
    if count > MAX_ENTRIES:
        raise ValueError(f"{count} entries")
    start += counter.itemsize
    table = np.frombuffer(data, kinds, count, start)
    tags: dict[int, tuple[int, ...]] = {}
    for entry in table[np.isin(table["tag"], _WANTED)]:
        if (kind := _NUMBERS.get(int(entry["kind"]))) is None:
            continue
        number, length, value = np.dtype(order + kind), int(entry["count"]), entry["value"].tobytes()
        inside = length * number.itemsize <= offset.itemsize
        source, place = (value, 0) if inside else (data, int(np.frombuffer(value, offset)[0]))
        tags.setdefault(int(entry["tag"]), tuple(np.frombuffer(source, number, min(length, MAX_VALUES), place).tolist()))
    return tags, int(np.frombuffer(data, offset, 1, start + table.nbytes)[0])


def read_page(data: bytes, page: Page, name: str, limits: Limits) -> NDArray[Any]:
    """All bands of a page as they are stored, (h, w, bands) of any kind of number; raises ImageError."""
    (width, height), bands, planar = page.size, page.bands, page.tag(PLANAR, 1) == 2
    limits.check_pixels(width, height, name, bands)
    try:
        import tifffile
    except ModuleNotFoundError as error:
        what = f"{bands} band{'s'[: bands != 1]} of {page.bits} bits"
        raise ImageError(name, f"TIFF with {what} needs tifffile: pip install 'sightline[tiff]'") from error
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        found = file.pages[page.place]
        if math.prod(found.shape) != width * height * bands or found.dtype is None or found.dtype.kind not in "uif":
            raise ImageError(name, "damaged TIFF data (its header contradicts itself)")
        limits.check_pixels(*(found.tile[::-1] if found.is_tiled else (width, height)), name, bands)
        _check_segments(found, page, data, name)
        values = np.asarray(found.asarray())
    return np.moveaxis(values.reshape(bands, height, width), 0, -1) if planar else values.reshape(height, width, bands)


def _check_segments(found: Any, page: Page, data: bytes, name: str) -> None:
    """Raises ImageError for what tifffile could not undo, would fill in, or would unpack beyond what the header declares."""
    compression = page.tag(COMPRESSION, 1)
    if (compression not in _PLAIN_COMPRESSIONS or page.bits % 8) and find_spec("imagecodecs") is None:
        what = f"{page.bits} bits a value are" if page.bits % 8 else f"{_NAMES.get(compression, f'compression {compression}')} is"
        raise ImageError(name, f"{what} read only with imagecodecs: pip install imagecodecs, or save the file uncompressed")
    segments = list(zip(found.dataoffsets, found.databytecounts, strict=True))
    missing = max((start + length for start, length in segments), default=0) - len(data)
    if missing > 0 or not segments:
        raise ImageError(name, f"truncated TIFF data (at least {max(missing, 1)} bytes are missing)")
    if compression in _DEFLATE:
        across, down = (found.tilewidth, found.tilelength) if found.is_tiled else (page.size[0], found.rowsperstrip)
        most = across * down * page.bands * max(page.bits // 8, 1)
        unsafe = [data[start : start + length] for start, length in segments if length * MAX_DEFLATE_RATIO > most]
        if any(len(zlib.decompressobj().decompress(segment, most + 1)) > most for segment in unsafe):
            raise ImageError(name, "damaged TIFF data (it unpacks to more than its header declares)")


def upright(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Values (h, w, n) as a viewer shows them, from the orientation (1 to 8, as in EXIF) that they were stored in."""
    if orientation >= 5:
        values = values.swapaxes(0, 1)
    down, right = -1 if orientation in (3, 4, 7, 8) else 1, -1 if orientation in (2, 3, 6, 7) else 1
    return values[::down, ::right]
