"""Lines that a file has more than once, told in memory that does not grow with the file."""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np
from numpy.typing import NDArray

# Files that digests are spread over: of a thousand million lines each has 375 MB, and macOS lets a process open no more than 256.
SPREAD = 64
# A digest of 16 bytes, which no two lines share by chance, as two numbers; and which line it is of.
ENTRY = np.dtype([("high", "<u8"), ("low", "<u8"), ("line", "<u8")])


class Lines:
    """Lines that are added one by one; their digests are on disk, in files without a name, which go as the process does.

    folder  where there is room for 24 bytes a line
    """

    def __init__(self, folder: Path) -> None:
        self.count = 0
        with ExitStack() as opened:
            self._files = [opened.enter_context(TemporaryFile(dir=folder)) for _ in range(SPREAD)]
            self._open = opened.pop_all()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def add(self, line: bytes) -> None:
        digest = hashlib.blake2b(line, digest_size=16).digest()
        self._files[digest[0] % SPREAD].write(digest + self.count.to_bytes(8, "little"))
        self.count += 1

    def repeated(self) -> NDArray[np.int64]:
        """The numbers, int64 and rising, of lines that are as an earlier one is."""
        return np.sort(np.concatenate([_repeated(file) for file in self._files]))


def _repeated(file: IO[bytes]) -> NDArray[np.int64]:
    file.seek(0)
    entries = np.frombuffer(file.read(), ENTRY)
    entries = entries[np.lexsort((entries["line"], entries["low"], entries["high"]))]
    same = (entries["high"][1:] == entries["high"][:-1]) & (entries["low"][1:] == entries["low"][:-1])
    found: NDArray[np.int64] = entries["line"][1:][same].astype(np.int64)
    return found


def leave_out(path: Path, numbers: NDArray[np.int64]) -> None:
    """Write a hidden file again without some of its lines, given by their numbers, which rise."""
    shorter, left = path.with_name(f".shorter{path.name}"), iter(numbers.tolist())
    following = next(left, None)
    with path.open("rb") as file, shorter.open("xb") as kept:
        for number, line in enumerate(file):
            if number == following:
                following = next(left, None)
            else:
                kept.write(line)
    os.replace(shorter, path)
