"""The label cells of a table, or the class names of annotations, as the names of the classes and each row's target."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline import console
from sightline.data.cells import Cells, as_text, tidy
from sightline.data.findings import Faults, Findings, lines_named, shown, some
from sightline.errors import DataError
from sightline.records import NO_TARGET

TASKS = ("classify", "tag")
TAG_SEPARATOR = "|"
# A byte for each row and label; so many different ones are no tags.
MAX_TAG_BYTES = 8 * 2**30


def read_labels(cells: Cells, column: str, task: str | None, findings: Findings) -> tuple[str, tuple[str, ...], NDArray[Any]]:
    """The task, the sorted labels, and targets: (n,) int64 with -1 for an empty cell to classify, (n, k) bool to tag.

    Without a task it is "tag" when any cell is a list or holds ``|``. Outer blanks do not count and Unicode is composed;
    labels that even so differ only in case or inner blanks are a problem.
    """
    # Each different cell is looked at once, however many rows there are.
    written, row_to_cell, rows_of = np.unique(cells.columns[column], return_inverse=True, return_counts=True)
    texts = written.tolist()
    lists = [_list(text) if column in cells.lists else None for text in texts]
    if task is None:
        task = "tag" if any(found is not None or TAG_SEPARATOR in text for text, found in zip(texts, lists, strict=True)) else "classify"
    if task == "tag":
        parts = [text.split(TAG_SEPARATOR) if found is None else found for text, found in zip(texts, lists, strict=True)]
    else:
        parts = [[text] for text in texts]
        listed = np.array([found is not None for found in lists])[row_to_cell]
        if listed.any():
            where = lines_named(cells.lines[listed].tolist())
            findings.problems.append(f"a list where one label belongs on {where}; write one, or use --task tag")
    names = [[tidy(part) for part in cell if part.strip()] for cell in parts]
    counts = _checked(parts, rows_of.tolist(), column, findings)
    labels = tuple(sorted(counts))
    index = {label: place for place, label in enumerate(labels)}
    if task == "classify":
        return task, labels, np.array([index[cell[0]] if cell else NO_TARGET for cell in names], np.int64)[row_to_cell]
    if len(labels) * len(cells.lines) > MAX_TAG_BYTES:
        findings.problems.append(f"{len(labels)} different labels in column {shown(column)}; choose another with --label-column")
        findings.refuse()
    held = np.zeros((len(names), len(labels)), bool)
    for place, cell in enumerate(names):
        held[place, [index[name] for name in cell]] = True
    return task, labels, held[row_to_cell]


def _list(text: str) -> list[str] | None:
    """The labels of a JSON list; None where the cell is no list."""
    if not text.startswith("["):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return [as_text(part) for part in found]


def _checked(parts: Sequence[Sequence[str]], rows_of: Sequence[int], column: str, findings: Findings) -> Counter[str]:
    """The number of rows of each label; labels spelled in several ways are told."""
    counts: Counter[str] = Counter()
    spellings: dict[str, set[str]] = defaultdict(set)
    for cell, rows in zip(parts, rows_of, strict=True):
        for part in cell:
            if part.strip():
                spellings[tidy(part)].add(part)
                counts[tidy(part)] += rows
    findings.notes += [f"{note}." for note in merged_note(spellings)]
    findings.problems += alike_problem(counts, "rows")
    if not counts:
        findings.problems.append(f"no label in column {shown(column)}; write some, or choose another column with --label-column")
    return counts


def different_labels(names: Sequence[str], counts: Mapping[int, int], faults: Faults) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The labels that any object has, in the order of their names as written, and (k,) the label of each of k names, -1 for none.

    counts  of a name's place, how many objects it has

    Raises DataError where labels differ only in case or inner blanks.
    """
    by_label: dict[str, int] = {}
    spellings: dict[str, set[str]] = defaultdict(set)
    for place, name in enumerate(names):
        if counts.get(place):
            by_label[tidy(name)] = by_label.get(tidy(name), 0) + counts[place]
            spellings[tidy(name)].add(name)
    for note in merged_note(spellings):
        console.say(f"{faults.path}: {note}.")
    if problem := alike_problem(by_label, "objects"):
        raise DataError(f"{faults.path}: {problem[0]}.")
    index = {label: place for place, label in enumerate(by_label)}
    return tuple(by_label), np.array([index.get(tidy(name), NO_TARGET) for name in names], np.int64)


def merged_note(spellings: Mapping[str, set[str]]) -> list[str]:
    """A clause on labels spelled in several ways that are taken as one, if there are any."""
    merged = sorted(label for label, spelled in spellings.items() if len(spelled) > 1)
    told = some(map(shown, merged), len(merged))
    return [f"labels that differ only in outer blanks or Unicode form are taken as one: {told}"] if merged else []


def alike_problem(counts: Mapping[str, int], what: str) -> list[str]:
    """A clause on labels that look alike and are not the same, if there are any; ``counts`` of rows, or ``what`` else they are of."""
    alike: dict[str, list[str]] = defaultdict(list)
    for label in sorted(counts):
        alike[" ".join(label.lower().split())].append(label)
    several = [" and ".join(f"{shown(label)} in {counts[label]}" for label in labels) for labels in alike.values() if len(labels) > 1]
    return [f"labels that differ only in case or blanks ({some(several, len(several), '; ')} {what}); make them one"] if several else []
