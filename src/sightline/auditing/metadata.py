"""Image files without what was written beside the picture: camera, time, position, thumbnail, comments.

JPEG, PNG and WebP files are taken apart into their segments or chunks, and put together again from those that make the picture, byte by
byte, so that every pixel stays as it was. What is kept is listed, not what is dropped: a kind of metadata that is invented tomorrow goes
too, and so does whatever stands behind the end of the picture, where phones put films.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from sightline.data.formats import format_of
from sightline.errors import ImageError

# Formats that are rewritten without touching a pixel.
FORMATS = ("JPEG", "PNG", "WebP")
# JPEG (ITU-T T.81): from SOF0 on the markers of frames, tables and scans, but neither application data (E0 to EF) nor comments (FE).
SCAN, END, COMMENT, APPLICATION = 0xDA, 0xD9, 0xFE, range(0xE0, 0xF0)
ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without content
MARKER = re.compile(rb"\xff+([^\0\xff])")
AFTER_SCAN = re.compile(rb"\xff+([^\0\xff\xd0-\xd7])")
# PNG (W3C, third edition): the picture, its colours and its animation.
PNG_KEPT = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"bKGD",
            b"hIST", b"pHYs", b"sPLT", b"acTL", b"fcTL", b"fdAT"}  # fmt: skip
PNG_START = b"\x89PNG\r\n\x1a\n"
# WebP (RFC 9649): the same. Bits of the first byte of VP8X.
WEBP_KEPT = {b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP"}
HAS_EXIF, HAS_XMP, IS_ANIMATED = 0x08, 0x04, 0x02


def without_metadata(data: bytes, orientation: int, name: str) -> bytes:
    """The same picture, bit for bit, in a JPEG, PNG or WebP file with nothing beside it but its colour profile.

    ``orientation`` is the file's, 1 to 8; where it is not 1 it stays, as the only thing that EXIF says. Raises ImageError, which carries
    ``name``, for a file that is not built as its format wants it.
    """
    exif = _exif(orientation) if orientation != 1 else b""
    rewrite = {"JPEG": _jpeg, "PNG": _png, "WebP": _webp}[str(format_of(data))]
    with _taking_apart(name):
        return rewrite(data, exif)


def is_animated(data: bytes, name: str) -> bool:
    """Whether a PNG or WebP file holds more pictures than the first; raises ImageError as above."""
    with _taking_apart(name):
        if format_of(data) == "PNG":
            return any(kind == b"acTL" for kind, _ in _png_chunks(data))
        return format_of(data) == "WebP" and data[12:16] == b"VP8X" and bool(data[20] & IS_ANIMATED)


def is_lossless(data: bytes, name: str) -> bool:
    """Whether the first picture of a WebP file is stored without loss; raises ImageError as above."""
    with _taking_apart(name):
        return any(kind == b"VP8L" or (kind == b"ANMF" and b"VP8L" in content[:64]) for kind, content in _webp_chunks(data))


@contextmanager
def _taking_apart(name: str) -> Iterator[None]:
    try:
        yield
    except (struct.error, ValueError, IndexError) as error:
        raise ImageError(name, f"what stands beside its picture cannot be told from it ({error})") from error


def _exif(orientation: int) -> bytes:
    """A TIFF structure of one directory with one entry: tag 0x112, one unsigned short."""
    return struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x112, 3, 1, orientation, 0, 0)


def _jpeg(data: bytes, exif: bytes) -> bytes:
    head: list[bytes] = []  # what has to come first, before EXIF
    kept: list[bytes] = []
    position = 2
    while found := MARKER.search(data, position):
        code, position = found[1][0], found.end()
        if code == END:
            break
        if code in ALONE:
            continue
        (length,) = struct.unpack_from(">H", data, position)
        content = data[position + 2 : position + length]
        if length < 2 or len(content) != length - 2:
            raise ValueError("a segment runs past the end of the file")
        position += length
        if code == 0xE0 and content.startswith(b"JFIF\0") and len(content) >= 12 and not head:
            head.append(_segment(code, content[:12] + b"\0\0"))  # without its thumbnail
        elif _belongs(code, content):
            kept.append(_segment(code, content))
        if code == SCAN:
            after = AFTER_SCAN.search(data, position)
            end = after.start() if after else len(data)
            kept.append(data[position:end])
            position = end
    head += [_segment(0xE1, b"Exif\0\0" + exif)] if exif else []
    return b"".join([data[:2], *head, *kept, b"\xff\xd9"])


def _belongs(code: int, content: bytes) -> bool:
    """Whether a JPEG's segment has a part in how its picture looks: its colour profile and Adobe's note on its colours among them."""
    if code in APPLICATION:
        return (code == 0xE2 and content.startswith(b"ICC_PROFILE\0")) or (code == 0xEE and content.startswith(b"Adobe"))
    return code != COMMENT


def _segment(code: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, code, len(content) + 2) + content


def _png(data: bytes, exif: bytes) -> bytes:
    parts = [PNG_START]
    for kind, chunk in _png_chunks(data):
        if kind == b"IDAT" and exif:
            parts.append(_png_chunk(b"eXIf", exif))
            exif = b""
        if kind in PNG_KEPT:
            parts.append(chunk)
    return b"".join(parts)


def _png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and all bytes of each chunk, the last being IEND."""
    chunks: list[tuple[bytes, bytes]] = []
    position = len(PNG_START)
    while not chunks or chunks[-1][0] != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, position)
        chunk = data[position : position + length + 12]
        if len(chunk) != length + 12:
            raise ValueError("a chunk runs past the end of the file")
        chunks.append((kind, chunk))
        position += length + 12
    return chunks


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _webp(data: bytes, exif: bytes) -> bytes:
    parts = [b"WEBP"]
    for kind, content in _webp_chunks(data):
        if kind == b"VP8X":
            flags = content[0] & ~(HAS_EXIF | HAS_XMP)
            content = bytes([flags | (HAS_EXIF if exif else 0)]) + content[1:]
        if kind in WEBP_KEPT:
            parts.append(_riff(kind, content))
    parts += [_riff(b"EXIF", exif)] if exif else []
    return _riff(b"RIFF", b"".join(parts))


def _webp_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and content of each chunk."""
    chunks, position, end = [], 12, 8 + struct.unpack_from("<I", data, 4)[0]
    while position + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, position)
        content = data[position + 8 : position + 8 + length]
        if len(content) != length:
            raise ValueError("a chunk runs past the end of the file")
        chunks.append((kind, content))
        position += 8 + length + length % 2
    return chunks


def _riff(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
