"""Tables of columns, each in one file that is mapped and not read: a million rows are there at once, and take memory as they are used.

A file begins with a word, then come the columns, then what they are, as JSON: of each its kind, its place and a checksum. That comes
last, so that a file that was cut short is known. Numbers are as numpy has them; of texts there are two columns, their bytes and where
each of them begins and, behind the last, ends.
"""

from __future__ import annotations

import json
import os
import struct
import uuid
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from sightline.texts import Texts

Column = NDArray[Any] | Texts
Piece = Mapping[str, Column]

WORD = b"SIGHTTAB"
# Bytes of whose multiples every column begins at one, and that are checked at a time.
ALIGNED, CHECKED = 64, 1 << 20
BYTES, BOUNDS = "bytes of texts", "bounds of texts"
_END = struct.Struct("<QI8s")


class DamagedTable(Exception):
    """A file that is no table, or not the whole of one; the text says why."""


@dataclass
class _Place:
    """Where a column lies in a file: ``size`` bytes of ``dtype`` and ``shape``, of which ``filled`` are there; ``crc`` is theirs."""

    kind: str
    dtype: str
    shape: tuple[int, ...]
    start: int = 0
    crc: int = 0
    filled: int = field(default=0, compare=False)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


def write_table(path: Path, pieces: Callable[[], Iterable[Piece]], *, synced: bool = True, **said: Any) -> None:
    """Write rows that come in pieces of the same columns, and anything else that JSON holds, whole or not at all.

    The pieces are asked for twice, first for how long they are. What is not ``synced`` may be damaged when the machine stops, which is
    seen when it is opened.
    """
    places = _places(pieces())
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(WORD)
            for piece in pieces():
                for name, column in piece.items():
                    if isinstance(column, Texts):
                        _put_texts(file, places[name], places[_bounds(name)], column)
                    else:
                        _put(file, places[name], column)
            file.seek(max(place.start + place.size for place in places.values()))
            columns = {name: [place.kind, place.dtype, place.shape, place.start, place.crc] for name, place in places.items()}
            what = json.dumps({"columns": columns, "said": said}).encode()
            file.write(what + _END.pack(len(what), zlib.crc32(what), WORD))
            file.flush()
            if synced:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _bounds(name: str) -> str:
    return f"{name}|"


def _places(pieces: Iterable[Piece]) -> dict[str, _Place]:
    """Where each column will lie; the rows are those of all pieces, of which there must be one."""
    places: dict[str, _Place] = {}
    for piece in pieces:
        for name, column in piece.items():
            if isinstance(column, Texts):
                bytes_ = places.setdefault(name, _Place(BYTES, "|u1", (0,)))
                bounds = places.setdefault(_bounds(name), _Place(BOUNDS, "<i8", (1,)))
                bytes_.shape = (bytes_.shape[0] + int(column.lengths.sum()),)
                bounds.shape = (bounds.shape[0] + len(column),)
            else:
                place = places.setdefault(name, _Place("", column.dtype.str, (0, *column.shape[1:])))
                place.shape = (place.shape[0] + len(column), *place.shape[1:])
    end = len(WORD)
    for place in places.values():
        place.start = -(-end // ALIGNED) * ALIGNED
        end = place.start + place.size
    return places


def _put_texts(file: BinaryIO, place: _Place, bounds: _Place, column: Texts) -> None:
    ends = place.filled + np.cumsum(column.lengths)
    _put(file, bounds, ends if bounds.filled else np.concatenate([np.zeros(1, np.int64), ends]))
    _put(file, place, np.frombuffer(column.tobytes(), np.uint8))


def _put(file: BinaryIO, place: _Place, values: NDArray[Any]) -> None:
    data = np.ascontiguousarray(values, place.dtype).tobytes()
    file.seek(place.start + place.filled)
    file.write(data)
    place.crc = zlib.crc32(data, place.crc)
    place.filled += len(data)


@dataclass(frozen=True)
class Table:
    """A table's columns, views of the mapped file that cannot be written, and what else it says."""

    columns: Piece
    said: dict[str, Any]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


def open_table(path: Path) -> Table:
    """Map a table, every column of which is checked; FileNotFoundError where there is none, DamagedTable for one that is damaged."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        what = _end_of(file, size)
        places = {name: _Place(kind, dtype, tuple(shape), start, crc) for name, (kind, dtype, shape, start, crc) in what["columns"].items()}
        if not places or any(place.start + place.size > size or _checksum(file, place) != place.crc for place in places.values()):
            raise DamagedTable("its checksums do not hold")
    mapped = np.memmap(path, np.uint8, mode="r").view(np.ndarray)
    arrays = {name: mapped[place.start : place.start + place.size].view(place.dtype).reshape(place.shape) for name, place in places.items()}
    columns: dict[str, Column] = {}
    for name, place in places.items():
        if place.kind == BYTES:
            bounds = arrays[_bounds(name)]
            columns[name] = Texts(arrays[name], bounds[:-1], bounds[1:])
        elif place.kind != BOUNDS:
            columns[name] = arrays[name]
    return Table(columns, what["said"])


def _end_of(file: BinaryIO, size: int) -> dict[str, Any]:
    if size < len(WORD) + _END.size or file.read(len(WORD)) != WORD:
        raise DamagedTable("it is no table" if size else "it is empty")
    file.seek(size - _END.size)
    length, crc, word = _END.unpack(file.read(_END.size))
    if word != WORD or length > size:
        raise DamagedTable("it is cut short")
    file.seek(size - _END.size - length)
    what = file.read(length)
    if zlib.crc32(what) != crc:
        raise DamagedTable("its checksums do not hold")
    return dict(json.loads(what))


def _checksum(file: BinaryIO, place: _Place) -> int:
    """Of a column's bytes, which are read and not mapped, so that they take no memory."""
    file.seek(place.start)
    crc, left = 0, place.size
    while left and (data := file.read(min(left, CHECKED))):
        crc, left = zlib.crc32(data, crc), left - len(data)
    return crc
