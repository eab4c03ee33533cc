"""What is wrong or odd with one table, gathered so that it is told together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

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
