"""A part of the images that were looked at: those of which facts say so, ``--where``, and no more than some, ``--limit``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.data.facts import Facts
from sightline.data.shuffle import hashed
from sightline.errors import ConfigError, DataError, did_you_mean
from sightline.records import Dataset

SIZES = ("width", "height")
NUMBERS = (*SIZES, "bytes", "brightness", "contrast", "sharpness", "quality")
TEXTS = ("format", "mode", "camera", "taken")
FLAGS = ("position",)
NAMES = (*NUMBERS, *TEXTS, *FLAGS)
RELATIONS: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, "=": operator.eq, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
SAID = {"true": True, "yes": True, "false": False, "no": False}
# Images that each class of each split keeps where there is room: one each for training, validation and test.
FEWEST = 3
# A value ends with its quotation mark, or before the next "and".
_CONDITION = re.compile(
    r"""\s*(?P<name>[^<>=!\s'"]+)\s*(?P<relation>[<>=!]+)\s*(?P<value>'[^']*'|"[^"]*"|.+?)(?:\s+(?P<more>and)(?=\s|$)|\s*$)""",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Condition:
    """A fact's name, one of RELATIONS, and what it is compared with."""

    name: str
    relation: str
    value: float | str | bool

    def holds(self, facts: Facts) -> NDArray[np.bool_]:
        """(n,) bool; what is not known of an image holds only where it is asked to be another."""
        column, compare = getattr(facts, self.name), RELATIONS[self.relation]
        if isinstance(self.value, str):
            texts, wanted = [str(text).casefold() for text in column], self.value.casefold()
            if compare in (operator.eq, operator.ne):
                return np.array([compare(text, wanted) for text in texts], bool)
            return np.array([bool(text) and compare(text, wanted) for text in texts], bool)
        found: NDArray[np.bool_] = compare(column, self.value)
        return found & (column > 0) if self.name == "quality" and compare is not operator.ne else found


@dataclass(frozen=True)
class Part:
    """Which of the images are wanted; ``where`` and ``limit`` as they were written, None for all."""

    where: str | None = None
    limit: int | None = None
    conditions: tuple[Condition, ...] = ()

    @classmethod
    def asked(cls, where: str | None, limit: int | None) -> Part:
        """From the settings; ConfigError, a UsageError, with every mistake in the text."""
        return cls(where, limit, () if where is None else conditions_of(where))

    def check_cut(self) -> None:
        """ConfigError where conditions are about the size of pictures and these were cut, as each tile has a size of its own."""
        sizes = sorted({condition.name for condition in self.conditions} & set(SIZES))
        if sizes:
            problem = "is that of a tile once --tile has cut the pictures; leave it out."
            raise ConfigError([f"--where {self.where}: {name} {problem}" for name in sizes])

    def rows(self, dataset: Dataset, facts: Facts, seed: int) -> tuple[NDArray[np.int64], str]:
        """The rows (m,) int64 of a data set that are wanted, in its order, and a sentence that says so; "" where all are.

        Files that cannot be read have no facts: conditions let them through, to be named, and a sample is of what can be read. Raises
        DataError where nothing is left.
        """
        rows, said = np.arange(len(dataset)), []
        if self.conditions:
            holds = np.logical_and.reduce([condition.holds(facts) for condition in self.conditions])
            rows = np.flatnonzero(holds | ~facts.readable)
            if not (left := int(np.count_nonzero(holds & facts.readable))):
                raise DataError(f"{dataset.root}: of none of its {len(dataset)} images {self.where}; ask for less with --where.")
            said.append(f"--where: of {left} of {len(dataset)} images {self.where}.")
        able = rows[facts.readable[rows]]
        if self.limit is not None and self.limit < len(able):
            rows = np.sort(sample(dataset, facts, able, self.limit, seed))
            said.append(f"--limit: {self.limit} of {len(able)} images that can be read, drawn evenly from each class (seed {seed}).")
        return rows, " ".join(said)


def conditions_of(text: str) -> tuple[Condition, ...]:
    """Conditions from ``"width >= 640 and format == jpeg"``; ConfigError with every mistake."""
    text, found, problems, place, more = text.strip(), [], [], 0, True
    while more:
        match = _CONDITION.match(text, place)
        if match is None:
            said = repr(text[place:].strip()) if text[place:].strip() else "what ends with 'and'" if place else "''"
            problems.append(f"--where: {said} is no condition; write a fact, a relation and a value, such as width >= 640.")
            break
        condition, wrong = _condition(*match.group("name", "relation", "value"))
        found += [condition] if condition else []
        problems += wrong
        place, more = match.end(), match["more"] is not None
    if problems:
        raise ConfigError(problems)
    return tuple(found)


def _condition(name: str, relation: str, value: str) -> tuple[Condition | None, list[str]]:
    said, problems = f"{name} {relation} {value}", []
    if name not in NAMES:
        near = did_you_mean(name.lower(), NAMES) or f" There are {', '.join(NAMES)}."
        problems.append(f"--where {said}: there is no fact {name!r}.{near}")
    if relation not in RELATIONS:
        problems.append(f"--where {said}: {relation!r} is none of the relations {', '.join(RELATIONS)}.")
    plain = value[1:-1] if value[:1] in "'\"" and value[-1:] == value[:1] and len(value) > 1 else value
    if problems or name in TEXTS:
        return (None, problems) if problems else (Condition(name, relation, plain), [])
    if name in FLAGS:
        if plain.lower() not in SAID or relation not in ("=", "==", "!="):
            return None, [f"--where {said}: {name} is true or false; write {name} = true."]
        return Condition(name, relation, SAID[plain.lower()]), []
    number = re.fullmatch(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?)\s*(%?)", plain)
    if number is None:
        return None, [f"--where {said}: {value!r} is no number, as {name} is."]
    return Condition(name, relation, float(number[1]) / (100 if number[2] else 1)), []


def sample(dataset: Dataset, facts: Facts, rows: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """``count`` of some rows, from each class of each split as many as its share is.

    Within one, chance falls by the bytes of the images, so that the same images give the same sample however they are stored. Of the
    content id it takes the last digits, as the first ones are the same for all windows of a file.
    """
    _, stratum = np.unique(_strata(dataset, rows), return_inverse=True)
    quotas = _quotas(np.bincount(stratum), count)
    chances = hashed(np.array([int(str(text)[-16:] or "0", 16) for text in facts.sha256[rows]], np.uint64), seed)
    order = np.lexsort((chances, stratum))
    place = np.arange(len(rows)) - np.searchsorted(stratum[order], stratum[order])
    taken: NDArray[np.int64] = rows[order[place < quotas[stratum[order]]]]
    return taken


def _strata(dataset: Dataset, rows: NDArray[np.int64]) -> NDArray[np.str_]:
    """(m,) the split and the class of each row; of several labels the rarest, so that some images of it are taken."""
    labelled, labels = dataset.labelled()
    rare = np.full(len(dataset), -1)
    common = np.argsort(-np.bincount(labels, minlength=len(dataset.labels)), kind="stable")
    rank = np.argsort(common)
    order = np.argsort(rank[labels], kind="stable")
    rare[labelled[order]] = labels[order]  # of the labels of a row the last, and rarest, stays
    splits = np.full(len(rows), "") if dataset.splits is None else dataset.splits[rows]
    return np.char.add(np.char.add(splits, "/"), rare[rows].astype(str))


def _quotas(sizes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """How many to take from strata of some sizes: by their shares, but from each FEWEST, or one, where there is room for that."""
    least = next((np.minimum(sizes, fewest) for fewest in (FEWEST, 1, 0) if np.minimum(sizes, fewest).sum() <= count), sizes * 0)
    wanted = np.maximum(sizes * (count / sizes.sum()), least)
    # What the small ones have in excess, the others give.
    spare = wanted - least
    wanted = least + spare * ((count - least.sum()) / spare.sum() if spare.sum() else 0)
    quotas = np.floor(wanted + 1e-9).astype(np.int64)
    for place in np.argsort(quotas - wanted, kind="stable")[: count - quotas.sum()]:
        quotas[place] += 1
    return quotas
