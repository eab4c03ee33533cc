"""The last few things that were made of files, kept for who asks for the same again, such as windows of one large picture."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from threading import Lock
from typing import Generic, TypeVar

from sightline.records import ImageRef

Made = TypeVar("Made")

# Threads that read ahead are at two pictures at most; a third is for who goes back.
MOST, MOST_BYTES = 3, 500_000_000


@dataclass
class _Entry(Generic[Made]):
    """What was made, once it was; whoever wants the same meanwhile waits for the lock."""

    lock: Lock = field(default_factory=Lock)
    made: Made | None = None
    size: int = 0


class Kept(Generic[Made]):
    """At most ``MOST`` things and, but for the last, ``MOST_BYTES`` bytes, by their keys; for many threads."""

    def __init__(self) -> None:
        self._entries: OrderedDict[Hashable, _Entry[Made]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], Made], size: Callable[[Made], int]) -> Made:
        """What has this key, made now where it is not there; ``size`` gives its bytes. What cannot be made is tried again."""
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
        with entry.lock:
            if entry.made is None:
                entry.made = make()
                entry.size = size(entry.made)
            made = entry.made
        with self._lock:
            while len(self._entries) > MOST or (len(self._entries) > 1 and sum(each.size for each in self._entries.values()) > MOST_BYTES):
                self._entries.popitem(last=False)
        return made


def file_key(ref: ImageRef) -> Hashable:
    """What tells a file, as it is now, from any other and from itself when it has changed; for one that is not there, its name."""
    try:
        found = os.stat(ref.path)
    except (OSError, ValueError):  # ValueError: a null character in the path
        return ref.path, ref.member
    return ref.path, ref.member, found.st_size, found.st_mtime_ns
