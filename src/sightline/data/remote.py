"""Data by a URL, such as ``s3://bucket/train-{0000..0009}.tar``: archives that fsspec copies once, to be read like any others.

A copy is kept beside the stores of decoded images, and made again when the original has another size or mark. As much is kept as a
store may take; what was used longest ago goes first.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from sightline import console
from sightline.config import LookConfig
from sightline.data.container import is_archive, stem
from sightline.data.room import make_room
from sightline.data.store import cache_folder
from sightline.data.webdataset import SUFFIX, expanded
from sightline.errors import DataError, ResourceError, SightlineError, UsageError

MARKS = "marks.json"
COPIED = 1 << 22
# What a file system says of a file that changes when its content does.
SAYING = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "created")
# A path takes the second slash away; a single letter is a drive.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):[/\\]{1,2}(.+)", re.DOTALL)


def url_of(data: str | Path) -> str | None:
    """The URL that a text, or a path made of it, is; None for a path."""
    found = _URL.fullmatch(str(data))
    return f"{found[1].lower()}://{found[2]}".replace("\\", "/") if found else None


def local(data: str | Path, limit_gb: float = LookConfig.store_limit) -> Path:
    """A path as it is, and for a URL where its copy lies: an archive, or a folder of the shards that a pattern stands for.

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
    try:
        found: dict[str, Any] = {}
        for one in expanded(url):
            system, path = url_to_fs(one)
            names = sorted(system.glob(path)) if re.search(r"[*?\[]", path) else [path]
            found |= {name: system.info(name) for name in names}
            if not names:
                raise DataError(f"{url}: there is no {one}; check the address.")
        return _copied(url, system, found, limit_gb * 1e9)
    except SightlineError:
        raise
    except ImportError as error:  # a protocol has a library of its own
        raise UsageError(f"{url}: needs another library ({error}); install it beside fsspec.") from error
    except Exception as error:  # each file system has errors of its own
        said = f"there is no {error}" if isinstance(error, FileNotFoundError) else str(error) or type(error).__name__
        raise DataError(f"{url}: cannot be read ({said}); check the address, and that you may read it.") from error


def _copied(url: str, system: Any, found: dict[str, Any], limit: float) -> Path:
    """The copy of one archive, or the folder of several, of which those are copied that are not there as they are now."""
    folder = cache_folder() / "remote" / hashlib.sha256(url.encode()).hexdigest()[:16]
    several = len(found) > 1 or "*" in url or "{" in url
    place = folder / (re.sub(r"[^\w.-]+", "_", stem(url)).strip("_") or "shards") if several else folder
    marks = {Path(name).name: _mark(info) for name, info in found.items()}
    if len(marks) < len(found):
        raise DataError(f"{url}: two of its files have one name; give them in turn.")
    make_room(folder, sum(mark[0] for mark in marks.values()), limit, f"copy of {url}")
    known = _known(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
        for stale in place.glob(f"*{SUFFIX}" if several else "*.part"):
            if stale.name not in marks:
                stale.unlink()
        for name in console.track(found, len(found), f"Copying {url}"):
            copy = place / Path(name).name
            if known.get(copy.name) != marks[copy.name] or not copy.is_file() or copy.stat().st_size != marks[copy.name][0]:
                _copy(system, name, copy)
                known[copy.name] = marks[copy.name]
                (folder / MARKS).write_text(json.dumps(known), encoding="utf-8")
        folder.touch()
    except OSError as error:
        if error.filename is None or not str(error.filename).startswith(str(folder)):
            raise
        raise ResourceError(
            f"{folder}: the copy of {url} cannot be written ({error.strerror or error}); make room or set SIGHTLINE_CACHE."
        ) from error
    return place if several else place / next(iter(marks))


def _mark(info: dict[str, Any]) -> list[Any]:
    """The size of a file, and what tells it from another of that size."""
    return [int(info["size"] or 0), *(str(info[key]) for key in SAYING if info.get(key))]


def _known(folder: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        return dict(json.loads((folder / MARKS).read_text(encoding="utf-8")))
    return {}


def _copy(system: Any, name: str, copy: Path) -> None:
    """Whole or not at all."""
    temporary = copy.with_name(f"{copy.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        with system.open(name, "rb") as source, temporary.open("wb") as sink:
            shutil.copyfileobj(source, sink, COPIED)
        temporary.replace(copy)
    finally:
        temporary.unlink(missing_ok=True)
