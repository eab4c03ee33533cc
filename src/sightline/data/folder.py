"""Reader of class folders: ``DATA/CLASS/image`` or ``DATA/SPLIT/CLASS/image``. Lists files, opens none."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from sightline.errors import DataError
from sightline.records import NO_TARGET, Dataset, ImageRef

SPLIT_NAMES = {"train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
               "test": "test", "testing": "test"}  # fmt: skip
# What lies about in folders and is not meant as an image. Anything else is tried, and named if it cannot be read.
IGNORED_NAMES = {"thumbs.db", "desktop.ini", "readme", "readme.md", "readme.txt", "license", "license.txt"}
IGNORED_SUFFIXES = {".json", ".csv", ".tsv", ".txt", ".xml", ".yaml", ".yml", ".md", ".py", ".ipynb", ".zip", ".npy", ".npz"}


def read_folder(root: str | Path) -> Dataset:
    """A classification data set from class folders, with the splits the folders name.

    Labels are all class names over all splits, sorted. Raises DataError when the folder holds no images,
    or is not laid out as class folders.
    """
    root = Path(root)
    if not root.exists():
        raise DataError(f"{root}: there is no such folder.")
    if not root.is_dir():
        raise DataError(f"{root}: is a file; give the folder that holds one folder for each class.")
    tops = _folders(root)
    named = {folder: SPLIT_NAMES.get(folder.name.lower()) for folder in tops}
    split_folders = {folder: split for folder, split in named.items() if split}
    # "train" and "test" could also be two classes; they are splits only when they hold folders themselves.
    if split_folders and all(_folders(folder) for folder in split_folders):
        _check_splits(root, named)
        found = [(path, cls.name, split) for folder, split in split_folders.items() for cls in _folders(folder) for path in _files(cls)]
    else:
        found = [(path, cls.name, "") for cls in tops for path in _files(cls)]
    if not found:
        raise DataError(_nothing_found(root))
    labels = tuple(sorted({label for _, label, _ in found}))
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


def _folders(root: Path) -> list[Path]:
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _files(root: Path) -> list[Path]:
    """Files below a folder at any depth, sorted, without hidden files and what is plainly not an image."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(folder, name)
            for name in sorted(names)
            if not name.startswith(".") and name.lower() not in IGNORED_NAMES and Path(name).suffix.lower() not in IGNORED_SUFFIXES
        ]
    return found


def _check_splits(root: Path, named: dict[Path, str | None]) -> None:
    strays = [folder.name for folder, split in named.items() if split is None and _files(folder)]
    if strays:
        raise DataError(
            f"{root}: holds both split folders and {', '.join(map(repr, strays))}; move {'it' if len(strays) == 1 else 'them'} "
            "into a split folder, or out of the way."
        )
    seen: dict[str, Path] = {}
    for folder, split in named.items():
        if split and split in seen:
            raise DataError(f"{root}: {seen[split].name!r} and {folder.name!r} both name the {split} split; keep one.")
        if split:
            seen[split] = folder


def _nothing_found(root: Path) -> str:
    loose = len(_files(root))
    if loose:
        return f"{root}: holds {loose} files but no class folders; put the images of each class into a folder of its name."
    return f"{root}: holds no images; expected one folder for each class, with its images inside."
