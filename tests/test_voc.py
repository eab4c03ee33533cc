"""voc: boxes from Pascal VOC's XML and its lists, read safely; every fault with its sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import DATA, needs_data
from places import SIZE, by_name, refusal_of, warning_of, write_images
from sightline.config import ReadConfig
from sightline.data.chosen import read_for, targets_for
from sightline.data.limits import Limits
from sightline.data.readers import read_dataset
from sightline.errors import DataError, UsageError


def thing(name="cat", box=(2, 3, 12, 13), *, difficult=0) -> str:
    corners = "".join(f"<{corner}>{value}</{corner}>" for corner, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{corners}</bndbox></object>"


def annotation(*things: str, filename="", size=SIZE) -> str:
    stated = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    return f"<annotation>\n<filename>{filename}</filename>{stated}{''.join(things)}</annotation>"


@pytest.fixture
def place(tmp_path):
    """Writes VOC's folders: text of the XML by the image's stem, and names by list. There are images a, b and c."""

    def write(notes: dict[str, str], lists: dict[str, str] | None = None, top: str = "") -> Path:
        folder = write_images(tmp_path / "data" / top / "JPEGImages", "a.png", "b.png", "c.png").parent
        for name, text in {f"Annotations/{stem}.xml": text for stem, text in notes.items()}.items():
            (folder / "Annotations").mkdir(exist_ok=True)
            (folder / name).write_text(text)
        for name, text in (lists or {}).items():
            (folder / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
            (folder / "ImageSets" / "Main" / f"{name}.txt").write_text(text)
        return tmp_path / "data"

    return write


ALL = {stem: annotation(thing()) for stem in "abc"}


# ---- what the format says --------------------------------------------------------------------------------------------


def test_pixels_count_from_one_and_the_last_is_inside(place):
    whole, first, last = thing(box=(1, 1, 40, 30)), thing("dog", (1, 1, 1, 1)), thing("dog", (40, 30, 40, 30))
    dataset, found = read_dataset(place({**ALL, "a": annotation(whole, first, last)}))
    assert dataset.targets[0].boxes.tolist() == [[0, 0, 40, 30], [0, 0, 1, 1], [39, 29, 40, 30]]
    assert dataset.labels == ("cat", "dog")
    assert "3 images with Pascal VOC annotations, 5 objects of 2 classes, so the task is detect." in found


def test_boxes_of_tools_that_count_from_zero_lose_nothing(place, capsys):
    dataset, _ = read_dataset(place({**ALL, "a": annotation(thing(box=(0, 0, 12, 13)))}))
    assert dataset.targets[0].boxes.tolist() == [[0, 0, 12, 13]]
    assert "!" not in capsys.readouterr().err


def test_what_is_difficult_is_neither_right_nor_wrong_to_find(place):
    dataset, _ = read_dataset(place({**ALL, "a": annotation(thing(), thing(difficult=1))}))
    assert dataset.targets[0].crowd.tolist() == [False, True]


def test_an_annotation_without_objects_is_an_empty_image(place, capsys):
    dataset, found = read_dataset(place({**ALL, "b": annotation()}))
    assert by_name(dataset)["b.png"] == ("", [])
    assert "1 image with none" in found
    assert "!" not in capsys.readouterr().err


@pytest.mark.parametrize("top", ["", "VOCdevkit/VOC2007"])
@pytest.mark.parametrize("packed", [False, True])
def test_lists_say_the_splits(place, tmp_path, top, packed):
    folder = place(ALL, {"train": "a\n", "val": "b 1\n", "trainval": "a\nb\n", "test": "c\n", "cat_train": "a -1\n"}, top)
    path = Path(shutil.make_archive(str(tmp_path / "packed"), "tar", folder)) if packed else folder
    assert {name: split for name, (split, _) in by_name(read_dataset(path)[0]).items()} == {
        "a.png": "train",
        "b.png": "validation",
        "c.png": "test",
    }


def test_without_lists_of_their_own_train_and_validation_are_training(place):
    dataset, _ = read_dataset(place(ALL, {"trainval": "a\nb\n", "test": "c\n"}))
    assert dataset.splits.tolist() == ["train", "train", "test"]


def test_names_in_lists_may_have_blanks_suffixes_folders_and_flags(place, capsys):
    stems = ["img 001", "img 002", "img", "v1.2", "x 1"]
    folder = place({stem: annotation(thing()) for stem in stems}, {"train": "img 001\nv1.2.png\n", "val": "img 002.jpg  1\nx 1\n"})
    for name in "abc":
        (folder / "JPEGImages" / f"{name}.png").unlink()
    write_images(folder / "JPEGImages", *(f"{stem}.png" for stem in stems))
    (folder / "ImageSets" / "Main" / "test.txt").write_text("JPEGImages\\img.PNG -1\n", encoding="utf-8-sig")
    assert {name: split for name, (split, _) in by_name(read_dataset(folder)[0]).items()} == {
        "img 001.png": "train", "v1.2.png": "train", "img 002.png": "validation", "x 1.png": "validation", "img.png": "test"
    }  # fmt: skip
    assert "!" not in capsys.readouterr().err


def test_files_beside_their_images_and_folders_for_splits(tmp_path):
    for split in ("train", "test"):
        write_images(tmp_path / split, f"{split}.png")
        (tmp_path / split / f"{split}.xml").write_text(annotation(thing()))
    dataset, _ = read_dataset(tmp_path)
    assert {name: split for name, (split, _) in by_name(dataset).items()} == {"train.png": "train", "test.png": "test"}


def test_the_written_name_counts_where_there_is_no_image_of_the_files_own(place):
    dataset, _ = read_dataset(place({"0001": annotation(thing(), filename="a.png"), "b": annotation(thing(), filename="other.jpg")}))
    assert sorted(by_name(dataset)) == ["a.png", "b.png"]


def test_a_size_that_is_not_stated_is_read(place):
    dataset, _ = read_dataset(place({**ALL, "a": annotation(thing(box=(1, 1, 99, 99)), size=None)}))
    assert dataset.targets[0].boxes.tolist() == [[0, 0, 40, 30]]


def test_class_folders_with_annotations_inside_stay_class_folders(tmp_path):
    write_images(tmp_path, "cat/a.png", "dog/b.png")
    (tmp_path / "cat" / "a.xml").write_text(annotation(thing()))
    assert read_dataset(tmp_path)[0].task == "classify"


def test_masks_beside_are_for_segmentation(place):
    folder = place(ALL)
    (folder / "SegmentationClass").mkdir()
    for stem in "ab":
        Image.new("P", SIZE, 1).save(folder / "SegmentationClass" / f"{stem}.png")
    (folder / "classes.txt").write_text("background\ncat\n")
    assert len(read_dataset(folder)[0]) == 3
    dataset, _ = read_dataset(folder, task="segment")
    assert (len(dataset), dataset.labels) == (2, ("cat",))


def test_boxes_alone_give_no_segmentation(place):
    with pytest.raises(UsageError, match="has boxes and no outlines, so it gives detect"):
        read_dataset(place(ALL), task="segment")


# ---- faults ----------------------------------------------------------------------------------------------------------

BOMB = '<!DOCTYPE a [<!ENTITY b "bbbb">]>'
FAULTS = {
    "boxes that reach outside their image, clipped: 1 (JPEGImages/b.png)": annotation(thing(box=(5, 5, 90, 20))),
    "boxes outside their image, left out: 1 (JPEGImages/b.png)": annotation(thing(box=(50, 50, 60, 60))),
    "boxes that are empty or inverted, left out: 1 (JPEGImages/b.png)": annotation(thing(box=(12, 3, 2, 13))),
    "boxes with numbers that are not finite, left out: 1 (JPEGImages/b.png)": annotation(thing(box=("nan", 3, 12, 13))),
    "objects without a box of four numbers, left out: 1 (JPEGImages/b.png)": annotation(thing(box=("", 3, 12, 13))),
    "objects without a name, left out: 1 (JPEGImages/b.png)": annotation(thing(name=" ")),
}


@pytest.mark.parametrize("what", FAULTS)
def test_each_fault_is_told_and_the_rest_is_used(place, capsys, what):
    folder = place({**ALL, "b": FAULTS[what]})
    assert warning_of(folder, capsys) == f"{what}."
    assert len(by_name(read_dataset(folder)[0])["b.png"][1]) == ("clipped" in what)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<annotation>\n<object>", "line 2: no element found"),
        (f"{BOMB}{annotation(thing())}", ": has a document type, or is not in UTF-8"),
        ('<?xml version="1.0" encoding="nonsense"?><annotation/>', "nonsense"),
        ("\0", ": has a document type, or is not in UTF-8"),
    ],
)
def test_broken_files_are_named_and_their_images_left_out(place, capsys, text, reason):
    told = warning_of(place({**ALL, "b": text}), capsys)
    assert told.startswith("files that are broken, left out: 1 (Annotations/b.xml")
    assert reason in told
    assert told.endswith("; images without annotations, left out: 1 (JPEGImages/b.png).")


def test_annotations_without_image_and_images_without_annotations(place, capsys):
    told = warning_of(place({"a": annotation(thing()), "x": annotation(thing()), "y": "<html/>"}, {"train": "a\nb\nz\n"}), capsys)
    assert told == (
        "annotations of images that are not there, left out: 1 (Annotations/x.xml); "
        "files that are no annotations, left out: 1 (Annotations/y.xml); "
        "images that are listed and have no annotations, taken to show no object: 1 (JPEGImages/b.png); "
        "images without annotations, left out: 1 (JPEGImages/c.png); "
        "names in lists that no image has: 1 (z)."
    )


def test_names_in_lists_that_no_image_has_are_told_as_written(place, capsys):
    folder = place(ALL, {"train": "a\nb\nc 001\nimg 7 1\n"})
    (folder / "ImageSets" / "Main" / "val.txt").write_text("c\n", encoding="utf-16")
    assert warning_of(folder, capsys) == (
        "files that are broken, left out: 1 (ImageSets/Main/val.txt: is text in UTF-16, not in UTF-8); "
        "names in lists that no image has: 2 (c 001, img 7)."
    )


def test_two_annotations_of_an_image_and_an_image_in_two_lists(place, capsys):
    told = warning_of(place({**ALL, "d": annotation(thing(), filename="a.png")}, {"train": "a\nb\n", "test": "b\nc\n"}), capsys)
    assert told == (
        "images in several lists, kept in the last of train, validation and test: 1 (b); "
        "images with two files of annotations, the first counts: 1 (JPEGImages/a.png)."
    )


def test_nothing_left_is_refused_with_what_to_do(place):
    text = refusal_of(place({stem: annotation() for stem in "abc"}))
    assert text.endswith("3 images and not one object; draw boxes around some, with their class.")


def test_no_image_at_all_is_refused_with_what_to_do(place):
    text = refusal_of(place({"x": annotation(thing())}))
    assert "not one of its annotations belongs to an image that is there; put the images beside them or into JPEGImages (" in text


@needs_data
def test_real_blood_cells():
    dataset, found = read_dataset(DATA / "bccd")
    assert "364 images with Pascal VOC annotations, 4888 objects of 3 classes, so the task is detect." in found
    assert dict(zip(*np.unique(dataset.splits, return_counts=True), strict=True)) == {"train": 205, "validation": 87, "test": 72}
    assert dataset.labels == ("Platelets", "RBC", "WBC")
    # The file says 260, 177, 491, 376 for its first cell, and 640 for the right edge of another.
    assert dataset.targets[0].boxes[0].tolist() == [259, 176, 491, 376]
    assert max(float(target.boxes[:, 2].max(initial=0)) for target in dataset.targets) == 640


def test_a_classifier_that_is_to_be_measured_on_boxes_is_told_so(place):
    model = Path("pets.sight")
    dataset = read_for(model, "classify", place({"a": annotation(thing())}), ReadConfig(), Limits())
    with pytest.raises(DataError, match=r"know the class 'JPEGImages'\. The folder holds Pascal VOC annotations, which are for detect\.$"):
        targets_for(["cat", "dog"], dataset, model)
