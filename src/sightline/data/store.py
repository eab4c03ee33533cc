"""Look once: every file is read and decoded once, into a uint8 store on disk, with facts about it.

The store feeds the audit and training only; what is reported or predicted always reads the original bytes.

On disk a store is a folder with ``index.npz`` (the facts, and where each image's pixels lie) and the pixel file
that the index names. The index is replaced atomically after the pixels are complete, so a store is either the old
one or the new one, never half of it. A file whose size and time are unchanged is not read again; one whose bytes are
unchanged is not decoded again. Two processes may build the same store at once: each has its own pixel file, and the
index that is written last counts.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline import console
from sightline.data.container import member_size
from sightline.data.decode import Limits
from sightline.data.look import Look, looked_at
from sightline.data.reading import Reading
from sightline.errors import ImageError, ResourceError
from sightline.records import Dataset, ImageRef

# Raised when stores of an earlier version can no longer be used.
VERSION = 4
# Bytes a decoded image takes beyond side x side x channels, on average: photographs are 4:3.
ASPECT = 1.4
# Share of the disk that is left free.
KEEP_FREE = 0.02
# The facts that come from looking at an image; the others are known from its directory entry.
LOOKED_FACTS = (
    "sha256", "error", "note", "format", "mode", "width", "height", "camera", "taken",
    "brightness", "contrast", "sharpness", "colour", "thumb", "position", "quality", "border",
)  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """What looking at n images told, one row an image, in the data set's order; rows with an ``error`` hold zeros.

    ``Look`` says what the columns from ``sha256`` on mean.
    """

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
    colour: NDArray[np.float32]
    thumb: NDArray[np.uint8]
    position: NDArray[np.bool_]
    quality: NDArray[np.int64]
    border: NDArray[np.float32]

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

    ``store[row]`` is an (h, w, channels) uint8 view of the memory-mapped pixels; ``facts`` has a row for each image.
    """

    facts: Facts
    side: int
    offsets: NDArray[np.int64]
    shapes: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    channels: int = 3

    def __len__(self) -> int:
        return len(self.facts)

    def __getitem__(self, row: int) -> NDArray[np.uint8]:
        height, width = self.shapes[row]
        start = self.offsets[row]
        return self.pixels[start : start + height * width * self.channels].reshape(height, width, self.channels)

    def select(self, rows: NDArray[Any]) -> Store:
        """The store of some of the rows (indices or mask), over the same pixels."""
        return replace(self, facts=self.facts.select(rows), offsets=self.offsets[rows], shapes=self.shapes[rows])


def cache_folder() -> Path:
    """Where stores are kept: ``$SIGHTLINE_CACHE``, or ``sightline`` in the user's cache folder."""
    named = os.environ.get("SIGHTLINE_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sightline"


def look_once(dataset: Dataset, side: int, *, limits: Limits, workers: int, limit_bytes: float, reading: Reading = Reading()) -> Store:
    """The store of a data set's images, their shorter side scaled down to ``side`` pixels; built or brought up to date.

    A file that cannot be read has its reason in ``facts.error`` and an empty image. Raises ResourceError when the store would
    not fit into ``limit_bytes`` or on the disk.
    """
    key = hashlib.sha256(os.fsencode(f"{dataset.root.resolve()}|{side}|{limits}|{reading}|{VERSION}")).hexdigest()[:16]
    folder = cache_folder() / "stores" / key
    old = _open(folder, side)
    stats = [_stat(ref) for ref in dataset.refs]
    if old is not None and _unchanged(dataset, stats, old):
        with suppress(OSError):
            folder.touch()
        return old
    with _named_disk_errors(folder):
        _make_room(folder, len(dataset) * side * side * reading.channels * ASPECT, limit_bytes)
        folder.mkdir(parents=True, exist_ok=True)
        _build(folder, dataset, stats, _looks(dataset, stats, old, side, limits, workers, reading), reading.channels, limit_bytes)
    built = _open(folder, side)
    if built is None:
        raise ResourceError(f"{folder}: the store was removed while it was being built; run again.")
    return built


def _looks(
    dataset: Dataset, stats: Sequence[tuple[int, int]], old: Store | None, side: int, limits: Limits, workers: int, reading: Reading
) -> Iterator[Look]:
    """One Look for each row, taken from the old store where the file, or at least its bytes, are still the same."""
    earlier = {} if old is None else {str(path): row for row, path in enumerate(old.facts.path)}
    before = [earlier.get(str(ref)) for ref in dataset.refs]
    same, jobs = [], []
    for ref, stat, row in zip(dataset.refs, stats, before, strict=True):
        same.append(row is not None and (old.facts.bytes[row], old.facts.mtime_ns[row]) == stat)  # type: ignore[union-attr]
        if not same[-1]:
            jobs.append((ref, side, limits, "" if row is None else str(old.facts.sha256[row]), reading))  # type: ignore[union-attr]
    fresh = looked_at(jobs, workers)
    for row, unchanged in zip(before, same, strict=True):
        look = None if unchanged else next(fresh)
        yield _recall(old, row) if look is None else look  # type: ignore[arg-type]


def _build(folder: Path, dataset: Dataset, stats: Sequence[tuple[int, int]], looks: Iterable[Look], channels: int, limit: float) -> None:
    """Write a new pixel file and then the index that names it; the previous pixel file goes last."""
    pixel_file = folder / f"pixels-{uuid.uuid4().hex[:12]}.bin"
    columns: dict[str, list[Any]] = {name: [] for name in ("offsets", "shapes", *LOOKED_FACTS)}
    try:
        with pixel_file.open("wb") as sink:
            began = os.fstat(sink.fileno()).st_mtime_ns
            for look in console.track(looks, len(dataset), "Looking at images"):
                columns["offsets"].append(sink.tell())
                columns["shapes"].append(look.pixels.shape[:2])
                for name in LOOKED_FACTS:
                    columns[name].append(getattr(look, name))
                sink.write(look.pixels.tobytes())
                _check_limit(sink.tell(), limit)
            sink.flush()
            os.fsync(sink.fileno())
        _write_index(folder, pixel_file.name, channels, dataset, stats, columns)
    except BaseException:
        pixel_file.unlink(missing_ok=True)
        raise
    for stale in folder.glob("pixels-*.bin"):
        # What was written to since we began is another process's, and Windows keeps what is mapped.
        with suppress(OSError):
            if stale != pixel_file and stale.stat().st_mtime_ns < began:
                stale.unlink()


def _write_index(
    folder: Path, pixel_file: str, channels: int, dataset: Dataset, stats: Sequence[tuple[int, int]], columns: dict[str, list[Any]]
) -> None:
    sizes, times = zip(*stats, strict=True)
    arrays = {
        "path": np.array([str(ref) for ref in dataset.refs]), "bytes": np.array(sizes, np.int64), "mtime_ns": np.array(times, np.int64),
        **{name: np.array(column) for name, column in columns.items()},
    }  # fmt: skip
    temporary = folder / f"index-{uuid.uuid4().hex[:12]}.tmp"
    try:
        with temporary.open("wb") as sink:
            np.savez(sink, pixel_file=pixel_file, channels=channels, **arrays)
            sink.flush()
            os.fsync(sink.fileno())
        temporary.replace(folder / "index.npz")
    finally:
        temporary.unlink(missing_ok=True)


def _open(folder: Path, side: int) -> Store | None:
    """The store in a folder, or None where there is none that can be used."""
    try:
        with np.load(folder / "index.npz", allow_pickle=False) as index:
            facts = Facts(**{entry.name: index[entry.name] for entry in fields(Facts)})
            offsets, shapes, pixel_file = index["offsets"], index["shapes"], folder / str(index["pixel_file"])
            channels = int(index["channels"])
        size = pixel_file.stat().st_size
        if size != channels * shapes.prod(axis=1).sum():
            raise ValueError(f"{pixel_file.name} has {size} bytes")
        pixels = np.memmap(pixel_file, np.uint8, mode="r") if size else np.empty(0, np.uint8)
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged index can fail in a dozen ways, and in each of them the store is built again
        console.warn(f"{folder}: this store of decoded images is damaged ({error}) and is built again.")
        return None
    return Store(facts, side, offsets, shapes, pixels, channels)


def _stat(ref: ImageRef) -> tuple[int, int]:
    """Size in bytes and modification time in ns; (-1, -1) for what cannot be read, which looking at it will name.

    A member has its own size and its archive's time: of a changed archive all is read again, and what is new is decoded.
    """
    try:
        stat = os.stat(ref.path)
        size = stat.st_size if ref.member is None else member_size(ref.path, ref.member)
    except (OSError, ImageError):
        return -1, -1
    # Being allowed to read a file again changes neither its size nor its time.
    return (size, stat.st_mtime_ns) if os.access(ref.path, os.R_OK) else (-1, -1)


def _unchanged(dataset: Dataset, stats: Sequence[tuple[int, int]], old: Store) -> bool:
    return (
        len(old) == len(dataset)
        and all(path == str(ref) for path, ref in zip(old.facts.path.tolist(), dataset.refs, strict=True))
        and list(zip(old.facts.bytes.tolist(), old.facts.mtime_ns.tolist(), strict=True)) == list(stats)
    )


def _recall(old: Store, row: int) -> Look:
    facts = {name: getattr(old.facts, name)[row] for name in LOOKED_FACTS}
    return Look(pixels=old[row], **facts)


def _check_limit(size: float, limit: float) -> None:
    if size > limit:
        raise ResourceError(
            f"The store of decoded images would take {size / 1e9:.3g} GB, over the limit of {limit / 1e9:.3g}; raise --store-limit."
        )


def _make_room(folder: Path, need: float, limit: float) -> None:
    """Remove the stores used longest ago until the new one fits; ResourceError when it cannot."""
    _check_limit(need, limit)
    stores = folder.parent
    stores.mkdir(parents=True, exist_ok=True)
    others = sorted((other for other in stores.iterdir() if other.is_dir() and other != folder), key=lambda other: other.stat().st_mtime_ns)
    sizes = [sum(part.stat().st_size for part in other.iterdir()) for other in others]
    while others and sum(sizes) + need > limit:
        shutil.rmtree(others.pop(0), ignore_errors=True)
        sizes.pop(0)
    usage = shutil.disk_usage(stores)
    if need > usage.free - KEEP_FREE * usage.total:
        raise ResourceError(
            f"{stores}: the store of decoded images needs {need / 1e9:.3g} GB and {usage.free / 1e9:.3g} GB are free; "
            "make room or set SIGHTLINE_CACHE to a folder on another disk."
        )


@contextmanager
def _named_disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResourceError(
            f"{folder}: cannot write the store of decoded images ({error.strerror or error}); "
            "make room or set SIGHTLINE_CACHE to a folder on another disk."
        ) from error
