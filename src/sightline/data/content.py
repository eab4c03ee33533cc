"""What tells the content of one image from that of another, whatever their names."""

from __future__ import annotations

import hashlib

from sightline.data.kept import Kept, file_key
from sightline.data.limits import Limits
from sightline.data.opening import read_bytes
from sightline.errors import ImageError
from sightline.records import ImageRef

# Hexadecimal digits of a window's id that tell its file; the first sixteen are the key by which bundles know it.
OF_FILE = 32
_DIGESTS: Kept[str] = Kept()


def file_id(ref: ImageRef, limits: Limits = Limits()) -> str:
    """The sha256 of the bytes of a reference's file, in hexadecimal digits, whatever its frame and window; raises ImageError."""
    return _DIGESTS.get((file_key(ref), limits), lambda: hashlib.sha256(read_bytes(ref, limits)).hexdigest(), len)


def window_id(file: str, ref: ImageRef) -> str:
    """The content id of a window, from the sha256 of its file: it begins as that does, and each window has one of its own."""
    place = hashlib.sha256(f"{file}#{ref.frame}@{ref.window}".encode()).hexdigest()
    return file[:OF_FILE] + place[OF_FILE:]


def content_id(ref: ImageRef, limits: Limits = Limits()) -> str:
    """What tells the content of an image, or of a window, as the facts of looking once have it; raises ImageError."""
    return file_id(ref, limits) if ref.window is None else window_id(file_id(ref, limits), ref)


def content_key(ref: ImageRef, limits: Limits = Limits()) -> int:
    """The first eight bytes of the sha256 of an image's file, by which a bundle knows what it was trained on; -1 if unreadable.

    All windows of a file have the key of the file.
    """
    try:
        return int(file_id(ref, limits)[:16], 16)
    except ImageError:
        return -1
