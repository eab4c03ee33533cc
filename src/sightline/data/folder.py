"""Reader of class folders: ``DATA/CLASS/image`` or ``DATA/SPLIT/CLASS/image``. Lists files, opens none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sightline import console
from sightline.errors import DataError
from sightline.records import NO_TARGET, SPLITS, Dataset, ImageRef

SPLIT_NAMES = {"train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
               "test": "test", "testing": "test"}  # fmt: skip
# What lies about in folders and is not meant as an image. Anything else is tried, and named if it cannot be read.
IGNORED_NAMES = {"thumbs.db", "desktop.ini", "readme", "readme.md", "readme.txt", "license", "license.txt"}
IGNORED_SUFFIXES = {".json", ".csv", ".tsv", ".txt", ".xml", ".yaml", ".yml", ".md", ".py", ".ipynb", ".zip", ".npy", ".npz"}
NAMED = 3


def read_folder(root: str | Path) -> Dataset:
    """A classification data set from class folders, with the splits the folders name.

    Labels are the names of all folders with images, over all splits, sorted. Raises DataError when the folder holds no
    images, or is not laid out as class folders.
    """
    root = Path(root)
    if not root.exists():
        raise DataError(f"{root}: there is no such folder.")
    if not root.is_dir():
        raise DataError(f"{root}: is a file; give the folder that holds one folder for each class.")
    tops, loose = _entries(root)
    inside = {folder: _class_files(folder) for folder in tops if folder.name.lower() in SPLIT_NAMES}
    # "train" and "test" could also be two classes; they are splits when class folders lie inside.
    if any(inside.values()):
        _check_splits(root, tops, inside)
        found = [(path, label, SPLIT_NAMES[folder.name.lower()])
                 for folder, classes in inside.items() for label, paths in classes.items() for path in paths]  # fmt: skip
        loose += [path for folder in inside for path in _entries(folder)[1]]
    else:
        found = [(path, label, "") for label, paths in _class_files(root).items() for path in paths]
    if not found:
        raise DataError(_nothing_found(root, loose))
    if loose:
        console.warn(f"{root}: {_named(loose, root)} in no class folder; left out.")
    labels = tuple(sorted({label for _, label, _ in found}))
    _check_labels(root, labels)
    index = {label: i for i, label in enumerate(labels)}
    splits = np.array([split for _, _, split in found])
    return Dataset(
        root=root,
        task="classify",
        labels=labels,
        refs=[ImageRef(str(path)) for path, _, _ in found],
        targets=np.array([index[label] for _, label, _ in found], np.int64),
        splits=splits if splits.any() else None,
    )


def read_unlabelled(root: str | Path) -> Dataset:
    """Every image file below a folder, without targets; raises DataError when there is none."""
    root = Path(root)
    paths = _files(root)
    if not paths:
        raise DataError(f"{root}: holds no image files.")
    return Dataset(root=root, task="", labels=(), refs=[ImageRef(str(path)) for path in paths], targets=np.full(len(paths), NO_TARGET))


def _class_files(folder: Path) -> dict[str, list[Path]]:
    """The files of each class folder in a folder; a class folder without any does not count."""
    files = {entry.name: _files(entry) for entry in _entries(folder)[0]}
    return {name: paths for name, paths in files.items() if paths}


def _files(root: Path) -> list[Path]:
    """Files below a folder at any depth, sorted folder by folder."""
    return [path for _, files in _walk(root) for path in files]


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """Folders and files that lie directly in a folder, sorted."""
    return next(_walk(folder), ([], []))


def _walk(root: Path) -> Iterator[tuple[list[Path], list[Path]]]:
    """Folders and files of each folder from ``root`` downwards, without hidden ones and what is plainly not an image.

    Links to folders are entries like others, but not gone into, so that a loop comes to an end.
    """
    for place, folders, names in os.walk(root, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files = sorted(
            name
            for name in names
            if not name.startswith(".") and name.lower() not in IGNORED_NAMES and Path(name).suffix.lower() not in IGNORED_SUFFIXES
        )
        yield [Path(place, name) for name in folders], [Path(place, name) for name in files]


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be listed ({error.strerror}); make it readable, or move it out of the way.") from error


def _check_splits(root: Path, tops: list[Path], inside: dict[Path, dict[str, list[Path]]]) -> None:
    """Raise one DataError for folders beside the splits, splits without class folders, and a split that is there twice."""
    used = [folder for folder in tops if inside.get(folder) or _files(folder)]
    strays = [folder.name for folder in used if folder not in inside]
    problems = []
    if strays:
        problems.append(
            f"holds both split folders and {', '.join(map(repr, strays))}; move {'it' if len(strays) == 1 else 'them'} "
            "into a split folder, or out of the way"
        )
    flat = [folder.name for folder in used if inside.get(folder) == {}]
    if flat:
        problems.append(f"{', '.join(map(repr, flat))} holds no class folders; sort its files into some, or move it out of the way")
    for split in SPLITS:
        names = [folder.name for folder in used if folder in inside and SPLIT_NAMES[folder.name.lower()] == split]
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


def _nothing_found(root: Path, loose: list[Path]) -> str:
    if loose:
        return f"{root}: holds {_named(loose, root)} but no class folders; put the images of each class into a folder of its name."
    return f"{root}: holds no images; expected one folder for each class, with its images inside."


def _named(paths: list[Path], root: Path) -> str:
    """The number of files and the names of the first, such as ``2 files (a.png, b.png)``."""
    names = ", ".join(path.relative_to(root).as_posix() for path in paths[:NAMED]) + (", ..." if len(paths) > NAMED else "")
    return f"{len(paths)} file{'s' * (len(paths) != 1)} ({names})"
