"""--where and --limit: the images that are meant, what is wrong with the text, and a sample that is the same however they are stored."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import sightline
from conftest import QUICK, write_shapes
from sightline.data.content import window_id
from sightline.data.facts import Facts
from sightline.data.part import NAMES, Part, conditions_of
from sightline.errors import ConfigError, DataError
from sightline.records import Dataset, ImageRef
from sightline.texts import Texts


def facts(n=6, **columns):
    """Facts of n images, without any but those that are given."""
    empty = {"thumb": np.zeros((n, 16, 16), np.uint8), "colour": np.zeros((n, 3)), "border": np.zeros((n, 2))}
    for entry in fields(Facts):
        if entry.name not in empty:
            empty[entry.name] = Texts.of([""] * n) if entry.type == "Texts" else np.zeros(n)
    made = {name: Texts.of(column) if isinstance(column[0], str) else np.array(column) for name, column in columns.items()}
    return Facts(**{**empty, **made})


def dataset(targets, labels=("a", "b", "c"), **columns):
    return Dataset(Path("data"), "classify", labels, [ImageRef(f"{row}.png") for row in range(len(targets))], np.array(targets), **columns)


def rows_where(text, known):
    return Part.asked(text, None).rows(dataset([0] * len(known)), known, 0)[0].tolist()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("width >= 30", [3, 4, 5]),
        ("width>30", [4, 5]),
        ("width < 20.5", [0, 1, 2]),
        ("width <= 2e1 AND width != 0", [1, 2]),
        ("brightness > 25%", [3, 4, 5]),
        ("format = jpeg", [0, 2, 4]),
        ("format != 'JPEG' and width == 50", [5]),
        ('camera == "Canon and Sons = 1" and width > 0', [1]),
        ("camera != x", [0, 1, 2, 3, 4, 5]),
        ("taken >= 2024-02", [3, 4]),
        ("taken < 2024-02", [2]),
        ("quality < 90", [2]),
        ("position = yes", [1]),
        ("mode != sand", [0, 1, 2, 3, 4, 5]),
        ("position != true and width > 30", [4, 5]),
    ],
)
def test_conditions_hold_as_they_are_written(text, rows):
    known = facts(
        width=[0, 10, 20, 30, 40, 50], brightness=[0.0, 0.1, 0.25, 0.3, 0.4, 0.5], format=["JPEG", "PNG"] * 3,
        camera=["", "canon and sons = 1", "Sony", "", "", ""], taken=["", "", "2024-01-05T10:00:00", "2024-02-01", "2025-01-01", ""],
        quality=[0, 95, 80, 0, 90, 0], position=[False, True, False, False, False, False],
    )  # fmt: skip
    assert rows_where(text, known) == rows


def test_files_that_cannot_be_read_are_let_through_to_be_named():
    known = facts(width=[0, 10, 20, 0, 40, 50], error=["broken", "", "", "", "", ""])
    assert rows_where("width >= 20", known) == [0, 2, 4, 5]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("widht >= 3", ["there is no fact 'widht'. Did you mean 'width'?"]),
        ("colour = red", [f"There are {', '.join(NAMES)}."]),
        ("width => 3", ["'=>' is none of the relations"]),
        ("width >= wide", ["'wide' is no number, as width is"]),
        ("position > 1", ["position is true or false; write position = true"]),
        ("width", ["'width' is no condition; write a fact, a relation and a value"]),
        ("", ["'' is no condition"]),
        ("width > 3 and ", ["what ends with 'and' is no condition"]),
        ("width > 3 height < 4", ["'3 height < 4' is no number"]),
        ("heigth > 3 and width > x and format = png", ["Did you mean 'height'?", "'x' is no number"]),
    ],
)
def test_every_mistake_is_named(text, said):
    with pytest.raises(ConfigError) as caught:
        conditions_of(text)
    assert len(caught.value.problems) == len(said)
    assert all(words in problem and problem.startswith("--where") for words, problem in zip(said, caught.value.problems, strict=True))


def test_nothing_left_is_an_error_that_says_what_was_asked():
    with pytest.raises(DataError, match=r"data: of none of its 6 images width > 99"):
        rows_where("width > 99", facts(width=[1.0] * 6))


# ---- a sample --------------------------------------------------------------------------------------------------------


def contents(n):
    rng = np.random.default_rng(0)
    return [rng.bytes(32).hex() for _ in range(n)]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=5), st.data())
def test_a_sample_has_its_share_of_each_class_and_of_none_too_few(sizes, data):
    n = sum(sizes)
    limit = data.draw(st.integers(1, n))
    targets = np.repeat(np.arange(len(sizes)), sizes)
    rows, said = Part.asked(None, limit).rows(dataset(targets, tuple("abcde"[: len(sizes)])), facts(n, sha256=contents(n)), 0)
    assert len(np.unique(rows)) == len(rows) == limit
    assert rows.tolist() == sorted(rows.tolist())
    assert bool(said) == (limit < n)
    taken = np.bincount(targets[rows], minlength=len(sizes))
    least = sum(min(3, size) for size in sizes)
    if least <= limit:
        assert all(count >= min(3, size) for count, size in zip(taken.tolist(), sizes, strict=True))
    if min(size * limit / n for size in sizes) >= 3:
        assert all(abs(count - size * limit / n) < 1 for count, size in zip(taken.tolist(), sizes, strict=True))


def test_a_sample_is_of_the_contents_and_the_seed():
    n = 60
    known, data = facts(n, sha256=contents(n)), dataset([0, 1, 2] * 20)
    first = Part.asked(None, 20).rows(data, known, 1)[0]
    turned = np.arange(n)[::-1]
    again = Part.asked(None, 20).rows(data.select(turned), known.select(turned), 1)[0]
    assert sorted(turned[again].tolist()) == first.tolist()
    assert Part.asked(None, 20).rows(data, known, 2)[0].tolist() != first.tolist()
    # A larger sample has the smaller one in it, where the shares of the classes allow it.
    assert set(first.tolist()) <= set(Part.asked(None, 30).rows(data, known, 1)[0].tolist())


def test_a_sample_is_of_what_can_be_read_and_of_each_split():
    known = facts(40, sha256=contents(40), error=["broken"] * 10 + [""] * 30)
    data = dataset([0, 1] * 20, splits=np.array(["train"] * 30 + ["test"] * 10))
    rows, said = Part.asked(None, 24).rows(data, known, 0)
    assert rows.min() >= 10
    assert said.startswith("--limit: 24 of 30 images that can be read")
    assert np.unique(data.splits[rows], return_counts=True)[1].tolist() == [8, 16]


def test_rare_tags_are_kept_in_a_sample():
    held = np.zeros((100, 3), bool)
    held[:, 0], held[:30, 1], held[7:10, 2] = True, True, True
    data = Dataset(Path("data"), "tag", ("often", "some", "rare"), [ImageRef(f"{row}.png") for row in range(100)], held)
    rows, _ = Part.asked(None, 20).rows(data, facts(100, sha256=contents(100)), 0)
    assert held[rows].sum(axis=0).tolist() == [20, 8, 3]


def test_a_sample_of_windows_is_of_many_pictures():
    files, windows = contents(10), [(left, 0, left + 8, 8) for left in range(0, 80, 8)]
    ids = [window_id(file, ImageRef(f"{file}.png", window=window)) for file in files for window in windows]
    data = Dataset(Path("data"), "classify", ("a",), [ImageRef(f"{row}.png") for row in range(100)], np.zeros(100, np.int64))
    rows, _ = Part.asked(None, 20).rows(data, facts(100, sha256=ids), 0)
    assert len(rows) == 20
    assert len(np.unique(rows // 10)) >= 6


def test_sizes_are_not_asked_for_where_pictures_are_cut():
    Part.asked("brightness > 20%", None).check_cut()
    with pytest.raises(ConfigError) as caught:
        Part.asked("width >= 2000 and format = png and height > 5 and width < 9000", 10).check_cut()
    where = "--where width >= 2000 and format = png and height > 5 and width < 9000"
    assert caught.value.problems == tuple(
        f"{where}: {name} is that of a tile once --tile has cut the pictures; leave it out." for name in ("height", "width")
    )


# ---- the verbs -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Shapes, some of which are twice as large, and a file that is no image."""
    folder = write_shapes(tmp_path_factory.mktemp("part") / "photos", per_class=16)
    for kind in ("cross", "disc", "square"):
        for number in range(12):
            file = folder / kind / f"{number:03d}.png"
            with Image.open(file) as image:
                image.resize((64, 64)).save(file)
    (folder / "disc" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return folder


def test_training_and_its_report_are_of_the_part_that_was_asked_for(photos, tmp_path):
    run = sightline.train(photos, out=str(tmp_path / "run"), where="width >= 64", limit=30, **QUICK)
    data = run.numbers["data"]
    assert (data["n"], [entry["path"] for entry in data["refused"]]) == (30, [])
    assert data["split_origin"].startswith("--where: of 36 of 49 images width >= 64. --limit: 30 of 36 images that can be read")
    assert all(sum(part["classes"][label] for part in data["splits"].values()) == 10 for label in data["labels"])


def test_an_audit_says_that_it_is_of_a_part(photos, tmp_path, capsys):
    numbers = sightline.audit(photos, out=str(tmp_path / "audit"), weights="none", where="width < 64").numbers
    assert (numbers["n"], numbers["refused"]) == (12, 1)
    assert "--where: of 12 of 49 images width < 64." in capsys.readouterr().err
    assert next(entry for entry in numbers["findings"] if entry["kind"] == "part")["level"] == "note"


def test_a_mistake_is_told_before_anything_is_read(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'width'"):
        sightline.train(tmp_path / "nowhere", where="widht > 3")
