"""Data by a URL, such as ``s3://bucket/train-{0000..0009}.tar``: archives that fsspec copies once, to be read like any others.

A copy is kept beside the stores of decoded images, and made again when the original has another size or mark. As much is kept as a
store may take; what was used longest ago goes first, but nothing that a process reads.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Container, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from sightline import console
from sightline.config import LookConfig
from sightline.data.container import is_archive, stem
from sightline.data.locks import is_locked, try_lock
from sightline.data.room import RAISE, make_room
from sightline.data.store import cache_folder
from sightline.data.webdataset import SUFFIX, expanded
from sightline.errors import DataError, ResourceError, SightlineError, UsageError

MARKS = "marks.json"
COPIED = 1 << 22
# What to do about a limit that the verb has no flag for.
BY_HAND = "copy it to a disk of this machine by hand and give its path"
# What a file system says of a file that changes when its content does.
SAYING = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "created")
# The locks by which this process holds copies, by their folders.
_HELD: dict[Path, TextIO] = {}
# A path takes the second slash away; a single letter is a drive.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):[/\\]{1,2}(.+)", re.DOTALL)


def url_of(data: str | Path) -> str | None:
    """The URL that a text, or a path made of it, is; None for a path."""
    found = _URL.fullmatch(str(data))
    return f"{found[1].lower()}://{found[2]}".replace("\\", "/") if found else None


def local(data: str | Path, limit_gb: float | None = None, beside: Iterable[str | Path] = ()) -> Path:
    """A path as it is, and for a URL where its copy lies: an archive, or a folder of the shards that a pattern stands for.

    limit_gb  how much the copies may take; None where the verb has no --store-limit
    beside    what else is given at once, whose copies stay too: this process holds those of its last call, or until it ends

    Raises UsageError without fsspec and for what is no archive, DataError where it cannot be read, ResourceError where it is too large.
    """
    url = url_of(data)
    if url is None or Path(data).exists():
        return Path(data)
    if not is_archive(url):
        raise UsageError(f"{url}: of a URL archives are read, .tar or .zip, or a pattern of shards such as train-{{0000..0009}}.tar.")
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise UsageError(f"{url}: data by a URL need fsspec, which is not installed: pip install 'sightline[scale]'.") from error
    _release(_HELD.keys() - {_folder(other) for each in (data, *beside) if (other := url_of(each))})
    try:
        found: dict[str, Any] = {}
        for one in expanded(url):
            system, path = url_to_fs(one)
            names = sorted(system.glob(path)) if re.search(r"[*?\[]", path) else [path]
            found |= {name: system.info(name) for name in names}
            if not names:
                raise DataError(f"{url}: there is no {one}; check the address.")
        return _copied(url, system, found, limit_gb)
    except SightlineError:
        raise
    except ImportError as error:  # a protocol has a library of its own
        raise UsageError(f"{url}: needs another library ({error}); install it beside fsspec.") from error
    except Exception as error:  # each file system has errors of its own
        said = f"there is no {error}" if isinstance(error, FileNotFoundError) else str(error) or type(error).__name__
        raise DataError(f"{url}: cannot be read ({said}); check the address, and that you may read it.") from error


def keep(path: Path) -> None:
    """Hold the copy that a path leads to, if it leads to one, for what goes on with the copy of an earlier process."""
    copies = _copies().resolve()
    for folder in (path, *path.parents):
        if folder.parent == copies and folder.is_dir():
            _hold(_copies() / folder.name)
            folder.touch()


def _copies() -> Path:
    return cache_folder() / "remote"


def _folder(url: str) -> Path:
    """Where the copy of what is at a URL is kept."""
    return _copies() / hashlib.sha256(url.encode()).hexdigest()[:16]


def _copied(url: str, system: Any, found: dict[str, Any], limit_gb: float | None) -> Path:
    """The copy of one archive, or the folder of several, of which those are copied that are not there as they are now."""
    folder = _folder(url)
    several = len(found) > 1 or "*" in url or "{" in url
    place = folder / (re.sub(r"[^\w.-]+", "_", stem(url)).strip("_") or "shards") if several else folder
    marks = {Path(name).name: _mark(info) for name, info in found.items()}
    if len(marks) < len(found):
        raise DataError(f"{url}: two of its files have one name; give them in turn.")
    limit, remedy = (LookConfig.store_limit, BY_HAND) if limit_gb is None else (limit_gb, RAISE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        owner = _hold(folder)
        _tidy(folder, place, owner, marks if several else None)
        known = _known(folder)
        missing = [name for name in found if not _is_current(place / Path(name).name, marks, known)]
        need, new = (sum(marks[Path(name).name][0] for name in names) for names in (found, missing))
        make_room(folder, need, new, limit * 1e9, f"copy of {url}", remedy)
        place.mkdir(exist_ok=True)
        for name in console.track(missing, len(missing), f"Copying {url}"):
            copy = place / Path(name).name
            _copy(system, name, copy, owner)
            known[copy.name] = marks[copy.name]
            (folder / MARKS).write_text(json.dumps(known), encoding="utf-8")
        folder.touch()
    except BaseException as error:
        _release([folder])
        if not isinstance(error, OSError) or error.filename is None or not str(error.filename).startswith(str(folder)):
            raise
        raise ResourceError(
            f"{folder}: the copy of {url} cannot be written ({error.strerror or error}); make room or set SIGHTLINE_CACHE."
        ) from error
    return place if several else place / next(iter(marks))


def _hold(folder: Path) -> str:
    """Lock a file in a copy's folder until it is released, so that other processes leave the copy; the name of the lock."""
    held = _HELD.get(folder)
    if held is None or not Path(held.name).exists():
        _release([folder])
        held = (folder / f"{uuid.uuid4().hex[:12]}.lock").open("a")
        try_lock(held.fileno())
        _HELD[folder] = held
    return Path(held.name).stem


def _release(folders: Iterable[Path]) -> None:
    for folder in folders:
        if (held := _HELD.pop(folder, None)) is not None:
            held.close()
            Path(held.name).unlink(missing_ok=True)


def _tidy(folder: Path, place: Path, owner: str, wanted: Container[str] | None) -> None:
    """Remove shards that are not ``wanted`` any more, and what processes that have ended left: locks, and files half copied."""
    for shard in () if wanted is None else place.glob(f"*{SUFFIX}"):
        if shard.name not in wanted:
            shard.unlink()
    for part in place.glob("*.part"):
        if not is_locked(folder / f"{Path(part.stem).suffix[1:]}.lock"):
            part.unlink(missing_ok=True)
    held = (folder / f"{owner}.lock").stat().st_mtime_ns
    for lock in folder.glob("*.lock"):
        with suppress(FileNotFoundError):  # another process tidies too
            if not is_locked(lock) and lock.stat().st_mtime_ns < held:  # a younger one may be about to be locked
                lock.unlink()


def _mark(info: dict[str, Any]) -> list[Any]:
    """The size of a file, and what tells it from another of that size."""
    return [int(info["size"] or 0), *(str(info[key]) for key in SAYING if info.get(key))]


def _known(folder: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        return dict(json.loads((folder / MARKS).read_text(encoding="utf-8")))
    return {}


def _is_current(copy: Path, marks: dict[str, list[Any]], known: dict[str, Any]) -> bool:
    """Whether a copy is there, whole, of what is there now."""
    mark = marks[copy.name]
    return known.get(copy.name) == mark and copy.is_file() and copy.stat().st_size == mark[0]


def _copy(system: Any, name: str, copy: Path, owner: str) -> None:
    """Whole or not at all; until it is whole its name says by which lock it is held."""
    temporary = copy.with_name(f"{copy.name}.{uuid.uuid4().hex[:12]}.{owner}.part")
    try:
        with system.open(name, "rb") as source, temporary.open("wb") as sink:
            shutil.copyfileobj(source, sink, COPIED)
        temporary.replace(copy)
    finally:
        temporary.unlink(missing_ok=True)
