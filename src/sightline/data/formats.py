"""Image formats by the first bytes of a file: which are opened, and what else a file may turn out to be."""

from __future__ import annotations

import os
import re
from typing import NamedTuple


class Format(NamedTuple):
    """Pillow's plugin ("" where another library reads it), a pattern of the first bytes, and the suffixes files of the format have."""

    plugin: str
    signature: bytes
    suffixes: str


# What is opened.
FORMATS = {
    "JPEG": Format("Jpeg", rb"\xff\xd8\xff", ".jpg .jpeg .jpe .jfif .mpo"),
    "PNG": Format("Png", rb"\x89PNG\r\n\x1a\n", ".png .apng"),
    "WebP": Format("WebP", rb"RIFF.{4}WEBP", ".webp"),
    "BMP": Format("Bmp", rb"BM", ".bmp"),
    "TIFF": Format("Tiff", rb"(II[*+]\0|MM\0[*+])(?!.{4}CR)", ".tif .tiff"),
    "GIF": Format("Gif", rb"GIF8[79]a", ".gif"),
    "AVIF": Format("Avif", rb".{4}ftyp(avi[fs]|m[is]f1(.{4}){1,15}?avi[fs])", ".avif .avifs"),
    "PPM": Format("Ppm", rb"P[1-6f]\s", ".ppm .pgm .pbm .pnm .pfm"),
    "DICOM": Format("", rb".{128}DICM", ".dcm .dicom"),
}
# What else a file may be, so that its owner learns what to do about it.
_OTHER_IMAGES = {
    "HEIC": rb".{4}ftyp(hei|hev|m[is]f1)", "JPEG 2000": rb"\0{3}\x0cjP  |\xff\x4f\xff\x51", "JPEG XL": rb"\0{3}\x0cJXL |\xff\x0a",
    "ICO": rb"\0\0[\1\2]\0", "SGI": rb"\x01\xda[\0\1][\1\2]", "SUN": rb"\x59\xa6\x6a\x95", "FLI": rb".{4}[\x11\x12]\xaf",
    "PSD": rb"8BPS", "camera raw": rb"II\*\0.{4}CR|FUJIFILM", "SVG": rb"\s*(<\?xml.*)?<svg",
}  # fmt: skip
_NOT_IMAGES = {
    "an HTML page": rb"(?i)\s*<(!doctype html|html|head)", "a PDF document": rb"%PDF-", "a ZIP archive": rb"PK\x03\x04",
    "a video": rb".{4}ftyp|\x1a\x45\xdf\xa3|RIFF.{4}AVI ", "a Git LFS pointer to one that was not downloaded": rb"version https://git-lfs",
    "zero bytes only": rb"\0+\Z", "text": rb"[\t\n\r\x20-\x7e\x80-\xff]+\Z",
}  # fmt: skip


def format_of(data: bytes) -> str | None:
    """The name of a format that is opened, or None."""
    return next((name for name, known in FORMATS.items() if _starts(data, known.signature)), None)


def why_unsupported(data: bytes) -> str:
    """The reason to refuse a file whose format is not opened, naming what it is where that can be told."""
    supported = f"supported: {', '.join(FORMATS)}"
    if other := next((name for name, signature in _OTHER_IMAGES.items() if _starts(data, signature)), None):
        return f"format {other} is not supported ({supported})"
    if other := next((name for name, signature in _NOT_IMAGES.items() if _starts(data, signature)), None):
        return f"not an image but {other}"
    return f"not an image in a known format ({supported})"


def note_on_name(name: str, data: bytes) -> str | None:
    """A remark when the suffix of a file's name belongs to another format than its content."""
    suffix, found = os.path.splitext(name)[1], format_of(data)
    lies = any(suffix.lower() in known.suffixes.split() for other, known in FORMATS.items() if other != found)
    return f"named {suffix} but holds {found} data" if lies else None


def missing_bytes(data: bytes) -> int:
    """How much longer the file is by its own account; 0 where the format does not tell."""
    kind = format_of(data)
    end = {"BMP": int.from_bytes(data[2:6], "little"), "WebP": int.from_bytes(data[4:8], "little") + 8, "PNG": 8}.get(kind or "", 0)
    while kind == "PNG" and data[end + 4 : end + 8].isalpha():
        end += int.from_bytes(data[end : end + 4]) + 12  # length, name, content, checksum
    return max(0, end - len(data))


def _starts(data: bytes, signature: bytes) -> bool:
    return re.match(signature, data[:512], re.DOTALL) is not None
