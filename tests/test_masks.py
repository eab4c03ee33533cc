"""masks: the class of each pixel from index and colour masks, by their class table; every fault with its sentence."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import DATA, needs_data
from places import SIZE, refusal_of, warning_of, write_images
from sightline.data.decode import Limits
from sightline.data.masks import read_map
from sightline.data.readers import read_dataset
from sightline.errors import ImageError, UsageError

SKY, ROAD, VOID = (0, 0, 200), (90, 90, 90), (0, 0, 0)


def stripes(*values: int, size=SIZE, dtype=np.uint8) -> np.ndarray:
    """(h, w) as many upright stripes of one width."""
    width, height = size
    return np.repeat(np.array(values, dtype), width // len(values))[None].repeat(height, axis=0)


@pytest.fixture
def place(tmp_path):
    """Writes images a and b, masks by name, and the text of class tables by name."""

    def write(masks: dict[str, np.ndarray | Image.Image], **tables: object) -> Path:
        folder = write_images(tmp_path / "data", "images/a.png", "images/b.png")
        for name, values in masks.items():
            (folder / "masks").mkdir(exist_ok=True)
            (values if isinstance(values, Image.Image) else Image.fromarray(values)).save(folder / "masks" / f"{name}.png")
        for suffix, table in tables.items():
            (folder / f"classes.{suffix}").write_text(table if isinstance(table, str) else json.dumps(table))
        return folder

    return write


TWO = {"a": stripes(0, 1), "b": stripes(1, 1)}
NAMES = ["sky", "road"]


def counted(folder: Path, **reading) -> dict[str, list[int]]:
    """Label -> its pixels in each image, as the data set has them and as the maps do."""
    dataset, _ = read_dataset(folder, **reading)
    maps = [read_map(target) for target in dataset.targets]
    for target, found in zip(dataset.targets, maps, strict=True):
        assert target.size == found.shape[::-1]
        assert target.pixels.tolist() == [np.count_nonzero(found == place) for place in range(len(dataset.labels))]
    return {label: [int(np.count_nonzero(found == place)) for found in maps] for place, label in enumerate(dataset.labels)}


# ---- values ----------------------------------------------------------------------------------------------------------


def test_numbers_are_places_in_a_list_of_names(place):
    dataset, found = read_dataset(place(TWO, json=NAMES))
    assert found.endswith("2 images with masks, 2 classes, so the task is segment.")
    assert [Path(ref.path).name for ref in dataset.refs] == ["a.png", "b.png"]
    assert counted(place(TWO, json=NAMES)) == {"sky": [600, 0], "road": [600, 1200]}


@pytest.mark.parametrize(
    "table",
    [
        {"json": {"sky": 0, "road": 1}},
        {"json": {"0": "sky", "1": "road"}},
        {"json": [{"name": "sky", "id": 0}, {"name": "road", "value": 1}]},
        {"txt": "sky\nroad\n"},
        {"csv": "name,value\nsky,0\nroad,1\n"},
        {"csv": "Index, Class\n0, sky\n1, road\n"},
    ],
)
def test_class_tables_of_numbers(place, table):
    assert counted(place(TWO, **table)) == {"sky": [600, 0], "road": [600, 1200]}


@pytest.mark.parametrize(
    "table",
    [
        {"json": {"sky": SKY, "road": ROAD, "void": VOID}},
        {"json": [{"name": "sky", "color": SKY}, {"name": "road", "colour": ROAD}, {"name": "Void", "rgb": VOID}]},
        {"csv": "name,r,g,b\nsky,0,0,200\nroad,90,90,90\nvoid,0,0,0\n"},
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_class_tables_of_colours(place, table, mode):
    colours = np.array([SKY, ROAD, VOID], np.uint8)[stripes(0, 1, 2, 2)]
    mask = Image.fromarray(colours).convert(mode, palette=Image.Palette.ADAPTIVE)
    assert counted(place({"a": mask}, **table)) == {
        "sky": [300],
        "road": [300],
    }


def test_of_a_palette_the_numbers_count_and_not_their_colours(place):
    mask = Image.fromarray(stripes(0, 1)).convert("P")
    mask.putpalette([9, 9, 9, 9, 9, 9])
    assert counted(place({"a": mask}, json=NAMES)) == {"sky": [600], "road": [600]}


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_of_few_bits_the_numbers_count(place, bits):
    folder = place({}, json=NAMES)
    (folder / "masks").mkdir()
    (folder / "masks" / "a.png").write_bytes(_grey_png(stripes(0, 1), bits))
    assert counted(folder) == {"sky": [600], "road": [600]}


def _grey_png(values: np.ndarray, bits: int) -> bytes:
    """A grey PNG of so many bits a pixel, which Pillow does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = values.shape
    each = 8 // bits
    packed = (values.reshape(height, width // each, each) << (np.arange(each)[::-1] * bits)).sum(axis=-1).astype(np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_sixteen_bits_and_grey_saved_in_colour(place):
    assert counted(place({"a": stripes(0, 700, dtype=np.uint16)}, json={"sky": 0, "road": 700})) == {"sky": [600], "road": [600]}
    grey = Image.fromarray(stripes(0, 1)).convert("RGB")
    assert counted(place({"a": grey}, json=NAMES)) == {"sky": [600], "road": [600]}


def test_void_and_255_are_ignored_and_leave_no_gap(place, capsys):
    folder = place({"a": stripes(0, 1, 2, 255), "b": stripes(1, 1)}, json=["void", "sky", "road"])
    assert counted(folder) == {"sky": [300, 1200], "road": [300, 0]}
    assert np.count_nonzero(read_map(read_dataset(folder)[0].targets[0]) == 255) == 600
    assert "!" not in capsys.readouterr().err


def test_255_is_a_class_where_the_table_says_so(place):
    assert counted(place({"a": stripes(0, 255)}, json={"background": 0, "object": 255})) == {"background": [600], "object": [600]}


def test_two_values_may_mean_one_class_and_classes_without_pixels_are_none(place, capsys):
    folder = place(
        {"a": stripes(0, 1, 2, 2)},
        json=[{"name": "sky", "id": 0}, {"name": "road", "id": 1}, {"name": "road", "id": 2}, {"name": "sea", "id": 3}],
    )
    assert counted(folder) == {"sky": [300], "road": [900]}
    assert "no pixel is of sea, left out of the classes." in capsys.readouterr().err


def test_maps_in_terms_of_other_labels(place):
    dataset, _ = read_dataset(place(TWO, json=NAMES))
    (first, _) = dataset.targets_among(("road", "sea", "sky"))
    assert np.bincount(read_map(first).ravel()).tolist() == first.pixels.tolist() == [600, 0, 600]


# ---- layouts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["{split}/images/x.png {split}/masks/x.png", "images/{split}/x.png masks/{split}/x_mask.png"])
@pytest.mark.parametrize("packed", [False, True])
def test_folders_say_the_splits(tmp_path, layout, packed):
    for split in ("train", "val", "test"):
        image, mask = layout.format(split=split).split()
        write_images(tmp_path / "data", image)
        (tmp_path / "data" / mask).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(TWO["a"]).save(tmp_path / "data" / mask)
    (tmp_path / "data" / "classes.json").write_text(json.dumps(NAMES))
    path = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "data")) if packed else tmp_path / "data"
    assert sorted(read_dataset(path)[0].splits.tolist()) == ["test", "train", "validation"]
    assert counted(path) == {"sky": [600] * 3, "road": [600] * 3}


def test_an_image_may_be_called_as_masks_are(place, capsys):
    folder = place({"shoe_label": TWO["a"], "shoe": TWO["b"], "a-mask": TWO["a"], "b_label": TWO["a"]}, json=NAMES)
    write_images(folder, "images/shoe_label.jpg", "images/shoe.jpg")
    dataset, _ = read_dataset(folder)
    assert {Path(ref.path).stem: target.pixels.tolist()[0] for ref, target in zip(dataset.refs, dataset.targets, strict=True)} == {
        "a": 600, "b": 600, "shoe": 0, "shoe_label": 600
    }  # fmt: skip
    assert "!" not in capsys.readouterr().err


def test_masks_give_segmentation_and_nothing_else(place):
    with pytest.raises(UsageError, match=r"--task detect: .* holds masks, which give segment\."):
        read_dataset(place(TWO, json=NAMES), task="detect")
    assert read_dataset(place(TWO, json=NAMES), task="classify")[0].labels == ("images", "masks")


# ---- faults ----------------------------------------------------------------------------------------------------------

COLOURED = np.array([SKY, ROAD], np.uint8)[stripes(0, 1)]
FAULTS = {
    "masks of another size than their image, left out: 1 (masks/b.png: 30 x 40, not 40 x 30)": stripes(0, 1, size=(30, 40)),
    "pixels with values of no class, ignored: 600 (masks/b.png)": stripes(0, 7),
    "masks that cannot be used, left out: 1 (masks/b.png: is in colour, and the class table has no colours)": np.array(
        [SKY, ROAD], np.uint8
    )[stripes(0, 1)],
}


@pytest.mark.parametrize("what", FAULTS)
def test_each_fault_is_told_and_the_rest_is_used(place, capsys, what):
    folder = place({**TWO, "b": FAULTS[what]}, json=NAMES)
    assert warning_of(folder, capsys) == f"{what}."
    assert counted(folder) == {"sky": [600, 600] if "pixels" in what else [600], "road": [600, 0] if "pixels" in what else [600]}


def test_colours_of_no_class_are_ignored_and_counted(place, capsys):
    colours = np.array([SKY, ROAD, (1, 2, 3)], np.uint8)[stripes(0, 1, 2, 2)]
    folder = place({"a": colours}, json={"sky": SKY, "road": ROAD})
    assert warning_of(folder, capsys).startswith(
        "images without a mask, left out: 1 (images/b.png); pixels with values of no class, ignored: 600"
    )


def test_a_broken_mask_and_masks_and_images_without_each_other(place, capsys):
    folder = place({"a": TWO["a"], "x": TWO["a"], "b": TWO["b"]}, json=NAMES)
    (folder / "masks" / "b.png").write_bytes(b"text")
    write_images(folder, "images/c.png")
    assert warning_of(folder, capsys) == (
        "images without a mask, left out: 1 (images/c.png); masks of images that are not there, left out: 1 (masks/x.png); "
        "masks that cannot be used, left out: 1 (masks/b.png: not an image but text)."
    )


def test_of_several_images_or_masks_of_one_name_the_first_counts_and_it_is_said(place, capsys):
    folder = place({"a": TWO["a"], "a_mask": TWO["b"], "b": TWO["b"]}, json=NAMES)
    write_images(folder, "images/a.jpg")
    (folder / "labels").mkdir()
    shutil.copy(folder / "masks" / "a.png", folder / "labels" / "b.png")
    assert warning_of(folder, capsys) == (
        "images of one name, the first counts: 1 (images/a.png); masks of one name, the first counts: 2 (masks/a_mask.png, masks/b.png)."
    )
    assert counted(folder) == {"sky": [600, 600], "road": [600, 600]}
    assert Path(read_dataset(folder)[0].refs[0].path).name == "a.jpg"


def test_a_broken_image_stays_for_the_gate_to_name(place):
    folder = place(TWO, json=NAMES)
    (folder / "images" / "b.png").write_bytes(b"text")
    assert len(read_dataset(folder)[0]) == 2


def test_limits_hold_for_masks(place):
    text = refusal_of(place(TWO, json=NAMES), limits=Limits(max_pixels=1000))
    assert "not one mask can be used (masks that cannot be used, left out: 2 (masks/a.png: declares 40 x 30 = 0.0012 megapixels" in text


def test_without_a_class_table_the_values_are_named_to_write_one(place):
    text = refusal_of(place({"a": stripes(0, 255)}))
    assert """classes.json with each value's name, as {"0": "a name", "255": "a name"}; if its folders""" in text


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"json": "[1,\n"}, "classes.json: is broken on line 2 (Expecting value)"),
        ({"json": "7"}, "is not understood as a class table"),
        ({"json": {"sky": -1}}, "is not understood as a class table (value -1)"),
        ({"json": {"sky": [1, 2, 300]}}, "is not understood as a class table (colour [1, 2, 300])"),
        ({"json": {"sky": 0, "road": SKY}}, "some classes have colours and some numbers; mend the class table"),
        ({"json": {"sky": 0, "road": 0}}, "a value stands for several classes (0)"),
        ({"json": [*map(str, range(256))]}, "has 256 classes, of which there may be 255"),
        ({"txt": "sky\n\nroad\n"}, "every class needs a name"),
        ({"csv": "a,b\n1,2\n"}, "is not understood as a class table (a class without a name)"),
        ({"csv": "name,value\nsky\n"}, "is not understood as a class table (a class without a value)"),
        ({"csv": "value,name\n0\n"}, "is not understood as a class table (a class without a name)"),
        ({"csv": f'name,value\n"{"x" * 200_000}",0\n'}, "is not understood as a class table (field larger than field limit"),
        ({"json": '"sky"'}, "is not understood as a class table (neither a list nor a map)"),
        ({"json": [["sky", 0]]}, "is not understood as a class table (a class that is neither a name nor a map)"),
        ({"json": [1, 2]}, "is not understood as a class table (a class that is neither a name nor a map)"),
        ({"json": ["sky", {"name": "road", "value": 1}]}, "(a class that is neither a name nor a map)"),
        ({"json": [{"name": 5, "value": 0}]}, "is not understood as a class table (name '5')"),
        ({"json": '{"sky": Infinity}'}, "is not understood as a class table (cannot convert float infinity to integer)"),
        ({"json": f'{{"sky": {"9" * 5000}}}'}, "is not understood as a class table (Exceeds the limit (4300 digits)"),
    ],
)
def test_a_broken_class_table_is_refused(place, table, reason):
    assert reason in refusal_of(place(TWO, **table))


def test_a_class_table_in_utf_16_and_one_of_a_hundred_thousand_names_are_refused(place):
    """Were each value held against all others, that would take minutes."""
    assert "has 100000 classes, of which there may be 255" in refusal_of(place(TWO, json=[*map(str, range(100_000))]))
    (folder := place(TWO, json=NAMES)).joinpath("classes.json").write_text(json.dumps(NAMES), encoding="utf-16")
    assert "(is text in UTF-16, not in UTF-8); write a list of names" in refusal_of(folder)
    folder.joinpath("classes.json").write_text(json.dumps(NAMES), encoding="utf-8-sig")
    assert counted(folder) == {"sky": [600, 0], "road": [600, 1200]}


def test_masks_without_any_class_are_refused(place):
    assert "not one pixel of its masks has a class" in refusal_of(place({"a": stripes(9, 9)}, json=NAMES))


def test_a_mask_that_is_gone_when_it_is_read_is_named(place):
    dataset, _ = read_dataset(place(TWO, json=NAMES))
    Path(dataset.targets[0].source.path).unlink()
    with pytest.raises(ImageError, match=r"a\.png: no such file"):
        read_map(dataset.targets[0])


def test_a_mask_that_was_let_through_is_read_again(place, monkeypatch):
    dataset, _ = read_dataset(place(TWO, json=NAMES))
    monkeypatch.setattr("sightline.data.masks.MAX_PIXELS", 10)
    first = dataset.targets[0]
    np.testing.assert_array_equal(read_map(first), TWO["a"])
    Image.fromarray(stripes(0, 1, size=(2 * SIZE[0], SIZE[1]))).save(first.source.path)
    with pytest.raises(ImageError, match="megapixels, the limit is"):
        read_map(first)


@needs_data
def test_real_driving_scenes():
    dataset, found = read_dataset(DATA / "camvid")
    assert "210 images with masks, 11 classes, so the task is segment." in found
    assert np.unique(dataset.splits, return_counts=True)[1].tolist() == [60, 120, 30]
    assert "void" not in dataset.labels
    first = dataset.targets[0]
    assert np.bincount(read_map(first).ravel(), minlength=256)[:11].tolist() == first.pixels.tolist()
