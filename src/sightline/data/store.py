"""Look once: every file is read and decoded once, into a uint8 store on disk, with facts about it.

The store feeds the audit and training only; what is reported or predicted always reads the original bytes.

On disk a store is a folder with ``index.npz`` (the facts, and where each image's pixels lie) and the pixel file
that the index names. The index is replaced atomically after the pixels are complete, so a store is either the old
one or the new one, never half of it. A file whose size and time are unchanged is not read again; one whose bytes are
unchanged is not decoded again.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import uuid
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline import console
from sightline.data.decode import Limits
from sightline.data.look import Look, looked_at
from sightline.errors import ResourceError
from sightline.records import Dataset, ImageRef

VERSION = 1
# Bytes a decoded image takes beyond side x side x 3, on average: photographs are 4:3.
ASPECT = 1.4
# Share of the disk that is left free.
KEEP_FREE = 0.02
# The facts that come from looking at an image; the others are known from its directory entry.
LOOKED_FACTS = (
    "sha256", "error", "note", "format", "mode", "width", "height", "camera", "taken",
    "brightness", "contrast", "sharpness", "phash", "thumb",
)  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """What looking at n images told, one row an image, in the data set's order. Rows with an ``error`` hold zeros."""

    path: NDArray[np.str_]
    bytes: NDArray[np.int64]
    mtime_ns: NDArray[np.int64]
    sha256: NDArray[np.str_]
    error: NDArray[np.str_]
    note: NDArray[np.str_]
    format: NDArray[np.str_]
    mode: NDArray[np.str_]
    width: NDArray[np.int64]
    height: NDArray[np.int64]
    camera: NDArray[np.str_]
    taken: NDArray[np.str_]
    brightness: NDArray[np.float64]
    contrast: NDArray[np.float64]
    sharpness: NDArray[np.float64]
    phash: NDArray[np.uint64]
    thumb: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.path)

    @property
    def readable(self) -> NDArray[np.bool_]:
        return self.error == ""

    def select(self, rows: NDArray[Any]) -> Facts:
        return Facts(*(getattr(self, entry.name)[rows] for entry in fields(self)))


@dataclass(frozen=True)
class Store:
    """Decoded images, at most a little larger than training needs.

    ``store[row]`` is an (h, w, 3) uint8 view of the memory-mapped pixels; ``facts`` has a row for each image.
    """

    facts: Facts
    side: int
    offsets: NDArray[np.int64]
    shapes: NDArray[np.int64]
    pixels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.facts)

    def __getitem__(self, row: int) -> NDArray[np.uint8]:
        height, width = self.shapes[row]
        start = self.offsets[row]
        return self.pixels[start : start + height * width * 3].reshape(height, width, 3)

    def select(self, rows: NDArray[Any]) -> Store:
        """The store of some of the rows (indices or mask), over the same pixels."""
        return replace(self, facts=self.facts.select(rows), offsets=self.offsets[rows], shapes=self.shapes[rows])


def cache_folder() -> Path:
    """Where stores are kept: ``$SIGHTLINE_CACHE``, or ``sightline`` in the user's cache folder."""
    named = os.environ.get("SIGHTLINE_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sightline"


def look_once(dataset: Dataset, side: int, *, limits: Limits, workers: int, limit_bytes: float) -> Store:
    """The store of a data set's images, their shorter side scaled down to ``side`` pixels; built or brought up to date.

    A file that cannot be read has its reason in ``facts.error`` and an empty image. Raises ResourceError when the store would
    not fit into ``limit_bytes`` or on the disk.
    """
    key = hashlib.sha256(f"{dataset.root.resolve()}|{side}|{limits}|{VERSION}".encode()).hexdigest()[:16]
    folder = cache_folder() / "stores" / key
    old = _open(folder, side)
    reusable = {} if old is None else {str(path): row for row, path in enumerate(old.facts.path)}
    stats = [_stat(ref) for ref in dataset.refs]
    if old is not None and _unchanged(dataset, stats, old):
        (folder / "index.npz").touch()
        return old
    _make_room(folder, len(dataset) * side * side * 3 * ASPECT, limit_bytes)
    folder.mkdir(parents=True, exist_ok=True)
    with _named_disk_errors(folder):
        _build(folder, dataset, stats, old, reusable, side, limits, workers)
    built = _open(folder, side)
    if built is None:
        raise ResourceError(f"{folder}: the store was removed while it was being built; run again.")
    return built


def _build(
    folder: Path,
    dataset: Dataset,
    stats: Sequence[tuple[int, int]],
    old: Store | None,
    reusable: dict[str, int],
    side: int,
    limits: Limits,
    workers: int,
) -> None:
    """Write a new pixel file and then the index that names it; the previous pixel file goes last."""
    pixel_file = folder / f"pixels-{uuid.uuid4().hex[:12]}.bin"
    looks: list[Look | None] = [None] * len(dataset)
    offsets = np.zeros(len(dataset), np.int64)
    try:
        with pixel_file.open("wb") as sink:
            known, todo = [], []
            for row, ref in enumerate(dataset.refs):
                before = reusable.get(str(ref))
                same = old is not None and before is not None and (old.facts.bytes[before], old.facts.mtime_ns[before]) == stats[row]
                (known if same else todo).append(row)
            for row in known:
                looks[row] = _recall(old, reusable[str(dataset.refs[row])])  # type: ignore[arg-type]
                offsets[row] = sink.tell()
                sink.write(looks[row].pixels.tobytes())  # type: ignore[union-attr]
            jobs = [(dataset.refs[row], side, limits) for row in todo]
            for row, look in zip(todo, console.track(looked_at(jobs, workers), len(todo), "Looking at images"), strict=True):
                offsets[row] = sink.tell()
                sink.write(look.pixels.tobytes())
                looks[row] = replace(look, pixels=look.pixels[:0], shape=look.pixels.shape[:2])
            sink.flush()
            os.fsync(sink.fileno())
        _write_index(folder, pixel_file.name, stats, dataset, [look for look in looks if look is not None], offsets)
    except BaseException:
        pixel_file.unlink(missing_ok=True)
        raise
    for stale in folder.glob("pixels-*.bin"):
        if stale != pixel_file:
            stale.unlink(missing_ok=True)


def _write_index(
    folder: Path, pixel_file: str, stats: Sequence[tuple[int, int]], dataset: Dataset, looks: Sequence[Look], offsets: NDArray[np.int64]
) -> None:
    columns = {
        "path": np.array([str(ref) for ref in dataset.refs]),
        "bytes": np.array([size for size, _ in stats], np.int64),
        "mtime_ns": np.array([mtime for _, mtime in stats], np.int64),
        **{name: np.array([getattr(look, name) for look in looks]) for name in LOOKED_FACTS},
    }
    temporary = folder / f"index-{uuid.uuid4().hex[:12]}.tmp"
    try:
        with temporary.open("wb") as sink:
            np.savez(
                sink, version=VERSION, pixel_file=pixel_file, offsets=offsets, shapes=np.array([look.shape for look in looks], np.int64),
                **columns,
            )  # fmt: skip
            sink.flush()
            os.fsync(sink.fileno())
        temporary.replace(folder / "index.npz")
    finally:
        temporary.unlink(missing_ok=True)


def _open(folder: Path, side: int) -> Store | None:
    """The store in a folder, or None where there is none that this version can use."""
    try:
        with np.load(folder / "index.npz", allow_pickle=False) as index:
            if int(index["version"]) != VERSION:
                return None
            facts = Facts(**{entry.name: index[entry.name] for entry in fields(Facts)})
            offsets, shapes, pixel_file = index["offsets"], index["shapes"], folder / str(index["pixel_file"])
        size = pixel_file.stat().st_size
        pixels = np.memmap(pixel_file, np.uint8, mode="r") if size else np.empty(0, np.uint8)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        if not isinstance(error, FileNotFoundError):
            console.warn(f"{folder}: this store of decoded images is damaged ({error}) and is built again.")
        return None
    return Store(facts, side, offsets, shapes, pixels)


def _stat(ref: ImageRef) -> tuple[int, int]:
    """Size in bytes and modification time in ns; (-1, -1) for what is not there, which looking at it will name."""
    try:
        stat = os.stat(ref.path)
    except OSError:
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def _unchanged(dataset: Dataset, stats: Sequence[tuple[int, int]], old: Store) -> bool:
    return (
        len(old) == len(dataset)
        and all(path == str(ref) for path, ref in zip(old.facts.path.tolist(), dataset.refs, strict=True))
        and list(zip(old.facts.bytes.tolist(), old.facts.mtime_ns.tolist(), strict=True)) == list(stats)
    )


def _recall(old: Store, row: int) -> Look:
    facts = {name: getattr(old.facts, name)[row] for name in LOOKED_FACTS}
    return Look(pixels=old[row], shape=tuple(old.shapes[row].tolist()), **facts)


def _make_room(folder: Path, need: float, limit: float) -> None:
    """Remove the stores used longest ago until the new one fits; ResourceError when it cannot."""
    if need > limit:
        raise ResourceError(
            f"The store of decoded images would take {need / 1e9:.1f} GB, over the limit of {limit / 1e9:.1f}; raise --store-limit."
        )
    stores = cache_folder() / "stores"
    stores.mkdir(parents=True, exist_ok=True)
    others = sorted((other for other in stores.iterdir() if other != folder), key=lambda other: other.stat().st_mtime)
    sizes = [sum(part.stat().st_size for part in other.iterdir()) for other in others]
    while others and sum(sizes) + need > limit:
        shutil.rmtree(others.pop(0), ignore_errors=True)
        sizes.pop(0)
    usage = shutil.disk_usage(stores)
    if need > usage.free - KEEP_FREE * usage.total:
        raise ResourceError(
            f"{stores}: the store of decoded images needs {need / 1e9:.1f} GB and {usage.free / 1e9:.1f} GB are free; "
            "make room or set SIGHTLINE_CACHE to another disk."
        )


@contextmanager
def _named_disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise ResourceError(f"{folder}: cannot write the store of decoded images ({error.strerror}); set SIGHTLINE_CACHE.") from error
        raise
