"""sheet: heat shows on any photograph, and pictures of explanations are legible whatever is written on them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sightline.drawing.lettering import font_for, printable, shortened, wrapped
from sightline.explanation import heat as colours
from sightline.explanation.nearest import Neighbour
from sightline.explanation.sheet import LEAST_WIDTH, Laid, Line, sheet

FONT = font_for("", 15)


def luminance(pixels):
    return np.asarray(pixels, float) @ np.array([0.2126, 0.7152, 0.0722])


def test_colours_grow_lighter_without_exception():
    assert (np.diff(luminance(colours.colours(np.linspace(0, 1, 256)))) > 0).all()
    assert (np.diff(luminance(colours.scale(200, 4))[0, [10, 50, 90, 120, 150, 190]]) > 1).all()


@pytest.mark.parametrize("ground", ["black", "white", "noise", "yellow"])
def test_heat_shows_on_any_photograph(ground):
    grounds = {"black": 0, "white": 255, "noise": np.random.default_rng(0).integers(0, 256, (40, 40, 3)), "yellow": (255, 238, 128)}
    picture = np.broadcast_to(np.array(grounds[ground]), (40, 40, 3)).astype(np.uint8)
    heat = np.zeros((40, 40))
    heat[:, :10], heat[:, 30:] = 1, np.nan
    shown = luminance(colours.overlay(picture, heat))
    hot, cold, unseen = shown[2:-2, 2:8].mean(), shown[2:-2, 14:28].mean(), shown[2:-2, 32:].mean()
    assert hot > cold + 25
    assert unseen < cold


def test_a_sheet_holds_the_pair_the_words_and_the_neighbours():
    thumb = io.BytesIO()
    Image.new("RGB", (40, 30), (0, 200, 0)).save(thumb, "JPEG")
    near = [Neighbour("a.png", ("cat",), 0.9, thumb.getvalue()), Neighbour("b.png", (), 0.5, thumb.getvalue())]
    image = np.full((60, 20, 3), 200, np.uint8)
    laid = Laid(np.ones((3, 3)), np.eye(2, 3), (20, 20))
    plain, whole = (
        Image.open(io.BytesIO(sheet(image, laid, lines, found)))
        for lines, found in (([], []), ([Line("猫 " + "very " * 60 + "long")], near))
    )
    assert plain.format == "PNG"
    assert plain.width > LEAST_WIDTH
    assert whole.height > plain.height + 150
    pixels = np.asarray(whole).reshape(-1, 3)
    assert ((pixels[:, 1] > 150) & (pixels[:, 0] < 60)).sum() > 1000


def test_a_word_that_is_too_long_is_measured_a_few_times_a_row():
    """Found by benchmarks/fuzz_bundles.py: a sentence of five thousand letters without a space took minutes."""

    class Counting:
        asked = 0

        def getlength(self, text):
            self.asked += 1
            return 10.0 * len(text)

    font = Counting()
    assert [len(row) for row in wrapped("x" * 2000, font, 500)] == [50] * 40
    assert font.asked < 40 * 15
    assert shortened("x" * 2000) == "x" * 2000
    assert len(shortened("x" * 10**6)) == 2003


@settings(max_examples=50)
@given(st.text(max_size=80), st.integers(40, 300))
def test_wrapped_rows_hold_every_letter_and_fit(text, width):
    text = printable(text, FONT)
    rows = wrapped(text, FONT, width)
    assert "".join("".join(rows).split()) == "".join(text.split())
    assert all(FONT.getlength(row) <= width or len(row) == 1 for row in rows)


def test_letters_that_the_font_lacks_become_question_marks():
    assert printable("cat 猫 \udc80", FONT) == "cat ? ?"
    assert font_for("cat", 15).getname() == FONT.getname()
    assert len(printable("Käse 猫", font_for("Käse 猫", 15))) == 6
