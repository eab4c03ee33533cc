"""What is drawn on pictures: where it should be and nowhere else, legible on any ground, in colours that can be told apart."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFont

from sightline.drawing import lettering
from sightline.drawing.boxes import Outlined, Pen, draw_boxes
from sightline.drawing.colours import BLACK, WHITE, colour_of, contrasting
from sightline.drawing.maps import draw_map, map_picture, table_of, with_legend
from sightline.drawing.predictions import draw_prediction
from sightline.scenes import IGNORED, Detections, Segmentation

GROUNDS = {"black": 0, "white": 255, "grey": 128}


def changed(before: Image.Image, after: Image.Image) -> np.ndarray:
    """(h, w) which pixels differ."""
    return (np.asarray(before) != np.asarray(after)).any(axis=2)


def luminance(colour: tuple[int, int, int]) -> float:
    linear = [part / 255 / 12.92 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in colour]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_colours_are_all_different_and_their_ink_is_readable():
    colours = [colour_of(index) for index in range(35)]
    assert len(set(colours)) == 35
    assert colour_of(35) == colour_of(0)
    for colour in colours:
        light, dark = sorted([luminance(colour), luminance(contrasting(colour))], reverse=True)
        assert (light + 0.05) / (dark + 0.05) > 4.5


def test_the_first_colours_differ_for_those_who_see_no_red_or_no_green():
    # Viénot, Brettel and Mollon (1999), on linear values.
    protan = np.array([[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]])
    deutan = np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]])
    linear = (np.array([colour_of(index) for index in range(7)]) / 255) ** 2.2
    for seen in (protan, deutan):
        shown = ((linear @ seen.T).clip(0, 1) ** (1 / 2.2)) * 255
        assert min(np.abs(one - other).max() for one, other in itertools.combinations(shown, 2)) > 20


@given(st.floats(-20, 180), st.floats(-20, 130), st.floats(0, 160), st.floats(0, 120), st.booleans())
@settings(max_examples=60)
def test_only_the_boxs_border_changes(left, top, width, height, dashed):
    picture, pen = Image.new("RGB", (160, 110), (90, 90, 90)), Pen(3, 1, 12)
    box = left, top, left + width, top + height
    touched = changed(picture, draw_boxes(picture, [Outlined(box, "", (213, 94, 0), dashed)], pen))
    y, x = np.nonzero(touched)
    assert len(x)
    # A box smaller than two lines is drawn as large as those.
    reach = 2 * pen.line + pen.border + 1
    within = np.clip([box[0], box[2]], 0, 160), np.clip([box[1], box[3]], 0, 110)
    assert x.min() >= within[0][0] - reach
    assert x.max() <= within[0][1] + reach
    assert y.min() >= within[1][0] - reach
    assert y.max() <= within[1][1] + reach
    inner = touched[
        int(within[1][0]) + reach : max(0, int(within[1][1]) - reach), int(within[0][0]) + reach : max(0, int(within[0][1]) - reach)
    ]
    assert not inner.any()


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("index", range(14))
def test_lines_stand_out_from_any_ground(ground, index):
    level = GROUNDS[ground]
    picture = Image.new("RGB", (200, 150), (level,) * 3)
    drawn = draw_boxes(picture, [Outlined((40, 40, 120, 100), "", colour_of(index))])
    colours = {colour for _, colour in drawn.getcolors() or [] if colour != (level,) * 3}
    assert max(abs(luminance(colour) - luminance((level,) * 3)) for colour in colours) > 0.15


def test_words_stay_in_the_picture_and_do_not_hide_each_other():
    picture = Image.new("RGB", (300, 200), (90, 90, 90))
    boxes = [Outlined((5, 5, 60, 40), "one", colour_of(0)), Outlined((240, 2, 299, 60), "two of them", colour_of(1)),
             Outlined((8, 8, 58, 38), "three", colour_of(2)), Outlined((0, 150, 300, 200), "four", colour_of(3))]  # fmt: skip
    pen = Pen(2, 1, 14)
    drawn = np.asarray(draw_boxes(picture, boxes, pen))
    plates = [((drawn == outlined.colour).all(axis=2)).sum() for outlined in boxes]
    lines = [
        ((np.asarray(draw_boxes(picture, [Outlined(each.box, "", each.colour)], pen)) == each.colour).all(axis=2)).sum() for each in boxes
    ]
    # Each plate is filled with its box's colour, as high as its letters and as wide as its words.
    for outlined, plate, line in zip(boxes, plates, lines, strict=True):
        assert plate > 0.4 * line + 14 * 5 * len(outlined.words)


def test_words_too_wide_for_the_picture_are_cut_and_those_with_no_room_left_out():
    picture = Image.new("RGB", (80, 60), (90, 90, 90))
    long = draw_boxes(picture, [Outlined((10, 10, 70, 50), "a name that goes on and on", colour_of(0))])
    assert long.size == (80, 60)
    crowd = [Outlined((10, 20, 70, 50), f"thing {number}", colour_of(0)) for number in range(200)]
    fewer = draw_boxes(picture, crowd[:20])
    assert not changed(fewer, draw_boxes(picture, crowd)).any()


def test_the_surest_lies_on_top():
    picture = Image.new("RGB", (100, 100), (90, 90, 90))
    box = (20.0, 20.0, 80.0, 80.0)
    drawn = draw_boxes(picture, [Outlined(box, "", colour_of(0)), Outlined(box, "", colour_of(1))])
    colours = {colour for _, colour in drawn.getcolors() or []}
    assert colour_of(0) in colours
    assert colour_of(1) not in colours


def test_labels_in_other_scripts_and_without_their_fonts(monkeypatch):
    built_in = ImageFont.truetype

    def absent(font, *rest, **more):
        if isinstance(font, str):
            raise OSError("cannot open resource")
        return built_in(font, *rest, **more)

    picture = Image.new("RGB", (200, 100), (90, 90, 90))
    words = "\u732b \u0444 \udcff"
    with_fonts = draw_boxes(picture, [Outlined((20, 40, 180, 90), words, colour_of(0))])
    lettering.font_for.cache_clear()
    monkeypatch.setattr(ImageFont, "truetype", absent)
    without = draw_boxes(picture, [Outlined((20, 40, 180, 90), words, colour_of(0))])
    lettering.font_for.cache_clear()
    for drawn in (with_fonts, without):
        assert changed(picture, drawn)[10:40].any()


def test_a_label_map_tints_its_classes_and_leaves_the_background():
    names = ("background", "road", "car")
    classes = np.zeros((60, 90), np.uint8)
    classes[:, 30:60], classes[:, 60:], classes[50:, 80:] = 1, 2, IGNORED
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8))
    drawn = draw_map(picture, classes, names)
    touched = changed(picture, drawn)
    assert not touched[:, :30].any()
    assert not touched[50:, 80:].any()
    assert touched[:50, 30:].mean() > 0.98
    # An outline has the class's own colour, what lies inside shows through.
    assert (np.asarray(drawn)[:50, 30] == colour_of(1)).all()
    assert (np.asarray(drawn)[:50, 60] == colour_of(2)).all()
    assert np.asarray(drawn)[:, 40:50].std() > 20


def test_a_large_map_is_drawn_in_bands_as_at_once(monkeypatch):
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, (40, 30)).astype(np.uint8).repeat(3, axis=0).repeat(3, axis=1)
    picture = Image.fromarray(rng.integers(0, 256, (120, 90, 3), np.uint8))
    whole = draw_map(picture, classes, ("a", "b", "c"))
    monkeypatch.setattr("sightline.drawing.maps.PIXELS_AT_ONCE", 90 * 7)
    assert not changed(whole, draw_map(picture, classes, ("a", "b", "c"))).any()


def test_a_map_alone_has_the_colours_of_its_table():
    classes = np.array([[0, 1], [2, IGNORED]], np.uint8)
    table = table_of(("x", "background", "y"))
    assert np.array_equal(np.asarray(map_picture(classes, ("x", "background", "y"))), table[classes])
    assert [tuple(table[index].tolist()) for index in (0, 2)] == [colour_of(0), colour_of(2)]


def test_a_legend_names_what_there_is_and_takes_as_many_rows_as_it_needs():
    picture = Image.new("RGB", (160, 100), WHITE)
    assert with_legend(picture, []) is picture
    one, many = (with_legend(picture, [(f"class {number}", colour_of(number)) for number in range(count)]) for count in (1, 8))
    assert one.width == many.width == 160
    assert 100 < one.height < many.height
    assert {colour_of(number) for number in range(8)} <= {colour for _, colour in many.getcolors(1 << 20)}
    assert not changed(picture, many.crop((0, 0, 160, 100))).any()


def test_predictions_are_drawn_on_images_of_any_size_and_channels():
    boxes = Detections(("b", "a"), (0.9, 0.6), ((2.0, 3.0, 20.0, 20.0), (0.0, 0.0, 1.0, 1.0)))
    small = draw_prediction(np.full((24, 32, 3), 90, np.uint8), boxes, ("a", "b"))
    assert small.size == (480, 360)
    assert {colour_of(0), colour_of(1)} <= {colour for _, colour in small.getcolors(1 << 20)}
    five = draw_prediction(np.full((600, 500, 5), 90, np.uint8), boxes, ("a", "b"))
    assert five.size == (500, 600)
    classes = np.zeros((24, 32), np.uint8)
    classes[:, 16:] = 1
    found = Segmentation(classes, ("a", "b"), {"a": 0.9, "b": 0.8})
    assert draw_prediction(np.full((24, 32, 1), 90, np.uint8), found, ("a", "b")).width == 480
    with pytest.raises(TypeError, match="no place"):
        draw_prediction(np.full((24, 32, 3), 90, np.uint8), object(), ("a", "b"))


def test_thousands_of_boxes_take_a_second():
    rng = np.random.default_rng(0)
    corners = rng.random((3_000, 2)) * 900
    boxes = [Outlined((x, y, x + 30, y + 30), "thing 90%", BLACK) for x, y in corners.tolist()]
    assert draw_boxes(Image.new("RGB", (1000, 1000)), boxes).size == (1000, 1000)
