"""What counts as an image file when a place is listed, and in which order; the listing of a folder on disk.

An archive (``container.py``) is listed by the same rules, so that a tree gives the same files packed and unpacked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from sightline.errors import DataError

# What lies about in folders and is not meant as an image. Anything else is tried, and named if it cannot be read.
IGNORED_NAMES = {"thumbs.db", "desktop.ini", "readme", "readme.md", "readme.txt", "license", "license.txt"}
IGNORED_SUFFIXES = {".json", ".csv", ".tsv", ".txt", ".xml", ".yaml", ".yml", ".md", ".py", ".ipynb", ".npy", ".npz", ".parquet",
                    ".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar"}  # fmt: skip
NAMED = 3


def is_shown(name: str) -> bool:
    """Whether neither a file nor a folder on its way is hidden."""
    return not any(part.startswith(".") for part in name.split("/"))


def is_image_name(name: str) -> bool:
    """Whether a file is taken for an image: neither it nor a folder on its way is hidden, and it is not plainly something else."""
    last = name.rsplit("/", 1)[-1]
    return is_shown(name) and last.lower() not in IGNORED_NAMES and os.path.splitext(last)[1].lower() not in IGNORED_SUFFIXES


def walk_order(name: str) -> list[tuple[bool, str]]:
    """Sorts names as a walk meets them: of each folder first its files, then folder by folder."""
    *folders, last = name.split("/")
    return [*((True, folder) for folder in folders), (False, last)]


def names_on_disk(
    root: Path, follows: Callable[[tuple[str, ...]], bool] = lambda parts: False, wanted: Callable[[str], bool] = is_image_name
) -> list[str]:
    """Image files, or others that are wanted, below a folder at any depth: their way from there, with slashes, in walking order.

    A link to a folder is gone into only where ``follows`` says so of its way, so that a loop comes to an end. Raises DataError for a
    folder that cannot be listed.
    """
    found: list[str] = []
    pending: list[tuple[str, ...]] = [()]
    while pending:
        start = pending.pop()
        top = Path(root, *start)
        for place, folders, names in os.walk(top, onerror=_refuse):
            parts = (*start, *Path(place).relative_to(top).parts)
            folders[:] = [folder for folder in folders if not folder.startswith(".")]
            pending += [(*parts, folder) for folder in folders if follows((*parts, folder)) and os.path.islink(os.path.join(place, folder))]
            found += ["/".join((*parts, name)) for name in names if wanted(name)]
    return sorted(found, key=walk_order)


def amount(names: Sequence[str], noun: str) -> str:
    """The number of things and the names of the first, such as ``2 files (a.png, b.png)``."""
    first = ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
    return f"{len(names)} {noun}{'s' * (len(names) != 1)} ({first})"


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be listed ({error.strerror}); make it readable, or move it out of the way.") from error
