"""The gate every data set passes before training: drop what cannot be read, find copies, split, name the leaks."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline import console
from sightline.auditing.copies import CopyPair, find_copies
from sightline.config import DataConfig
from sightline.data.split import split
from sightline.data.store import Store
from sightline.errors import DataError
from sightline.records import SPLITS, Dataset, ImageRef

NAMED_IN_ERROR = 3


@dataclass(frozen=True)
class Gated:
    """What passed: usable images, split; and the findings, whose paths are relative to the data's root.

    refused    (path, reason) of files that cannot be used
    notes      (path, note) of files that are used all the same
    leaks      pairs of copies in different splits, in rows of ``dataset``
    copies     pairs of copies altogether
    conflicts  pairs of copies with different labels
    origin     a sentence on how the split came about
    """

    dataset: Dataset
    store: Store
    refused: list[tuple[str, str]]
    notes: list[tuple[str, str]]
    leaks: list[CopyPair]
    copies: list[CopyPair]
    conflicts: list[CopyPair]
    origin: str
    names: list[str] = field(default_factory=list)

    @property
    def n_train(self) -> int:
        return len(self.dataset.rows_of("train"))

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
            kind = "the same file" if pair.exact else "nearly the same picture"
            console.warn(f"{self.names[pair.a]} and {self.names[pair.b]} are {kind}, in two splits.")
        for pair in self.conflicts:
            console.warn(f"{self.names[pair.a]} and {self.names[pair.b]} are copies with different labels.")

    def summary(self) -> dict[str, Any]:
        """The report's ``data`` section."""
        data, targets, splits = self.dataset, self.dataset.targets, self.dataset.splits
        assert targets is not None
        assert splits is not None

        def counts(part: str) -> dict[str, Any]:
            members = np.bincount(targets[splits == part], minlength=len(data.labels)).tolist()
            return {"n": sum(members), "classes": dict(zip(data.labels, members, strict=True))}

        return {
            "root": data.root.name, "n": len(data), "labels": list(data.labels), "splits": {part: counts(part) for part in SPLITS},
            "split_origin": self.origin,
            "refused": [{"path": path, "reason": reason} for path, reason in self.refused],
            "notes": [{"path": path, "note": note} for path, note in self.notes],
            "leaks": [{"a": self.names[pair.a], "a_split": str(splits[pair.a]), "b": self.names[pair.b], "b_split": str(splits[pair.b]),
                       "kind": "exact" if pair.exact else "near"} for pair in self.leaks],
            "copies": len(self.copies),
            "conflicts": [{"a": self.names[pair.a], "a_label": data.labels[targets[pair.a]],
                           "b": self.names[pair.b], "b_label": data.labels[targets[pair.b]]} for pair in self.conflicts],
        }  # fmt: skip


def gate(dataset: Dataset, store: Store, config: DataConfig, seed: int) -> Gated:
    """The usable images in train, validation and test; DataError when what is left cannot be learned from."""
    names = [relative_name(ref, dataset.root) for ref in dataset.refs]
    facts = store.facts
    refused = [(names[row], str(facts.error[row])) for row in np.flatnonzero(~facts.readable)]
    rows = np.flatnonzero(facts.readable)
    _check_usable(dataset, facts.readable, refused)
    usable = dataset.select(rows).replace(content_ids=facts.sha256[rows])
    kept = store.select(rows)
    copies = find_copies(kept.facts, near=config.near_copies)
    usable, origin = split(
        usable, [(pair.a, pair.b) for pair in copies], validation=config.val_fraction, test=config.test_fraction, seed=seed
    )
    assert usable.splits is not None
    assert usable.targets is not None
    return Gated(
        dataset=usable,
        store=kept,
        refused=refused,
        notes=[(names[row], str(facts.note[row])) for row in rows if facts.note[row]],
        leaks=[pair for pair in copies if usable.splits[pair.a] != usable.splits[pair.b]],
        copies=copies,
        conflicts=[pair for pair in copies if usable.targets[pair.a] != usable.targets[pair.b]],
        origin=origin,
        names=[names[row] for row in rows],
    )


def relative_name(ref: ImageRef, root: Path) -> str:
    """How an image is called in findings: relative to the data's root, with forward slashes, printable whatever its bytes.

    Where the root is an archive, that is the member's name in it.
    """
    if ref.member is not None and Path(ref.path) == root:
        name = str(replace(ref, path=ref.member, member=None))
    else:
        name = Path(str(ref)).relative_to(root).as_posix()
    return os.fsencode(name).decode(errors="replace")


def _check_usable(dataset: Dataset, readable: NDArray[np.bool_], refused: list[tuple[str, str]]) -> None:
    """Raise DataError when nothing can be read, there is a single class, or no image of a class can be read."""
    if not readable.any():
        examples = "; ".join(f"{path}: {reason}" for path, reason in refused[:NAMED_IN_ERROR])
        raise DataError(f"{dataset.root}: none of its {len(dataset)} files can be used as an image ({examples}).")
    if len(dataset.labels) < 2:
        raise DataError(
            f"{dataset.root}: holds a single class, {dataset.labels[0]!r}, and there is nothing to tell it from; "
            "add a folder with images of what it is not."
        )
    assert dataset.targets is not None
    lost = {}
    for row, (path, reason) in zip(np.flatnonzero(~readable), refused, strict=True):
        lost.setdefault(int(dataset.targets[row]), f"class {dataset.labels[dataset.targets[row]]!r} ({path}: {reason})")
    problems = [lost[label] for label in range(len(dataset.labels)) if not (readable & (dataset.targets == label)).any()]
    if problems:
        raise DataError(f"{dataset.root}: no file can be used as an image of {'; '.join(problems)}; replace them, or remove the folder.")
