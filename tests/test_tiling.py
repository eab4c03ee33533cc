"""Large pictures in tiles: windows cover them, boxes cut by seams are made whole, and nothing is lost or found twice."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from found import KINDS, dense_boxes, model_of, regions, scattered
from sightline.errors import ImageError, UsageError
from sightline.scenes import Detections, Segmentation
from sightline.tiling import Tiling, joined_boxes, joined_maps, predict_tiles


@given(st.integers(1, 900), st.integers(1, 900), st.integers(20, 300), st.floats(0, 0.9))
def test_windows_cover_every_pixel_and_share_what_was_asked(width, height, side, overlap):
    rows = Tiling(side, overlap).rows(width, height)
    for length, spans in ((width, [window[0::2] for window in rows[0]]), (height, [row[0][1::2] for row in rows])):
        assert spans[0][0] == 0
        assert spans[-1][1] == length
        assert all(end - start == min(side, length) for start, end in spans)
        assert all(before[1] - after[0] >= min(side - 1, overlap * side) - 1 for before, after in pairwise(spans))


def test_windows_are_as_few_as_the_overlap_allows():
    assert Tiling(640, 0.2).rows(640, 640) == [[(0, 0, 640, 640)]]
    assert [window[0] for window in Tiling(640, 0.0).rows(1920, 100)[0]] == [0, 640, 1280]
    assert [window[0] for window in Tiling(500, 0.2).rows(1300, 100)[0]] == [0, 400, 800]


@pytest.mark.parametrize(("side", "overlap"), [(0, 0.2), (-3, 0.2), (64, 0.95), (64, -0.1), (64, float("nan"))])
def test_tiles_out_of_bounds(side, overlap):
    with pytest.raises(UsageError, match="--tile"):
        Tiling(side, overlap)


def rectangles(pixels: np.ndarray) -> Detections:
    """Every bright rectangle, as a detector that makes no mistake within what it sees."""
    seen = regions(pixels)
    return Detections(tuple(KINDS[channel] for channel, _ in seen), (0.9,) * len(seen), tuple(box for _, box in seen))


def found(prediction: Detections) -> set[tuple]:
    listed = [(label, *box) for label, box in zip(prediction.labels, prediction.boxes, strict=True)]
    assert len(listed) == len(set(listed))
    return set(listed)


@given(st.integers(0, 10_000), st.sampled_from([0.25, 0.4]))
@settings(max_examples=25)
def test_objects_smaller_than_the_overlap_are_found_once_as_they_are(seed, overlap):
    pixels, said = scattered(seed, 311, 257, largest=24, count=40)
    joined = predict_tiles(pixels, Tiling(100, overlap), lambda tiles: map(rectangles, tiles))
    assert found(joined) == said


def test_an_object_larger_than_a_tile_is_one_object():
    pixels = np.zeros((300, 400, 3), np.uint8)
    pixels[40:260, 30:370, 1] = 255
    joined = predict_tiles(pixels, Tiling(100, 0.3), lambda tiles: map(rectangles, tiles))
    assert found(joined) == {("green", 30.0, 40.0, 370.0, 260.0)}


def two(left: list[tuple], right: list[tuple]) -> list[tuple]:
    """What is joined from two windows of 100 pixels that share 20; each box with its label and score."""

    def part(entries: list[tuple]) -> Detections:
        return Detections(tuple(entry[0] for entry in entries), tuple(entry[1] for entry in entries), tuple(entry[2] for entry in entries))

    joined = joined_boxes([[(0, 0, 100, 100), (80, 0, 180, 100)]], [part(left), part(right)])
    return list(zip(joined.labels, joined.scores, joined.boxes, strict=True))


def test_a_cut_box_yields_to_the_whole_one_even_when_it_is_surer():
    assert two([("car", 0.9, (85, 10, 100, 40))], [("car", 0.6, (5, 10, 40, 41))]) == [("car", 0.6, (85, 10, 120, 41))]
    assert two([("car", 0.6, (50, 10, 99, 40))], [("car", 0.9, (0, 10, 19, 40))]) == [("car", 0.9, (50, 10, 99, 40))]


def test_the_surer_of_two_whole_boxes_stays():
    assert two([("car", 0.6, (84, 10, 95, 40))], [("car", 0.9, (4, 10, 16, 40))]) == [("car", 0.9, (84, 10, 96, 40))]
    assert two([("car", 0.9, (84, 10, 95, 40))], [("car", 0.6, (4, 10, 16, 40))]) == [("car", 0.9, (84, 10, 95, 40))]


def test_neighbours_of_another_class_or_elsewhere_stay():
    assert len(two([("car", 0.9, (85, 10, 100, 40))], [("bus", 0.6, (5, 10, 40, 41))])) == 2
    assert len(two([("car", 0.9, (85, 10, 100, 40))], [("car", 0.6, (5, 50, 40, 81))])) == 2
    assert two([], []) == []


def test_label_maps_are_taken_from_the_window_whose_centre_is_nearest():
    names = ("ground", "thing")

    def part(value: int, score: float) -> Segmentation:
        return Segmentation(np.full((100, 100), value, np.uint8), names, {names[value]: score})

    joined = joined_maps([[(0, 0, 100, 100), (60, 0, 160, 100)]], [part(0, 0.8), part(1, 0.6)])
    assert joined.classes.shape == (100, 160)
    assert (joined.classes[:, :80] == 0).all()
    assert (joined.classes[:, 80:] == 1).all()
    assert joined.scores == {"ground": 0.8, "thing": 0.6}


@given(st.integers(0, 1000), st.sampled_from([0.0, 0.2, 0.5]))
@settings(max_examples=20)
def test_a_map_that_every_tile_gets_right_is_right(seed, overlap):
    classes = np.random.default_rng(seed).integers(0, 3, (73, 91)).astype(np.uint8)
    pixels = np.repeat(classes[:, :, None], 3, axis=2)

    def seen(tile: np.ndarray) -> Segmentation:
        return Segmentation(tile[:, :, 0].copy(), KINDS, dict.fromkeys(KINDS, 0.5))

    joined = predict_tiles(pixels, Tiling(30, overlap), lambda tiles: map(seen, tiles))
    assert np.array_equal(joined.classes, classes)
    assert joined.scores == pytest.approx(dict.fromkeys(KINDS, 0.5))


def test_a_model_predicts_in_tiles_what_lies_in_the_pasted_parts(tmp_path):
    detector = model_of("detect", dense_boxes, 32)
    canvas = np.zeros((128, 192, 3), np.uint8)
    parts, expected = [], set()
    for number, (top, left) in enumerate([(0, 0), (0, 128), (64, 64), (64, 128)]):
        part, _ = scattered(number, 64, 64, largest=20, count=1)
        canvas[top : top + 64, left : left + 64] = part
        parts.append(part)
        alone = detector.predict(part)
        expected |= {(label, x + left, y + top, right + left, bottom + top)
                     for label, (x, y, right, bottom) in zip(alone.labels, alone.boxes, strict=True)}  # fmt: skip
    path = tmp_path / "canvas.png"
    Image.fromarray(canvas).save(path)
    assert len(expected) == 4
    assert found(detector.predict(str(path), tile=64, overlap=0.0)) == expected
    assert [found(each) for each in detector.predict([canvas, parts[0]], tile=64, overlap=0.0)] == [
        expected,
        found(detector.predict(parts[0])),
    ]


def test_images_that_cannot_be_read_do_not_lose_the_others(tmp_path):
    detector = model_of("detect", dense_boxes, 32)
    bad, good = detector.predict([str(tmp_path / "absent.png"), np.full((50, 50, 3), 255, np.uint8)], tile=32)
    assert isinstance(bad, ImageError)
    assert set(good.labels) == set(KINDS)
    with pytest.raises(ImageError, match="no such file"):
        detector.predict(str(tmp_path / "absent.png"), tile=32)


def test_bands_are_chosen_once(tmp_path):
    def infer(images: np.ndarray) -> dict[str, np.ndarray]:
        return {"logits": np.moveaxis(images[:, ::4, ::4], 3, 1).astype(np.float32)}

    segmenter = model_of("segment", infer, 32, mean=(0.5,) * 4, std=(0.5,) * 4, channels=4, bands=(5, 1, 2, 3))
    values = np.zeros((64, 96, 5), np.uint8)
    values[:, :48, 4] = 200
    values[:, 48:, 1] = 200
    found = segmenter.predict(values, tile=32)
    assert (found.classes[:, :44] == 0).all()
    assert (found.classes[:, 54:] == 2).all()


def test_a_model_of_whole_images_has_no_tiles():
    classifier = model_of("classify", lambda images: {"logits": np.zeros((len(images), 3), np.float32)})
    with pytest.raises(UsageError, match="classify answers for whole images"):
        classifier.predict(np.zeros((50, 50, 3), np.uint8), tile=32)
