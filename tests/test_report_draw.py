"""What lies under the report page: geometry of its charts, numbers as text, thumbnails and colours."""

from __future__ import annotations

import io
import math
import re
from importlib import resources
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from sightline.report import amounts, draw
from sightline.report.pictures import thumbnail
from sightline.tasks.blocks import Bar, Curves, Difference, Differences, Matrix


def test_matrix_tints_by_share_of_the_row():
    shape = draw.matrix(Matrix("m", ["a", "b"], [[9, 1], [0, 4]]))
    assert [[cell.text for cell in row.cells] for row in shape.rows] == [["9", "1"], ["", "4"]]
    assert [row.total for row in shape.rows] == ["10", "4"]
    assert shape.rows[1].cells[1].tint == 1
    assert 0 < shape.rows[0].cells[1].tint < shape.rows[0].cells[0].tint < 1
    assert shape.rows[0].cells[0].on_diagonal
    assert not shape.rows[0].cells[1].on_diagonal
    assert shape.rows[0].cells[1].title == "truth a, predicted b: 1 of 10"
    assert shape.n_hidden == 0


def test_matrix_beyond_thirty_classes_shows_the_most_mistaken():
    n = 40
    counts = np.diag(np.full(n, 10))
    counts[np.arange(30), np.roll(np.arange(30), 1)] = 2
    counts[5, 39] = 3
    shape = draw.matrix(Matrix("m", [f"c{index}" for index in range(n)], counts.tolist()))
    assert list(shape.labels) == [f"c{index}" for index in range(30)]
    assert shape.n_hidden == 10
    assert (shape.rows[5].others, shape.rows[5].total) == ("3", "15")


def test_curves_place_points_in_percent():
    shape = draw.curves(Curves("c", "epoch", "loss", {"a": [(1, 0.0), (2, 0.5), (3, 1.0)]}, mark=2))
    assert shape.lines[0].path == "M0.00 100.00L50.00 50.00L100.00 0.00"
    assert shape.mark == 50
    assert shape.lines[0].dots == [(50, 50)]
    assert [tick.text for tick in shape.x_ticks] == ["1", "2", "3"]
    assert [tick.text for tick in shape.y_ticks] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert "0 at first, 1 at last" in shape.summary


def test_curves_skip_what_is_not_finite():
    assert draw.curves(Curves("c", "x", "y", {"a": [(1, math.nan), (2, math.inf)]})) is None
    shape = draw.curves(Curves("c", "x", "y", {"a": [(1, 2.0), (2, math.nan), (3, 2.0)], "b": []}))
    assert shape.lines[0].path.count("L") == 1
    assert len(shape.lines) == 1


def test_long_curves_are_thinned_but_keep_their_ends():
    shape = draw.curves(Curves("c", "x", "y", {"a": [(x, x) for x in range(10_000)]}))
    assert shape.lines[0].path.count("L") <= draw.MOST_POINTS + 1
    assert shape.lines[0].path.startswith("M0.00 100.00L")
    assert shape.lines[0].path.endswith("L100.00 0.01")


def test_names_of_lines_that_end_together_do_not_overlap():
    shape = draw.curves(
        Curves("c", "x", "y", {name: [(0, 0.0), (1, 1 + 0.001 * rank)] for rank, name in enumerate("abc")} | {"d": [(0, 0.0)]})
    )
    heights = sorted(line.label_at for line in shape.lines)
    assert min(b - a for a, b in pairwise(heights)) >= draw.LABEL_GAP - 1e-9
    assert heights[-1] <= 100


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0.6, 1.9, [0.5, 1, 1.5, 2]), (3, 3, [1, 2, 3, 4, 5]), (-1, 1, [-1, -0.5, 0, 0.5, 1])],
)
def test_ticks_are_round_and_cover_the_range(low, high, ticks):
    assert draw.nice_ticks(low, high) == pytest.approx(ticks)


def test_bar_text_says_no_more_than_its_interval_allows():
    assert draw.bar_text(Bar("a", 18 / 21, 0.65, 0.95)) == "86%"
    assert draw.interval_text(Bar("a", 18 / 21, 0.65, 0.95)) == "65 to 95%"
    assert draw.bar_text(Bar("a", 0.8554, 0.83, 0.88)) == "85.5%"
    assert draw.interval_text(Bar("a", 0.5)) == ""


def test_amounts_read_well():
    assert [amounts.duration(seconds) for seconds in (0.04, 59.96, 185, 8040)] == ["0.0 s", "1 min 00 s", "3 min 05 s", "2 h 14 min"]
    assert [amounts.size(n) for n in (12, 44_760_512, 3_000_000_000_000)] == ["12 bytes", "44.8 MB", "3000.0 GB"]
    assert [amounts.significant(value) for value in (0.001, 2.4e-6, None, math.nan)] == ["0.001", "2.4 × 10⁻⁶", "–", "not a number"]
    assert amounts.moment("yesterday") == "yesterday"
    assert amounts.number_of(1, "image") == "1 image"


def test_thumbnail_is_small_upright_and_says_nothing_else():
    wide = np.zeros((300, 900, 3), np.uint8)
    wide[:, :450] = 255
    content = thumbnail(wide)
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.size == (224, 75)
        assert picture.getpixel((10, 30)) > (250, 250, 250)
        assert not picture.getexif()
        assert set(picture.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    with Image.open(io.BytesIO(thumbnail(np.zeros((5, 7, 3), np.uint8)))) as tiny:
        assert tiny.size == (7, 5)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_told_from_the_paper(theme):
    """WCAG 2.2 AA: 4.5 to 1 for text, also on the strongest tints."""
    files = (resources.files("sightline.drawing") / "theme.css", resources.files("sightline.report") / "report.css")
    roots = [file.read_text("utf-8").split(":root {")[1 + theme].split("}")[0] for file in files]
    colours = dict(re.findall(r"--([a-z-]+): ([^;]+);", "".join(roots)))
    paper, ink, wash = (_rgb(colours[name]) for name in ("paper", "ink", "wash"))
    for name in ("ink", "soft", "accent", "warn", "good", "fair", "poor"):
        assert _contrast(_rgb(colours[name]), paper) >= 4.5, name
    assert _contrast(_rgb(colours["soft"]), wash) >= 4.5
    for name, most in (("accent", "most"), ("warn", "most-warn")):
        strength = float(colours[most])
        tint = [strength * colour + (1 - strength) * ground for colour, ground in zip(_rgb(colours[name]), paper, strict=True)]
        assert _contrast(ink, tint) >= 4.5, name


def _rgb(text: str) -> list[float]:
    return [int(text[at : at + 2], 16) for at in (1, 3, 5)] if text.startswith("#") else [float(part) for part in text.split()]


def _contrast(one: list[float], other: list[float]) -> float:
    def luminance(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_differences_share_a_scale_that_shows_nought():
    drawn = draw.differences(Differences("d", [Difference("b", 0.032, 0.009, 0.074), Difference("c", 0.05, 0.03, 0.1)], "worse", "better"))
    assert [tick.text for tick in drawn.ticks] == ["0%", "+5%", "+10%"]
    assert drawn.zero == 0
    first, second = drawn.whiskers
    assert first.left < first.at < first.left + first.width < second.left + second.width == pytest.approx(100)
    assert (first.text, first.interval) == ("+3.2%", "+0.9 to +7.4%")


def test_differences_below_nought_have_a_true_minus():
    drawn = draw.differences(Differences("d", [Difference("b", -0.032, -0.074, 0.0), Difference("c", 0.0, -0.2, 0.2)], "worse", "better"))
    assert [tick.text for tick in drawn.ticks] == ["−20%", "−10%", "0%", "+10%", "+20%"]
    assert drawn.zero == 50
    assert (drawn.whiskers[0].text, drawn.whiskers[0].interval) == ("−3.2%", "−7.4 to 0.0%")
    assert drawn.whiskers[1] == (50, 0, 100, "0.0%", "−20.0 to +20.0%")


def test_a_difference_of_nothing_can_be_drawn():
    drawn = draw.differences(Differences("d", [Difference("b", 0.0, 0.0, 0.0)], "worse", "better"))
    assert drawn.zero == drawn.whiskers[0].at
