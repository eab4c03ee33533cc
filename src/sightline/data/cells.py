"""The cells of a table as columns of text: CSV, TSV and JSONL in UTF-8. What the columns mean stands in ``table.py``."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.data.findings import Findings, columns_named, lines_named
from sightline.errors import DataError

SEPARATORS = ",;\t"
JSON_SUFFIXES = (".jsonl", ".ndjson")
SUFFIXES = (".csv", ".tsv", *JSON_SUFFIXES)
MAX_COLUMNS = 1000
# Rows are packed this many at a time, so that the cells of a million are never all objects at once.
CHUNK = 10_000
# Wider text takes less memory as Python strings than as numpy's, which have four bytes for each letter of the widest.
WIDE = 64

Row = tuple[int, dict[str, str]]
"""The line a row starts on, and its cells by column."""

_AS_JSON = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True)
class Cells:
    """A table as it was written; rows that are mistaken in themselves are left out.

    lines    (n,) int64, the line of the file on which each row starts
    columns  name -> (n,) text, str or object; "" where a row has nothing
    lists    names of the columns in which a JSON list was found; such a cell holds the list as JSON
    """

    lines: NDArray[np.int64]
    columns: dict[str, NDArray[Any]]
    lists: frozenset[str]

    def found(self, name: str) -> str | None:
        """The column of that name in any case."""
        return next((column for column in self.columns if column.lower() == tidy(name).lower()), None)


def read_cells(path: Path, findings: Findings) -> Cells:
    """Every column of a table. Mistakes in single rows go to the findings.

    Raises DataError when the file cannot be read, is no text in UTF-8, is empty, or has no sound header or row to go on with.
    """
    text = _text(path)
    mistakes: dict[str, list[int]] = {}
    lists: set[str] = set()
    names: list[str] = []
    if path.suffix.lower() in JSON_SUFFIXES:
        rows = _json_rows(text, mistakes, lists)
    else:
        names, reader = _header(path, text)
        rows = _csv_rows(reader, names, mistakes)
    lines, columns = _packed(path, names, rows)
    findings.problems += [f"{what} on {lines_named(where)}" for what, where in mistakes.items()]
    lower = [name.lower() for name in names]
    twice = sorted({name for name in names if name and lower.count(name.lower()) > 1})
    if twice:
        findings.problems.insert(0, f"several columns of one name ({columns_named(twice)}); rename all but one")
    if not len(lines) and not findings.problems:
        findings.problems.append("names columns but has no rows; write one for each image")
    if not len(lines) or twice:
        findings.refuse()
    return Cells(lines, columns, frozenset(lists))


def tidy(text: str) -> str:
    """Without outer blanks, and in Unicode's composed normal form (NFC), so that one word has one spelling."""
    return unicodedata.normalize("NFC", text.strip())


def as_text(value: Any) -> str:
    """A JSON value as the cell of a CSV would have it."""
    if isinstance(value, str):
        return value
    return "" if value is None else _AS_JSON(value)


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file.") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder, not a table.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); make it readable.") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: is text in UTF-16; save it again in UTF-8.")
    if b"\0" in data:
        raise DataError(f"{path}: is not a text file; export the table as CSV in UTF-8.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The decoder counts from behind a byte order mark.
        start = error.start + (len(data) - len(error.object))
        line = len((data[:start] + b".").splitlines())
        raise DataError(
            f"{path}: is not text in UTF-8 (byte 0x{data[start]:02x} on line {line}); save it again in UTF-8, from a "
            "spreadsheet as 'CSV UTF-8'."
        ) from None
    if not text.strip(" \r\n,;\t"):
        raise DataError(f"{path}: is empty; a table needs a first line that names the columns, and a row for each image.")
    return text


def _lines(text: str) -> Iterator[str]:
    """Lines as files have them: Unicode's own line separators do not end one."""
    return io.StringIO(text, newline="")


def _header(path: Path, text: str) -> tuple[list[str], Any]:
    """The names of the columns, and the csv reader that goes on behind them.

    The separator is the one that cuts the first line into most names.
    """
    found, reason = [], ""
    for separator in SEPARATORS:
        # Strict, so that a quote that is not closed does not quietly swallow the rest of the table.
        reader = csv.reader(_lines(text), delimiter=separator, skipinitialspace=True, strict=True)
        try:
            found.append(([tidy(name) for name in next(row for row in reader if any(row))], reader))
        except csv.Error as error:
            # With the wrong separator a quote may end inside of a cell.
            reason = reason or str(error)
    if not found:
        raise DataError(f"{path}: its first line names no columns ({reason}); look for a quote that is not closed.")
    for names, reader in found:
        if path.suffix.lower() == ".tsv" and reader.dialect.delimiter == "\t" and len(names) > 1:
            return names, reader
    return max(found, key=lambda header: len(header[0]))


def _csv_rows(reader: Any, names: list[str], mistakes: dict[str, list[int]]) -> Iterator[Row]:
    """Rows with a cell for each column; blank ones are passed over.

    A column without a name, such as data frames write their index into, is left out.
    """
    known = [(place, name) for place, name in enumerate(names) if name]
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            # What follows cannot be told apart any more.
            mistakes.setdefault(f"something that is no row ({error}; is a quote not closed?)", []).append(line)
            return
        if cells is None:
            return
        if len(cells) == len(names):
            if any(cells):
                yield line, {name: cells[place] for place, name in known}
        elif any(cells):
            what = "few" if len(cells) < len(names) else "many"
            mistakes.setdefault(f"too {what} cells for {len(names)} column{'s' * (len(names) > 1)}", []).append(line)


def _json_rows(text: str, mistakes: dict[str, list[int]], lists: set[str]) -> Iterator[Row]:
    """One object a line; keys that differ only in case or outer blanks are one column."""
    # NaN is not JSON, but what data frames write for an empty cell.
    decoder = json.JSONDecoder(parse_constant=lambda name: None if name == "NaN" else name, object_pairs_hook=_object)
    spelled: dict[str, str] = {}
    for line, written in enumerate(_lines(text), 1):
        if not written.strip():
            continue
        try:
            values = decoder.decode(written)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            mistakes.setdefault(f"broken JSON ({reason})", []).append(line)
            continue
        if not isinstance(values, dict):
            mistakes.setdefault("something other than a JSON object", []).append(line)
            continue
        row = {}
        for key, value in values.items():
            if (name := spelled.get(key)) is None:
                name = spelled[key] = spelled.setdefault(tidy(key).lower(), tidy(key))
            if isinstance(value, list):
                lists.add(name)
            if name:
                row[name] = as_text(value)
        # Only an escape can spell what a file in UTF-8 cannot hold.
        if "\\u" in written and not all(_is_text(part) for part in (*row, *row.values())):
            mistakes.setdefault("characters that are no text", []).append(line)
        else:
            yield line, row


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key.strip().lower() for key, _ in pairs}) < len(pairs):
        raise ValueError("a key is there twice")
    return dict(pairs)


def _is_text(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _packed(path: Path, names: Iterable[str], rows: Iterator[Row]) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]]]:
    """Lines and columns, chunk by chunk; a column that comes up late is empty before."""
    lines = array("q")
    packed: dict[str, list[NDArray[Any]]] = {name: [] for name in names if name}
    while chunk := list(islice(rows, CHUNK)):
        for name in dict.fromkeys(name for _, row in chunk for name in row):
            packed.setdefault(name, [np.zeros(len(lines), "U1")])
        if len(packed) > MAX_COLUMNS:
            raise DataError(f"{path}: has more than {MAX_COLUMNS} columns; keep those that say something about the images.")
        for name, parts in packed.items():
            column = [row.get(name, "") for _, row in chunk]
            parts.append(np.array(column, str if max(map(len, column)) <= WIDE else object))
        lines.extend(line for line, _ in chunk)
    return np.array(lines, np.int64), {name: np.concatenate(parts) for name, parts in packed.items() if parts}
