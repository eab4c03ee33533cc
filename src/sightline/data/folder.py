"""Reader of class folders: ``DATA/CLASS/image`` or ``DATA/SPLIT/CLASS/image``, on disk or in an archive. Lists files, opens none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sightline import console
from sightline.data.container import is_archive, members
from sightline.data.listing import amount, folders_on_disk
from sightline.data.webdataset import shards_of, unlabelled_refs
from sightline.errors import DataError
from sightline.records import NO_TARGET, SPLITS, Dataset, Refs
from sightline.texts import Texts

SPLIT_NAMES = {"train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
               "test": "test", "testing": "test"}  # fmt: skip


# A folder's way and the number of its image files.
_Sized = tuple[tuple[str, ...], int]


class _Folder(NamedTuple):
    """A folder with image files: its way from the top, folder by folder, and the rows of its files."""

    parts: tuple[str, ...]
    start: int
    stop: int

    @property
    def rows(self) -> NDArray[np.int64]:
        return np.arange(self.start, self.stop)


def read_folder(root: str | Path) -> Dataset:
    """A classification data set from class folders, with the splits the folders name.

    ``root`` is a folder, or a .zip or .tar that holds what such a folder would, possibly below a folder of its own. Labels are the
    names of all folders with images, over all splits, sorted. Raises DataError when there are no images, or they are not laid
    out as class folders.
    """
    root = Path(root)
    if not root.is_dir() and not is_archive(root):
        wrong = "is a file; give the folder that holds one folder for each class, or a .zip or .tar of it"
        raise DataError(f"{root}: {wrong if root.exists() else 'there is no such folder'}.")
    folders, refs = _listed(root, follows=_may_be_a_class)
    # "train" and "test" could also be two classes; they are splits when class folders lie inside.
    if came_split := any(len(folder.parts) > 1 and folder.parts[0].lower() in SPLIT_NAMES for folder in folders):
        _check_splits(root, folders)
    depth = 1 if came_split else 0
    found = [folder for folder in folders if len(folder.parts) > depth]
    loose = [refs.names[row] for folder in folders if len(folder.parts) <= depth for row in folder.rows]
    if not found:
        raise DataError(_nothing_found(root, loose))
    if loose:
        console.warn(f"{root}: {amount(loose, 'file')} in no class folder; left out.")
    labels = tuple(sorted({folder.parts[depth] for folder in found}))
    _check_labels(root, labels)
    index, sizes = {label: i for i, label in enumerate(labels)}, [folder.stop - folder.start for folder in found]
    return Dataset(
        root=root,
        task="classify",
        labels=labels,
        refs=refs.select(np.concatenate([folder.rows for folder in found])) if loose else refs,
        targets=np.repeat([index[folder.parts[depth]] for folder in found], sizes),
        splits=np.repeat([SPLIT_NAMES[folder.parts[0].lower()] for folder in found], sizes) if came_split else None,
    )


def read_unlabelled(root: str | Path) -> Dataset:
    """Every image file below a folder or in an archive, without targets; raises DataError when there is none."""
    root = Path(root)
    refs = unlabelled_refs(shards) if (shards := shards_of(root)) else _listed(root)[1]
    if not len(refs):
        raise DataError(f"{root}: holds no image files.")
    return Dataset(root=root, task="", labels=(), refs=refs, targets=np.full(len(refs), NO_TARGET))


def _listed(root: Path, follows: Callable[[tuple[str, ...]], bool] = lambda parts: False) -> tuple[list[_Folder], Refs]:
    """The image files below a place in walking order, and by folder: the only difference between a folder on disk and an archive."""
    if is_archive(root) and not root.is_dir():
        names = members(root)
        sizes = [
            (tuple(way.split("/")) if way else (), len(list(group))) for way, group in groupby(names, lambda name: name.rpartition("/")[0])
        ]
        return _rows_of(_without_top(sizes)), Refs(Texts.of(names), (str(root),), packed=True)
    sizes = []

    def counted() -> Iterator[str]:
        for folder in folders_on_disk(root, follows):
            if folder.names:
                sizes.append((folder.parts, len(folder.names)))
            yield from folder.ways

    refs = Refs.below(root, Texts.of(counted()))
    return _rows_of(sizes), refs


def _rows_of(sizes: Sequence[_Sized]) -> list[_Folder]:
    stops = list(accumulate(count for _, count in sizes))
    return [_Folder(parts, stop - count, stop) for (parts, count), stop in zip(sizes, stops, strict=True)]


def _without_top(folders: list[_Sized]) -> list[_Sized]:
    """The folders' ways without the folders that all begin with, which ``zip -r`` adds to those it was asked for.

    A split folder stays, and so does one without folders inside: it is a class.
    """
    while all(parts for parts, _ in folders) and len(tops := {parts[0].lower() for parts, _ in folders}) == 1:
        if not tops.isdisjoint(SPLIT_NAMES) or max(len(parts) for parts, _ in folders) == 1:
            break
        folders = [(parts[1:], count) for parts, count in folders]
    return folders


def _may_be_a_class(parts: tuple[str, ...]) -> bool:
    """Whether a folder lies where class folders and splits do; links there are followed."""
    return len(parts) == 1 or (len(parts) == 2 and parts[0].lower() in SPLIT_NAMES)


def _check_splits(root: Path, folders: Sequence[_Folder]) -> None:
    """Raise one DataError for folders beside the splits, splits without class folders, and a split that is there twice."""
    tops = list(dict.fromkeys(folder.parts[0] for folder in folders if folder.parts))
    deep = {folder.parts[0] for folder in folders if len(folder.parts) > 1}
    strays = [top for top in tops if top.lower() not in SPLIT_NAMES]
    problems = []
    if strays:
        problems.append(
            f"holds both split folders and {', '.join(map(repr, strays))}; move {'it' if len(strays) == 1 else 'them'} "
            "into a split folder, or out of the way"
        )
    flat = [top for top in tops if top not in deep and top not in strays]
    if flat:
        problems.append(f"{', '.join(map(repr, flat))} holds no class folders; sort its files into some, or move it out of the way")
    for split in SPLITS:
        names = [top for top in tops if SPLIT_NAMES.get(top.lower()) == split]
        if len(names) > 1:
            problems.append(f"{' and '.join(map(repr, names))} name the same split, {split}; keep one")
    if problems:
        raise DataError(f"{root}: {'; '.join(problems)}.")


def _check_labels(root: Path, labels: tuple[str, ...]) -> None:
    for label in labels:
        try:
            label.encode()
        except UnicodeEncodeError:
            raise DataError(f"{root}: the name of its class folder {label!r} is not valid UTF-8; rename it.") from None


def _nothing_found(root: Path, loose: Sequence[str]) -> str:
    if loose:
        return f"{root}: holds {amount(loose, 'file')} but no class folders; put the images of each class into a folder of its name."
    return f"{root}: holds no images; expected one folder for each class, with its images inside."
