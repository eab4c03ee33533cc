"""Splits: stratified, seeded, and never with a group or a copy on both sides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sightline.errors import DataError
from sightline.records import SPLITS, Dataset

MIN_IMAGES = 3


def split(
    dataset: Dataset, links: Sequence[tuple[int, int]], *, validation: float, test: float, seed: int
) -> tuple[Dataset, str]:
    """The data set with every row in train, validation or test, and a sentence on how it came about.

    links            pairs of rows that show the same picture and so belong on one side
    validation, test shares of the images, in (0, 1)

    A split that the data came with is kept as it is; only what is missing is drawn, from the training images. Raises
    DataError naming every class that cannot be split.
    """
    units = _units(dataset, links)
    if dataset.splits is None:
        _check_drawable(dataset, units)
        assigned = np.full(len(dataset), "train", dtype="<U10")
        _draw(dataset, units, assigned, "test", test, seed)
        _draw(dataset, units, assigned, "validation", validation, seed)
        return dataset.replace(splits=assigned), (
            f"Drawn at random within each class (seed {seed}): {_shares(assigned)}; copies stay on one side."
        )
    assigned = dataset.splits.astype("<U10")
    if not (assigned == "train").any():
        raise DataError(f"{dataset.root}: the data came split but has no training images; add a 'train' folder.")
    _check_given(dataset)
    missing = [name for name in ("test", "validation") if not (assigned == name).any()]
    for name in missing:
        _draw(dataset, units, assigned, name, test if name == "test" else validation, seed)
    kept = "The data came split into folders and what came split stays so."
    if missing:
        kept += f" The {' and '.join(missing)} images were drawn from training within each class (seed {seed})."
    return dataset.replace(splits=assigned), f"{kept} Now {_shares(assigned)}."


def _units(dataset: Dataset, links: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """(n,) the smallest row of each row's unit: rows tied by a link or a group are one unit (union-find)."""
    parent = list(range(len(dataset)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    ties = list(links)
    if dataset.groups is not None:
        first: dict[str, int] = {}
        ties += [(first.setdefault(group, row), row) for row, group in enumerate(dataset.groups.tolist()) if group]
    for a, b in ties:
        a, b = root(a), root(b)
        parent[max(a, b)] = min(a, b)
    return np.array([root(row) for row in range(len(dataset))], np.int64)


def _draw(dataset: Dataset, units: NDArray[np.int64], assigned: NDArray[np.str_], name: str, share: float, seed: int) -> None:
    """Move whole units from train to ``name`` until each class has its share there; a class keeps one unit in train.

    The share is of what came as training data, or of everything when nothing came split.
    """
    rng = np.random.default_rng([seed, SPLITS.index(name)])
    targets = dataset.targets
    assert targets is not None
    pool = assigned == "train"
    total = np.isin(assigned, ("train", *(() if dataset.splits is not None else SPLITS)))
    for label in range(len(dataset.labels)):
        wanted = round(share * np.count_nonzero(total & (targets == label)))
        candidates = rng.permutation(np.unique(units[pool & (targets == label)]))
        have = np.count_nonzero((assigned == name) & (targets == label))
        for unit in candidates[:-1]:
            if have >= max(1, wanted):
                break
            members = units == unit
            assigned[members & pool] = name
            have += np.count_nonzero(members & (targets == label))


def _check_drawable(dataset: Dataset, units: NDArray[np.int64]) -> None:
    problems = []
    for label, name in enumerate(dataset.labels):
        distinct = len(np.unique(units[dataset.targets == label]))
        images = np.count_nonzero(dataset.targets == label)
        if distinct < MIN_IMAGES:
            copies = f", of which {images - distinct} copies" if distinct < images else ""
            noun = "image" if images == 1 else "images"
            problems.append(f"{name!r} has {images} usable {noun}{copies}")
    if problems:
        raise DataError(
            f"{dataset.root}: class {'; '.join(problems)}. Training, validation and test need one each, so {MIN_IMAGES} "
            "different images at least: add images or remove the class."
        )


def _check_given(dataset: Dataset) -> None:
    assert dataset.splits is not None
    assert dataset.targets is not None
    trained = set(dataset.targets[dataset.splits == "train"].tolist())
    problems = []
    for label, name in enumerate(dataset.labels):
        if label not in trained:
            where = sorted({str(part) for part in dataset.splits[dataset.targets == label]}) or ["no split"]
            problems.append(f"{name!r} (found in {' and '.join(where)})")
    if problems:
        raise DataError(
            f"{dataset.root}: training has no usable image of class {', '.join(problems)}, so it could never be learned: "
            "add training images of it, or remove its folders."
        )


def _shares(assigned: NDArray[np.str_]) -> str:
    return ", ".join(f"{np.count_nonzero(assigned == name)} {name}" for name in SPLITS)
