"""A comparison as rows of text, for the page and for the terminal."""

from __future__ import annotations

from sightline.comparison.pairs import Comparison, Pair
from sightline.comparison.runs import FinishedRun
from sightline.report import amounts, draw
from sightline.report.sections import setting_text
from sightline.tasks.blocks import Difference

Rows = list[tuple[str, ...]]


def fact_rows(comparison: Comparison) -> Rows:
    """What each run is: a fact in a row, a run in a column."""
    facts = [
        ("task", lambda run: run.task),
        ("backbone", lambda run: run.backbone),
        ("weights", lambda run: run.weights),
        ("input size", lambda run: f"{run.size} px"),
        ("parameters", lambda run: amounts.parameters(run.parameters)),
        ("seed", lambda run: str(run.seed)),
        ("training time", lambda run: amounts.duration(run.seconds)),
        ("test images", lambda run: amounts.count(run.n)),
    ]
    return [(name, *map(text, comparison.runs)) for name, text in facts]


def metric_rows(comparison: Comparison) -> Rows:
    """The metrics of each run on its own test images, with their intervals."""
    names = dict.fromkeys(name for run in comparison.runs for name in run.metrics)
    return [(name, *(_metric(run, name) for run in comparison.runs)) for name in names]


def setting_rows(comparison: Comparison) -> Rows:
    """Settings and versions that are not the same in all runs."""
    return [
        (f"{name} ({stage})", *(amounts.NOTHING if value is None and stage == "version" else setting_text(value) for value in values))
        for (stage, name), values in comparison.differing.items()
    ]


def difference_table(comparison: Comparison) -> tuple[tuple[str, ...], Rows]:
    """Columns and rows of each run against the first; the corrected p-value where there is something to correct for."""
    columns = ("run", "images", "right in first", "right in run", "difference", "95% interval", "p", "p, corrected")
    rows: Rows = [
        (
            pair.run,
            amounts.count(pair.paired.n),
            amounts.share(pair.paired.reference),
            amounts.share(pair.paired.other),
            draw.difference_text(pair.paired.difference),
            draw.difference_interval_text(difference_of(pair)),
            amounts.significant(pair.paired.p),
            amounts.significant(pair.p_corrected),
        )
        for pair in comparison.pairs
    ]
    return (columns, rows) if len(rows) > 1 else (columns[:-1], [row[:-1] for row in rows])


def image_table(comparison: Comparison) -> tuple[tuple[str, ...], Rows]:
    """Columns and rows of how many images each pair rests on."""
    return ("run", "in both", "only in first", "only in run", "with another truth"), [
        (pair.run, *map(amounts.count, (pair.paired.n, pair.only_reference, pair.only_run, pair.relabelled))) for pair in comparison.pairs
    ]


def difference_of(pair: Pair) -> Difference:
    low, high = pair.paired.interval
    return Difference(pair.run, pair.paired.difference, low, high, "more than chance" if pair.clear else "may be chance")


def terminal_lines(comparison: Comparison) -> list[str]:
    """The table, what differs, and a sentence for each pair with the images it rests on."""
    head = ("", *(run.name for run in comparison.runs))
    rows = [head, *fact_rows(comparison), *metric_rows(comparison), *setting_rows(comparison)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for pair in comparison.pairs:
        lines += ["", pair.sentence, images_sentence(pair)]
    if len(comparison.pairs) > 1:
        lines += ["", comparison.sentence]
    return lines


def images_sentence(pair: Pair) -> str:
    """``Test images: 214 in both, 3 only in a, none only in b.``"""
    parts = [
        f"{pair.paired.n} in both",
        f"{pair.only_reference or 'none'} only in {pair.reference}",
        f"{pair.only_run or 'none'} only in {pair.run}",
    ]
    if pair.relabelled:
        parts.append(f"{pair.relabelled} left out because their true label is not the same in both")
    return f"Test images: {', '.join(parts)}. {pair.paired.test}: p = {pair.paired.p:.2g}."


def _metric(run: FinishedRun, name: str) -> str:
    if name not in run.metrics:
        return amounts.NOTHING
    text = amounts.figure(name, run.metrics[name])
    if name not in run.intervals:
        return text
    low, high = run.intervals[name]
    return f"{text} ({amounts.share(low)[:-1]} to {amounts.share(high)})"
