"""The values that travel between the rooms: where an image is, and a data set.

All are frozen; nothing here reads a file. A ``Dataset`` keeps columns instead of objects, so that a
million samples stay small.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.texts import Texts

SPLITS = ("train", "validation", "test")
NO_TARGET = -1

Infer = Callable[[NDArray[np.uint8]], dict[str, NDArray[np.float32]]]
"""The seam between a network and everything that uses one: prepared images (n, size, size, channels) uint8 to named raw outputs.

The torch network, a bundle's graph, a quantised variant and the tests' fake all are one.
"""


@dataclass(frozen=True, slots=True)
class ImageRef:
    """Where an image is: a file, or a member, a frame or a window of one.

    ``window`` is (left, top, right, bottom) in pixels of the upright image.
    """

    path: str
    member: str | None = None
    frame: int = 0
    window: tuple[int, int, int, int] | None = None

    def __str__(self) -> str:
        text = self.path if self.member is None else f"{self.path}!{self.member}"
        text += f"#{self.frame}" if self.frame else ""
        return text + (f"@{','.join(map(str, self.window))}" if self.window else "")


@dataclass(frozen=True, eq=False)
class Refs(Sequence[ImageRef]):
    """References to n whole files, or members of archives, in the memory of their names; ImageRef are made as they are asked for.

    names   (n,) of files, their ways from a folder with slashes; of members, their names
    places  what stands before the name of a file, such as ``data/``; or the archives' paths
    which   (n,) int64, the place of each; None where all have the first
    packed  whether they are members
    """

    names: Texts
    places: tuple[str, ...]
    which: NDArray[np.int64] | None = None
    packed: bool = False

    @classmethod
    def below(cls, folder: Path, names: Texts) -> Refs:
        """Files of a folder."""
        return cls(names, (str(folder / "x")[:-1],))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return list(self.select(np.arange(len(self))[row]))
        return self._ref(self.names[row], self.places[0 if self.which is None else self.which[row]])

    def __iter__(self) -> Iterator[ImageRef]:
        return (self._ref(name, place) for name, place in self._pairs())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def select(self, rows: NDArray[np.int64]) -> Refs:
        return replace(self, names=self.names[rows], which=None if self.which is None else self.which[rows])

    def texts(self) -> Iterator[str]:
        """The references as texts, one after the other: of files their paths."""
        if self.packed:
            return (f"{place}!{name}" for name, place in self._pairs())
        return (place + _native(name) for name, place in self._pairs())

    def _pairs(self) -> Iterator[tuple[str, str]]:
        places = repeat(self.places[0]) if self.which is None else (self.places[place] for place in self.which)
        return zip(self.names, places, strict=False)

    def _ref(self, name: str, place: str) -> ImageRef:
        return ImageRef(place, member=name) if self.packed else ImageRef(place + _native(name))


def _native(name: str) -> str:
    return name if os.sep == "/" else name.replace("/", os.sep)


def texts_of(refs: Sequence[ImageRef]) -> Iterator[str]:
    """References as texts, by which images are told apart."""
    return refs.texts() if isinstance(refs, Refs) else map(str, refs)


@dataclass(frozen=True, slots=True)
class Sample:
    """One row of a ``Dataset``. ``target`` is None where the image is unlabelled."""

    ref: ImageRef
    target: Any
    split: str | None
    group: str | None
    content_id: str | None


@dataclass(frozen=True)
class Dataset:
    """Images with what is known about them, as columns of equal length n.

    refs        n ImageRef
    labels      names of the classes; a target is an index into it. A class absent from a split keeps its index
    targets     task-specific: (n,) int64 for classification with -1 for unlabelled, (n, k) bool for tags, (n,) of objects or label
                maps (``scenes.py``) where things lie on the image; None when nothing is labelled
    splits      (n,) str, one of "", "train", "validation", "test"; None when nothing came split
    groups      (n,) str, samples that must not straddle a split; None without groups
    content_ids (n,) str, sha256 of the bytes; None until the files have been looked at
    attributes  name -> (n,) column of anything else that is known
    """

    root: Path
    task: str
    labels: tuple[str, ...]
    refs: Sequence[ImageRef]
    targets: NDArray[Any] | None = None
    splits: NDArray[np.str_] | None = None
    groups: NDArray[np.str_] | None = None
    content_ids: NDArray[np.str_] | None = None
    attributes: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        columns = {"targets": self.targets, "splits": self.splits, "groups": self.groups,
                   "content_ids": self.content_ids, **self.attributes}  # fmt: skip
        for name, column in columns.items():
            if column is not None and len(column) != len(self.refs):
                raise ValueError(f"column {name!r} has {len(column)} rows, the data set has {len(self.refs)}")

    def __len__(self) -> int:
        return len(self.refs)

    def __getitem__(self, row: int) -> Sample:
        def value(column: NDArray[Any] | None) -> Any:
            return None if column is None else column[row]

        return Sample(self.refs[row], value(self.targets), value(self.splits) or None,
                      value(self.groups) or None, value(self.content_ids))  # fmt: skip

    def __iter__(self) -> Iterator[Sample]:
        return (self[row] for row in range(len(self)))

    def replace(self, **columns: Any) -> Dataset:
        """A new data set with some columns exchanged."""
        return replace(self, **columns)

    def select(self, rows: NDArray[Any]) -> Dataset:
        """The rows given as indices or as a boolean mask, in that order; labels keep their indices."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows

        def pick(column: NDArray[Any] | None) -> NDArray[Any] | None:
            return None if column is None else column[rows]

        return replace(
            self,
            refs=self.refs.select(rows) if isinstance(self.refs, Refs) else [self.refs[row] for row in rows.tolist()],
            targets=pick(self.targets),
            splits=pick(self.splits),
            groups=pick(self.groups),
            content_ids=pick(self.content_ids),
            attributes={name: column[rows] for name, column in self.attributes.items()},
        )

    def rows_of(self, split: str) -> NDArray[np.int64]:
        """Indices of the rows in a split, () int64; empty when nothing is split."""
        return np.flatnonzero(self.splits == split) if self.splits is not None else np.empty(0, np.int64)

    def of_split(self, split: str) -> Dataset:
        return self.select(self.rows_of(split))

    @property
    def is_scenes(self) -> bool:
        """Whether targets lie on the images: objects or label maps."""
        return self.targets is not None and self.targets.dtype == object

    def as_tags(self) -> Dataset:
        """Of objects or label maps, which labels each image shows, as a data set for tagging; any other data set as it is."""
        if not self.is_scenes:
            return self
        return self.replace(task="tag", targets=presence(self.targets, len(self.labels)))

    def labelled(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(m,) rows and (m,) label indices: each pair says that the row has the label; in order of rows."""
        if self.targets is None:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        if self.is_scenes:
            present = [target.present for target in self.targets]
            return np.repeat(np.arange(len(self)), list(map(len, present))), np.concatenate([np.empty(0, np.int64), *present])
        if self.targets.ndim == 2:
            rows, labels = np.nonzero(self.targets)
            return rows, labels
        rows = np.flatnonzero(self.targets != NO_TARGET)
        return rows, self.targets[rows]

    def label_names(self, row: int) -> tuple[str, ...]:
        """The labels of a row, none when it is unlabelled."""
        if self.targets is None:
            return ()
        target = self.targets[row]
        if self.is_scenes:
            return tuple(self.labels[label] for label in target.present)
        if self.targets.ndim == 2:
            return tuple(self.labels[label] for label in np.flatnonzero(target))
        return () if target == NO_TARGET else (self.labels[target],)

    def targets_among(self, labels: Sequence[str]) -> NDArray[Any]:
        """The targets in terms of other labels, of which the data's own must all be some; ValueError otherwise."""
        assert self.targets is not None
        index = np.array([labels.index(label) for label in self.labels], np.int64)
        if self.is_scenes:
            return column_of([target.relabelled(index) for target in self.targets])
        if self.targets.ndim == 1:
            return np.where(self.targets == NO_TARGET, NO_TARGET, index[self.targets])
        among = np.zeros((len(self), len(labels)), bool)
        among[:, index] = self.targets
        return among

    @property
    def fingerprint(self) -> str:
        """A sha256 over contents (or paths until they are known), labels of each, splits and groups; order does not matter."""
        rows = sorted(self._row_text(row) for row in range(len(self)))
        # File names on Linux are bytes, and need not be UTF-8.
        text = "\n".join([self.task, *self.labels, "", *rows]).encode(errors="surrogateescape")
        return hashlib.sha256(text).hexdigest()

    def _row_text(self, row: int) -> str:
        sample = self[row]
        said = sample.target.text if self.is_scenes else ""
        return f"{sample.content_id or sample.ref}|{json.dumps(self.label_names(row))}{said}|{sample.split or ''}|{sample.group or ''}"


def presence(targets: NDArray[Any] | None, k: int) -> NDArray[Any]:
    """(n, k) bool, which labels the objects or label maps of n images show; any other targets as they are."""
    assert targets is not None
    if targets.dtype != object:
        return targets
    has = np.zeros((len(targets), k), bool)
    for row, target in enumerate(targets):
        has[row, target.present] = True
    return has


def column_of(values: Sequence[Any]) -> NDArray[Any]:
    """(n,) a column of values of any kind, even where those have lengths of their own."""
    column = np.empty(len(values), object)
    column[:] = values
    return column
