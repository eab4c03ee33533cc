"""Look once: every file is read and decoded once, into a uint8 store on disk, with facts about it.

The store feeds the audit and training only; what is reported or predicted always reads the original bytes.

On disk a store is a folder with ``index.json``, which names its table; the table has the facts, and says where in which file of pixels
each image lies. Nothing is ever changed but ``index.json``, which is replaced when all it leads to is complete, so a store is either the
old one or the new one, never half of it, and any number of processes may have it open. A file whose size and time are unchanged is not
read again; one whose bytes are unchanged is not decoded again. One that was refused is always looked at again, as what was missing, such as
a library or memory, may be there now. What was looked at is on the disk shard by shard, and what a stopped build leaves the next one uses.
Two processes may build the same store at once: each has its own files, and the index that is written last counts.
docs/decisions/032-a-store-of-millions.md says why.
"""

from __future__ import annotations

import hashlib
import json
import operator
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sightline import console
from sightline.data.building import begun
from sightline.data.decode import Limits
from sightline.data.earlier import NEVER, Earlier, Known, earlier, known_rows
from sightline.data.facts import LOOKED_FACTS, Facts
from sightline.data.look import Job, Look, looked_at
from sightline.data.reading import Reading
from sightline.data.room import make_room
from sightline.data.stamps import stamps_of
from sightline.data.stored import Store, open_store
from sightline.errors import ResourceError
from sightline.records import Dataset, ImageRef, texts_of

__all__ = ["LOOKED_FACTS", "Facts", "Store", "cache_folder", "look_once"]

# Raised when stores of an earlier version can no longer be used.
VERSION = 5
INDEX = "index.json"
# Bytes a decoded image takes beyond side x side x channels, on average: photographs are 4:3.
ASPECT = 1.4


def cache_folder() -> Path:
    """Where stores are kept: ``$SIGHTLINE_CACHE``, or ``sightline`` in the user's cache folder."""
    named = os.environ.get("SIGHTLINE_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sightline"


def look_once(
    dataset: Dataset, side: int, *, limits: Limits, workers: int, limit_bytes: float, reading: Reading = Reading(), retry: bool = True
) -> Store:
    """The store of a data set's images, their shorter side scaled down to ``side`` pixels; built or brought up to date.

    A file that cannot be read has its reason in ``facts.error`` and an empty image; without ``retry`` a store in which nothing else is new
    is taken as it is. Raises ResourceError when the store would not fit into ``limit_bytes`` or on the disk.
    """
    key = hashlib.sha256(os.fsencode(f"{dataset.root.resolve()}|{side}|{limits}|{reading}|{VERSION}")).hexdigest()[:16]
    folder = cache_folder() / "stores" / key
    stamps, how = stamps_of(dataset.refs), (side, limits, reading)
    old = _open(folder, side)
    is_current = old is not None and _unchanged(dataset.refs, stamps, old.facts)
    if old is not None and is_current and (not retry or _still_refused(dataset.refs, old.facts, how, workers)):
        with suppress(OSError):
            folder.touch()
        return old
    with _named_disk_errors(folder):
        before = earlier(folder, None if old is None else _table(folder), side)
        known = known_rows(dataset.refs, stamps, before)
        each = side * side * reading.channels * ASPECT
        make_room(folder, len(dataset) * each, np.count_nonzero(~known.reused) * each, limit_bytes)
        folder.mkdir(parents=True, exist_ok=True)
        with begun(folder, reading.channels, limit_bytes, known.files) as build:
            looks = _looks(dataset, known, before, how, workers, build.pixel_file)
            fresh = np.flatnonzero(~known.reused)
            build.write(_named(dataset, stamps, fresh, console.track(looks, len(fresh), "Looking at images")))
            _write_index(folder, build.finish(known, before))
            build.clear(before)
    built = _open(folder, side)
    if built is None:
        raise ResourceError(f"{folder}: the store was removed while it was being built; run again.")
    return built


def _looks(
    dataset: Dataset, known: Known, before: Earlier, how: tuple[int, Limits, Reading], workers: int, pixel_file: Path
) -> Iterator[Look]:
    """A Look for each image that is not reused; that of before where the file, or at least its bytes, are still the same."""
    side, limits, reading = how
    fresh = np.flatnonzero(~known.reused).tolist()

    def earlier_look(row: int) -> tuple[Store, int]:
        return before.store(int(known.tables[row])), int(known.rows[row])

    def jobs() -> Iterator[Job]:
        for row in fresh:
            if not known.same[row]:
                store, place = earlier_look(row) if known.tables[row] != NEVER else (None, 0)
                # Of what was refused, the same bytes may be read now.
                sha256 = "" if store is None or store.facts.error[place] else store.facts.sha256[place]
                yield dataset.refs[row], side, limits, sha256, reading

    looks = looked_at(jobs(), workers, pixel_file)
    for row in fresh:
        look = None if known.same[row] else next(looks)
        yield _recall(*earlier_look(row)) if look is None else look


def _recall(old: Store, row: int) -> Look:
    return Look(pixels=old[row], **{name: getattr(old.facts, name)[row] for name in LOOKED_FACTS})


def _named(
    dataset: Dataset, stamps: NDArray[np.int64], rows: NDArray[np.int64], looks: Iterable[Look]
) -> Iterator[tuple[str, NDArray[np.int64], Look]]:
    """Each Look with its image's path and stamp."""
    for row, look in zip(rows.tolist(), looks, strict=True):
        yield str(dataset.refs[row]), stamps[row], look


def _write_index(folder: Path, table: Path) -> None:
    temporary = folder / f"{table.stem}.tmp"
    try:
        with temporary.open("w", encoding="utf-8") as sink:
            json.dump({"table": table.name}, sink)
            sink.flush()
            os.fsync(sink.fileno())
        temporary.replace(folder / INDEX)
    finally:
        temporary.unlink(missing_ok=True)


def _table(folder: Path) -> Path:
    """The table of a store."""
    return folder / Path(json.loads((folder / INDEX).read_text(encoding="utf-8"))["table"]).name


def _open(folder: Path, side: int) -> Store | None:
    """The store in a folder, or None where there is none that can be used."""
    try:
        return open_store(_table(folder), side)
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged index can fail in a dozen ways, and in each of them the store is built again
        console.warn(f"{folder}: this store of decoded images is damaged ({error}) and is built again.")
        return None


def _unchanged(refs: Sequence[ImageRef], stamps: NDArray[np.int64], facts: Facts) -> bool:
    return (
        len(facts) == len(refs)
        and np.array_equal(facts.bytes, stamps[:, 0])
        and np.array_equal(facts.mtime_ns, stamps[:, 1])
        and all(map(operator.eq, facts.path, texts_of(refs)))
    )


def _still_refused(refs: Sequence[ImageRef], facts: Facts, how: tuple[int, Limits, Reading], workers: int) -> bool:
    """Whether each file that was refused is refused again, for the same reason; only those are looked at for that."""
    rows = np.flatnonzero(~facts.readable).tolist()
    if not rows:
        return True
    side, limits, reading = how
    looks = looked_at(((refs[row], side, limits, "", reading) for row in rows), workers)
    again = console.track(looks, len(rows), "Looking again at images that were refused")
    return all(look is not None and look.error == facts.error[row] for row, look in zip(rows, again, strict=True))


@contextmanager
def _named_disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResourceError(
            f"{folder}: cannot write the store of decoded images ({error.strerror or error}); "
            "make room or set SIGHTLINE_CACHE to a folder on another disk."
        ) from error
