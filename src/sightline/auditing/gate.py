"""The gate every data set passes before training: drop what cannot be read, find copies, split, name the leaks."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline import console
from sightline.auditing.copies import CopyPair, find_copies
from sightline.config import DataConfig
from sightline.data.split import fold as split_fold
from sightline.data.split import split
from sightline.data.store import Facts, Store
from sightline.data.webdataset import is_pattern
from sightline.errors import DataError
from sightline.records import SPLITS, Dataset, ImageRef

NAMED_IN_ERROR = 3
# The task whose labels are of objects.
OBJECTS = "detect"


@dataclass(frozen=True)
class Usable:
    """What can be used of a data set that was looked at, and what is odd about it; names are relative to the data's root.

    names      (n,) of the images; of those with an error there is none
    refused    (path, reason) of files that cannot be used
    notes      (path, note) of files that are used all the same
    copies     pairs of copies, in rows of ``dataset``
    straddling (group, its splits) of groups that are in more than one split
    """

    dataset: Dataset
    store: Store
    names: list[str]
    refused: list[tuple[str, str]]
    notes: list[tuple[str, str]]
    copies: list[CopyPair]
    straddling: list[tuple[str, list[str]]]

    @property
    def links(self) -> list[tuple[int, int]]:
        """Rows that show the same picture."""
        return [(pair.a, pair.b) for pair in self.copies]


@dataclass(frozen=True)
class Gated(Usable):
    """What passed the gate: usable images, now split.

    leaks      pairs of copies in different splits, in rows of ``dataset``
    conflicts  pairs of copies with different labels
    origin     a sentence on how the split came about
    """

    leaks: list[CopyPair]
    conflicts: list[CopyPair]
    origin: str

    @property
    def n_train(self) -> int:
        return len(self.dataset.rows_of("train"))

    def without(self, rows: NDArray[np.int64], why: str) -> Gated:
        """The same without some rows, which ``origin`` then says."""
        stay = np.setdiff1d(np.arange(len(self.dataset)), rows)
        place = {row: number for number, row in enumerate(stay.tolist())}

        def among(pairs: list[CopyPair]) -> list[CopyPair]:
            return [replace(pair, a=place[pair.a], b=place[pair.b]) for pair in pairs if pair.a in place and pair.b in place]

        return replace(
            self, dataset=self.dataset.select(stay), store=self.store.select(stay), names=[self.names[row] for row in stay.tolist()],
            copies=among(self.copies), leaks=among(self.leaks), conflicts=among(self.conflicts), origin=f"{self.origin} {why}",
        )  # fmt: skip

    @property
    def refs(self) -> dict[str, ImageRef]:
        """Where each image is, by the name it has in the findings."""
        return dict(zip(self.names, self.dataset.refs, strict=True))

    def announce(self) -> None:
        """Say the findings, a line each."""
        console.say(self.origin)
        for path, reason in self.refused:
            console.warn(f"{path}: {reason}; left out.")
        for path, note in self.notes:
            console.say(f"{path}: {note}; used all the same.")
        for pair in self.leaks:
            console.warn(f"{self.names[pair.a]} and {self.names[pair.b]} are {pair.kind}, in two splits.")
        for pair in self.conflicts:
            console.warn(f"{self.names[pair.a]} and {self.names[pair.b]} are copies with different labels.")
        for group, splits in self.straddling:
            console.warn(f"The group {group!r} is in {' and '.join(splits)}, so the figures will flatter the model.")

    def summary(self) -> dict[str, Any]:
        """The report's ``data`` section."""
        data, splits = self.dataset, self.dataset.splits
        rows, labels = data.labelled()
        assert splits is not None

        def counts(part: str) -> dict[str, Any]:
            members = np.bincount(labels[splits[rows] == part], minlength=len(data.labels)).tolist()
            return {"n": int(np.count_nonzero(splits == part)), "classes": dict(zip(data.labels, members, strict=True))}

        def label(row: int) -> str:
            return ", ".join(data.label_names(row)) or "no label"

        return {
            "root": data.root.name, "n": len(data), "labels": list(data.labels), "splits": {part: counts(part) for part in SPLITS},
            "split_origin": self.origin,
            "refused": [{"path": path, "reason": reason} for path, reason in self.refused],
            "notes": [{"path": path, "note": note} for path, note in self.notes],
            "leaks": [{"a": self.names[pair.a], "a_split": str(splits[pair.a]), "b": self.names[pair.b], "b_split": str(splits[pair.b]),
                       "kind": "exact" if pair.exact else "near"} for pair in self.leaks],
            "copies": len(self.copies),
            "conflicts": [{"a": self.names[pair.a], "a_label": label(pair.a), "b": self.names[pair.b], "b_label": label(pair.b)}
                          for pair in self.conflicts],
            "straddling": [{"group": group, "splits": parts} for group, parts in self.straddling],
        }  # fmt: skip


def gate(dataset: Dataset, store: Store, config: DataConfig, seed: int, fold: int | None = None) -> Gated:
    """The usable images in train, validation and test; DataError when what is left cannot be learned from.

    They come in the order of their contents, so that the same images give the same split and the same training however they are
    stored. ``fold`` is the number, from 1, of the fold of ``config.folds`` that is the test split.
    """
    _check_usable(dataset, store.facts)
    found = usable(dataset, store, near=config.near_copies)
    if fold is None or config.folds is None:
        parted, origin = split(found.dataset, found.links, validation=config.val_fraction, test=config.test_fraction, seed=seed)
    else:
        parted, origin = split_fold(found.dataset, found.links, folds=config.folds, number=fold, validation=config.val_fraction, seed=seed)
    assert parted.splits is not None
    return Gated(
        **{**vars(found), "dataset": parted, "straddling": _straddling(parted)},
        leaks=[pair for pair in found.copies if parted.splits[pair.a] != parted.splits[pair.b]],
        # Of two moments of one scene, one may show what the other does not.
        conflicts=[pair for pair in found.copies if (pair.exact or not parted.is_scenes) and _labelled_apart(parted, pair)],
        origin=origin,
    )


def _labelled_apart(dataset: Dataset, pair: CopyPair) -> bool:
    return dataset.label_names(pair.a) != dataset.label_names(pair.b)


def usable(dataset: Dataset, store: Store, *, near: bool = True) -> Usable:
    """The readable images, in the order of their contents, with the copies among them."""
    names, facts = [relative_name(ref, dataset.root) for ref in dataset.refs], store.facts
    rows = _in_order(dataset, facts.sha256, np.flatnonzero(facts.readable))
    kept, readable = store.select(rows), dataset.select(rows).replace(content_ids=facts.sha256[rows])
    copies = [pair for pair in find_copies(kept, near=near) if _of_two_pictures(readable, pair)]
    return Usable(
        readable,
        kept,
        [names[row] for row in rows],
        _refused(dataset, facts),
        [(names[row], str(facts.note[row])) for row in rows if facts.note[row]],
        copies,
        _straddling(readable),
    )


def _of_two_pictures(dataset: Dataset, pair: CopyPair) -> bool:
    """Neighbouring windows of one picture share a part of it, which makes no copies of them."""
    one, other = (replace(dataset.refs[row], window=None) for row in (pair.a, pair.b))
    return one != other or dataset.refs[pair.a] == dataset.refs[pair.b]


def _in_order(dataset: Dataset, contents: NDArray[np.str_], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows sorted by content, then by what is said of it: where both agree, any order is the same."""
    splits, groups = (np.full(len(dataset), "") if column is None else column for column in (dataset.splits, dataset.groups))
    order = sorted(
        rows.tolist(), key=lambda row: (contents[row], dataset.label_names(row), splits[row], groups[row], str(dataset.refs[row]))
    )
    return np.array(order, np.int64)


def _straddling(dataset: Dataset) -> list[tuple[str, list[str]]]:
    """Groups that are in more than one split, as they came or as they are drawn."""
    if dataset.groups is None or dataset.splits is None:
        return []
    found: dict[str, set[str]] = {}
    for group, part in zip(dataset.groups.tolist(), dataset.splits.tolist(), strict=True):
        if group:
            found.setdefault(group, set()).add(part or "train")
    return [(group, sorted(parts, key=SPLITS.index)) for group, parts in sorted(found.items()) if len(parts) > 1]


def relative_name(ref: ImageRef, root: Path) -> str:
    """How an image is called in findings: relative to the data's root, with forward slashes, printable whatever its bytes.

    Where the root is an archive, that is the member's name in it. A table may name files outside its folder: they are called by the
    way there, such as ``../images/x.jpg``.
    """
    if ref.member is not None and Path(ref.path) == root:
        return _printable(str(replace(ref, path=ref.member, member=None)))
    place = Path(str(ref))
    root = root.parent if is_pattern(root) else root
    if place.is_relative_to(root):
        place = place.relative_to(root)
    # On Windows there is no way from one drive to another.
    elif place.absolute().drive == root.absolute().drive:
        place = Path(os.path.relpath(place, root))
    return _printable(place.as_posix())


def _printable(name: str) -> str:
    return os.fsencode(name).decode(errors="replace")


def _refused(dataset: Dataset, facts: Facts) -> list[tuple[str, str]]:
    rows = np.flatnonzero(~facts.readable).tolist()
    return [(relative_name(dataset.refs[row], dataset.root), str(facts.error[row])) for row in rows]


def _check_usable(dataset: Dataset, facts: Facts) -> None:
    """Raise DataError when nothing can be read, images have a single class to be told by, or no image of a class can be read."""
    readable, refused = facts.readable, _refused(dataset, facts)
    if not readable.any():
        examples = "; ".join(f"{path}: {reason}" for path, reason in refused[:NAMED_IN_ERROR])
        raise DataError(f"{dataset.root}: none of its {len(dataset)} files can be used as an image ({examples}).")
    if len(dataset.labels) < 2 and dataset.task != OBJECTS:  # objects are told from what is none
        raise DataError(
            f"{dataset.root}: holds a single class, {dataset.labels[0]!r}, and there is nothing to tell it from; "
            "add a folder with images of what it is not."
        )
    lost = {}
    for row, (path, reason) in zip(np.flatnonzero(~readable).tolist(), refused, strict=True):
        for label in dataset.label_names(row):
            lost.setdefault(label, f"class {label!r} ({path}: {reason})")
    rows, labels = dataset.labelled()
    left = {dataset.labels[label] for label in np.unique(labels[readable[rows]])}
    problems = [reason for label, reason in lost.items() if label not in left]
    if problems:
        raise DataError(f"{dataset.root}: no file can be used as an image of {'; '.join(problems)}; replace them, or remove the folder.")
