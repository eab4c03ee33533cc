"""What the audit says of copies and of groups: how they spoil the figures, and which of them to drop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sightline.auditing.copies import CopyPair
from sightline.auditing.finding import DROP, PROBLEM, WARNING, Finding, Item
from sightline.data.findings import NAMED
from sightline.records import NO_TARGET, Dataset

# Which of several copies is kept: a test image before all others, as the test set stays as it is.
_KEPT_FIRST = ("test", "validation", "train")


@dataclass(frozen=True)
class _Bunch:
    """Rows that show one picture: the one to be kept, and then the others by name. ``pairs`` are the copies found among them."""

    rows: tuple[int, ...]
    pairs: tuple[CopyPair, ...]
    splits: tuple[str, ...]
    labels: tuple[str | None, ...]

    @cached_property
    def crosses(self) -> bool:
        """Whether it is in more than one split."""
        return len(set(self.splits)) > 1

    @cached_property
    def conflicts(self) -> bool:
        """Whether it is labelled in more than one way; an image without a label agrees with all."""
        return len(set(self.labels) - {None}) > 1

    @property
    def exact(self) -> bool:
        """Whether all are byte for byte the same."""
        return all(pair.exact for pair in self.pairs)

    @cached_property
    def _file_of(self) -> dict[int, int]:
        """Row -> a number that rows with the same bytes share."""
        files = _tied(self.rows, [pair for pair in self.pairs if pair.exact])
        return {row: number for number, file in enumerate(files) for row in file}

    @cached_property
    def _near(self) -> dict[frozenset[int], str]:
        """What two different files are to each other, where that was found."""
        return {frozenset((self._file_of[pair.a], self._file_of[pair.b])): pair.kind for pair in self.pairs if not pair.exact}

    def how(self, row: int) -> str:
        """What a row is to the first, in words."""
        files = frozenset((self._file_of[self.rows[0]], self._file_of[row]))
        return "the same file" if len(files) == 1 else self._near.get(files, "nearly the same picture, by way of another copy")


def copy_findings(
    dataset: Dataset, names: Sequence[str], copies: Sequence[CopyPair], straddling: Sequence[tuple[str, Sequence[str]]]
) -> list[Finding]:
    """Copies with different labels, across splits, and within one split (or with no split); groups in several splits.

    ``names`` are the rows' names in findings, ``copies`` pairs of rows, ``straddling`` (group, its splits). Copies are tied together
    first; of n that show one picture, n - 1 items each show one beside the one to be kept. What is labelled in several ways *and* is
    in several splits is in both findings, and for a person to decide in both.
    """
    bunches = _bunches(dataset, names, copies)
    crossing, inside = [bunch for bunch in bunches if bunch.crosses], [bunch for bunch in bunches if not bunch.crosses]
    # Of two moments of one scene, one may show what the other does not.
    conflicting = [bunch for bunch in bunches if bunch.conflicts and (bunch.exact or not dataset.is_scenes)]
    agreeing = [bunch for bunch in inside if bunch not in conflicting]
    found = [
        _across(crossing, names),
        _conflicting(conflicting, names),
        _straddling(straddling),
        _exact([bunch for bunch in agreeing if bunch.exact], names, split=dataset.splits is not None),
        _near([bunch for bunch in agreeing if not bunch.exact], names, split=dataset.splits is not None),
    ]
    return [finding for finding in found if finding is not None]


def _bunches(dataset: Dataset, names: Sequence[str], copies: Sequence[CopyPair]) -> list[_Bunch]:
    """The largest first, then by name."""
    splits = np.full(len(dataset), "") if dataset.splits is None else np.where(dataset.splits == "", "train", dataset.splits)
    rows = sorted({row for pair in copies for row in (pair.a, pair.b)})
    bunches = []
    bunch_of: dict[int, int] = {}
    for number, tied in enumerate(_tied(rows, copies)):
        bunch_of |= dict.fromkeys(tied, number)
        bunches.append(sorted(tied, key=lambda row: _kept_first(dataset, names, splits, row)))
    pairs: list[list[CopyPair]] = [[] for _ in bunches]
    for pair in copies:
        pairs[bunch_of[pair.a]].append(pair)
    found = [
        _Bunch(tuple(tied), tuple(among), tuple(splits[tied].tolist()), tuple(_label(dataset, row) for row in tied))
        for tied, among in zip(bunches, pairs, strict=True)
    ]
    return sorted(found, key=lambda bunch: (-len(bunch.rows), names[bunch.rows[0]]))


def _kept_first(dataset: Dataset, names: Sequence[str], splits: NDArray[np.str_], row: int) -> tuple[int, bool, int, str]:
    """Sorts the copies of one picture: of one split, what has a label is kept, and then "a.jpg" rather than "a (copy).jpg"."""
    place = _KEPT_FIRST.index(splits[row]) if splits[row] else 0
    return place, _label(dataset, row) is None, len(names[row]), names[row]


def _tied(rows: Iterable[int], pairs: Iterable[CopyPair]) -> list[set[int]]:
    """The rows in sets that hang together by pairs (union-find, the smaller set into the larger)."""
    sets = {row: {row} for row in rows}
    for pair in pairs:
        small, large = sorted((sets[pair.a], sets[pair.b]), key=len)
        if small is not large:
            large |= small
            sets.update(dict.fromkeys(small, large))
    return list({id(tied): tied for tied in sets.values()}.values())


def _label(dataset: Dataset, row: int) -> str | None:
    """What a row is labelled; None where nothing is known. An image without any tag is labelled so."""
    targets = dataset.targets
    if targets is None or (targets.ndim == 1 and targets[row] == NO_TARGET):
        return None
    return ", ".join(dataset.label_names(row)) or "no tag"


def _across(bunches: Sequence[_Bunch], names: Sequence[str]) -> Finding | None:
    if not bunches:
        return None
    # What reached the test set spoils the figures that are reported; the rest only those that models are chosen by.
    bunches = sorted(bunches, key=lambda bunch: "test" not in bunch.splits)
    tested = sum("test" in bunch.splits for bunch in bunches)
    reach = ", one of them the test" if len(bunches) == 1 else f", {tested} of them in the test"
    spoilt = "The model is examined on what it has learned by heart, so its figures will be better than it is on new images."
    chosen = "The model is chosen, and its confidence set, on what it has learned by heart, so it will be surer than it should be."
    return Finding(
        kind="copies-across-splits",
        level=PROBLEM,
        title="The same picture in several splits",
        sentence=f"{_pictures(len(bunches), 'is', 'are')} in more than one split{reach if tested else ''}. {spoilt if tested else chosen}",
        advice="Drop the copies in training and validation, as suggested, and keep the one in test (where there is none, the one in "
        "validation). Or take the split away, and one is drawn that keeps copies together.",
        items=_items(bunches, names),
        figures={"pictures": len(bunches), "images": _images(bunches), "pictures_in_test": tested},
    )


def _conflicting(bunches: Sequence[_Bunch], names: Sequence[str]) -> Finding | None:
    if not bunches:
        return None
    bunches = sorted(bunches, key=lambda bunch: not bunch.exact)
    return Finding(
        kind="copies-with-different-labels",
        level=PROBLEM,
        title="The same picture with different labels",
        sentence=f"{_pictures(len(bunches), 'has', 'have')} different labels on different copies. At least one of them is wrong, "
        "or the picture shows both; the model is told two things of one picture and can learn neither.",
        advice="Look at each picture and say which label is right: drop or relabel the other copies. "
        "If both are right, make it a task with several labels for an image (tags).",
        items=_items(bunches, names),
        figures={"pictures": len(bunches), "images": _images(bunches)},
    )


def _exact(bunches: Sequence[_Bunch], names: Sequence[str], *, split: bool) -> Finding | None:
    if not bunches:
        return None
    extra = _images(bunches) - len(bunches)
    return Finding(
        kind="exact-copies",
        level=WARNING,
        title="The same file more than once",
        sentence=f"{_pictures(len(bunches), 'is', 'are')} there several times, byte for byte"
        f"{' in the same split' if split else ''}: {extra} more than needed. They count several times over in training and in the figures.",
        advice="Drop all copies but one, as suggested; nothing is lost.",
        items=_items(bunches, names),
        figures={"pictures": len(bunches), "images": _images(bunches), "surplus": extra},
    )


def _near(bunches: Sequence[_Bunch], names: Sequence[str], *, split: bool) -> Finding | None:
    if not bunches:
        return None
    extra = _images(bunches) - len(bunches)
    return Finding(
        kind="near-copies",
        level=WARNING,
        title="Nearly the same picture more than once",
        sentence=f"{_pictures(len(bunches), 'is', 'are')} there several times{' in the same split' if split else ''}, saved again, "
        f"resized, cropped, mirrored or taken moments later: {_images_that(extra)} next to nothing new.",
        advice="Look at some of the pairs. If they are copies, drop all but one, as suggested; if they are different things "
        "that look alike, keep them.",
        items=_items(bunches, names),
        figures={"pictures": len(bunches), "images": _images(bunches), "surplus": extra},
    )


def _straddling(straddling: Sequence[tuple[str, Sequence[str]]]) -> Finding | None:
    if not straddling:
        return None
    first = [f"{group!r} in {' and '.join(splits)}" for group, splits in straddling]
    more = f"; and {len(first) - NAMED} more" if len(first) > NAMED else ""
    is_in = "1 group is" if len(straddling) == 1 else f"{len(straddling)} groups are"
    return Finding(
        kind="groups-across-splits",
        level=PROBLEM,
        title="Groups in several splits",
        sentence=f"{is_in} in more than one split ({'; '.join(first[:NAMED])}{more}). Images of one group (a patient, a field, a camera) "
        "resemble each other, so the model is examined on what it half knows, and its figures will be better than it is on new groups.",
        advice="Put all images of a group into one split, or leave the split away (--split-column none): "
        "one is then drawn that keeps groups together.",
        figures={"groups": {group: list(splits) for group, splits in straddling}},
    )


def _items(bunches: Iterable[_Bunch], names: Sequence[str]) -> list[Item]:
    """Each copy beside the one to be kept."""
    return [_item(bunch, place, names) for bunch in bunches for place in range(1, len(bunch.rows))]


def _item(bunch: _Bunch, place: int, names: Sequence[str]) -> Item:
    told = [bunch.how(bunch.rows[place])]
    if bunch.crosses:
        here, there = bunch.splits[place], bunch.splits[0]
        told.append(f"both in {here}" if here == there else f"{here} and {there}")
    if bunch.conflicts:
        told.append(f"labelled {bunch.labels[place] or 'nothing'} and {bunch.labels[0] or 'nothing'}")
    if len(bunch.rows) > 2:
        told.append(f"{len(bunch.rows)} copies altogether")
    shown = names[bunch.rows[place]], names[bunch.rows[0]]
    return Item(shown, "; ".join(told), "" if bunch.conflicts else DROP)


def _pictures(count: int, one: str, several: str) -> str:
    return f"1 picture {one}" if count == 1 else f"{count} pictures {several}"


def _images_that(count: int) -> str:
    return "1 image that shows" if count == 1 else f"{count} images that show"


def _images(bunches: Iterable[_Bunch]) -> int:
    return sum(len(bunch.rows) for bunch in bunches)
