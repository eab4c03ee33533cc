"""Reader of class folders: ``DATA/CLASS/image`` or ``DATA/SPLIT/CLASS/image``, on disk or in an archive. Lists files, opens none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sightline import console
from sightline.data.container import is_archive, members
from sightline.data.listing import amount, names_on_disk
from sightline.errors import DataError
from sightline.records import NO_TARGET, SPLITS, Dataset, ImageRef

SPLIT_NAMES = {"train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
               "test": "test", "testing": "test"}  # fmt: skip


class _File(NamedTuple):
    """An image file: its way from the top, folder by folder, and where to read it."""

    parts: tuple[str, ...]
    ref: ImageRef


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
    files = _listed(root, follows=_may_be_a_class)
    # "train" and "test" could also be two classes; they are splits when class folders lie inside.
    if came_split := any(file.parts[0].lower() in SPLIT_NAMES and len(file.parts) > 2 for file in files):
        _check_splits(root, files)
    depth = 1 if came_split else 0
    found = [file for file in files if len(file.parts) > depth + 1]
    loose = [file for file in files if len(file.parts) <= depth + 1]
    if not found:
        raise DataError(_nothing_found(root, loose))
    if loose:
        console.warn(f"{root}: {_named(loose)} in no class folder; left out.")
    labels = tuple(sorted({file.parts[depth] for file in found}))
    _check_labels(root, labels)
    index = {label: i for i, label in enumerate(labels)}
    return Dataset(
        root=root,
        task="classify",
        labels=labels,
        refs=[file.ref for file in found],
        targets=np.array([index[file.parts[depth]] for file in found], np.int64),
        splits=np.array([SPLIT_NAMES[file.parts[0].lower()] for file in found]) if came_split else None,
    )


def read_unlabelled(root: str | Path) -> Dataset:
    """Every image file below a folder or in an archive, without targets; raises DataError when there is none."""
    root = Path(root)
    refs = [file.ref for file in _listed(root)]
    if not refs:
        raise DataError(f"{root}: holds no image files.")
    return Dataset(root=root, task="", labels=(), refs=refs, targets=np.full(len(refs), NO_TARGET))


def _listed(root: Path, follows: Callable[[tuple[str, ...]], bool] = lambda parts: False) -> list[_File]:
    """The image files below a place in walking order: the only difference between a folder on disk and an archive."""
    if root.is_dir() or not is_archive(root):
        return [_File(tuple(name.split("/")), ImageRef(str(root / name))) for name in names_on_disk(root, follows)]
    names = members(root)
    ways = _without_top([tuple(name.split("/")) for name in names])
    return [_File(way, ImageRef(str(root), member=name)) for way, name in zip(ways, names, strict=True)]


def _without_top(ways: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The ways without the folders that all begin with, which ``zip -r`` adds to those it was asked for.

    A split folder stays, and so does one without folders inside: it is a class.
    """
    while len(tops := {way[0].lower() for way in ways}) == 1 and tops.isdisjoint(SPLIT_NAMES):
        depths = [len(way) for way in ways]
        if min(depths) == 1 or max(depths) == 2:
            break
        ways = [way[1:] for way in ways]
    return ways


def _may_be_a_class(parts: tuple[str, ...]) -> bool:
    """Whether a folder lies where class folders and splits do; links there are followed."""
    return len(parts) == 1 or (len(parts) == 2 and parts[0].lower() in SPLIT_NAMES)


def _check_splits(root: Path, files: Sequence[_File]) -> None:
    """Raise one DataError for folders beside the splits, splits without class folders, and a split that is there twice."""
    tops = list(dict.fromkeys(file.parts[0] for file in files if len(file.parts) > 1))
    deep = {file.parts[0] for file in files if len(file.parts) > 2}
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


def _nothing_found(root: Path, loose: Sequence[_File]) -> str:
    if loose:
        return f"{root}: holds {_named(loose)} but no class folders; put the images of each class into a folder of its name."
    return f"{root}: holds no images; expected one folder for each class, with its images inside."


def _named(files: Sequence[_File]) -> str:
    return amount([file.ref.member or "/".join(file.parts) for file in files], "file")
