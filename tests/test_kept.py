"""Windows of pictures: decoded with their pictures once, told from each other by their contents, and written as files of their own."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from sightline.comparison.page import image_at
from sightline.data.content import content_id, content_key, file_id, window_id
from sightline.data.decode import decode, decode_window, read_size
from sightline.data.kept import MOST, Kept
from sightline.data.reading import Reading
from sightline.errors import ImageError
from sightline.records import ImageRef
from sightline.replay import file_of_window
from test_windows import gradient, saved


def test_a_window_is_decoded_with_its_own_size_from_a_picture_decoded_once(tmp_path, monkeypatch):
    ref = ImageRef(saved(tmp_path / "a.png", gradient(180, 100)), window=(30, 10, 130, 60))
    header, pixels = decode_window(ref)
    assert (header.width, header.height) == read_size(ref) == (100, 50)
    np.testing.assert_array_equal(pixels, gradient(180, 100)[10:60, 30:130])
    monkeypatch.setattr("sightline.data.decode.decode_with_header", None)
    np.testing.assert_array_equal(decode(ImageRef(ref.path, window=(0, 0, 9, 9))), gradient(180, 100)[:9, :9])
    for call in (decode, read_size):
        with pytest.raises(ImageError, match="its window 90,0,190,50 is not inside the image of 180 x 100 pixels"):
            call(ImageRef(ref.path, window=(90, 0, 190, 50)))


def test_a_picture_that_changed_is_decoded_again(tmp_path):
    ref = ImageRef(saved(tmp_path / "a.png", np.zeros((50, 50, 3), np.uint8)), window=(0, 0, 5, 5))
    assert decode(ref).max() == 0
    saved(tmp_path / "a.png", np.full((60, 60, 3), 200, np.uint8))
    assert decode(ref).min() == 200
    assert read_size(ImageRef(ref.path, window=(0, 0, 60, 60))) == (60, 60)


def test_no_more_is_kept_than_was_said():
    made, kept = [], Kept()
    for key in [*range(MOST + 1), MOST, 0]:
        kept.get(key, lambda key=key: made.append(key) or key + 1, lambda _: 1)
    assert made == [*range(MOST + 1), 0]
    large = Kept()
    for key in (1, 2, 1):
        large.get(key, lambda key=key: made.append(key) or key, lambda _: 10**9)
    assert made[-3:] == [1, 2, 1]
    with pytest.raises(ImageError):
        large.get(3, lambda: decode(ImageRef("nowhere.png")), len)
    assert large.get(3, lambda: "there", len) == "there"


def test_windows_have_contents_of_their_own_and_the_key_of_their_file(tmp_path):
    ref = ImageRef(saved(tmp_path / "a.png", gradient(90, 90)))
    saved(tmp_path / "copy.png", gradient(90, 90))
    file, windows = file_id(ref), [ImageRef(ref.path, window=window) for window in ((0, 0, 50, 50), (40, 0, 90, 50))]
    ids = [window_id(file, window) for window in windows]
    assert len({file, *ids}) == 3
    assert all(len(each) == 64 and each[:16] == file[:16] for each in ids)
    assert ids[0] == window_id(file_id(ImageRef(str(tmp_path / "copy.png"))), windows[0])
    assert [content_id(each) for each in (ref, *windows)] == [file, *ids]
    assert {content_key(each) for each in (ref, *windows)} == {int(file[:16], 16)}
    assert content_key(ImageRef(str(tmp_path / "none.png"))) == -1


@pytest.mark.parametrize("bands", [None, (3, 1), (2, 4)])
def test_the_file_of_a_window_is_read_as_the_window_is(tmp_path, bands):
    ref, reading = ImageRef(str(tmp_path / "a.png"), window=(5, 5, 30, 25)), Reading(None, bands)
    values = np.random.default_rng(0).integers(0, 256, (40, 50, 4 if bands == (2, 4) else 3), np.uint8)
    saved(tmp_path / "a.png", values)
    data = file_of_window(ref, reading)
    np.testing.assert_array_equal(decode(data, reading=reading), decode(ref, reading=reading))
    assert Image.open(io.BytesIO(data)).size == (25, 20)


def test_a_comparison_finds_the_windows_that_runs_name(tmp_path):
    assert image_at(tmp_path, "a/1.png@0,5,64,69") == ImageRef(str(tmp_path / "a/1.png"), window=(0, 5, 64, 69))
    assert image_at(tmp_path / "a.zip", "1.png@0,5,64,69") == ImageRef(str(tmp_path / "a.zip"), "1.png", window=(0, 5, 64, 69))
    assert image_at(tmp_path, "mail@home.png") == ImageRef(str(tmp_path / "mail@home.png"))
