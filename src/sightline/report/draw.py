"""The geometry of charts: where lines, ticks and tints go, in percent of the plot. The template only places them.

Positions are percentages, so that a chart takes the width it is given while its words keep their size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from sightline.report.amounts import share, share_digits
from sightline.tasks.blocks import Bar, Curves, Difference, Differences, Matrix

MOST_CLASSES = 30
# More points than a screen has pixels only make the file larger.
MOST_POINTS = 500
# The height of a line of text as a percentage of the plot's height (see .plot in report.css).
LABEL_GAP = 8.5


class Tick(NamedTuple):
    at: float
    text: str


class Line(NamedTuple):
    """``path`` is an SVG path in a 100 x 100 box, ``label_at`` the height of its name, ``dots`` are (left, top)."""

    name: str
    path: str
    label_at: float
    dots: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class CurvesDrawing:
    lines: Sequence[Line]
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    mark: float | None
    summary: str


class Cell(NamedTuple):
    """``tint`` in [0, 1]; ``text`` is empty for a count of nought."""

    text: str
    tint: float
    on_diagonal: bool
    title: str


class MatrixRow(NamedTuple):
    label: str
    cells: Sequence[Cell]
    others: str
    total: str


@dataclass(frozen=True)
class MatrixDrawing:
    """``n_hidden`` classes are left out as rows; where they were predicted, ``others`` counts them."""

    labels: Sequence[str]
    rows: Sequence[MatrixRow]
    n_hidden: int


class Whisker(NamedTuple):
    """A dot ``at`` a difference and its interval from ``left`` over ``width``, with both as text."""

    at: float
    left: float
    width: float
    text: str
    interval: str


@dataclass(frozen=True)
class DifferencesDrawing:
    """``whiskers`` in the order of the rows; ``zero`` is where there is no difference."""

    whiskers: Sequence[Whisker]
    ticks: Sequence[Tick]
    zero: float


def curves(block: Curves) -> CurvesDrawing | None:
    """Lines, ticks and a spoken summary; None where there is no finite point to draw."""
    series = {name: _finite(points) for name, points in block.series.items()}
    series = {name: points for name, points in series.items() if points}
    if not series:
        return None
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    left, right = (min(xs), max(xs)) if min(xs) < max(xs) else (min(xs) - 0.5, max(xs) + 0.5)
    y_values = nice_ticks(min(ys), max(ys), outside=True)
    whole = all(float(x).is_integer() for x in xs)
    x_values = nice_ticks(left, right, most=8, whole=whole, outside=False)

    def place(x: float, y: float) -> tuple[float, float]:
        return 100 * (x - left) / (right - left), 100 * (y_values[-1] - y) / (y_values[-1] - y_values[0])

    placed = {name: [place(x, y) for x, y in points] for name, points in series.items()}
    heights = _spread([points[-1][1] for points in placed.values()])
    lines = [
        Line(name, _path(placed[name]), height, [place(x, y) for x, y in points if x == block.mark or len(points) == 1])
        for (name, points), height in zip(series.items(), heights, strict=True)
    ]
    marked = block.mark is not None and left <= block.mark <= right
    return CurvesDrawing(
        lines,
        [Tick(place(x, 0)[0], text) for x, text in zip(x_values, tick_texts(x_values), strict=True)],
        [Tick(place(0, y)[1], text) for y, text in zip(y_values, tick_texts(y_values), strict=True)],
        place(block.mark, 0)[0] if marked and block.mark is not None else None,
        _summary(block, series),
    )


def nice_ticks(low: float, high: float, most: int = 6, whole: bool = False, outside: bool = True) -> list[float]:
    """Round values that cover [low, high] (``outside``), or lie within it, in steps of 1, 2 or 5 times a power of ten."""
    if low == high:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    rough = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    step = max(step, 1.0) if whole else step
    start, end = low / step, high / step
    # The slack keeps 0.6 / 0.2 = 2.9999999999999996 on its tick.
    first, last = (math.floor(start + 1e-9), math.ceil(end - 1e-9)) if outside else (math.ceil(start - 1e-9), math.floor(end + 1e-9))
    return [tick * step for tick in range(first, last + 1)]


def tick_texts(values: Sequence[float]) -> list[str]:
    """All ticks of an axis with the same decimals, as few as tell them apart."""
    step = values[1] - values[0] if len(values) > 1 else (abs(values[0]) if values else 1.0) or 1.0
    digits = min(6, max(0, -math.floor(math.log10(abs(step)) + 1e-9)))
    return [f"{value if abs(value) > 1e-12 else 0:,.{digits}f}".replace("-", "−") for value in values]


def bar_text(bar: Bar) -> str:
    return share(bar.value, share_digits(bar.low, bar.high))


def interval_text(bar: Bar) -> str:
    """``68 to 95%``, or nothing where there is no interval."""
    if bar.low is None or bar.high is None:
        return ""
    digits = share_digits(bar.low, bar.high)
    return f"{share(bar.low, digits)[:-1]} to {share(bar.high, digits)}"


def differences(block: Differences) -> DifferencesDrawing:
    """Dots and whiskers on one scale in percent, which always shows nought."""
    values = nice_ticks(
        min(0.0, *(100 * row.low for row in block.rows)), max(0.0, *(100 * row.high for row in block.rows)), most=5, outside=True
    )
    left, right = values[0], values[-1]

    def place(percent: float) -> float:
        return 100 * (percent - left) / (right - left)

    whiskers = [
        Whisker(place(100 * row.value), place(100 * row.low), place(100 * row.high) - place(100 * row.low),
                difference_text(row.value), difference_interval_text(row))
        for row in block.rows
    ]  # fmt: skip
    texts = [f"+{text}%" if value > 0 else f"{text}%" for value, text in zip(values, tick_texts(values), strict=True)]
    return DifferencesDrawing(whiskers, [Tick(place(value), text) for value, text in zip(values, texts, strict=True)], place(0))


def difference_text(value: float) -> str:
    """0.0321 as ``+3.2%``, with a true minus sign below nought."""
    points = round(100 * value, 1)
    return f"{points:+.1f}%".replace("-", "−") if points else "0.0%"


def difference_interval_text(row: Difference) -> str:
    """``−0.9 to +7.4%``."""
    return f"{difference_text(row.low)[:-1]} to {difference_text(row.high)}"


def matrix(block: Matrix) -> MatrixDrawing:
    """Cells with their tints. Beyond 30 classes, only the 30 that are most often mistaken or mistaken for."""
    counts = np.asarray(block.counts, dtype=np.int64).reshape(len(block.labels), len(block.labels))
    wrong = counts.sum(0) + counts.sum(1) - 2 * counts.diagonal()
    shown = sorted(np.argsort(-wrong, kind="stable")[:MOST_CLASSES].tolist())
    labels = [block.labels[index] for index in shown]
    rows = []
    for index in shown:
        total = int(counts[index].sum())
        cells = [_cell(block, counts, index, column, total) for column in shown]
        others = total - int(counts[index, shown].sum())
        rows.append(MatrixRow(block.labels[index], cells, f"{others:,}" if others else "", f"{total:,}"))
    return MatrixDrawing(labels, rows, len(block.labels) - len(shown))


def _cell(block: Matrix, counts: np.ndarray, row: int, column: int, total: int) -> Cell:
    n = int(counts[row, column])
    if not n:
        return Cell("", 0.0, row == column, "")
    title = f"{block.row_name} {block.labels[row]}, {block.column_name} {block.labels[column]}: {n:,} of {total:,}"
    # The square root and the floor let one mistake in thirty be seen beside a diagonal near one.
    return Cell(f"{n:,}", round(0.15 + 0.85 * math.sqrt(n / total), 2), row == column, title)


def _finite(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    finite = [(x, y) for x, y in points if x is not None and y is not None and math.isfinite(x) and math.isfinite(y)]
    stride = -(-len(finite) // MOST_POINTS)
    return finite[::stride] + finite[-1:] if stride > 1 else finite


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{left:.2f} {top:.2f}" for left, top in points)


def _spread(heights: Sequence[float]) -> list[float]:
    """Heights of the lines' names: where the lines end, pushed apart where they would overlap."""
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    placed = [float(height) for height in heights]
    for above, below in pairwise(order):
        placed[below] = max(placed[below], placed[above] + LABEL_GAP)
    placed[order[-1]] = min(placed[order[-1]], 100.0)
    for below, above in pairwise(reversed(order)):
        placed[above] = min(placed[above], placed[below] - LABEL_GAP)
    return placed


def _summary(block: Curves, series: dict[str, list[tuple[float, float]]]) -> str:
    parts = [f"{block.title}: {block.y_name} by {block.x_name}."]
    for name, points in series.items():
        ys = [y for _, y in points]
        parts.append(f"{name}: {ys[0]:.4g} at first, {ys[-1]:.4g} at last, lowest {min(ys):.4g}, highest {max(ys):.4g}.")
    if block.mark is not None and block.mark_name:
        parts.append(f"Marked: {block.mark_name}.")
    return " ".join(parts)
