"""Splits: stratified, seeded, and never with a group or a copy on both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sightline.errors import DataError
from sightline.records import SPLITS, Dataset

MIN_IMAGES = 3


def split(dataset: Dataset, links: Sequence[tuple[int, int]], *, validation: float, test: float, seed: int) -> tuple[Dataset, str]:
    """The data set with every row in train, validation or test, and a sentence on how it came about.

    links            pairs of rows that show the same picture and so belong on one side
    validation, test shares of the images, in (0, 1)

    A split that the data came with is kept as it is, and rows without one count as training images; only what is missing is
    drawn, from the training images. Raises DataError naming every class that cannot be split.
    """
    units = _units(dataset, links)
    came_split = dataset.splits is not None
    assigned = np.full(len(dataset), "train", dtype="<U10") if dataset.splits is None else dataset.splits.astype("<U10")
    assigned[assigned == ""] = "train"
    if not (assigned == "train").any():
        raise DataError(f"{dataset.root}: the data came split but has no training images; add a 'train' folder.")
    if came_split:
        _check_given(dataset, assigned)
    shares = {name: share for name, share in (("test", test), ("validation", validation)) if not (assigned == name).any()}
    if len(shares) == 2:
        _check_drawable(dataset, units)
    _draw(dataset, units, assigned, shares, seed)
    for name in shares:
        if not (assigned == name).any():
            raise DataError(f"{dataset.root}: training has too few different images of every class to draw {name} images from; add some.")
    drawn = f"drawn at random within each class (seed {seed})"
    if not came_split:
        return dataset.replace(splits=assigned), f"{drawn.capitalize()}: {_shares(assigned)}; copies stay on one side."
    origin = "The data came split into folders and what came split stays so."
    if shares:
        origin += f" The {' and '.join(shares)} images were {drawn} from training."
    return dataset.replace(splits=assigned), f"{origin} Now {_shares(assigned)}."


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


class _Units:
    """The training images as units that move as a whole, and how many of them hold each class."""

    def __init__(self, targets: NDArray[np.int64], units: NDArray[np.int64], assigned: NDArray[np.str_], classes: int) -> None:
        self.targets, self.assigned = targets, assigned
        pool = np.flatnonzero(assigned == "train")
        pool = pool[np.argsort(units[pool], kind="stable")]
        self.rows = np.split(pool, np.flatnonzero(np.diff(units[pool])) + 1)
        self.images = np.bincount(targets[pool], minlength=classes)
        self.holding: list[list[int]] = [[] for _ in range(classes)]
        for unit, rows in enumerate(self.rows):
            for label in set(targets[rows].tolist()):
                self.holding[label].append(unit)
        self.left = np.array([len(units) for units in self.holding])

    def size(self, unit: int, label: int) -> int:
        return int(np.count_nonzero(self.targets[self.rows[unit]] == label))

    def can_leave(self, unit: int, keep: int) -> bool:
        """Whether it is still in train, and each of its classes has more than ``keep`` units there."""
        rows = self.rows[unit]
        return bool(self.assigned[rows[0]] == "train" and (self.left[self.targets[rows]] > keep).all())

    def move(self, unit: int, name: str) -> NDArray[np.int64]:
        """How many images of each class went."""
        self.assigned[self.rows[unit]] = name
        gone = np.bincount(self.targets[self.rows[unit]], minlength=len(self.left))
        self.left -= gone > 0
        return gone


def _draw(dataset: Dataset, units: NDArray[np.int64], assigned: NDArray[np.str_], shares: Mapping[str, float], seed: int) -> None:
    """Move whole units from train until each class has its share of what was there in each of the splits named.

    Units are taken at random, but for those that would overshoot the share by more than is missing to it; where all would, the
    smallest is taken. A class keeps one unit in train and, if it has them, one for each split that is still to be drawn.
    """
    assert dataset.targets is not None
    pool = _Units(dataset.targets, units, assigned, len(dataset.labels))
    for drawn, (name, share) in enumerate(shares.items()):
        rng = np.random.default_rng([seed, SPLITS.index(name)])
        keep = len(shares) - drawn
        have = np.zeros(len(dataset.labels), np.int64)
        for label, holding in enumerate(pool.holding):
            wanted = max(1, round(share * pool.images[label]))
            order = rng.permutation(holding).tolist()
            for unit in order:
                if have[label] >= wanted:
                    break
                if pool.size(unit, label) <= 2 * (wanted - have[label]) and pool.can_leave(unit, keep):
                    have += pool.move(unit, name)
            if not have[label] and (able := [unit for unit in order if pool.can_leave(unit, keep)]):
                have += pool.move(min(able, key=lambda unit: pool.size(unit, label)), name)


def _check_drawable(dataset: Dataset, units: NDArray[np.int64]) -> None:
    problems = []
    for label, name in enumerate(dataset.labels):
        distinct = len(np.unique(units[dataset.targets == label]))
        images = np.count_nonzero(dataset.targets == label)
        if distinct < MIN_IMAGES:
            surplus = images - distinct
            copies = f", of which {surplus} cop{'y' if surplus == 1 else 'ies'}" if surplus else ""
            noun = "image" if images == 1 else "images"
            problems.append(f"{name!r} has {images} usable {noun}{copies}")
    if problems:
        raise DataError(
            f"{dataset.root}: class {'; '.join(problems)}. Training, validation and test need one each, so {MIN_IMAGES} "
            "different images at least: add images or remove the class."
        )


def _check_given(dataset: Dataset, splits: NDArray[np.str_]) -> None:
    problems = []
    for label, name in enumerate(dataset.labels):
        found = set(splits[dataset.targets == label].tolist())
        if "train" not in found:
            problems.append(f"{name!r} (found in {' and '.join(sorted(found)) or 'no split'})")
    if problems:
        raise DataError(
            f"{dataset.root}: training has no usable image of class {', '.join(problems)}, so it could never be learned: "
            "add training images of it, or remove its folders."
        )


def _shares(assigned: NDArray[np.str_]) -> str:
    return ", ".join(f"{np.count_nonzero(assigned == name)} {name}" for name in SPLITS)
