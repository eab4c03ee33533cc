"""What is to be done, written down before anything is: which images in which chunks, by which model, with which settings.

A folder of bulk work holds ``_images.jsonl``, an image a line; ``_plan.json``; and a part for each chunk that is done. Which chunks
there are follows from the list alone, so that what is missing is told by the names of the parts that are there. Names that begin with
_ or . are passed over by what reads a folder of parquet files.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from sightline import console
from sightline.bulk.lines import Lines, leave_out
from sightline.data.listing import amount
from sightline.errors import DataError, UsageError
from sightline.records import ImageRef

PLAN, IMAGES, PART = "_plan.json", "_images.jsonl", "part-{:08d}.parquet"
# Images in a chunk, when not given: the least, and the most of a list that would otherwise have more than so many parts.
CHUNK, LARGEST_CHUNK, PARTS = 256, 4096, 100_000
# Raised when chunks are made otherwise, or rows hold something else.
VERSION = 1


@dataclass(frozen=True)
class Plan:
    """What a folder of bulk work is for; only the same plan goes on in it.

    verb      "predict" or "embed"
    model     the sha256 of the bundle
    settings  those that change what stands in the rows
    images    how many there are, each once
    listing   sha256 over their names in order
    chunk     images in a chunk; the last may have fewer
    """

    verb: str
    model: str
    settings: Mapping[str, Any]
    images: int
    listing: str
    chunk: int
    version: int = VERSION

    @property
    def chunks(self) -> int:
        return -(-self.images // self.chunk)

    def size(self, number: int) -> int:
        """Images in a chunk."""
        return min(self.chunk, self.images - number * self.chunk)


class Chunk(NamedTuple):
    """Consecutive images of the list, as its lines, and what number their part has.

    Lines because a chunk travels: who shares a list out need not understand it, and references cost him a hundred times as much to send.
    """

    number: int
    lines: tuple[str, ...]

    @classmethod
    def of(cls, number: int, refs: Iterable[ImageRef]) -> Chunk:
        return cls(number, tuple(map(_line, refs)))

    @property
    def size(self) -> int:
        return len(self.lines)

    @property
    def refs(self) -> tuple[ImageRef, ...]:
        return tuple(map(_ref, self.lines))

    def part(self, start: int, stop: int) -> Chunk:
        """Images start..stop of it."""
        return Chunk(self.number, self.lines[start:stop])


def begin(folder: Path, verb: str, model: str, settings: Mapping[str, Any], refs: Iterable[ImageRef], chunk: int | None) -> Plan:
    """The plan of a folder: written where there is none, otherwise found to be the same.

    chunk  images in a chunk; None for as many as the folder was begun with, or ``chunk_of`` their number

    Raises DataError without images, UsageError for a folder that holds anything else, or was begun with another model, other settings or
    other images.
    """
    earlier = _earlier(folder)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(folder / IMAGES)
    try:
        count, listing = _write_list(temporary, refs)
        size = chunk or (chunk_of(count) if earlier is None else earlier.chunk)
        plan = Plan(verb, model, dict(settings), count, listing, size)
        if earlier is None:
            os.replace(temporary, folder / IMAGES)
            write_whole(folder / PLAN, (json.dumps(asdict(plan), indent=1) + "\n").encode())
        elif differing := _differing(earlier, plan):
            raise UsageError(f"{folder}: was begun with {differing}; give another --out, or what it was begun with.")
    finally:
        temporary.unlink(missing_ok=True)
    return plan


def chunk_of(images: int) -> int:
    """Images in a chunk: few, so that little is lost with a worker; more where there would be more than PARTS chunks."""
    size = CHUNK
    while size < LARGEST_CHUNK and images > size * PARTS:
        size *= 2
    return size


def missing(folder: Path, plan: Plan) -> Iterator[Chunk]:
    """The chunks that have no part yet, in order, read from the list as they are asked for."""
    done = parts_done(folder)
    with (folder / IMAGES).open(encoding="utf-8") as file:
        for number in range(plan.chunks):
            lines = list(islice(file, plan.size(number)))
            if number not in done:
                yield Chunk(number, tuple(lines))


def parts_done(folder: Path) -> set[int]:
    """The numbers of the parts that are there. A part has its name once it is whole."""
    with os.scandir(folder) as entries:
        names = {entry.name for entry in entries}
    return {number for name in names if (number := _number(name)) is not None}


def _number(name: str) -> int | None:
    digits = name.removeprefix("part-").removesuffix(".parquet")
    return int(digits) if digits.isdecimal() and PART.format(int(digits)) == name else None


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that has its name only when all of it is on the disk; a process that is killed leaves at most a hidden one."""
    temporary = _temporary(path)
    with temporary.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def tidy(folder: Path) -> None:
    """Take away what processes that were killed had begun to write."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") and entry.name.endswith(".begun"):
                os.unlink(entry.path)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.begun")


def _earlier(folder: Path) -> Plan | None:
    """The plan that a folder has; UsageError where it has none and holds something else."""
    try:
        return Plan(**json.loads((folder / PLAN).read_bytes()))
    except (ValueError, TypeError) as error:
        raise UsageError(f"{folder / PLAN}: is not what was written ({error}); give another --out.") from error
    except (FileNotFoundError, NotADirectoryError):
        pass
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; --out must be a folder.")
    others = sorted(name for name in os.listdir(folder) if name[0] not in "._") if folder.exists() else []
    if others:
        raise UsageError(f"{folder}: holds {amount(others, 'other file')}; give a new or empty folder as --out.")
    return None


def _line(ref: ImageRef) -> str:
    return json.dumps([ref.path, ref.member, ref.frame]) + "\n"


def _ref(line: str) -> ImageRef:
    return ImageRef(*json.loads(line))


def _write_list(path: Path, refs: Iterable[ImageRef]) -> tuple[int, str]:
    """Write each image once; how many there are, and the sha256 of what was written."""
    with path.open("xb") as file, Lines(path.parent) as lines:
        for ref in refs:
            line = _line(ref).encode()
            file.write(line)
            lines.add(line)
        again = lines.repeated()
    count = lines.count - len(again)
    if not count:
        raise DataError("There are no images in what was given.")
    if len(again):
        console.warn(f"{len(again):,} images are named more than once; each is done once.")
        leave_out(path, again)
    with path.open("rb") as file:
        return count, hashlib.file_digest(file, "sha256").hexdigest()


def _differing(earlier: Plan, now: Plan) -> str:
    """What is another than it was, in words; empty for the same plan."""
    found = [f"{name} {then}, not {value}" for name, then, value in (
        ("the verb", earlier.verb, now.verb), ("version", earlier.version, now.version), ("--chunk", earlier.chunk, now.chunk),
    ) if then != value]  # fmt: skip
    if earlier.model != now.model:
        found.append("another model")
    names = sorted(earlier.settings.keys() | now.settings.keys())
    changed = [name for name in names if earlier.settings.get(name) != now.settings.get(name)]
    found += [f"{name} {earlier.settings.get(name)}, not {now.settings.get(name)}" for name in changed]
    if (earlier.images, earlier.listing) != (now.images, now.listing):
        other = f"{earlier.images:,} images, not {now.images:,}" if earlier.images != now.images else "other images"
        found.append(other)
    return " and ".join(found)
