"""The class table beside masks: which name a value or a colour of a mask has.

    classes.json   ["sky", "road"]: values count from 0; or {"sky": 0} or {"0": "sky"}; or {"sky": [128, 128, 128]}; or a list of
                   {"name": ..., "value": ... or "id" or "index", or "color": [r, g, b]}
    classes.txt    a name a line, values count from 0 (codes.txt and labels.txt are read as well)
    classes.csv    columns name and r, g, b, or name and value (class_dict.csv is read as well)

A class called void, ignore, ignored, unlabelled or unlabeled is ignored, and so is 255 unless the table names it.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from sightline.data.cells import tidy
from sightline.data.findings import shown
from sightline.data.tree import Tree
from sightline.errors import DataError, ImageError
from sightline.scenes import IGNORED

FILES = ("classes.json", "classes.csv", "class_dict.csv", "classes.txt", "codes.txt", "labels.txt", "labels.json")
IGNORED_NAMES = frozenset({"void", "ignore", "ignored", "unlabelled", "unlabeled"})
MAX_BYTES = 10_000_000
MAX_VALUE = 65_534
_NAME = ("name", "class", "label")
_VALUE = ("value", "index", "id", "pixel")
_COLOUR = ("color", "colour", "rgb")

Value = int | tuple[int, int, int]


@dataclass(frozen=True)
class ClassTable:
    """``names`` of the classes, and ``values`` of masks -> place in ``names``, or ``IGNORED``; all numbers, or all colours."""

    names: tuple[str, ...]
    values: dict[Value, int]

    @property
    def in_colour(self) -> bool:
        return any(isinstance(value, tuple) for value in self.values)


def find_table(tree: Tree) -> str | None:
    """The name of the class table that lies at the top, if there is one."""
    tops = {name.lower(): name for name in tree.others if "/" not in name}
    return next((tops[name] for name in FILES if name in tops), None)


def read_class_table(tree: Tree, name: str) -> ClassTable:
    """Raises DataError for a table that is not understood, with the line where one is broken."""
    where = tree.shown(name)
    try:
        text = tree.text(name, MAX_BYTES)
        pairs = {"json": _of_json, "csv": _of_csv, "txt": _of_lines}[name.lower().rsplit(".", 1)[-1]](text)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: is broken on line {error.lineno} ({error.msg}); write it again.") from error
    except (ImageError, ValueError, TypeError, OverflowError, RecursionError, csv.Error) as error:
        said = error.reason if isinstance(error, ImageError) else str(error)
        raise DataError(
            f"{where}: is not understood as a class table ({said}); write a list of names, or name and value of each."
        ) from error
    return _table(where, pairs)


def _table(where: str, pairs: list[tuple[str, Value]]) -> ClassTable:
    names = [tidy(name) for name, _ in pairs]
    values = [value for _, value in pairs]
    problems = []
    if not pairs or not all(names):
        problems.append("every class needs a name")
    if twice := sorted(str(value) for value, count in Counter(values).items() if count > 1):
        problems.append(f"a value stands for several classes ({', '.join(twice[:3])})")
    if len({isinstance(value, tuple) for value in values}) > 1:
        problems.append("some classes have colours and some numbers")
    kept = list(dict.fromkeys(name for name in names if name.lower() not in IGNORED_NAMES))
    if len(kept) > IGNORED:
        problems.append(f"has {len(kept)} classes, of which there may be {IGNORED}")
    if problems:
        raise DataError(f"{where}: {'; '.join(problems)}; mend the class table.")
    index = {name: place for place, name in enumerate(kept)}
    table = {value: index.get(name, IGNORED) for name, value in zip(names, values, strict=True)}
    if not any(isinstance(value, tuple) for value in table):
        table.setdefault(IGNORED, IGNORED)
    return ClassTable(tuple(kept), table)


def _of_json(text: str) -> list[tuple[str, Value]]:
    content = json.loads(text)
    if isinstance(content, dict):
        return [(name, _value(value)) if not isinstance(value, str) else (value, _value(name)) for name, value in content.items()]
    if not isinstance(content, list):
        raise ValueError("neither a list nor a map")
    if all(isinstance(entry, str) for entry in content):
        return [(name, place) for place, name in enumerate(content)]
    if not all(isinstance(entry, dict) for entry in content):
        raise ValueError("a class that is neither a name nor a map")
    return [(_named(entry), _value(_first(entry, (*_VALUE, *_COLOUR)))) for entry in content]


def _of_lines(text: str) -> list[tuple[str, Value]]:
    return [(line.strip(), place) for place, line in enumerate(text.strip().splitlines())]


def _of_csv(text: str) -> list[tuple[str, Value]]:
    found: list[tuple[str, Value]] = []
    for line in csv.DictReader(text.splitlines(), skipinitialspace=True):
        row = {str(column).strip().lower(): cell for column, cell in line.items()}
        colour = [row.get(part) or row.get(word) for part, word in (("r", "red"), ("g", "green"), ("b", "blue"))]
        found.append((_named(row), _value(colour if all(colour) else _first(row, _VALUE))))
    return found


def _named(entry: dict[str, Any]) -> str:
    name = _first(entry, _NAME)
    if not isinstance(name, str):
        raise ValueError(f"name {shown(str(name))}")
    return name


def _first(entry: dict[str, Any], keys: tuple[str, ...]) -> Any:
    """What stands under the first of the keys that is there; ValueError for none."""
    if (key := next((key for key in keys if entry.get(key) is not None), None)) is None:
        raise ValueError(f"a class without a {keys[0]}")
    return entry[key]


def _value(written: Any) -> Value:
    if isinstance(written, list | tuple):
        red, green, blue = (int(part) for part in written[:3])
        if not all(0 <= part <= 255 for part in (red, green, blue)):
            raise ValueError(f"colour {written}")
        return red, green, blue
    number = int(written)
    if not 0 <= number <= MAX_VALUE:
        raise ValueError(f"value {written}")
    return number
