"""What earlier builds of a store looked at: the store itself, and the shards of builds that were stopped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sightline.data.locks import is_locked
from sightline.data.stored import PixelFile, Store, open_store
from sightline.data.tables import DamagedTable
from sightline.records import ImageRef, texts_of

NEVER = -1
# A file of pixels is kept when at least a half of it is still wanted, and it is no less than a sixteenth of all that is; otherwise what
# is wanted of it is copied, so that neither waste nor files grow in number.
WORTH, SHARE = 2, 16
# What is touched of a mapped table counts as memory.
_OPEN = 4


class Earlier:
    """Tables of rows that were looked at, oldest first. They are opened as they are asked for: there may be thousands of shards."""

    def __init__(self, tables: Sequence[Path], side: int) -> None:
        self.tables, self.side = tuple(tables), side
        # A cache of its own, as what is mapped takes room on the disk even when it is removed.
        self._opened = lru_cache(_OPEN)(lambda table: open_store(table, side))

    def store(self, number: int) -> Store:
        return self._opened(self.tables[number])


def part_name(build: str, number: int) -> str:
    return f"part-{build}-{number:06d}.table"


def build_of(name: str) -> str:
    """The build that a file in a store's folder is of."""
    return name.split(".")[0].split("-")[1] if "-" in name else name.split(".")[0]


def earlier(folder: Path, table: Path | None, side: int) -> Earlier:
    """The store's table, if there is one, and the shards that stopped builds left whole; those of builds under way are theirs."""
    parts = sorted(folder.glob("part-*.table"), key=lambda part: (part.stat().st_mtime_ns, part.name))
    held = {build: is_locked(folder / f"{build}.lock") for build in {build_of(part.name) for part in parts}}
    whole = [] if table is None else [table]
    for part in parts:
        # What a machine that stopped left of a shard is looked at again.
        with suppress(OSError, DamagedTable):
            if not held[build_of(part.name)]:
                open_store(part, side)
                whole.append(part)
    return Earlier(whole, side)


@dataclass(frozen=True)
class Known:
    """Where each of n images was looked at before: the table's number, NEVER for none, and the row in it; ``same`` says whether it was read
    then and its size and time are still those, ``reused`` whether its pixels may stay where they are, in one of ``files``."""

    tables: NDArray[np.int64]
    rows: NDArray[np.int64]
    same: NDArray[np.bool_]
    reused: NDArray[np.bool_]
    files: tuple[PixelFile, ...]


def known_rows(refs: Sequence[ImageRef], stamps: NDArray[np.int64], before: Earlier) -> Known:
    """What is known of images, by their paths; of an image that stands in several tables, the last counts."""
    n = len(refs)
    known = Known(np.full(n, NEVER), np.zeros(n, np.int64), np.zeros(n, bool), np.zeros(n, bool), ())
    if before.tables:
        _find(known, refs, before)
        files = _compare(known, stamps, before)
        return _with_files(known, files, before)
    return known


def _find(known: Known, refs: Sequence[ImageRef], before: Earlier) -> None:
    """Fill in tables and rows. Paths are told apart by 64 bits each, which are others in each process."""
    hashes = [np.fromiter(map(hash, before.store(number).facts.path), np.int64) for number in range(len(before.tables))]
    starts = np.cumsum([0, *map(len, hashes)])
    every = np.concatenate(hashes)
    order = np.argsort(every, kind="stable")
    every = every[order]
    wanted = np.fromiter(map(hash, texts_of(refs)), np.int64, len(refs))
    places = np.searchsorted(every, wanted, side="right") - 1
    there = (places >= 0) & (every[places] == wanted) if len(every) else np.zeros(len(refs), bool)
    found = order[places[there]]
    known.tables[there] = np.searchsorted(starts, found, side="right") - 1
    known.rows[there] = found - starts[known.tables[there]]


def _by_table(known: Known, before: Earlier) -> Iterator[tuple[Store, NDArray[np.int64]]]:
    """Each table that something is known from, and the images that are."""
    order = np.argsort(known.tables, kind="stable")
    bounds = np.searchsorted(known.tables[order], np.arange(len(before.tables) + 1))
    for number, (start, stop) in enumerate(pairwise(bounds.tolist())):
        if stop > start:
            yield before.store(number), order[start:stop]


def _compare(known: Known, stamps: NDArray[np.int64], before: Earlier) -> dict[PixelFile, int]:
    """Fill in what is the same; the files that hold its pixels, by their name and size, and how many bytes of each do."""
    wanted: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for store, images in _by_table(known, before):
        rows = known.rows[images]
        same = (store.facts.bytes[rows] == stamps[images, 0]) & (store.facts.mtime_ns[rows] == stamps[images, 1])
        # What was refused may be read now, though its file is the same: a library is there since, or memory is free.
        same &= store.facts.readable[rows]
        known.same[images] = same
        held = np.bincount(file_of(store, rows[same]), area_of(store, rows[same]), minlength=len(store.files))
        for (name, size), count in zip(store.files, held.tolist(), strict=False):
            wanted[name] = wanted.get(name, 0) + int(count)
            sizes[name] = max(sizes.get(name, 0), size)
    return {(name, sizes[name]): count for name, count in wanted.items()}


def _with_files(known: Known, files: dict[PixelFile, int], before: Earlier) -> Known:
    total = sum(files.values())
    kept = [file for file, count in files.items() if count and WORTH * count >= file[1] and SHARE * count >= total]
    names = {name for name, _ in kept}
    for store, images in _by_table(known, before):
        rows = known.rows[images]
        stays = np.array([*(name in names for name, _ in store.files), False])[file_of(store, rows)]
        known.reused[images] = known.same[images] & (stays | (area_of(store, rows) == 0))
    return Known(known.tables, known.rows, known.same, known.reused, tuple(kept))


def area_of(store: Store, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """(m,) bytes of pixels of some rows."""
    area: NDArray[np.int64] = store.shapes[rows].prod(axis=1) * store.channels
    return area


def file_of(store: Store, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """(m,) the number of the pixel file of some rows; for a row without pixels, of any."""
    starts = np.cumsum([0, *(size for _, size in store.files)])
    return np.clip(np.searchsorted(starts, store.offsets[rows], side="right") - 1, 0, len(store.files))


def moved(store: Store, rows: NDArray[np.int64], files: Sequence[PixelFile]) -> NDArray[np.int64]:
    """(m,) offsets of some rows' pixels where other ``files``, of which theirs are some, lie one behind the other; 0 without pixels."""
    place, starts = 0, {}
    for name, size in files:
        starts[name] = place
        place += size
    shift, place = [], 0
    for name, size in store.files:
        shift.append(starts.get(name, 0) - place)
        place += size
    offsets = store.offsets[rows] + np.array([*shift, 0])[file_of(store, rows)]
    return np.where(area_of(store, rows) > 0, offsets, 0)
