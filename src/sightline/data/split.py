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
    units = units_of(dataset, links)
    came_split = dataset.splits is not None
    assigned = np.full(len(dataset), "train", dtype="<U10") if dataset.splits is None else dataset.splits.astype("<U10")
    assigned[assigned == ""] = "train"
    if not (assigned == "train").any():
        raise DataError(f"{dataset.root}: the data came split but has no training images; add some.")
    if came_split:
        _check_given(dataset, assigned)
    shares = {name: share for name, share in (("test", test), ("validation", validation)) if not (assigned == name).any()}
    if len(shares) == 2:
        _check_drawable(dataset, units)
    _draw(dataset, units, assigned, shares, seed)
    _check_parts(dataset, assigned)
    drawn = f"drawn at random within each class (seed {seed})"
    if not came_split:
        tied = "copies" if dataset.groups is None else "copies and groups"
        return dataset.replace(splits=assigned), f"{drawn.capitalize()}: {_shares(assigned)}; {tied} stay on one side."
    origin = "The data came split, and what came split stays so."
    if shares:
        origin += f" The {' and '.join(shares)} images were {drawn} from training."
    return dataset.replace(splits=assigned), f"{origin} Now {_shares(assigned)}."


def units_of(dataset: Dataset, links: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
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
    """The training images as units that move as a whole, how many images of each label each of them holds, and whether it is ``held``:
    others of its images are in validation or test already.

    Images without any label count as one label more, the last, so that they are shared out as well.
    """

    def __init__(self, dataset: Dataset, units: NDArray[np.int64], assigned: NDArray[np.str_]) -> None:
        self.assigned = assigned
        pool = np.flatnonzero(assigned == "train")
        found, which = np.unique(units[pool], return_inverse=True)
        self.held = np.isin(found, units[assigned != "train"])
        self.rows = np.split(pool[np.argsort(which, kind="stable")], np.cumsum(np.bincount(which))[:-1])
        unit_of = np.full(len(dataset), -1)
        unit_of[pool] = which
        rows, labels = _labels_of(dataset)
        rows, labels = rows[unit_of[rows] >= 0], labels[unit_of[rows] >= 0]
        n_labels = len(dataset.labels) + 1
        self.images = np.bincount(labels, minlength=n_labels)
        held, counts = np.unique(unit_of[rows] * n_labels + labels, return_counts=True)
        self.counts: list[dict[int, int]] = [{} for _ in self.rows]
        self.holding: list[list[int]] = [[] for _ in range(n_labels)]
        for unit, label, count in zip((held // n_labels).tolist(), (held % n_labels).tolist(), counts.tolist(), strict=True):
            self.counts[unit][label] = count
            self.holding[label].append(unit)
        self.left = np.array([len(units) for units in self.holding])

    def can_leave(self, unit: int, keep: int) -> bool:
        """Whether it is still in train, and each of its labels has more than ``keep`` units there."""
        return self.assigned[self.rows[unit][0]] == "train" and all(self.left[label] > keep for label in self.counts[unit])

    def move(self, unit: int, name: str, have: NDArray[np.int64]) -> None:
        """Move a unit to a split that has ``have`` images of each label, which is brought up to date."""
        self.assigned[self.rows[unit]] = name
        for label, count in self.counts[unit].items():
            have[label] += count
            self.left[label] -= 1


def _labels_of(dataset: Dataset) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``dataset.labelled()`` with one label more for the rows that have none."""
    rows, labels = dataset.labelled()
    bare = np.setdiff1d(np.arange(len(dataset)), rows)
    return np.concatenate([rows, bare]), np.concatenate([labels, np.full(len(bare), len(dataset.labels))])


def _draw(dataset: Dataset, units: NDArray[np.int64], assigned: NDArray[np.str_], shares: Mapping[str, float], seed: int) -> None:
    """Move whole units from train until each label has its share of what was there in each of the splits named.

    Rare labels come first, as Sechidis et al., "On the stratification of multi-label data" (2011). Units are taken at random, but
    for those that would overshoot the share by more than is missing to it; where all would, the smallest is taken. Units that hold
    a rarer label as well come last, as that label has its share by then. A unit of which other images came in validation or test is taken
    only where all others are too few for the share, as the model would be tested on what it was chosen by. A label keeps one unit in train
    and, if it has them, one for each split that is still to be drawn.
    """
    pool = _Units(dataset, units, assigned)
    for drawn, (name, share) in enumerate(shares.items()):
        rng = np.random.default_rng([seed, SPLITS.index(name)])
        keep = len(shares) - drawn
        have = np.zeros(len(pool.images), np.int64)
        shared_out = np.zeros(len(pool.rows), bool)
        for label in np.argsort(pool.images, kind="stable").tolist():
            wanted = max(1, round(share * pool.images[label]))
            drawn_order = rng.permutation(pool.holding[label]).astype(int).tolist()
            order = sorted(drawn_order, key=lambda unit: (pool.held[unit], shared_out[unit]))
            for unit in order:
                if have[label] >= wanted:
                    break
                if pool.counts[unit][label] <= 2 * (wanted - have[label]) and pool.can_leave(unit, keep):
                    pool.move(unit, name, have)
            if not have[label] and (able := [unit for unit in order if pool.can_leave(unit, keep)]):
                pool.move(min(able, key=lambda unit: (pool.held[unit], pool.counts[unit][label])), name, have)
            shared_out[pool.holding[label]] = True


def fold(
    dataset: Dataset, links: Sequence[tuple[int, int]], *, folds: int, number: int, validation: float, seed: int
) -> tuple[Dataset, str]:
    """The data set with fold ``number`` of ``folds`` (from 1) as test images, and validation drawn from the others; and a sentence.

    Every image is a test image in exactly one fold; labels are shared out evenly, and groups and copies stay in one. Raises
    DataError when the data came split, or naming every class with too few images for so many folds.
    """
    if dataset.splits is not None:
        raise DataError(
            f"{dataset.root}: the data came split, and --folds would mix what was kept apart; leave it out, or give unsplit data."
        )
    units = units_of(dataset, links)
    # Beside a fold that is tested there is one for training and one for validation, so of two folds each has two.
    fewest, share = (folds, "one") if folds >= MIN_IMAGES else (2 * folds, "two")
    _check_drawable(dataset, units, fewest, f"{folds} folds need {share} each")
    which = _folds(dataset, units, folds, seed)
    assigned = np.where(which == number - 1, "test", "train").astype("<U10")
    _draw(dataset, units, assigned, {"validation": validation}, seed)
    _check_parts(dataset, assigned)
    origin = f"Fold {number} of {folds} (seed {seed}): {_shares(assigned)}; copies and groups stay in one fold."
    return dataset.replace(splits=assigned), origin


def _folds(dataset: Dataset, units: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """(n,) the fold of each row, from 0: rare labels and large units first, each unit to the fold that has least of its label.

    A fold takes no more of a label's units than leave one for training and one for validation, unless all have as many.
    """
    everything = np.full(len(dataset), "train", dtype="<U10")
    pool = _Units(dataset, units, everything)
    rng = np.random.default_rng([seed, len(SPLITS)])
    have, held_units = np.zeros((2, folds, len(pool.images)), np.int64)
    most = np.array([len(units) - 2 for units in pool.holding])
    placed = np.full(len(dataset), -1)
    for label in np.argsort(pool.images, kind="stable").tolist():
        order = rng.permutation(pool.holding[label]).astype(int).tolist()
        for unit in sorted(order, key=lambda unit: -pool.counts[unit][label]):
            if placed[pool.rows[unit][0]] < 0:
                labels = list(pool.counts[unit])
                full = (held_units[:, labels] >= most[labels]).any(axis=1)
                order_of = list(zip(full.tolist(), have[:, label].tolist(), have.sum(axis=1).tolist(), strict=True))
                emptiest = min(rng.permutation(folds).tolist(), key=order_of.__getitem__)
                placed[pool.rows[unit]] = emptiest
                have[emptiest, labels] += list(pool.counts[unit].values())
                held_units[emptiest, labels] += 1
    return placed


def _check_drawable(
    dataset: Dataset, units: NDArray[np.int64], fewest: int = MIN_IMAGES, need: str = "Training, validation and test need one each"
) -> None:
    """DataError naming every class with fewer than ``fewest`` units. A tag may be rarer: it is then absent from a split."""
    if dataset.task == "tag":
        return
    rows, labels = dataset.labelled()
    problems = []
    for label, name in enumerate(dataset.labels):
        members = rows[labels == label]
        distinct = len(np.unique(units[members]))
        if distinct < fewest:
            problems.append(f"{name!r} has {_count(len(members), 'usable image')}{_ties(dataset, members, distinct)}")
    if problems:
        different = "different images" if dataset.groups is None else "images of different groups"
        raise DataError(
            f"{dataset.root}: class {'; '.join(problems)}. {need}, so {fewest} {different} at least: add some or remove the class."
        )


def _check_parts(dataset: Dataset, assigned: NDArray[np.str_]) -> None:
    """DataError when a split has no image, or none with any label, so that nothing could be chosen or measured there."""
    for name in SPLITS:
        if not (assigned == name).any():
            raise DataError(f"{dataset.root}: training has too few different images of every class to draw {name} images from; add some.")
    tagged = np.unique(assigned[dataset.labelled()[0]])
    bare = [name for name in SPLITS if name not in tagged]
    if bare:
        raise DataError(f"{dataset.root}: no {' and no '.join(bare)} image has any label; label some, or add labelled ones.")


def _ties(dataset: Dataset, members: NDArray[np.int64], distinct: int) -> str:
    """Why so few of a class's images can be told apart."""
    groups = 0 if dataset.groups is None else len(set(dataset.groups[members].tolist()) - {""})
    if groups and distinct < len(members):
        return ", all in one group" if distinct == 1 else f", which groups tie into {distinct}"
    surplus = len(members) - distinct
    return f", of which {surplus} cop{'y' if surplus == 1 else 'ies'}" if surplus else ""


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"


def _check_given(dataset: Dataset, splits: NDArray[np.str_]) -> None:
    problems = []
    rows, labels = dataset.labelled()
    for label, name in enumerate(dataset.labels):
        found = set(splits[rows[labels == label]].tolist())
        if "train" not in found:
            problems.append(f"{name!r} (found in {' and '.join(sorted(found)) or 'no split'})")
    if problems:
        raise DataError(
            f"{dataset.root}: training has no usable image of class {', '.join(problems)}, so it could never be learned: "
            "add training images of it, or remove its folders."
        )


def _shares(assigned: NDArray[np.str_]) -> str:
    return ", ".join(f"{np.count_nonzero(assigned == name)} {name}" for name in SPLITS)
