"""What a person decides about the images that an audit found: ``decisions.csv``, written by it, edited by hand, obeyed by ``train``."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sightline import console
from sightline.auditing.finding import DROP, KEEP, RELABEL, VERBS, Finding
from sightline.data.cells import read_cells, tidy
from sightline.data.findings import Findings, shown, some
from sightline.errors import DataError, did_you_mean
from sightline.records import Dataset

FILE = "decisions.csv"
# Several labels of one image are divided as in a table.
SEPARATOR = "|"
# Of an image with several findings the strongest suggestion is written down.
STRENGTH = {"": 0, KEEP: 1, RELABEL: 2, DROP: 3}


@dataclass(frozen=True)
class Decisions:
    """Rows of a data set to be left out, rows with their new labels, and names in the file that the data no longer have."""

    dropped: tuple[int, ...] = ()
    relabelled: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    gone: tuple[str, ...] = ()

    def say(self) -> None:
        """What is done, in a line."""
        console.say(f"As decided, {len(self.dropped)} images are left out and {len(self.relabelled)} have another label.")
        if self.gone:
            named = some(map(shown, self.gone), len(self.gone))
            console.warn(f"No longer in the data, and their decisions passed over: {named}.")

    def kept(self, dataset: Dataset) -> NDArray[np.int64]:
        """The rows that stay."""
        return np.setdiff1d(np.arange(len(dataset)), np.array(self.dropped, np.int64))

    def among(self, rows: NDArray[np.int64]) -> Decisions:
        """Those about some rows, in terms of these."""
        place = {row: number for number, row in enumerate(rows.tolist())}
        dropped = tuple(place[row] for row in self.dropped if row in place)
        return Decisions(dropped, {place[row]: labels for row, labels in self.relabelled.items() if row in place}, self.gone)

    def applied(self, dataset: Dataset) -> Dataset:
        """The data set without what is dropped and with the new labels."""
        targets = None if dataset.targets is None else dataset.targets.copy()
        for row, wanted in self.relabelled.items():
            assert targets is not None
            places = [dataset.labels.index(label) for label in wanted]
            targets[row] = places[0] if targets.ndim == 1 else np.isin(np.arange(len(dataset.labels)), places)
        return dataset.replace(targets=targets).select(self.kept(dataset))


def decisions_text(findings: Sequence[Finding], dataset: Dataset, names: Sequence[str]) -> str:
    """The text of ``decisions.csv``: a row for each image that a finding is about, all to be kept until a person says otherwise.

    Beside the verb stands what is suggested, and why.
    """
    place = {name: row for row, name in enumerate(names)}
    found: dict[str, list[tuple[str, str, str]]] = {}
    for finding in findings:
        for item in finding.items:
            beside = f" ({', '.join(item.images[1:])})" if len(item.images) > 1 else ""
            why = f"{finding.title}: {item.detail}{beside}"
            found.setdefault(item.images[0], []).append((item.suggestion, item.label, why))
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(["path", "verb", "label", "suggestion", "suggested_label", "present_label", "why"])
    for name, entries in found.items():
        if name not in place:  # a file that could not be read is in no data set
            continue
        verb, label, _ = max(entries, key=lambda entry: STRENGTH[entry[0]])
        present = SEPARATOR.join(dataset.label_names(place[name])) if dataset.targets is not None else ""
        writer.writerow([name, KEEP, "", verb, label, present, "; ".join(dict.fromkeys(entry[2] for entry in entries))])
    return sink.getvalue()


def read_decisions(path: Path, dataset: Dataset, names: Sequence[str]) -> Decisions:
    """The decisions of a table with the columns ``path``, ``verb`` and, to relabel, ``label``.

    Raises DataError naming every misspelt verb and unknown label, and when not one of its images is in the data.
    """
    findings = Findings(path)
    cells = read_cells(path, findings)
    columns = {name: cells.found(name) for name in ("path", "verb", "label")}
    missing = [name for name in ("path", "verb") if columns[name] is None]
    if missing:
        findings.problems.append(f"has no column {' and no column '.join(map(repr, missing))}; it needs path, verb and label")
        findings.refuse()
    paths, verbs = (cells.columns[str(columns[name])] for name in ("path", "verb"))
    labels = cells.columns[columns["label"]] if columns["label"] else np.full(len(paths), "")
    place, own = _by_spelling(names), _by_spelling(dataset.labels)
    dropped, relabelled, gone, seen = [], {}, [], {}
    for line, name, verb, text in zip(cells.lines.tolist(), paths, map(tidy, verbs), labels, strict=True):
        row = place.get(name, place.get(tidy(name)))
        verb = verb.lower() or KEEP
        wanted = tuple(_own(part, dataset.labels, own) for part in text.split(SEPARATOR) if tidy(part))
        image = tidy(name) if row is None else row
        if problem := _problem(line, verb, wanted, dataset, seen.get(image, (verb, wanted))):
            findings.problems.append(problem)
            continue
        seen[image] = verb, wanted
        if row is None:
            gone.append(tidy(name))
        elif verb == DROP:
            dropped.append(row)
        elif verb == RELABEL:
            relabelled[row] = wanted
    findings.refuse()
    if len(gone) == len(paths):
        raise DataError(f"{path}: none of its {len(gone)} images is in {dataset.root}, so it is of other data, or these were moved.")
    return Decisions(tuple(dict.fromkeys(dropped)), relabelled, tuple(gone))


def _by_spelling(names: Sequence[str]) -> dict[str, int]:
    """The place of each name by its tidy spelling, which editors and spreadsheets may make of it, and by its own, which goes first."""
    return {tidy(name): place for place, name in enumerate(names)} | {name: place for place, name in enumerate(names)}


def _own(text: str, labels: Sequence[str], place: Mapping[str, int]) -> str:
    """The data's own spelling of a label; the text, tidy, where it is none."""
    found = place.get(text, place.get(tidy(text)))
    return tidy(text) if found is None else labels[found]


def _problem(line: int, verb: str, wanted: tuple[str, ...], dataset: Dataset, before: tuple[str, tuple[str, ...]]) -> str | None:
    """What is wrong with a decision, as a clause; ``before`` is what was decided for the same image further up."""
    if verb not in VERBS:
        return f"the verb {shown(verb)} on line {line} is none of {', '.join(VERBS)}"
    if before != (verb, wanted):
        return f"line {line} decides otherwise than a line above about the same image"
    if verb != RELABEL:
        return None
    if dataset.is_scenes:
        return f"line {line} relabels an image whose labels are those of its parts; correct its annotations, or drop it"
    if not wanted:
        return f"line {line} relabels without a label"
    if dataset.task == "classify" and len(wanted) > 1:
        return f"line {line} gives {len(wanted)} labels, and an image has one"
    unknown = [label for label in wanted if label not in dataset.labels]
    if unknown:
        near = did_you_mean(unknown[0], dataset.labels).strip()
        return f"the label {shown(unknown[0])} on line {line} is none of the data's{f' ({near})' if near else ''}"
    return None
