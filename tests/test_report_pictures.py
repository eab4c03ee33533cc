"""Pictures of a report with boxes on them or label maps beside them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import example_report
from sightline.drawing.colours import VERMILION, colour_of
from sightline.report.html import render
from sightline.report.pictures import LAYER_SIDE, MARKED_SIDE, layered, marked, part_around
from sightline.scenes import IGNORED
from sightline.tasks.blocks import Gallery, Layer, Mark, Picture
from sightline.tasks.segment_report import of_a_thousand


def opened(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        assert not image.getexif()
        return np.asarray(image).astype(int)


def near(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """(h, w) which pixels have about this colour, after JPEG."""
    return np.abs(pixels - colour).max(axis=2) < 40


@given(st.integers(1, 3000), st.integers(1, 3000), st.data())
def test_the_part_that_is_shown_lies_in_the_image_and_holds_the_boxes(width, height, data):
    places = [sorted(data.draw(st.lists(st.floats(0, side), min_size=2, max_size=2))) for side in (width, height)]
    box = places[0][0], places[1][0], places[0][1], places[1][1]
    left, top, right, bottom = part_around([box], (width, height))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert left <= box[0] + 1
    assert top <= box[1] + 1
    assert right >= box[2] - 1
    assert bottom >= box[3] - 1


def test_a_small_box_on_a_large_photograph_is_shown_large():
    image = np.full((3000, 4000, 3), 90, np.uint8)
    image[1500:1520, 2000:2020] = (20, 20, 250)
    pixels = opened(marked(image, [Mark((1990, 1490, 2030, 1530), "fly 90%", "wrong")]))
    assert max(pixels.shape) == MARKED_SIDE
    assert near(pixels, (20, 20, 250)).mean() > 0.02
    assert near(pixels, VERMILION).mean() > 0.02


def test_what_is_true_is_dashed_and_drawn_over_what_is_wrong():
    image = np.full((200, 200, 3), 90, np.uint8)
    box = (60.0, 60.0, 140.0, 140.0)
    both = opened(marked(image, [Mark(box, "", "wrong"), Mark(box, "", "true")]))
    wrong = opened(marked(image, [Mark(box, "", "wrong")]))
    white = near(both, (255, 255, 255))
    assert white.any()
    assert 0.2 < near(both, VERMILION).sum() / near(wrong, VERMILION).sum() < 0.8


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_layers_stand_beside_the_image_in_the_classes_colours(channels):
    runs = ((0, 2), (1, 2)) * 2 + ((IGNORED, 8),)
    pixels = opened(layered(np.full((300, 600, channels), 90, np.uint8), [Layer("truth", 4, runs, ("sky", "road"))]))
    height, width, _ = pixels.shape
    assert height == LAYER_SIDE // 2
    assert width > 2 * LAYER_SIDE
    right = pixels[:, LAYER_SIDE + 10 :]
    assert near(right[: height // 2 - 5, : LAYER_SIDE // 2 - 20], colour_of(0)).all()
    assert near(right[: height // 2 - 5, LAYER_SIDE // 2 + 10 : -5], colour_of(1)).all()
    assert near(right[height // 2 + 10 :], (128, 128, 128)).all()


def test_the_page_shows_the_marked_picture_and_a_legend_of_layers():
    report = example_report.clothing().report
    runs = ((1, 2), (2, 1), (IGNORED, 1))
    layers = (Layer("truth", 2, runs, ("sky", "road", "<b>car</b>")),)
    plain, beside = Picture("a.png", "plain"), Picture("a.png", "layers", layers=layers)
    content = {plain.shown: b"\xff\xd8\xffplain", beside.shown: b"\xff\xd8\xfflayers"}
    page = render(report, [Gallery("plain", [plain]), Gallery("layered", [beside])], content)
    assert len(content) == 2
    assert page.count('src="data:image/jpeg') == 2
    key = page[page.index('<p class="key') :].split("</p>")[0]
    assert "road" in key
    assert "sky" not in key
    assert "&lt;b&gt;car" in key
    assert "does not count" in key
    assert "background:#{:02x}{:02x}{:02x}".format(*colour_of(1)) in key
    assert page.count('<p class="key') == 1


@given(st.lists(st.integers(0, 10**8), min_size=1, max_size=12))
def test_shares_of_a_thousand_add_up(counts):
    shares = of_a_thousand(counts)
    assert sum(shares) == (1000 if sum(counts) else 0)
    assert all(abs(share - 1000 * count / max(1, sum(counts))) < 1 for share, count in zip(shares, counts, strict=True))
