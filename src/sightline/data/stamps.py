"""The size and time by which a file is known to be the one that was looked at."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sightline.data.container import member_size
from sightline.errors import ImageError
from sightline.records import ImageRef, Refs

UNREADABLE = (-1, -1)
# What everybody may read needs not be tried.
_ALL_READ = 0o444


def stamps_of(refs: Sequence[ImageRef]) -> NDArray[np.int64]:
    """(n, 2) size in bytes and time of modification in ns; -1 for what cannot be read, which looking at it will name.

    A member has its own size and its archive's time: of a changed archive all is read again, and what is new is decoded.
    """
    found = array("q")
    if isinstance(refs, Refs) and not refs.packed:
        for path in refs.texts():
            found.extend(_of_file(path))
    else:
        for ref in refs:
            found.extend(_of_file(ref.path) if ref.member is None else _of_member(ref.path, ref.member))
    return np.frombuffer(found, np.int64).reshape(-1, 2)


def _of_file(path: str) -> tuple[int, int]:
    try:
        stat = os.stat(path)
    except (OSError, ValueError):  # ValueError: a null character in the path
        return UNREADABLE
    # Being allowed to read a file again changes neither its size nor its time.
    if stat.st_mode & _ALL_READ != _ALL_READ and not os.access(path, os.R_OK):
        return UNREADABLE
    return stat.st_size, stat.st_mtime_ns


def _of_member(path: str, member: str) -> tuple[int, int]:
    _, mtime_ns = _of_file(path)
    try:
        return (member_size(path, member), mtime_ns) if mtime_ns != UNREADABLE[1] else UNREADABLE
    except ImageError:
        return UNREADABLE
