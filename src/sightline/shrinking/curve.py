"""The accuracy that latency, or size, costs: every variant that was measured, as a picture, as figures and as a table."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from sightline.drawing.lettering import font_for
from sightline.errors import ResourceError
from sightline.report.draw import nice_ticks
from sightline.shrinking.asked import Asked, spoken_size, spoken_time
from sightline.shrinking.measuring import Point

Colour = tuple[int, int, int]
# Pixels of the picture, of its plot (left, top, right, bottom), of letters and of a dot's radius.
SIZE, PLOT, LETTERS, DOT = (1400, 800), (110, 110, 980, 700), 20, 12
GROUND, INK, FAINT, LINE = (255, 255, 255), (32, 36, 44), (222, 226, 232), (120, 128, 140)
FITTING, TOO_MUCH, ASKED = (20, 110, 190), (170, 90, 40), (180, 30, 50)
# Of the plot's range what is left free beside the outermost points.
MARGIN = 0.12
# Values that an axis of ratios is marked at, in each power of ten.
MARKS = (1, 1.5, 2, 3, 5, 7)


@dataclass(frozen=True)
class Curve:
    """Where the ``picture`` (PNG) and its ``figures`` (JSON) stand."""

    picture: Path
    figures: Path

    @classmethod
    def beside(cls, model: Path) -> Curve:
        """Names that are not taken, beside the variant's: ``MODEL-small-curve.png`` and ``.json``, with -2, -3... where they are."""
        number = 1
        while True:
            stem = f"{model.stem}-curve{f'-{number}' if number > 1 else ''}"
            found = cls(model.with_name(f"{stem}.png"), model.with_name(f"{stem}.json"))
            if not (os.path.lexists(found.picture) or os.path.lexists(found.figures)):
                return found
            number += 1

    def write(self, points: Sequence[Point], asked: Asked, chosen: Point | None, max_loss: float) -> None:
        """Raises ResourceError when the disk does not take it."""
        told = {
            "asked": asked.to_json(), "max_loss": max_loss,
            "chosen": None if chosen is None else chosen.name, "points": [point.to_json() for point in points],
        }  # fmt: skip
        try:
            drawn(points, asked, chosen, max_loss).save(self.picture)
            self.figures.write_text(json.dumps(told, indent=2, allow_nan=False), encoding="utf-8")
        except OSError as error:
            raise ResourceError(f"{self.picture}: could not be written ({error.strerror or error}); make room.") from error


@dataclass(frozen=True)
class _Axes:
    """Milliseconds or megabytes, by their ratios, across; the metric upwards."""

    by_size: bool
    x: tuple[float, float]
    y: tuple[float, float]

    def of(self, point: Point) -> float:
        return point.size / 1e6 if self.by_size else point.speed.latency_ms

    def across(self, value: float) -> float:
        left, right = map(math.log, self.x)
        return PLOT[0] + (PLOT[2] - PLOT[0]) * (math.log(value) - left) / (right - left)

    def up(self, value: float) -> float:
        return PLOT[3] - (PLOT[3] - PLOT[1]) * (value - self.y[0]) / (self.y[1] - self.y[0])


def drawn(points: Sequence[Point], asked: Asked, chosen: Point | None, max_loss: float) -> Image.Image:
    """The picture: each point with its 95% interval, a line through those that nothing beats, and what is asked for."""
    picture = Image.new("RGB", SIZE, GROUND)
    pen, metric = ImageDraw.Draw(picture), points[0].metric
    by_size = asked.latency_ms is None
    limit = (asked.bytes or 0) / 1e6 if by_size else asked.latency_ms
    assert limit is not None
    values = [point.size / 1e6 if by_size else point.speed.latency_ms for point in points]
    heights = [edge for point in points for edge in point.interval]
    ticks = nice_ticks(min(heights), max(heights), outside=True)
    spread = (max([*values, limit]) / min([*values, limit])) ** MARGIN * 1.1
    axes = _Axes(by_size, (min([*values, limit]) / spread, max([*values, limit]) * spread), (ticks[0], ticks[-1]))
    unit = "MB of the file" if by_size else "ms an image"
    title = f"What {'size' if by_size else 'latency'} costs: {metric} on {points[0].loss.n} test images, with 95% intervals"
    _text(pen, (PLOT[0], 28), title, 26)
    _frame(pen, axes, ticks, unit)
    _asked(pen, axes, limit, asked, points[0].value - max_loss / 100, max_loss)
    frontier = _unbeaten(points, axes)
    pen.line([(axes.across(axes.of(point)), axes.up(point.value)) for point in frontier], LINE, 2)
    for number, point in enumerate(points, 1):
        _dot(pen, axes, point, number, point is chosen)
    _legend(pen, points, chosen)
    return picture


def _frame(pen: ImageDraw.ImageDraw, axes: _Axes, ticks: Sequence[float], unit: str) -> None:
    left, top, right, bottom = PLOT
    for value in ticks:
        pen.line((left, axes.up(value), right, axes.up(value)), FAINT, 1)
        _text(pen, (left - 12, axes.up(value)), f"{100 * value:.4g}%", anchor="rm")
    powers = range(math.floor(math.log10(axes.x[0])), math.ceil(math.log10(axes.x[1])) + 1)
    marks = [mark * 10.0**power for power in powers for mark in MARKS]
    for value in [mark for mark in marks if axes.x[0] <= mark <= axes.x[1]]:
        pen.line((axes.across(value), top, axes.across(value), bottom), FAINT, 1)
        _text(pen, (axes.across(value), bottom + 10), f"{value:g}", anchor="ma")
    pen.rectangle(PLOT, outline=LINE)
    _text(pen, ((left + right) / 2, bottom + 48), f"{unit} (each step to the right is a multiple)", anchor="ma")


def _asked(pen: ImageDraw.ImageDraw, axes: _Axes, limit: float, asked: Asked, lowest: float, max_loss: float) -> None:
    """What is asked for as lines: the limit, and what may be lost."""
    x = axes.across(limit)
    pen.line((x, PLOT[1], x, PLOT[3]), ASKED, 2)
    _text(pen, (x, PLOT[1] - 8), str(asked), colour=ASKED, anchor="lb" if x < sum(PLOT[::2]) / 2 else "rb")
    if axes.y[0] <= lowest <= axes.y[1]:
        for start in range(PLOT[0], PLOT[2], 14):
            pen.line((start, axes.up(lowest), min(start + 7, PLOT[2]), axes.up(lowest)), ASKED, 1)
        far = PLOT[0] + 8 if x > sum(PLOT[::2]) / 2 else PLOT[2] - 8  # from the other line
        _text(pen, (far, axes.up(lowest) + 4), f"--max-loss {max_loss:g}", 16, ASKED, "la" if far < x else "ra")


def _unbeaten(points: Sequence[Point], axes: _Axes) -> list[Point]:
    """The points than which none is both better and faster, or smaller, in order."""
    found: list[Point] = []
    for point in sorted(points, key=lambda one: (axes.of(one), -one.value)):
        if not found or point.value > found[-1].value:
            found.append(point)
    return found


def _dot(pen: ImageDraw.ImageDraw, axes: _Axes, point: Point, number: int, chosen: bool) -> None:
    """The point's number in a dot, in a ring where it is the chosen one, on its interval."""
    x, y, colour = axes.across(axes.of(point)), axes.up(point.value), _colour(point)
    low, high = (axes.up(edge) for edge in point.interval)
    pen.line((x, low, x, high), colour, 2)
    for end in (low, high):
        pen.line((x - 6, end, x + 6, end), colour, 2)
    _numbered(pen, (x, y), number, colour)
    if chosen:
        ring = DOT + 6
        pen.ellipse((x - ring, y - ring, x + ring, y + ring), outline=colour, width=3)


def _numbered(pen: ImageDraw.ImageDraw, at: tuple[float, float], number: int, colour: Colour) -> None:
    x, y = at
    pen.ellipse((x - DOT, y - DOT, x + DOT, y + DOT), colour, GROUND, 2)
    _text(pen, at, str(number), 15, GROUND, "mm")


def _legend(pen: ImageDraw.ImageDraw, points: Sequence[Point], chosen: Point | None) -> None:
    """What each number stands for, and what the colours do."""
    left, top = PLOT[2] + 50, PLOT[1] + 4.0
    step = min(56.0, (PLOT[3] - PLOT[1]) / len(points))
    for number, point in enumerate(points, 1):
        _numbered(pen, (left - 22, top + 20), number, _colour(point))
        _text(pen, (left, top), f"{point.name}{' (chosen)' if point is chosen else ''}", 17)
        about = spoken_time(point.speed.latency_ms), spoken_size(point.size), f"{100 * point.value:.1f}%"
        _text(pen, (left, top + 21), ", ".join(about), 16, LINE)
        top += step
    said = (("as small and fast as asked for", FITTING), ("too large or too slow", TOO_MUCH))
    for place, (words, colour) in enumerate(said):
        _text(pen, (left, PLOT[3] + 12 + 24 * place), words, 16, colour)


def _colour(point: Point) -> Colour:
    return FITTING if point.fits else TOO_MUCH


def _text(pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int = LETTERS, colour: Colour = INK,
          anchor: str = "la") -> None:  # fmt: skip
    pen.text(at, text, colour, font_for(text, size), anchor=anchor)


def lines(points: Sequence[Point], chosen: Point) -> list[str]:
    """The table, a row for each variant; the chosen one is marked."""
    metric = points[0].metric
    rows = [["", "", "ms", "ms p99", "size", metric, "95% interval", "lost", "changed", "fits", "computed by"]]
    for point in points:
        speed = point.speed
        rows.append([
            "*" if point is chosen else "", point.name, f"{speed.latency_ms:.2f}", f"{speed.latency_p99_ms:.2f}", spoken_size(point.size),
            f"{point.value:.4f}", "{:.4f} to {:.4f}".format(*point.interval), f"{point.loss.points:+.2f}", f"{point.loss.share:.2%}",
            "yes" if point.fits else "no", point.engine,
        ])  # fmt: skip
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
