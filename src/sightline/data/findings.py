"""What is wrong or odd with one table or set of annotations, gathered so that it is told together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from sightline import console
from sightline.errors import DataError

NAMED = 3
NAMED_PROBLEMS = 5
NAMED_COLUMNS = 12
SHOWN_LETTERS = 60


@dataclass
class Findings:
    """About the table at ``path``: ``problems`` refuse it, a clause each; ``warnings`` and ``notes`` are only said, a sentence each."""

    path: Path
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def refuse(self) -> None:
        """Raise one DataError for all problems, if there are any."""
        if self.problems:
            more = len(self.problems) - NAMED_PROBLEMS
            raise DataError(f"{self.path}: {'; '.join(self.problems[:NAMED_PROBLEMS])}{f'; and {more} more' if more > 0 else ''}.")

    def tell(self) -> None:
        for note in self.notes:
            console.say(f"{self.path}: {note}")
        for warning in self.warnings:
            console.warn(f"{self.path}: {warning}")


def some(examples: Iterable[str], count: int, separator: str = ", ") -> str:
    """The first examples out of ``count``: ``a``, ``a and b`` or ``a, b, c and 12 more``."""
    first = list(examples)[:NAMED]
    if count > len(first):
        return f"{separator.join(first)} and {count - len(first)} more"
    return separator.join([*first[:-2], " and ".join(first[-2:])])


def lines_named(lines: Iterable[int]) -> str:
    """Such as ``line 3`` or ``lines 3, 5, 9 and 12 more``."""
    found = [str(line) for line in lines]
    return f"line{'s' * (len(found) > 1)} {some(found, len(found))}"


def shown(text: str) -> str:
    """A cell in a message: quoted, on one line, and not too long."""
    half = SHOWN_LETTERS // 2
    return repr(text if len(text) <= SHOWN_LETTERS else f"{text[:half]}...{text[-half:]}")


def rows(count: int) -> str:
    return f"{count} row{'s' * (count != 1)}"


def columns_named(names: Iterable[str]) -> str:
    """The columns that are there, quoted."""
    found = [shown(name) for name in names]
    more = len(found) - NAMED_COLUMNS
    return ", ".join(found[:NAMED_COLUMNS]) + (f" and {more} more" if more > 0 else "")


@dataclass
class Faults:
    """What is wrong with single images and objects of the data at ``path``, whose rest is used: how often, and the first of each kind."""

    path: Path
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, what: str, example: str, count: int = 1) -> None:
        """``what`` names a kind of fault in the plural and what is done about it: ``boxes without any area, left out``."""
        self.counts[what] += count
        if example not in (found := self.examples[what]) and len(found) <= NAMED:
            found.append(example)

    @property
    def sentence(self) -> str:
        """All kinds, such as ``boxes without any area, left out: 2 (a.jpg)``."""
        return "; ".join(f"{what}: {count:,} ({_first(self.examples[what])})" for what, count in self.counts.items())

    def tell(self) -> None:
        """One warning for all."""
        if self.counts:
            console.warn(f"{self.path}: {self.sentence}.")

    def refuse(self, reason: str) -> NoReturn:
        """Raise DataError because nothing is left; ``reason`` says so and what to do."""
        raise DataError(f"{self.path}: {reason}{f' ({self.sentence})' if self.counts else ''}.")


def _first(examples: list[str]) -> str:
    return ", ".join(examples[:NAMED]) + (", ..." if len(examples) > NAMED else "")
