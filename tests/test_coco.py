"""coco: objects from COCO JSON in the layouts it comes in, every fault with its sentence, and what is left all used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import DATA, needs_data
from places import SIZE, by_name, refusal_of, warning_of, write_images
from sightline.data.masks import read_map
from sightline.data.readers import read_dataset
from sightline.errors import DataError, UsageError

TRIANGLE = [[2.0, 2.0, 12.0, 2.0, 2.0, 12.0]]


def coco(images=("a.png", "b.png"), annotations=(), categories=("cat", "dog")) -> dict:
    """Images numbered from 1, as names or entries; annotations as entries, of which what is not said is filled in."""
    filled = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 20], "area": 200, "iscrowd": 0}
    return {
        "images": [
            {"id": number, "file_name": image, "width": SIZE[0], "height": SIZE[1]} if isinstance(image, str) else image
            for number, image in enumerate(images, 1)
        ],
        "annotations": [
            {"id": number, **filled, **entry} if isinstance(entry, dict) else entry for number, entry in enumerate(annotations, 1)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(categories, 1)],
    }


@pytest.fixture
def place(tmp_path):
    """Writes a folder with two images and annotations, as ``coco`` takes them."""

    def write(*annotations, name: str = "all.json", **given) -> Path:
        folder = write_images(tmp_path / "data", "a.png", "b.png")
        (folder / name).write_text(json.dumps(coco(annotations=annotations, **given)))
        return folder

    return write


# ---- what the format says --------------------------------------------------------------------------------------------


def test_boxes_have_their_corner_at_zero_and_become_left_top_right_bottom(place):
    dataset, found = read_dataset(place({}, {"category_id": 2, "bbox": [0, 0, 40, 30]}))
    assert by_name(dataset) == {"a.png": ("", [("cat", [1, 2, 11, 22]), ("dog", [0, 0, 40, 30])]), "b.png": ("", [])}
    assert (dataset.task, dataset.labels, dataset.splits) == ("detect", ("cat", "dog"), None)
    assert found.endswith("2 images with COCO annotations, 2 objects of 2 classes, 1 image with none, so the task is detect.")


def test_crowds_areas_and_outlines_are_kept(place):
    dataset, _ = read_dataset(
        place(
            {"iscrowd": 1, "area": 77.5},
            {"segmentation": TRIANGLE, "bbox": [2, 2, 10, 10], "area": 50},
            {"segmentation": {"size": [30, 40], "counts": [35, 5, 30 * 40 - 40]}, "bbox": [1, 5, 1, 5]},
        )
    )
    objects = dataset.targets[0]
    assert objects.crowd.tolist() == [True, False, False]
    assert objects.areas.tolist() == [77.5, 50, 5]  # an area above that of the box cannot be
    assert objects.outlines[0] is None
    assert objects.outlines[1][0].tolist() == [[2, 2], [12, 2], [2, 12]]
    assert objects.outlines[2].tolist() == [35, 5, 1160]


def test_an_area_that_is_not_stated_is_that_of_the_outline_or_the_box(place):
    runs = {"size": [30, 40], "counts": [35, 5, 1160]}
    dataset, _ = read_dataset(
        place(
            {"area": None},
            {"segmentation": TRIANGLE, "bbox": [2, 2, 10, 10], "area": 0},
            {"segmentation": runs, "bbox": [1, 5, 1, 9], "area": "?"},
        )
    )
    assert dataset.targets[0].areas.tolist() == [200, 50, 5]


def test_a_box_that_is_missing_is_that_of_the_outline(place):
    dataset, _ = read_dataset(
        place({"segmentation": TRIANGLE, "bbox": None}, {"segmentation": {"size": [30, 40], "counts": [35, 5, 1160]}, "bbox": []})
    )
    assert dataset.targets[0].boxes.tolist() == [[2, 2, 12, 12], [1, 5, 2, 10]]


def test_a_one_pixel_box_and_ten_thousand_boxes_are_fine(place, capsys):
    rng = np.random.default_rng(0)
    many = [{"bbox": [*rng.integers(0, 30, 2).tolist(), 5, 0.5]} for _ in range(10_000)]
    dataset, _ = read_dataset(place({"bbox": [0, 0, 1, 1], "category_id": 2}, *many))
    assert len(dataset.targets[0]) == 10_001
    assert "!" not in capsys.readouterr().err


def test_one_class_is_enough(place):
    assert read_dataset(place({}))[0].labels == ("cat",)


# ---- layouts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layout",
    [
        {"train.json": "train", "val.json": "val", "test.json": "test"},
        {f"annotations/instances_{split}2017.json": f"{split}2017" for split in ("train", "val", "test")},
        {f"{split}/_annotations.coco.json": split for split in ("train", "valid", "test")},
        {f"annotations/{split}.json": f"images/{split}" for split in ("train", "val", "test")},
    ],
    ids=["beside", "coco", "roboflow", "images"],
)  # fmt: skip
@pytest.mark.parametrize("packed", [False, True])
def test_files_say_the_splits_and_images_are_found(tmp_path, layout, packed):
    """All splits have an image of one name."""
    folder = tmp_path / "data"
    for notes, images in layout.items():
        write_images(folder / images, "1.png", f"{images.replace('/', '_')}.png")
        (folder / notes).parent.mkdir(parents=True, exist_ok=True)
        (folder / notes).write_text(json.dumps(coco(("1.png", f"{images.replace('/', '_')}.png"), [{}])))
    path = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, "data")) if packed else folder
    dataset, found = read_dataset(path)
    assert ("of an archive" in found) is packed
    assert sorted(dataset.splits.tolist()) == sorted(["train", "validation", "test"] * 2)
    assert len({str(ref) for ref in dataset.refs}) == 6
    for sample in dataset:
        way = sample.ref.member or sample.ref.path
        assert {"train": "train", "validation": "val", "test": "test"}[sample.split] in way


def test_captions_and_key_points_beside_instances_are_left_alone(tmp_path):
    folder = write_images(tmp_path / "data", "train2017/a.png")
    for kind, names in {"instances": ("cat",), "person_keypoints": ("person",)}.items():
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / f"annotations/{kind}_train2017.json").write_text(json.dumps(coco(("a.png",), [{}], names)))
    assert read_dataset(folder)[0].labels == ("cat",)


def test_a_single_file_can_be_given_and_its_name_says_the_split(tmp_path):
    folder = write_images(tmp_path / "data", "val2017/a.png", "train2017/a.png")
    (folder / "annotations").mkdir()
    path = folder / "annotations" / "instances_val2017.json"
    path.write_text(json.dumps(coco(("a.png",), [{}])))
    dataset, _ = read_dataset(path)
    assert [(ref.path, split) for ref, split in zip(dataset.refs, dataset.splits, strict=True)] == [
        (str(folder / "val2017/a.png"), "validation")
    ]


def test_a_single_file_can_be_given_from_within_its_folder(tmp_path, monkeypatch):
    folder = write_images(tmp_path / "data", "val2017/a.png")
    (folder / "annotations").mkdir()
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(coco(("a.png",), [{}])))
    monkeypatch.chdir(folder / "annotations")
    assert by_name(read_dataset(Path("instances_val2017.json"))[0]) == {"a.png": ("validation", [("cat", [1, 2, 11, 22])])}
    monkeypatch.chdir(folder)
    assert read_dataset(Path("annotations", "instances_val2017.json"))[0].refs[0].path == "val2017/a.png"


@pytest.mark.parametrize(
    "others", [("gt/1.png",), ("masks/1.png",), ("gt/labels/1.png", "a/1.png"), ("images/old/1.png", "images/1/1.png")]
)
def test_of_images_of_one_name_the_one_among_images_is_meant(tmp_path, others, capsys):
    write_images(tmp_path, *others, "images/1.png")
    (tmp_path / "all.json").write_text(json.dumps(coco(("1.png",), [GOOD])))
    assert [Path(ref.path) for ref in read_dataset(tmp_path)[0].refs] == [tmp_path / "images/1.png"]
    assert "!" not in capsys.readouterr().err


@pytest.mark.parametrize("written", ["../pictures/a.png", "{}/pictures/a.png", "pictures\\a.png", "./pictures/a.png"])
def test_ways_to_images_may_be_relative_absolute_or_windows(tmp_path, written):
    write_images(tmp_path, "pictures/a.png")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "all.json").write_text(json.dumps(coco((written.format(tmp_path),), [{}])))
    path = tmp_path / "notes" if written.startswith(("..", "{")) else shutil.move(tmp_path / "notes" / "all.json", tmp_path / "all.json")
    dataset, _ = read_dataset(Path(path))
    assert Path(dataset.refs[0].path).resolve() == tmp_path / "pictures" / "a.png"


def test_a_way_on_another_machine_is_found_by_its_end(place):
    folder = place({}, images=("/home/someone/set/a.png", "C:\\set\\b.png"))
    assert set(by_name(read_dataset(folder)[0])) == {"a.png", "b.png"}


def test_sizes_that_are_not_stated_are_read_upright(tmp_path):
    Image.new("RGB", SIZE).save(tmp_path / "turned.jpg", exif=_orientation(6))
    entry = {"id": 1, "file_name": "turned.jpg"}
    (tmp_path / "all.json").write_text(json.dumps(coco((entry,), [{"bbox": [0, 0, 90, 90]}])))
    assert read_dataset(tmp_path)[0].targets[0].boxes.tolist() == [[0, 0, 30, 40]]


def _orientation(number: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif.tobytes()


def test_class_folders_with_notes_beside_stay_class_folders(tmp_path):
    folder = write_images(tmp_path / "data", "cat/a.png", "dog/b.png")
    (folder / "cat" / "notes.json").write_text(json.dumps(coco((), [{}])))
    (folder / "notes.json").write_text('{"images": "annotations"}')
    assert read_dataset(folder)[0].task == "classify"


# ---- tasks -----------------------------------------------------------------------------------------------------------


def test_outlines_are_painted_for_segmentation(place):
    dataset, found = read_dataset(
        place({"segmentation": TRIANGLE, "bbox": [2, 2, 10, 10]}, {"category_id": 2, "image_id": 2}), task="segment"
    )
    assert dataset.labels == ("background", "cat", "dog")
    assert found.endswith("3 classes, so the task is segment.")
    first, second = (read_map(target) for target in dataset.targets)
    assert np.bincount(first.ravel()).tolist() == dataset.targets[0].pixels.tolist()[:2] == [1200 - 45, 45]
    assert (second[2:22, 1:11] == 255).all()  # what a box without an outline holds is not known
    assert np.count_nonzero(second == 255) == 200


def test_a_task_that_the_data_do_not_give_is_refused_with_those_they_do(place):
    with pytest.raises(UsageError, match=r"--task tag: .* holds COCO annotations, which give detect \(and segment, where"):
        read_dataset(place({}), task="tag")
    with pytest.raises(UsageError, match=r"--task segment: .* has boxes and no outlines, so it gives detect"):
        read_dataset(place({}), task="segment")


def test_images_of_another_size_than_their_run_lengths_are_left_out(place, capsys):
    runs = {"size": [30, 30], "counts": [5, 895]}
    entry = {"id": 2, "file_name": "b.png", "width": 30, "height": 30}
    folder = place({"segmentation": TRIANGLE}, {"image_id": 2, "segmentation": runs}, images=("a.png", entry))
    assert len(read_dataset(folder, task="segment")[0]) == 1
    assert "images of another size than the outlines say, left out: 1 (" in capsys.readouterr().err


# ---- faults ----------------------------------------------------------------------------------------------------------

GOOD = {"bbox": [5, 5, 5, 5]}
FAULTS = {
    "boxes that reach outside their image, clipped: 1 (a.png)": {"bbox": [30, 20, 20, 20]},
    "boxes outside their image, left out: 1 (a.png)": {"bbox": [50, 50, 5, 5]},
    "boxes that are empty or inverted, left out: 1 (a.png)": {"bbox": [5, 5, 0, 5]},
    "boxes with numbers that are not finite, left out: 1 (a.png)": {"bbox": [5, float("nan"), 5, 5]},
    "annotations without a box of four numbers, left out: 1 (a.png)": {"bbox": [5, 5, 5]},
    "annotations of classes that are not defined, left out: 1 (all.json: category_id 9)": {"category_id": 9},
    "annotations for images that are not listed, left out: 1 (all.json: image_id 7)": {"image_id": 7},
    "annotations without an image_id or category_id, left out: 1 (all.json)": {"image_id": [1]},
    "annotation ids used for several objects, all kept: 1 (all.json: 1)": {"id": 1},
    "annotations listed twice, the first counts: 1 (all.json: 1)": {"id": 1, **GOOD},
    "outlines that are not understood, left out: 1 (a.png)": {"segmentation": [[1, 2, 3, 4]]},
}
KEPT = ("clipped", "all kept", "outlines")


@pytest.mark.parametrize("what", FAULTS)
def test_each_fault_is_told_and_the_rest_is_used(place, capsys, what):
    folder = place(GOOD, FAULTS[what])
    assert warning_of(folder, capsys) == f"{what}."
    assert len(read_dataset(folder)[0].targets[0]) == 1 + any(word in what for word in KEPT)


WRAPPED = [2**62, 2**62, 2**62, 2**62 + 1200]  # 1200 in 64 bits


@pytest.mark.parametrize(
    "outline",
    [
        {"size": [30, 40]},
        {"size": [30, 40], "counts": None},
        {"size": [30, 40], "counts": [2**70]},
        {"size": [30, 40], "counts": WRAPPED},
        {"size": [30, float("inf")], "counts": [1200]},
        {"counts": [1200]},
        "outline",
        [{"x": 1}],
        7,
    ],
)
def test_an_outline_that_is_none_costs_its_object_nothing_else(place, capsys, outline):
    folder = place(GOOD, {"segmentation": outline})
    assert warning_of(folder, capsys) == "outlines that are not understood, left out: 1 (a.png)."
    assert len(read_dataset(folder)[0].targets[0]) == 2


def test_a_name_that_several_images_have_stands_for_none(tmp_path, capsys):
    write_images(tmp_path, "cam1/a.png", "cam2/a.png", "cam1/b.png", "train/c.png", "val/c.png")
    entries = ("a.png", {"id": 2, "file_name": "a.png"}, "b.png", "c.png", "/set/cam2/a.png", "/set/a.png")
    (tmp_path / "all.json").write_text(json.dumps(coco(entries, [GOOD, {"image_id": 3}, {"image_id": 5}])))
    assert warning_of(tmp_path, capsys) == "names that several images have, left out: 4 (a.png, c.png, /set/a.png)."
    found = {Path(ref.path).relative_to(tmp_path).as_posix() for ref in read_dataset(tmp_path)[0].refs}
    assert found == {"cam1/b.png", "cam2/a.png"}


def test_flags_may_be_numbers_or_text(place):
    flags = [0, 1, False, True, "0", "1", "false", "True", "", None]
    dataset, _ = read_dataset(place(*({"iscrowd": flag} for flag in flags), {"iscrowd": "0", "ignore": "1"}))
    assert dataset.targets[0].crowd.tolist() == [False, True, False, True, False, True, False, True, False, False, True]


def test_all_faults_stand_in_one_message(place, capsys):
    told = warning_of(place(GOOD, *FAULTS.values()), capsys)
    assert all(what in told for what in FAULTS if "a.png" not in what)
    assert told.count(";") == len(FAULTS) - 1


def test_of_many_faults_the_first_are_named(tmp_path, capsys):
    names = [f"{number}.png" for number in range(9)]
    (write_images(tmp_path, *names) / "all.json").write_text(json.dumps(coco((*names, *(f"no_{name}" for name in names)), [GOOD])))
    assert warning_of(tmp_path, capsys) == "images that are not there, left out: 9 (no_0.png, no_1.png, no_2.png, ...)."


def test_clipping_keeps_what_lies_inside(place):
    dataset, _ = read_dataset(place({"bbox": [-5, -5, 10, 10], "area": 100}, {"bbox": [0, 0, 40.4, 30.2]}))
    assert dataset.targets[0].boxes.tolist() == [[0, 0, 5, 5], [0, 0, 40, 30]]
    assert dataset.targets[0].areas[0] == 25


def test_ids_used_twice(place, capsys):
    entry = {"id": 1, "file_name": "b.png", "width": 40, "height": 30}
    assert warning_of(place(GOOD, images=("a.png", entry)), capsys) == "image ids used twice, the first counts: 1 (all.json: 1)."
    entry = {**entry, "id": 2, "file_name": "a.png"}
    folder = place(GOOD, {**GOOD, "image_id": 2}, images=("a.png", entry))
    assert warning_of(folder, capsys) == "images listed under two ids, taken as one: 1 (a.png)."
    assert len(read_dataset(folder)[0].targets[0]) == 2


def test_an_image_in_two_splits_is_kept_for_the_test(tmp_path, capsys):
    folder = write_images(tmp_path, "images/a.png", "images/b.png")
    (folder / "train.json").write_text(json.dumps(coco(("a.png", "b.png"), [GOOD, {"image_id": 2}])))
    (folder / "test.json").write_text(json.dumps(coco(("a.png",), [GOOD])))
    told = warning_of(folder, capsys)
    assert told == "images in several files of annotations, kept in the first of test, validation and train: 1 (images/a.png)."
    assert {name: split for name, (split, _) in by_name(read_dataset(folder)[0]).items()} == {"a.png": "test", "b.png": "train"}


def test_sizes_that_differ_from_the_files_are_told(place, capsys):
    entry = {"id": 1, "file_name": "a.png", "width": 30, "height": 40}
    told = warning_of(place(GOOD, images=(entry, "b.png")), capsys)
    assert "images of another size than stated, whose boxes may be misplaced, of 2 compared: 1 (" in told
    assert told.endswith("a.png: 30 x 40 stated, 40 x 30 in the file).")


def test_a_broken_file_is_named_with_its_line_and_the_others_are_used(place, capsys):
    folder = place(GOOD, name="train.json")
    (folder / "val.json").write_text('{"images": [],\n"annotations": [], "categories": [\n')
    assert warning_of(folder, capsys) == "files that are broken, left out: 1 (val.json, line 3: Expecting value)."


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"images": [], "annotations": [}, "categories": []', "all.json, line 1: Expecting value"),
        (f'{{"images": [], "annotations": [{"9" * 5000}], "categories": []}}', "(all.json: Exceeds the limit (4300 digits))"),
        ('{"images": {}, "annotations": [], "categories": []}', "all.json: images, annotations and categories must be lists"),
        ("[" * 100_000 + '"images" "annotations" "categories"', "recursion"),
    ],
)
def test_nothing_but_broken_files_is_refused(tmp_path, content, reason):
    (tmp_path / "all.json").write_text(content)
    text = refusal_of(tmp_path)
    assert "holds no COCO annotations that can be read; export them again" in text
    assert reason in text


def test_no_box_at_all_is_refused_with_what_to_do(place):
    assert refusal_of(place()).endswith("2 images and not one object; draw boxes around some, with their class.")
    assert "boxes that are empty or inverted, left out: 1 (a.png)" in refusal_of(place({"bbox": [5, 5, -1, 5]}))


def test_no_image_at_all_is_refused_with_what_to_do(place):
    text = refusal_of(place({}, images=("x.png",)))
    assert "not one of the images that its annotations name is there; put them beside the annotations, as these name them" in text


def test_labels_that_look_alike_are_treated_as_in_tables(place, capsys):
    folder = place(GOOD, {"category_id": 2}, categories=("cat", "cat "))
    assert read_dataset(folder)[0].labels == ("cat",)
    assert "labels that differ only in outer blanks or Unicode form are taken as one: 'cat'." in capsys.readouterr().err
    text = refusal_of(place(GOOD, {"category_id": 2}, categories=("cat", "Cat")))
    assert text.endswith("labels that differ only in case or blanks ('Cat' in 1 and 'cat' in 1 objects); make them one.")


def test_a_single_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("[1, 2]")
    with pytest.raises(DataError, match=r"x\.json: images, annotations and categories must be lists"):
        read_dataset(tmp_path / "x.json")
    with pytest.raises(DataError, match="there is no such folder"):
        read_dataset(tmp_path / "none.json")


@needs_data
def test_real_pedestrians():
    dataset, found = read_dataset(DATA / "pennfudan")
    assert "170 images with COCO annotations, 423 objects of 1 class, so the task is detect." in found
    assert np.unique(dataset.splits, return_counts=True)[1].tolist() == [50, 120]
    assert dataset.targets[0].boxes[0].tolist() == [114, 130, 216, 309]
