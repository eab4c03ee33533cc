"""yolo: objects from text files beside images, described by YAML; every fault with its sentence."""

from __future__ import annotations

import codecs
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from places import SIZE, by_name, refusal_of, warning_of, write_images
from sightline.data import yolo
from sightline.data.layouts import layout_of
from sightline.data.readers import read_dataset
from sightline.data.yaml_keys import NotUnderstood, read_keys

ROW = "0 0.5 0.5 0.25 0.2\n"
BOX = [15, 12, 25, 18]
NAMES = "names: [cat, dog]\n"


@pytest.fixture
def place(tmp_path):
    """Writes ``images`` and ``labels`` by the images' ways, and ``data.yaml``; None for an image without a text file."""

    def write(labels: dict[str, str | None], description: str | None = NAMES, suffix: str = "png") -> Path:
        folder = tmp_path / "data"
        for way, text in labels.items():
            write_images(folder / "images", f"{way}.{suffix}")
            if text is not None:
                (folder / "labels" / way).parent.mkdir(parents=True, exist_ok=True)
                (folder / "labels" / f"{way}.txt").write_text(text)
        if description is not None:
            (folder / "data.yaml").write_text(description)
        return folder

    return write


# ---- what the format says --------------------------------------------------------------------------------------------


def test_boxes_are_middles_and_sizes_as_shares(place):
    dataset, found = read_dataset(place({"a": ROW + "1 0.5 0.5 1 1\n", "b": "", "c": None}))
    assert by_name(dataset) == {"a.png": ("", [("cat", BOX), ("dog", [0, 0, 40, 30])]), "b.png": ("", []), "c.png": ("", [])}
    assert "3 images with YOLO labels, 2 objects of 2 classes, 2 images with none, so the task is detect." in found


def test_more_numbers_are_an_outline(place):
    dataset, _ = read_dataset(place({"a": f"1 0.1 0.1 0.5 0.1 0.5 0.6\n{ROW}"}))
    objects = dataset.targets[0]
    assert objects.boxes[0].tolist() == pytest.approx([4, 3, 20, 18])
    assert objects.outlines[0][0] == pytest.approx(np.array([[4, 3], [20, 3], [20, 18]]))
    assert objects.outlines[1] is None
    assert objects.areas.tolist() == pytest.approx([120, 60])
    assert read_dataset(place({"a": f"1 0.1 0.1 0.5 0.1 0.5 0.6\n{ROW}"}), task="segment")[0].labels == ("background", "cat", "dog")


def test_a_score_behind_a_box_is_set_aside_and_said_once(place, capsys):
    folder = place({"a": "0 0.5 0.5 0.25 0.2 0.93\n1 0.5 0.5 1 1 0\n", "b": f"{ROW}0 0.5 0.5 0.25 0.2 1\n"})
    assert by_name(read_dataset(folder)[0]) == {
        "a.png": ("", [("cat", BOX), ("dog", [0, 0, 40, 30])]), "b.png": ("", [("cat", BOX), ("cat", BOX)])
    }  # fmt: skip
    said = capsys.readouterr().err
    assert said.count("boxes with a score behind them, which is set aside: 3 (images/a.png, images/b.png).") == 1


@pytest.mark.parametrize(("shape", "points"), [("[2, 3]", "0.1 0.1 2 0.3 0.3 1"), ("[1, 3]", "0.1 0.1 2"), ("[2, 2]", "0.1 0.1 0.3 0.3")])
def test_of_boxes_with_key_points_the_boxes_count(place, capsys, shape, points):
    folder = place({"a": f"0 0.5 0.5 0.25 0.2 {points}\n1 0.5 0.5 1 1\n"}, f"kpt_shape: {shape}\n{NAMES}")
    assert warning_of(folder, capsys) == "boxes with key points behind them, which are set aside: 1 (images/a.png)."
    dataset, _ = read_dataset(folder)
    assert by_name(dataset) == {"a.png": ("", [("cat", BOX), ("dog", [0, 0, 40, 30])])}
    assert dataset.targets[0].outlines is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_shares_of_the_image_as_a_viewer_shows_it(place, orientation):
    folder = place({"a": ROW})
    (folder / "images" / "a.png").unlink()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", SIZE).save(folder / "images" / "a.jpg", exif=exif.tobytes())
    expected = BOX if orientation < 5 else [11.25, 16, 18.75, 24]
    assert read_dataset(folder)[0].targets[0].boxes.tolist() == [pytest.approx(expected)]


def test_labels_beside_their_images(tmp_path):
    write_images(tmp_path, "train/a.png", "val/b.png")
    (tmp_path / "train" / "a.txt").write_text(ROW)
    (tmp_path / "val" / "b.txt").write_text(ROW)
    (tmp_path / "set.yml").write_text(NAMES)
    assert by_name(read_dataset(tmp_path)[0]) == {"a.png": ("train", [("cat", BOX)]), "b.png": ("validation", [("cat", BOX)])}


def test_names_in_a_text_file(place):
    folder = place({"a": ROW}, description=None)
    (folder / "classes.txt").write_text("cat\ndog\n")
    assert by_name(read_dataset(folder)[0]) == {"a.png": ("", [("cat", BOX)])}


def test_a_byte_order_mark_is_no_part_of_the_text(place):
    folder = place(SPLITS, f"{NAMES}train: images/train\nval: val.txt\n")
    (folder / "val.txt").write_text("images/val/b.png\n")
    for path in folder.rglob("*.*"):
        if path.suffix in (".txt", ".yaml"):
            path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert by_name(read_dataset(folder)[0]) == {"a.png": ("train", [("cat", BOX)]), "b.png": ("validation", [("cat", BOX)])}
    (folder / "data.yaml").unlink()
    (folder / "classes.txt").write_text("cat\ndog\n", encoding="utf-8-sig")
    assert read_dataset(folder)[0].labels == ("cat",)


def test_text_in_utf_16_is_named_as_such(place, capsys):
    folder = place({"train/a": ROW, "train/b": ROW, "val/c": ROW}, f"{NAMES}train: images/train\nval: val.txt\n")
    (folder / "val.txt").write_text("images/val/c.png\n", encoding="utf-16")
    (folder / "labels" / "train" / "b.txt").write_text(ROW, encoding="utf-16")
    told = warning_of(folder, capsys)
    assert told.startswith("files that are broken, left out: 1 (val.txt: is text in UTF-16, not in UTF-8); ")
    assert told.endswith("left out: 1 (images/train/b.png: labels/train/b.txt is text in UTF-16, not in UTF-8).")
    (folder / "data.yaml").write_text(NAMES, encoding="utf-16")
    assert "data.yaml: is not understood (is text in UTF-16, not in UTF-8); write names: [a, b]" in refusal_of(folder)
    (folder / "data.yaml").unlink()
    (folder / "classes.txt").write_bytes("zèbre\n".encode("latin-1"))
    assert refusal_of(folder).endswith("classes.txt: is not understood (is not text in UTF-8); write one name a line.")


def test_labels_are_recognised_behind_empty_ones_and_in_a_folder_with_a_capital(place, monkeypatch):
    folder = place({**{f"{number:02}": "\n" for number in range(20)}, "a": f"\n{ROW}"}, description=None)
    (folder / "labels").rename(folder / "Labels")
    (folder / "classes.txt").write_text("cat\n")
    assert "YOLO labels, 1 objects of 1 class, 20 images with none" in read_dataset(folder)[1]
    monkeypatch.setattr(yolo, "OPENED_FILES", 20)
    assert layout_of(folder, None) is None


# ---- splits ----------------------------------------------------------------------------------------------------------

SPLITS = {"train/a": ROW, "val/b": ROW, "test/c": ROW}
FOUND = {"a.png": "train", "b.png": "validation", "c.png": "test"}


@pytest.mark.parametrize(
    "description",
    [
        NAMES,
        f"{NAMES}train: images/train\nval: images/val\ntest: images/test\n",
        f"path: ../datasets/cats  # of another machine\ntrain: images/train\nval: images/val\ntest: [images/test]\n{NAMES}",
        f"{NAMES}train: /home/someone/cats/images/train\nval:\n- C:\\cats\\images\\val\ntest: ./images/test/\n",
        f"{NAMES}train: train.txt\nval: images/val\ntest: images/test\n",
    ],
    ids=["folders", "named", "base", "elsewhere", "list"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_the_description_or_the_folders_say_the_splits(place, tmp_path, description, packed):
    folder = place(SPLITS, description)
    (folder / "train.txt").write_text("./images/train/a.png\n")
    path = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", folder)) if packed else folder
    assert {name: split for name, (split, _) in by_name(read_dataset(path)[0]).items()} == FOUND


def test_a_description_can_be_given_where_there_are_several(place):
    folder = place(SPLITS, f"{NAMES}train: images/train\n")
    (folder / "data.yaml").rename(folder / "one.yaml")
    (folder / "two.yaml").write_text(f"{NAMES}train: images/val\ntest: images/test\n")
    assert "has several descriptions of YOLO data (one.yaml, two.yaml); give the path of one instead" in refusal_of(folder)
    assert sorted(by_name(read_dataset(folder / "two.yaml")[0])) == ["b.png", "c.png"]


def test_one_folder_for_training_and_validation_is_not_split(place, capsys):
    assert read_dataset(place({"a": ROW}, f"{NAMES}train: images\nval: images\n"))[0].splits is None
    assert "training and validation are the same images here, so they are taken as not split." in capsys.readouterr().err


def test_an_image_in_two_splits_is_kept_for_the_test(place, capsys):
    folder = place({"train/a": ROW, "train/x/b": ROW}, f"{NAMES}train: images/train\ntest: images/train/x\n")
    told = warning_of(folder, capsys)
    assert told == "images in several splits, kept in the last of train, validation and test: 1 (images/train/x/b.png)."
    assert read_dataset(folder)[0].splits.tolist() == ["train", "test"]


# ---- faults ----------------------------------------------------------------------------------------------------------

FAULTS = {
    "boxes that reach outside their image, clipped: 1 (images/b.png)": "0 0.9 0.5 0.5 0.5",
    "boxes outside their image, left out: 1 (images/b.png)": "0 200 150 30 30",
    "boxes that are empty or inverted, left out: 1 (images/b.png)": "0 0.5 0.5 0 0.1",
    "boxes with numbers that are not finite, left out: 1 (images/b.png)": "0 nan 0.5 0.1 0.1",
    "lines that are not understood, left out: 2 (images/b.png, line 1, images/b.png, line 2)": "cat 0.5 0.5 0.1 0.1\n0 0.5 0.5 0.1",
    "lines that are not understood, left out: 1 (images/b.png, line 3)": "\n\n0 0.5 0.5 0.1 0.1 1.1\n",
    "annotations of classes that are not defined, left out: 2 (images/b.png: 2, images/b.png: -1)": "2 0.5 0.5 0.1 0.1\n-1 0.5 0.5 0.1 0.1",
}


@pytest.mark.parametrize("what", FAULTS)
def test_each_fault_is_told_and_the_rest_is_used(place, capsys, what):
    folder = place({"a": ROW, "b": FAULTS[what]})
    assert warning_of(folder, capsys) == f"{what}."
    assert len(by_name(read_dataset(folder)[0])["b.png"][1]) == ("clipped" in what)


def test_files_without_each_other_and_broken_ones(place, capsys):
    folder = place({"train/a": ROW, "train/b": ROW, "train/c": ROW, "other/d": ROW}, f"{NAMES}train: images/train\nval: images/val\n")
    (folder / "images" / "train" / "b.png").write_bytes(b"text")
    (folder / "labels" / "train" / "c.txt").write_bytes(b"\xff\xfe\xfa")
    (folder / "labels" / "train" / "x.txt").write_text(ROW)
    assert warning_of(folder, capsys) == (
        "places of splits that are not there, left out: 1 (val: images/val); "
        "images in no split that the description names, left out: 1 (images/other/d.png); "
        "annotations of images that are not there, left out: 1 (labels/train/x.txt); "
        "images that cannot be used, left out: 2 (images/train/b.png: not an image but text, "
        "images/train/c.png: labels/train/c.txt is text in UTF-16, not in UTF-8)."
    )


def test_images_in_lists_that_are_not_there_are_told(place, capsys):
    folder = place({"train/a": ROW, "val/b": ROW}, f"{NAMES}train: train.txt\nval: val.txt\n")
    (folder / "train.txt").write_text("images/train/a.png\nimages/train/x.png\n")
    (folder / "val.txt").write_text("images/val/y.png\n")
    assert warning_of(folder, capsys) == (
        "images in lists that are not there, left out: 2 (images/train/x.png, images/val/y.png); "
        "images in no split that the description names, left out: 1 (images/val/b.png)."
    )


def test_a_name_in_a_list_that_several_images_have_is_told(place, capsys):
    folder = place({"train/a": ROW, "val/a": ROW, "train/b": ROW}, f"{NAMES}train: train.txt\n")
    (folder / "train.txt").write_text("a.png\nb.png\n")
    assert warning_of(folder, capsys).startswith("names that several images have, left out: 1 (a.png); ")


def test_no_names_are_refused_with_what_to_write(place):
    text = refusal_of(place({"a": ROW}, description=None))
    assert text.endswith('and no names for them; write data.yaml with names: ["first class", "second class"].')
    for description in ("names:\n", "names: {}\n", "names: []\n", "names: {cat: 0}\n", 'names: {"²": cat}\n', "names: {100000: cat}\n"):
        assert refusal_of(place({"a": ROW}, description)) == text


def test_a_broken_description_is_refused_with_its_line(place):
    text = refusal_of(place({"a": ROW}, "train: images\nnames: [cat, dog\n"))
    assert "data.yaml: is not understood (line 2: the list has no end)" in text


def test_a_description_of_megabytes_is_refused(place):
    text = refusal_of(place({"a": ROW}, f"{NAMES}# {'x' * 1_200_000}\n"))
    assert "data.yaml: is not understood (holds 1.2" in text
    assert "megabytes, the limit is 1); write names: [a, b]" in text


def test_nothing_left_is_refused_with_what_to_do(place):
    assert refusal_of(place({"a": "", "b": None})).endswith("2 images and not one object; draw boxes around some, with their class.")
    (place({"a": ROW}) / "images" / "a.png").write_bytes(b"text")
    (place({}) / "images" / "b.png").unlink()
    assert "not one image that belongs to them; put the images into images, beside labels (images that" in refusal_of(place({}))


# ---- YAML ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("names: [cat, 'big dog', \"d\\u00e9\"]", ["cat", "big dog", "dé"]),
        ("names: ['it''s', 'a # b', \"c, d\"]  # three", ["it's", "a # b", "c, d"]),
        ("names: [ cat,\n   dog,\n  cow ]\nnc: 3", ["cat", "dog", "cow"]),
        ("names:\n- cat\n- 'dog'  # the second\n\n# more\n- don't", ["cat", "dog", "don't"]),
        ("names:\n  - cat\n  - a:b\n", ["cat", "a:b"]),
        ("names:\n  0: cat\n  1: 'dog'\n", {"0": "cat", "1": "dog"}),
        ("names: {0: cat, 1: \"dog\"}\n", {"0": "cat", "1": "dog"}),
        ("---\n# about\n'names': cat\n...\n", "cat"),
        ("roboflow:\n  license: CC BY 4.0\n  url: x\ndownload: |\n  import os\n  a: [b\nnames: [a]\n", ["a"]),
        ("names: []\n", []),
    ],
)  # fmt: skip
def test_what_such_files_hold_is_read(text, expected):
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    theirs = yaml.safe_load(text)["names"]
    assert read_keys(text, ("names",)) == {"names": expected}
    assert (theirs if not isinstance(theirs, dict) else {str(key): name for key, name in theirs.items()}) == expected


def test_long_descriptions_are_read_in_one_pass():
    """Were each line or blank held against all others, these would take an hour."""
    assert read_keys("names: [\n" + "a,\n" * 200_000 + "b]\nnc: 2\n", ("names",)) == {"names": ["a"] * 200_000 + ["b"]}
    wide = f"a{' ' * 400_000}b"
    assert read_keys(f"names: [{wide}, c:d]", ("names",)) == {"names": [wide, "c:d"]}
    with pytest.raises(NotUnderstood):
        read_keys('names: ["' + '\\"' * 300_000 + " # c]", ("names",))


def test_a_list_over_several_lines_ends_with_its_bracket():
    text = "names: [a,  # ] is no end here\n  '], b',\nc: d,\n  \"e [\"\n]\nnc: 4\n"
    with pytest.raises(NotUnderstood, match=r"line 1: 'c: d, \"e \[\"' is not understood"):
        read_keys(text, ("names",))
    assert read_keys(text.replace("c: d", "c:d"), ("names", "nc")) == {"names": ["a", "], b", "c:d", "e ["], "nc": "4"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("names: *others", "line 1: '*others' is not understood; put it into quotes if it is text"),
        ("a: 1\nnames:\n  - [cat, dog]\n", "line 3: '[cat, dog]' is not understood"),
        ("names:\n  - name: cat\n", "line 2: 'name: cat' is not understood"),
        ("names: !!python/object:os.system []", "line 1: '!!python/object:os.system []' is not understood"),
        ("names: |\n  cat\n", "line 2: text over several lines is not understood"),
        ("names: cat\n  dog\n", "line 2: text over several lines is not understood"),
        ("names:\n  0:\n    cat\n", "line 2: nested values are not understood"),
        ("names:\n  cat\n", "line 2: 'cat' is no key with a value"),
        ("cat\nnames: [a]\n", "line 1: 'cat' is no key with a value"),
        ("  cat: dog\n", "line 1: does not begin with a key"),
        ("names: [a]\nnames: [b]\n", "line 2: names is there twice"),
        ("names: [a, [b]]\n", "line 1: '[b]' is not understood"),
        ("names: {a, b}\n", "line 1: 'a, b' is not understood"),
        ("names: [a: b]\n", "line 1: 'a: b' is not understood"),
        ("names: 'a\n", "is not understood"),
        ('names: "\\x"\n', "is not understood"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_line(text, reason):
    with pytest.raises(NotUnderstood) as caught:
        read_keys(text, ("names",))
    assert reason in str(caught.value)
