"""What counts as an image file when a place is listed, and in which order; the listing of a folder on disk.

An archive (``container.py``) is listed by the same rules, so that a tree gives the same files packed and unpacked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from sightline.errors import DataError

# What lies about in folders and is not meant as an image. Anything else is tried, and named if it cannot be read.
IGNORED_NAMES = {"thumbs.db", "desktop.ini", "readme", "readme.md", "readme.txt", "license", "license.txt"}
IGNORED_SUFFIXES = {".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".xml", ".yaml", ".yml", ".md", ".py", ".ipynb", ".npy", ".npz",
                    ".parquet", ".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar"}  # fmt: skip
_IGNORED_ENDINGS = tuple(IGNORED_SUFFIXES)
# What stands behind the last dot of a name that is to be looked at more closely.
_ODD_ENDS = {name.rpartition(".")[2] for name in IGNORED_NAMES | IGNORED_SUFFIXES}
NAMED = 3


def is_shown(name: str) -> bool:
    """Whether neither a file nor a folder on its way is hidden."""
    return not name.startswith(".") and "/." not in name


def is_image_name(name: str) -> bool:
    """Whether a file is taken for an image: neither it nor a folder on its way is hidden, and it is not plainly something else."""
    last = name.rsplit("/", 1)[-1].lower()
    return is_shown(name) and not last.endswith(_IGNORED_ENDINGS) and last not in IGNORED_NAMES


def image_names(names: list[str]) -> list[str]:
    """The image files among the names of a folder's files, in their order; most folders hold nothing else, which is soon seen."""
    shown = shown_names(names)
    if {name.rpartition(".")[2].lower() for name in shown}.isdisjoint(_ODD_ENDS):
        return shown
    return [name for name in shown if is_image_name(name)]


def shown_names(names: list[str]) -> list[str]:
    """The names of a folder's files without those that are hidden."""
    return [name for name in names if name[0] != "."]


def walk_order(name: str) -> list[tuple[bool, str]]:
    """Sorts names as a walk meets them: of each folder first its files, then folder by folder."""
    *folders, last = name.split("/")
    return [*((True, folder) for folder in folders), (False, last)]


class Folder(NamedTuple):
    """A folder's way from the top, folder by folder, and the names of the files in it that are wanted, sorted."""

    parts: tuple[str, ...]
    names: list[str]

    @property
    def ways(self) -> list[str]:
        """The ways of its files from the top, with slashes."""
        way = "".join(f"{part}/" for part in self.parts)
        return [way + name for name in self.names]


def folders_on_disk(
    root: Path, follows: Callable[[tuple[str, ...]], bool] = lambda parts: False, wanted: Callable[[list[str]], list[str]] = image_names
) -> Iterator[Folder]:
    """Every folder below a place at any depth, and the place itself, with its image files, or what ``wanted`` leaves, in walking order.

    One folder's files at a time are held in memory. A link to a folder is gone into only where ``follows`` says so of its way, so that a
    loop comes to an end. Raises DataError for a folder that cannot be listed.
    """
    pending: list[tuple[str, ...]] = [()]
    while pending:
        parts = pending.pop()
        folders, names = [], []
        try:
            with os.scandir(Path(root, *parts)) as entries:
                for entry in entries:
                    if not _is_folder(entry):
                        names.append(entry.name)
                    elif not entry.name.startswith(".") and (not entry.is_symlink() or follows((*parts, entry.name))):
                        folders.append(entry.name)
        except OSError as error:
            raise DataError(
                f"{error.filename}: cannot be listed ({error.strerror}); make it readable, or move it out of the way."
            ) from error
        pending += [(*parts, folder) for folder in sorted(folders, reverse=True)]
        yield Folder(parts, wanted(sorted(names)))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links: reading the file will name it
        return False


def names_on_disk(
    root: Path, follows: Callable[[tuple[str, ...]], bool] = lambda parts: False, wanted: Callable[[list[str]], list[str]] = image_names
) -> Iterator[str]:
    """The files of ``folders_on_disk``: their ways from the place, with slashes, in walking order."""
    return chain.from_iterable(folder.ways for folder in folders_on_disk(root, follows, wanted))


def amount(names: Sequence[str], noun: str) -> str:
    """The number of things and the names of the first, such as ``2 files (a.png, b.png)``."""
    first = ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
    return f"{len(names)} {noun}{'s' * (len(names) != 1)} ({first})"
