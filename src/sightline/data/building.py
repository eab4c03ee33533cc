"""Writing a store in shards: each is whole on the disk before the next is begun, so that a stopped build is not lost."""

from __future__ import annotations

import math
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from sightline.data.earlier import Earlier, Known, build_of, moved, part_name
from sightline.data.facts import LOOKED_FACTS, looked_columns
from sightline.data.locks import is_locked, lock, try_lock
from sightline.data.look import Look, Placed, put
from sightline.data.room import check_limit
from sightline.data.stored import PixelFile
from sightline.data.tables import Column, Piece, write_table
from sightline.errors import ResourceError
from sightline.texts import Texts

# A shard is ended after so many images, or so many seconds: no more is lost when a build is stopped.
SHARD_ROWS, SHARD_SECONDS = 8192, 30.0
# Rows that are held in memory while the table of all is written.
PIECE = 65_536


@dataclass
class Build:
    """One process's way of bringing a store up to date, by the name that its files have.

    began   when it began, in ns by the clock of the disk
    parts   the tables of its shards, and ``starts`` the number of the first image in each, of those that were written
    """

    folder: Path
    channels: int
    limit: float
    kept: tuple[PixelFile, ...]
    name: str
    began: int
    parts: list[Path] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    written: int = 0

    @property
    def pixel_file(self) -> Path:
        return self.folder / f"pixels-{self.name}.bin"

    @property
    def files(self) -> tuple[PixelFile, ...]:
        """Those that are kept, and its own."""
        return (*self.kept, *([(self.pixel_file.name, self.written)] if self.written else []))

    def write(self, images: Iterable[tuple[str, NDArray[np.int64], Look]]) -> None:
        """Write images, each with its path and stamp, shard by shard. Raises ResourceError where they outgrow the limit.

        While they are asked for, who looks at them may put pixels into the file of pixels.
        """
        shard: _Shard | None = None
        count, end, kept = 0, 0, sum(size for _, size in self.kept)
        with self.pixel_file.open("wb") as created:
            for path, stamp, look in images:
                shard, pixels = shard or _Shard(count), self._placed(look)
                shard.add(path, stamp, look, pixels)
                count, end = count + 1, max(end, pixels.start + math.prod(pixels.shape))
                check_limit(kept + end, self.limit)
                if shard.is_full:
                    self._end(shard, created, end)
                    shard = None
            if shard is not None:
                self._end(shard, created, end)
        if not self.written:
            self.pixel_file.unlink()

    def _placed(self, look: Look) -> Placed:
        """Where in the file the pixels are, which are put there unless they are."""
        if isinstance(look.pixels, Placed):
            return look.pixels
        with self.pixel_file.open("r+b") as file:
            lock(file.fileno())  # where there are no locks nobody else puts anything there
            return put(look, file)

    def _end(self, shard: _Shard, created: BinaryIO, end: int) -> None:
        os.fsync(created.fileno())
        self.written = end
        table = self.folder / part_name(self.name, len(self.parts))
        files = [(self.pixel_file.name, self.written)] if self.written else []
        # The pixels are there before the table that says so; the table is known to be damaged where it is.
        write_table(table, lambda: [shard.columns], synced=False, files=files, channels=self.channels)
        self.parts.append(table)
        self.starts.append(shard.start)

    def finish(self, known: Known, before: Earlier) -> Path:
        """Write the table of all rows, reused and new, in the data set's order."""
        every = Earlier((*before.tables, *self.parts), before.side)
        tables, rows = known.tables.copy(), known.rows.copy()
        fresh = np.arange(np.count_nonzero(~known.reused))
        part = np.searchsorted(self.starts, fresh, side="right") - 1
        tables[~known.reused] = len(before.tables) + part
        rows[~known.reused] = fresh - np.array(self.starts, np.int64)[part]
        table = self.folder / f"index-{self.name}.table"
        write_table(table, lambda: _pieces(every, tables, rows, self.files), files=self.files, channels=self.channels)
        return table

    def clear(self, before: Earlier) -> None:
        """Remove what the store needs no more: the tables it is made of, and what is of no build that goes on nor was written since."""
        spent = {*self.parts, *before.tables}
        used = {name for name, _ in self.files} | {f"index-{self.name}.table", "index.json"}
        found = [file for file in self.folder.iterdir() if file.name not in used]
        held = {build: is_locked(self.folder / f"{build}.lock") for build in {build_of(file.name) for file in found} - {self.name}}
        for file in found:
            # What was written to since we began is another process's, and Windows keeps what is mapped.
            with suppress(OSError):
                if file in spent or (not held.get(build_of(file.name), True) and file.stat().st_mtime_ns < self.began):
                    file.unlink()

    def remove(self) -> None:
        """Everything that it wrote."""
        for file in (*self.parts, self.pixel_file, self.folder / f"index-{self.name}.table"):
            file.unlink(missing_ok=True)


@contextmanager
def begun(folder: Path, channels: int, limit: float, kept: tuple[PixelFile, ...]) -> Iterator[Build]:
    """A build with a name of its own, which is held while it lasts. What is not finished is kept where a shard of it is whole."""
    name = uuid.uuid4().hex[:12]
    lock = folder / f"{name}.lock"
    with lock.open("a") as file:
        try_lock(file.fileno())
        build = Build(folder, channels, limit, kept, name, os.fstat(file.fileno()).st_mtime_ns)
        try:
            yield build
        except BaseException as error:
            if isinstance(error, ResourceError) or not build.parts:
                build.remove()
            raise
        finally:
            file.close()
            lock.unlink(missing_ok=True)


@dataclass
class _Shard:
    """Images that were looked at and are not yet written, but for their pixels; ``start`` is the number of the first."""

    start: int
    began: float = field(default_factory=time.monotonic)
    paths: list[str] = field(default_factory=list)
    stamps: list[NDArray[np.int64]] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    facts: list[Look] = field(default_factory=list)

    def add(self, path: str, stamp: NDArray[np.int64], look: Look, pixels: Placed) -> None:
        self.paths.append(path)
        self.stamps.append(stamp)
        self.offsets.append(pixels.start)
        self.shapes.append(pixels.shape[:2])
        self.facts.append(look.without_pixels())

    @property
    def is_full(self) -> bool:
        return len(self.paths) >= SHARD_ROWS or time.monotonic() - self.began >= SHARD_SECONDS

    @property
    def columns(self) -> Piece:
        stamps = np.array(self.stamps, np.int64)
        return {
            "path": Texts.of(self.paths), "bytes": stamps[:, 0], "mtime_ns": stamps[:, 1], **looked_columns(self.facts),
            "offsets": np.array(self.offsets, np.int64), "shapes": np.array(self.shapes, np.int64),
        }  # fmt: skip


def _pieces(every: Earlier, tables: NDArray[np.int64], rows: NDArray[np.int64], files: tuple[PixelFile, ...]) -> Iterator[Piece]:
    """Rows of tables as they follow each other."""
    changes = np.flatnonzero(np.diff(tables)) + 1
    bounds = np.unique(np.concatenate([np.arange(0, len(tables), PIECE), changes, [len(tables)]]))
    for start, stop in pairwise(bounds.tolist()):
        store, some = every.store(int(tables[start])), rows[start:stop]
        whole = bool((np.diff(some) == 1).all())
        picked = slice(int(some[0]), int(some[-1]) + 1) if whole else some
        piece: dict[str, Column] = {name: getattr(store.facts, name)[picked] for name in ("path", "bytes", "mtime_ns", *LOOKED_FACTS)}
        yield {**piece, "offsets": moved(store, some, files), "shapes": store.shapes[picked]}
