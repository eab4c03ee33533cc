"""gate: what cannot be used is named, what shows the same picture is found, and what is left is split."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import SHAPES, write_shapes
from sightline.auditing.gate import gate, relative_name
from sightline.config import DataConfig
from sightline.data.decode import Limits
from sightline.data.folder import read_folder
from sightline.data.store import look_once
from sightline.errors import DataError
from sightline.records import ImageRef


@pytest.fixture
def data(tmp_path):
    return write_shapes(tmp_path / "data", per_class=6)


@pytest.fixture
def split_data(tmp_path):
    """Came split: 6, 3 and 3 shapes of each class."""
    for seed, (split, count) in enumerate((("train", 6), ("val", 3), ("test", 3))):
        write_shapes(tmp_path / "data" / split, per_class=count, seed=seed + 1)
    return tmp_path / "data"


def gated(root: Path, **settings):
    dataset = read_folder(root)
    store = look_once(dataset, 32, limits=Limits(), workers=2, limit_bytes=1e9)
    return gate(dataset, store, DataConfig(**settings), seed=0)


def spoil(*paths: Path) -> None:
    for path in paths:
        path.write_bytes(b"\x89PNG\r\n\x1a\n and no more")


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        gated(root)
    assert str(caught.value).startswith(f"{root}: ")
    return str(caught.value).removeprefix(f"{root}: ")


def named(found, pairs):
    return {frozenset((found.names[pair.a], found.names[pair.b])) for pair in pairs}


# ---- what passes -----------------------------------------------------------------------------------------------------


def test_sound_data_passes_whole_and_split(data):
    found = gated(data, val_fraction=0.2, test_fraction=0.2)
    assert len(found.dataset) == len(found.store) == len(found.names) == 18
    assert (found.refused, found.notes, found.leaks, found.copies, found.conflicts) == ([], [], [], [], [])
    assert set(found.dataset.splits) == {"train", "validation", "test"}
    assert "seed 0" in found.origin


def test_an_unusable_file_is_left_out_and_named_relative_to_the_root_with_its_reason(data):
    spoil(data / "disc" / "002.png")
    found = gated(data)
    ((path, reason),) = found.refused
    assert path == "disc/002.png"
    assert "PNG" in reason
    assert "disc/002.png" not in found.names
    assert len(found.dataset) == 17


def test_rows_of_names_store_and_data_set_stay_together(data):
    spoil(data / "cross" / "000.png")
    found = gated(data)
    for row, sample in enumerate(found.dataset):
        assert sample.ref.path == str(data / found.names[row])
        assert sample.content_id == found.store.facts.sha256[row]
        assert np.array_equal(found.store[row], np.asarray(Image.open(sample.ref.path)))


def test_a_file_that_is_used_all_the_same_has_its_note(data):
    Image.open(data / "disc" / "001.png").save(data / "disc" / "really_a_png.jpg", format="PNG")
    notes = dict(gated(data).notes)
    assert list(notes) == ["disc/really_a_png.jpg"]
    assert "PNG" in notes["disc/really_a_png.jpg"]


# ---- copies ----------------------------------------------------------------------------------------------------------


def test_copies_stay_on_one_side_of_a_split_that_is_drawn(data):
    for number in range(6):
        shutil.copy(data / "disc" / f"{number:03d}.png", data / "disc" / f"copy{number}.png")
    found = gated(data, val_fraction=0.3, test_fraction=0.3)
    assert named(found, found.copies) == {frozenset((f"disc/{n:03d}.png", f"disc/copy{n}.png")) for n in range(6)}
    assert found.leaks == []


def test_leaks_between_splits_that_came_are_found(split_data):
    shutil.copy(split_data / "train" / "disc" / "000.png", split_data / "test" / "disc" / "same.png")
    Image.open(split_data / "train" / "cross" / "001.png").resize((64, 64), Image.Resampling.BICUBIC).save(
        split_data / "val" / "cross" / "larger.png"
    )
    shutil.copy(split_data / "train" / "square" / "002.png", split_data / "train" / "square" / "no_leak.png")
    found = gated(split_data)
    exact, near = ([pair for pair in found.leaks if pair.exact is kind] for kind in (True, False))
    assert named(found, exact) == {frozenset(("train/disc/000.png", "test/disc/same.png"))}
    assert named(found, near) == {frozenset(("train/cross/001.png", "val/cross/larger.png"))}
    assert len(found.copies) == 3
    leaks = found.summary()["leaks"]
    assert {leak["kind"] for leak in leaks} == {"exact", "near"}
    assert {frozenset((leak["a_split"], leak["b_split"])) for leak in leaks} == {
        frozenset(("train", "test")),
        frozenset(("train", "validation")),
    }


def test_near_copies_are_not_looked_for_when_that_is_turned_off(split_data):
    Image.open(split_data / "train" / "cross" / "001.png").resize((64, 64)).save(split_data / "val" / "cross" / "larger.png")
    assert gated(split_data, near_copies=False).leaks == []


def test_copies_with_different_labels_are_found(data):
    shutil.copy(data / "disc" / "000.png", data / "cross" / "mislabelled.png")
    found = gated(data)
    assert named(found, found.conflicts) == {frozenset(("disc/000.png", "cross/mislabelled.png"))}
    assert found.leaks == []
    (conflict,) = found.summary()["conflicts"]
    assert {(conflict["a"], conflict["a_label"]), (conflict["b"], conflict["b_label"])} == {
        ("disc/000.png", "disc"), ("cross/mislabelled.png", "cross"),
    }  # fmt: skip


# ---- what does not pass ----------------------------------------------------------------------------------------------


def test_a_single_class(tmp_path):
    assert refusal(write_shapes(tmp_path / "data", kinds=("disc",), per_class=3)) == (
        "holds a single class, 'disc', and there is nothing to tell it from; add a folder with images of what it is not."
    )


def test_no_usable_file_at_all(data):
    spoil(*data.glob("*/*.png"))
    text = refusal(data)
    assert text.startswith("none of its 18 files can be used as an image (cross/000.png: ")
    assert text.count(".png: ") == 3


def test_every_class_that_has_no_usable_file_left_is_named_with_an_example(data):
    spoil(*(data / "disc").glob("*"), *(data / "square").glob("*"), data / "cross" / "000.png")
    text = refusal(data)
    assert text.startswith("no file can be used as an image of class 'disc' (disc/000.png: ")
    assert "; class 'square' (square/000.png: " in text
    assert "cross" not in text
    assert text.endswith("; replace them, or remove the folder.")


def test_a_class_that_has_only_copies_left(data):
    for number in range(1, 6):
        shutil.copy(data / "disc" / "000.png", data / "disc" / f"{number:03d}.png")
    assert "class 'disc' has 6 usable images, of which 5 copies" in refusal(data)


def test_a_class_whose_training_images_are_unusable(split_data):
    spoil(*(split_data / "train" / "disc").glob("*"))
    assert "training has no usable image of class 'disc' (found in test and validation)" in refusal(split_data)


# ---- the report's section --------------------------------------------------------------------------------------------


def test_the_summary_counts_every_class_in_every_split(split_data):
    spoil(split_data / "test" / "disc" / "000.png")
    summary = gated(split_data).summary()
    assert (summary["root"], summary["n"], summary["labels"], summary["copies"]) == ("data", 35, list(SHAPES), 0)
    assert summary["splits"]["test"] == {"n": 8, "classes": {"cross": 3, "disc": 2, "square": 3}}
    assert summary["splits"]["train"]["n"] == 18
    assert [entry["path"] for entry in summary["refused"]] == ["test/disc/000.png"]


def test_copy_pairs_in_the_findings_are_rows_of_the_usable_images(data):
    spoil(data / "cross" / "000.png")
    shutil.copy(data / "square" / "005.png", data / "square" / "zz.png")
    found = gated(data)
    (pair,) = found.copies
    assert {found.names[pair.a], found.names[pair.b]} == {"square/005.png", "square/zz.png"}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has file names of any bytes")
def test_a_name_that_is_not_utf8_can_be_printed():
    assert relative_name(ImageRef("/data/a/b\udcff.png"), Path("/data")) == "a/b�.png"


def test_a_member_has_its_name_in_the_archive_and_of_an_archive_below_the_root_both_names():
    assert relative_name(ImageRef("/data.zip", member="a/1.png", frame=2), Path("/data.zip")) == "a/1.png#2"
    assert relative_name(ImageRef("/data/x.zip", member="a/1.png"), Path("/data")) == "x.zip!a/1.png"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has file names of any bytes")
def test_a_name_in_the_findings_leads_back_to_its_image(data):
    (data / "disc" / "000.png").rename(os.fsdecode(os.fsencode(data) + b"/disc/\xff.png"))
    found = gated(data)
    assert "disc/\ufffd.png" in found.refs
    assert all(Path(ref.path).is_file() for ref in found.refs.values())
    assert list(found.refs.values()) == list(found.dataset.refs)


@pytest.mark.parametrize(
    ("path", "root", "name"),
    [
        ("/data/a/b.png", "/data", "a/b.png"),
        ("/data/../images/b.png", "/data", "../images/b.png"),
        ("/images/b.png", "/data/tables", "../../images/b.png"),
        ("images/b.png", "tables", "../images/b.png"),
        ("../images/b.png", ".", "../images/b.png"),
        ("b.png", ".", "b.png"),
    ],
)
def test_a_file_outside_the_root_is_called_by_the_way_there(path, root, name):
    assert relative_name(ImageRef(path), Path(root)) == name
