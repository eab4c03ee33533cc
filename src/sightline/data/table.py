"""Reader of tables: a CSV, TSV or JSONL file that names images, with their labels and whatever else is known. Opens no image."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.data.cells import JSON_SUFFIXES, SUFFIXES, Cells, read_cells
from sightline.data.findings import NAMED, Findings, columns_named, lines_named, rows, shown, some
from sightline.data.folder import SPLIT_NAMES
from sightline.data.labels import TASKS, read_labels
from sightline.errors import TaskError, UsageError, did_you_mean
from sightline.records import NO_TARGET, SPLITS, Dataset, ImageRef

GUESSES = {
    "path": ("path", "file", "filename", "file_name", "image", "image_path", "img"),
    "label": ("label", "labels", "class", "category", "target", "tags", "y"),
    "split": ("split", "subset", "fold_name", "set"),
    "group": ("group", "patient", "patient_id", "subject", "camera", "person"),
}
NEEDED = {"path": "paths", "label": "labels"}
# Given for a column that is not needed: the table has none, whatever its columns are called.
NO_COLUMN = "none"
# A drive letter of Windows is no scheme.
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://|data:", re.IGNORECASE)


def is_table(path: str | Path) -> bool:
    """Whether a file is called like a table: .csv, .tsv, .jsonl or .ndjson in any case."""
    return Path(path).suffix.lower() in SUFFIXES


def read_table(
    path: str | Path,
    *,
    task: str | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
) -> Dataset:
    """A data set to classify or tag, in the table's order; paths in it are relative to its folder.

    Columns that are not named are guessed from ``GUESSES``, in any case; ``"none"`` stands for no split or group column. All
    others become attributes: (n,) float64, nan where empty, if every cell is a finite number, and text otherwise. Without a
    task it is "tag" when any label cell is a list or holds ``|``. To classify, rows without a label are left out; to tag,
    they have none of the labels.

    Raises UsageError for a column or task that is not there, and DataError, with all mistakes together, for a table that
    cannot be used. Files that are missing stay in unless all are: who opens them names them.
    """
    path = Path(path)
    if task is not None and task not in TASKS:
        raise TaskError(task, f"{path} is a table, which gives {' or '.join(TASKS)}.{did_you_mean(task, TASKS)}")
    findings = Findings(path)
    cells = read_cells(path, findings)
    named = {"path": path_column, "label": label_column, "split": split_column, "group": group_column}
    columns = _columns(cells, named, findings)
    task, labels, targets = read_labels(cells, columns["label"], task, findings)
    files = _files(cells, columns["path"], path.parent, findings)
    dataset = Dataset(
        root=path.parent,
        task=task,
        labels=labels,
        refs=[ImageRef(place) for place in files.places],
        targets=targets,
        splits=_splits(cells, columns.get("split"), findings),
        groups=_groups(cells, columns.get("group")),
        attributes={name: _attribute(column) for name, column in cells.columns.items() if name not in columns.values()},
    )
    dataset = _settled(dataset, files, findings)
    findings.refuse()
    findings.tell()
    return dataset


def _columns(cells: Cells, named: Mapping[str, str | None], findings: Findings) -> dict[str, str]:
    """Role -> column, for the roles that have one."""
    chosen: dict[str, str] = {}
    mistakes = []
    for role, name in named.items():
        if name is None:
            continue
        column, flag = cells.found(name), f"--{role}-column {name!r}"
        if column is None and not (name.lower() == NO_COLUMN and role not in NEEDED):
            known = list(cells.columns)
            mistakes.append(f"{flag}: {findings.path} has no such column, only {columns_named(known)}.{did_you_mean(name, known)}")
        elif column in chosen.values():
            mistakes.append(f"{flag}: that column is named for something else already; name another.")
        elif column is not None:
            chosen[role] = column
    if mistakes:
        raise UsageError(" ".join(mistakes))
    for role, names in GUESSES.items():
        able = [column for name in names if (column := cells.found(name)) is not None and column not in chosen.values()]
        if named[role] is None and able:
            chosen[role] = able[0]
    _check_needed(cells, chosen, findings)
    said = [f"{role} from {shown(chosen[role])}" for role in GUESSES if role in chosen]
    findings.notes.append(f"takes {', '.join(said)}.")
    return chosen


def _check_needed(cells: Cells, chosen: Mapping[str, str], findings: Findings) -> None:
    missing = [role for role in NEEDED if role not in chosen]
    if missing:
        which, flags = (" and ".join(words) for words in ([NEEDED[role] for role in missing], [f"--{role}-column" for role in missing]))
        first = "its keys are" if findings.path.suffix.lower() in JSON_SUFFIXES else "its first line must name the columns, and is"
        names = columns_named(cells.columns) or "none"
        findings.problems.insert(0, f"no column is known to hold {which}; {first} {names}; name yours with {flags}")
        findings.refuse()


@dataclass(frozen=True)
class _Files:
    """The images of n rows: ``names`` as written, ``places`` of the files, and ``keys``, equal for equal files and "" for none."""

    lines: NDArray[np.int64]
    names: NDArray[Any]
    places: list[str]
    keys: list[str]


def _files(cells: Cells, column: str, root: Path, findings: Findings) -> _Files:
    files = _Files(cells.lines, cells.columns[column], [], [])
    base = os.path.abspath(root)
    empty: list[int] = []
    addresses: dict[int, str] = {}
    for line, written in zip(files.lines.tolist(), files.names.tolist(), strict=True):
        name = written.strip().replace("\\", "/")
        files.places.append(str(Path(root, name)))
        if not name:
            empty.append(line)
        elif ADDRESS.match(name):
            addresses[line] = name
        sound = name and line not in addresses
        files.keys.append(os.path.normcase(os.path.normpath(os.path.join(base, name))) if sound else "")
    if empty:
        findings.problems.append(f"no path in column {shown(column)} on {lines_named(empty)}")
    if addresses:
        example = shown(next(iter(addresses.values())))
        findings.problems.append(f"{example} on {lines_named(addresses)} is an address; download the images first")
    sound_rows = [row for row, key in enumerate(files.keys) if key]
    if sound_rows and not any(os.path.exists(files.places[row]) for row in sound_rows):
        examples = some([shown(name) for name in files.names[sound_rows[:NAMED]].tolist()], len(sound_rows))
        findings.problems.append(f"not one of its files is there ({examples}); paths are relative to the table's folder, {base}")
    return files


def _splits(cells: Cells, column: str | None, findings: Findings) -> NDArray[np.str_] | None:
    if column is None:
        return None
    written, row_to_cell = np.unique(cells.columns[column], return_inverse=True)
    words = [text.strip().lower() for text in written.tolist()]
    known = np.array([not word or word in SPLIT_NAMES for word in words])
    if not known.all():
        strange = [shown(text) for text, fine in zip(written.tolist(), known, strict=True) if not fine]
        where = lines_named(cells.lines[~known[row_to_cell]].tolist())
        findings.problems.append(
            f"no split is called {some(strange, len(strange))} (column {shown(column)}, {where}); write {', '.join(SPLITS)} or "
            "nothing, or choose the column with --split-column, or none"
        )
    splits = np.array([SPLIT_NAMES.get(word, "") for word in words])[row_to_cell]
    return splits if splits.any() else None


def _groups(cells: Cells, column: str | None) -> NDArray[np.str_] | None:
    if column is None:
        return None
    written, row_to_cell = np.unique(cells.columns[column], return_inverse=True)
    groups = np.array([text.strip() for text in written.tolist()], written.dtype)[row_to_cell]
    return groups if groups.any() else None


def _attribute(column: NDArray[Any]) -> NDArray[Any]:
    """The column as numbers if it holds nothing else, or as it is."""
    if column.dtype == object:
        return column
    empty = column == ""
    try:
        numbers = np.where(empty, "nan", column).astype(np.float64)
    except ValueError:
        return column
    # Python reads 2024_01 as a number; people do not.
    written_plainly = not (np.char.find(column, "_") >= 0).any()
    return numbers if written_plainly and np.isfinite(numbers[~empty]).all() else column


def _settled(dataset: Dataset, files: _Files, findings: Findings) -> Dataset:
    """The rows with a target, one for each file. A file with tags has those of all its rows."""
    targets = dataset.targets
    assert targets is not None
    stay = np.full(len(dataset), True) if dataset.task == "tag" else targets != NO_TARGET
    if stay.any() and not stay.all():
        bare = files.lines[~stay].tolist()
        findings.warnings.append(f"{rows(len(bare))} without a label ({lines_named(bare)}); left out.")
    first: dict[str, int] = {}
    again = {row: one for row in np.flatnonzero(stay).tolist() if (key := files.keys[row]) and (one := first.setdefault(key, row)) != row}
    if again:
        repeated = list(again)
        stay[repeated] = False
        told = f"{rows(len(again))} for a file that is there already ({lines_named(files.lines[repeated].tolist())})"
        _check_repeats(dataset, again, files, findings)
        if dataset.task == "tag":
            for row, one in again.items():
                targets[one] |= targets[row]
            findings.notes.append(f"{told}; it gets the labels of all its rows.")
        else:
            findings.notes.append(f"{told} with the same label; left out.")
    if dataset.task == "tag" and (without := int(np.count_nonzero(~targets[stay].any(axis=1)))):
        findings.notes.append(f"{rows(without)} without any label, taken to have none of them.")
    return dataset if stay.all() else dataset.select(stay)


def _check_repeats(dataset: Dataset, again: Mapping[int, int], files: _Files, findings: Findings) -> None:
    """A file that is there again must be in the same split, and in the same class."""
    labels, targets, splits = dataset.labels, dataset.targets, dataset.splits

    def differing(value_of: Callable[[int], str]) -> list[str]:
        return [
            f"{shown(str(files.names[one]))} is {value_of(one)} on line {files.lines[one]} and {value_of(row)} on line {files.lines[row]}"
            for row, one in again.items()
            if value_of(row) != value_of(one)
        ]

    if dataset.task == "classify" and targets is not None and (found := differing(lambda row: shown(labels[targets[row]]))):
        findings.problems.append(f"files with several labels ({some(found, len(found), '; ')}); keep one of each, or use --task tag")
    if splits is not None and (found := differing(lambda row: str(splits[row]) or "in no split")):
        findings.problems.append(f"files in several splits ({some(found, len(found), '; ')}); keep one row of each")
