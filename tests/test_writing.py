"""writing: what is written as COCO or YOLO and read again is the same data set."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import DATA, needs_data
from places import SIZE, write_images
from sightline.data.outlines import extent, run_lengths
from sightline.data.readers import read_dataset
from sightline.data.writing import write_coco, write_yolo
from sightline.errors import DataError, UsageError
from sightline.records import Dataset, ImageRef, column_of
from sightline.scenes import Objects

LABELS = ("a # b", "cat", 'it\'s: "é"')
IMAGES = ("images/0.png", "images/more/1.png", "2.png")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp("written"), *IMAGES)


@st.composite
def boxes(draw) -> list[float]:
    (left, right), (top, bottom) = (
        sorted(draw(st.tuples(st.floats(0, most), st.floats(0, most)).filter(lambda pair: abs(pair[0] - pair[1]) > 1e-3))) for most in SIZE
    )
    return [left, top, right, bottom]


def polygon(box: list[float]) -> tuple[np.ndarray, ...]:
    left, top, right, bottom = box
    return (np.array([[left, top], [right, (top + bottom) / 2], [(left + right) / 2, bottom]]),)


def runs(box: list[float]) -> np.ndarray:
    mask = np.zeros(SIZE[::-1], bool)
    mask[int(box[1]) : int(box[3]) + 1, int(box[0]) : int(box[2]) + 1] = True
    return run_lengths(mask)


def objects(draw, outlines, crowds: bool) -> Objects:
    found = draw(st.lists(boxes(), max_size=4))
    kinds = [draw(st.sampled_from(outlines)) for _ in found]
    shapes = [kind(box) if kind else None for kind, box in zip(kinds, found, strict=True)]
    found = [extent(shape, 0) if isinstance(shape, tuple) else box for shape, box in zip(shapes, found, strict=True)]
    filled = [(right - left) * (bottom - top) for left, top, right, bottom in found]
    return Objects.of(
        found,
        [draw(st.integers(0, 2)) for _ in found],
        [crowds and draw(st.booleans()) for _ in found],
        [area * draw(st.floats(0.1, 1)) for area in filled] if crowds else None,
        shapes if any(shape is not None for shape in shapes) else None,
    )


@st.composite
def datasets(draw, outlines=(None, polygon, runs), crowds: bool = True):
    """Objects of three images, or how to make a data set of them: the images are written once."""
    targets = [objects(draw, outlines, crowds) for _ in IMAGES]
    used = sorted({int(label) for target in targets for label in target.labels})
    splits = draw(st.sampled_from([None, ("train", "validation", "test"), ("test", "train", "train")]))
    index = np.array([used.index(place) if place in used else 0 for place in range(3)])
    labels = tuple(LABELS[place] for place in used)

    def made(root: Path) -> Dataset:
        refs = [ImageRef(str(root / name)) for name in IMAGES]
        column = column_of([target.relabelled(index) for target in targets])
        return Dataset(root, "detect", labels, refs, column, None if splits is None else np.array(splits))

    return made, bool(used)


def check_same(dataset: Dataset, again: Dataset, tolerance: float, *, areas: bool) -> None:
    rows = {Path(ref.path).name: row for row, ref in enumerate(again.refs)}
    assert (again.task, again.labels, len(rows)) == ("detect", dataset.labels, len(dataset))
    for sample in dataset:
        other = again[rows[Path(sample.ref.path).name]]
        mine, theirs = sample.target, other.target
        assert sample.split == other.split
        assert mine.labels.tolist() == theirs.labels.tolist()
        assert mine.crowd.tolist() == theirs.crowd.tolist()
        assert mine.boxes == pytest.approx(theirs.boxes, abs=tolerance)
        if areas:
            assert mine.areas == pytest.approx(theirs.areas, abs=tolerance)
        assert (mine.outlines is None) == (theirs.outlines is None)
        for one, two in zip(mine.outlines or (), theirs.outlines or (), strict=True):
            assert type(one) is type(two)
            if one is not None:
                assert all(a == pytest.approx(b, abs=tolerance) for a, b in zip(one, two, strict=True))


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(datasets(), st.booleans())
def test_a_round_trip_through_coco_changes_nothing(images, made, single):
    dataset, has_objects = made[0](images), made[1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "all.json") if single else Path(folder, "notes")
        files = write_coco(dataset, path)
        assert files == [path] if single else all(file.parent == path for file in files)
        if has_objects:
            again, _ = read_dataset(path)
            check_same(dataset.replace(splits=None) if single else dataset, again, 1e-6, areas=True)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(datasets(outlines=(None, polygon), crowds=False))
def test_a_round_trip_through_yolo_changes_nothing(images, made):
    dataset, has_objects = made[0](images), made[1]
    with tempfile.TemporaryDirectory() as folder:
        described = write_yolo(dataset, folder)
        if has_objects:
            again, _ = read_dataset(Path(folder))
            check_same(dataset, again, 1e-9, areas=False)
            yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
            assert tuple(yaml.safe_load(described.read_text())["names"].values()) == dataset.labels
            for ref in again.refs:
                assert Path(ref.path).read_bytes() in [(images / name).read_bytes() for name in IMAGES]


def of_one(images: Path, target: Objects, **columns) -> Dataset:
    return Dataset(images, "detect", LABELS, [ImageRef(str(images / IMAGES[0]))], column_of([target]), **columns)


def test_what_yolo_cannot_say_is_told(images, tmp_path, capsys):
    square = polygon([1, 2, 11, 12])[0]
    outlines = [(square, square), runs([1, 2, 10, 11]), (square,), None]
    target = Objects.of([[1, 2, 11, 12], [1, 2, 11, 12], [1, 2, 30, 12], [5, 5, 6, 6]], [0, 1, 1, 2], [0, 0, 0, 1], None, outlines)
    write_yolo(of_one(images, target), tmp_path / "new")
    assert "YOLO labels cannot say everything: 1 crowds, left out." in (told := capsys.readouterr().err)
    assert "YOLO labels cannot say everything: 3 outlines, written as boxes." in told
    assert (tmp_path / "new" / "labels" / "0.txt").read_text().splitlines()[0] == "0 0.15 0.233333333333 0.25 0.333333333333"
    assert read_dataset(tmp_path / "new")[0].targets[0].boxes.tolist() == pytest.approx(target.boxes[:3])


def test_images_of_one_name_do_not_overwrite_each_other(tmp_path):
    root = write_images(tmp_path / "data", "images/a.png", "masks/a.png", "a.jpg")
    refs = [ImageRef(str(root / name)) for name in ("images/a.png", "masks/a.png", "a.jpg")]
    targets = column_of([Objects.of([[0, 0, size, size]], [0]) for size in (1, 2, 3)])
    write_yolo(Dataset(root, "detect", ("cat",), refs, targets), tmp_path / "new")
    again, _ = read_dataset(tmp_path / "new")
    assert [Path(ref.path).name for ref in again.refs] == ["a-2.png", "a-3.jpg", "a.png"]
    assert [target.boxes[0, 2] for target in again.targets] == pytest.approx([2, 3, 1])


def test_images_of_an_archive_are_copied_for_yolo_and_not_named_for_coco(images, tmp_path):
    write_coco(of_one(images, Objects.of([[1, 2, 3, 4]], [0])), tmp_path / "all.json")
    (tmp_path / "all.json").rename(images / "all.json")
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", images))
    (images / "all.json").unlink()
    with pytest.raises(DataError, match="not one of the images"):  # it names them from where it was written
        read_dataset(packed)
    dataset = of_one(images, Objects.of([[1, 2, 3, 4]], [0])).replace(refs=[ImageRef(str(packed), member=IMAGES[0])], root=packed)
    write_yolo(dataset, tmp_path / "new")
    assert read_dataset(tmp_path / "new")[0].targets[0].boxes.tolist() == [pytest.approx([1, 2, 3, 4])]
    with pytest.raises(UsageError, match="is an archive, whose images COCO cannot name; unpack it first"):
        write_coco(dataset, tmp_path / "new.json")


def test_nothing_is_overwritten_and_only_objects_are_written(images, tmp_path):
    dataset = of_one(images, Objects.of([[1, 2, 3, 4]], [0]))
    write_coco(dataset, tmp_path / "all.json")
    with pytest.raises(UsageError, match=r"all\.json is there already; name another place"):
        write_coco(dataset, tmp_path / "all.json")
    with pytest.raises(UsageError, match="is not empty; name a new folder"):
        write_yolo(dataset, tmp_path)
    for write in (write_coco, write_yolo):
        with pytest.raises(UsageError, match=r"is read for segment; only objects \(detect\) can be written so"):
            write(dataset.replace(task="segment"), tmp_path / "new")
        with pytest.raises(DataError, match=r"1 image cannot be read \(.*none\.png: no such file\); leave them out first"):
            write(dataset.replace(refs=[ImageRef(str(images / "none.png"))]), tmp_path / "new")


@needs_data
@pytest.mark.parametrize("name", ["bccd", "pennfudan"])
def test_real_data_go_both_ways(name, tmp_path):
    dataset, _ = read_dataset(DATA / name)
    write_coco(dataset, tmp_path / "coco")
    write_yolo(dataset, tmp_path / "yolo")
    check_same(dataset, read_dataset(tmp_path / "coco")[0], 1e-6, areas=True)
    check_same(dataset, read_dataset(tmp_path / "yolo")[0], 1e-8, areas=False)
