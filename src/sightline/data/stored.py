"""What a store's files hold: a table of facts and places, and files of pixels."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.data.facts import Facts
from sightline.data.tables import DamagedTable, open_table

# A file of pixels by its name, and the bytes of it that count.
PixelFile = tuple[str, int]


class PixelFiles:
    """Several files of pixels as if they lay one behind the other; what is asked for lies in one of them."""

    def __init__(self, parts: Sequence[NDArray[np.uint8]]) -> None:
        self.parts = parts
        self.starts = [0, *accumulate(map(len, parts))][:-1]

    def __getitem__(self, place: slice) -> NDArray[np.uint8]:
        part = bisect_right(self.starts, place.start) - 1
        start = self.starts[part]
        return self.parts[part][place.start - start : place.stop - start]


@dataclass(frozen=True)
class Store:
    """Decoded images, at most a little larger than training needs.

    ``store[row]`` is an (h, w, channels) uint8 view of the memory-mapped pixels; ``facts`` has a row for each image. Both are mapped from
    files that are never changed, so that any number of processes may read them.
    """

    facts: Facts
    side: int
    offsets: NDArray[np.int64]
    shapes: NDArray[np.int64]
    pixels: NDArray[np.uint8] | PixelFiles
    channels: int = 3
    files: tuple[PixelFile, ...] = ()

    def __len__(self) -> int:
        return len(self.facts)

    def __getitem__(self, row: int) -> NDArray[np.uint8]:
        height, width = self.shapes[row]
        start = self.offsets[row]
        return self.pixels[start : start + height * width * self.channels].reshape(height, width, self.channels)

    def select(self, rows: NDArray[Any]) -> Store:
        """The store of some of the rows (indices or mask), over the same pixels."""
        return replace(self, facts=self.facts.select(rows), offsets=self.offsets[rows], shapes=self.shapes[rows])


def open_store(table: Path, side: int) -> Store:
    """The store that a table says; FileNotFoundError where a file of it is not there, DamagedTable where one is damaged."""
    opened = open_table(table)
    columns, files = opened.columns, tuple((str(name), int(size)) for name, size in opened.said["files"])
    parts = [_mapped(table.parent / name, size) for name, size in files]
    pixels = parts[0] if len(parts) == 1 else PixelFiles(parts) if parts else np.empty(0, np.uint8)
    facts = Facts(**{entry.name: columns[entry.name] for entry in fields(Facts)})  # type: ignore[arg-type]
    return Store(facts, side, columns["offsets"], columns["shapes"], pixels, opened.said["channels"], files)  # type: ignore[arg-type]


def _mapped(path: Path, size: int) -> NDArray[np.uint8]:
    if (found := path.stat().st_size) < size:
        raise DamagedTable(f"{path.name} has {found} bytes")
    return np.memmap(path, np.uint8, mode="r", shape=(size,))
