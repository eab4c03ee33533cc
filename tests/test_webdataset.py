"""WebDataset's shards: images with what is said beside them, from a folder, a pattern or a single tar."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

import sightline
from conftest import QUICK, SHAPES, render_shape, write_shapes
from sightline.auditing.gate import relative_name
from sightline.comparison.page import image_at
from sightline.data.decode import Limits, decode
from sightline.data.given import given_images
from sightline.data.readers import read_dataset
from sightline.data.store import look_once
from sightline.data.webdataset import shards_of
from sightline.errors import DataError, UsageError


def png(kind="disc", number=0) -> bytes:
    sink = io.BytesIO()
    render_shape(kind, number).save(sink, "PNG")
    return sink.getvalue()


def shard(path: Path, content: dict[str, bytes | str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in content.items():
            data = data.encode() if isinstance(data, str) else data
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def shapes_in_shards(folder: Path, per_shard: int = 18, shards: int = 3) -> Path:
    """Rendered shapes, their classes as numbers, in shards of some."""
    for number in range(shards):
        content: dict[str, bytes | str] = {}
        for place in range(per_shard):
            label = place % len(SHAPES)
            content[f"{number:03d}{place:04d}.png"] = png(SHAPES[label], 100 * number + place)
            content[f"{number:03d}{place:04d}.cls"] = f"{label}\n"
        shard(folder / f"shapes-{number:04d}.tar", content)
    return folder


def labels_of(dataset):
    return {ref.member: dataset.label_names(row) for row, ref in enumerate(dataset.refs)}


def test_a_folder_of_shards_is_read_where_it_lies(tmp_path):
    folder = shapes_in_shards(tmp_path / "shards")
    dataset, said = read_dataset(folder)
    assert said == f"{folder}: 54 images in 3 shards with 3 labels, so the task is classify."
    assert (dataset.task, dataset.labels, dataset.splits) == ("classify", ("0", "1", "2"), None)
    assert np.bincount(dataset.targets).tolist() == [18, 18, 18]
    row = next(row for row, ref in enumerate(dataset.refs) if ref.member == "0010004.png")
    assert dataset.refs[row].path == str(folder / "shapes-0001.tar")
    np.testing.assert_array_equal(decode(dataset.refs[row]), np.asarray(render_shape("disc", 104)))
    assert dataset.label_names(row) == ("1",)


@pytest.mark.usefixtures("empty_cache")
def test_shards_are_looked_at_once(tmp_path, monkeypatch):
    dataset, _ = read_dataset(shapes_in_shards(tmp_path / "shards"))
    looking = {"limits": Limits(), "workers": 1, "limit_bytes": 1e9}
    store = look_once(dataset, 32, **looking)
    assert store.facts.readable.all()
    np.testing.assert_array_equal(store[40], decode(dataset.refs[40]))
    monkeypatch.setattr("sightline.data.store.looked_at", lambda jobs, workers, pixel_file: pytest.fail("looked again"))
    assert look_once(dataset, 32, **looking).facts.sha256.tolist() == store.facts.sha256.tolist()


@pytest.mark.parametrize(
    ("pattern", "shards"),
    [
        ("train-{0000..0002}.tar", ["train-0000", "train-0001", "train-0002"]),
        ("{train,val}-0000.tar", ["train-0000", "val-0000"]),
        ("train-*.tar", ["train-0000", "train-0001", "train-0002"]),
        ("{train-000{0..1},val-*}.tar", None),
        ("train-000[02].tar", ["train-0000", "train-0002"]),
    ],
)
def test_a_pattern_stands_for_its_shards(tmp_path, pattern, shards):
    for name in ("train-0000", "train-0001", "train-0002", "val-0000", "val-0001"):
        shard(tmp_path / f"{name}.tar", {f"{name}.png": png(), f"{name}.cls": "1"})
    found = [path.name.removesuffix(".tar") for path in shards_of(tmp_path / pattern)]
    assert found == (shards or ["train-0000", "train-0001", "val-0000", "val-0001"])


def test_a_pattern_of_shards_that_are_not_there_names_the_first(tmp_path):
    shard(tmp_path / "a-0.tar", {"1.png": png(), "1.cls": "1"})
    with pytest.raises(DataError, match=r"there is no .*a-1\.tar"):
        read_dataset(tmp_path / "a-{0..2}.tar")
    with pytest.raises(DataError, match=r"there is no .*b-\*\.tar"):
        read_dataset(tmp_path / "b-*.tar")


def test_labels_stand_in_classes_json_or_texts_and_the_surest_counts(tmp_path):
    path = shard(
        tmp_path / "all.tar",
        {
            "a/1.jpg": png(), "a/1.cls": "cat", "a/1.json": '{"label": "dog"}', "a/1.txt": "A cat sits.",
            "a/2.JPG": png(), "a/2.json": json.dumps({"height": 3, "class": 7}),
            "a/3.seg.png": png(), "a/3.txt": " bird \n",
            "b/1.png": png(), "b/1.json": '"cat"',
            "b/2.png": png(),
            "b/3.png": png(), "b/3.json": "{broken",
            "b/4.png": png(), "b/4.json": '{"label": 1.5}',
            "c/1.npy": b"x", "c/1.cls": "lonely",
        },
    )  # fmt: skip
    dataset, _ = read_dataset(path)
    found = {"a/1.jpg": ("cat",), "a/2.JPG": ("7",), "a/3.seg.png": ("bird",), "b/1.png": ("cat",)}
    assert labels_of(dataset) == found


def test_what_is_left_out_is_named(tmp_path, capsys):
    path = shard(
        tmp_path / "odd.tar",
        {"1.png": png(), "1.cls": "0", "2.png": png(), "3.png": png(), "3.json": "{", "4.png": png(), "4.right.png": png(), "4.cls": "1"},
    )
    dataset, _ = read_dataset(path)
    assert labels_of(dataset) == {"1.png": ("0",), "4.png": ("1",)}
    said = capsys.readouterr().err
    assert "samples whose label cannot be read, left out: 1 (odd.tar!3.json" in said
    assert "images without a label, left out: 1" in said
    assert "samples with several images, of which the first is taken: 1 (odd.tar!4.right.png)" in said


def test_several_labels_make_tags(tmp_path):
    content = {
        "1.png": png(),
        "1.json": '{"tags": ["sky", "sea"]}',
        "2.png": png(),
        "2.json": '{"tags": []}',
        "3.png": png(),
        "3.cls": "sea",
    }
    dataset, _ = read_dataset(shard(tmp_path / "tags.tar", content))
    assert (dataset.task, dataset.labels) == ("tag", ("sea", "sky"))
    assert labels_of(dataset) == {"1.png": ("sea", "sky"), "2.png": (), "3.png": ("sea",)}
    with pytest.raises(UsageError, match="several labels an image, which gives tag"):
        read_dataset(tmp_path / "tags.tar", task="classify")


def test_numbers_are_labels_in_their_order(tmp_path):
    content = {f"{number}{kind}": data for number in (2, 10, 1) for kind, data in ((".png", png()), (".cls", str(number)))}
    assert read_dataset(shard(tmp_path / "n.tar", content))[0].labels == ("1", "2", "10")


def test_splits_are_those_that_the_shards_names_say(tmp_path):
    for name in ("train-0", "train-1", "val-0"):
        shard(tmp_path / f"{name}.tar", {"1.png": png(), "1.cls": "1"})
    dataset, _ = read_dataset(tmp_path)
    assert dataset.splits.tolist() == ["train", "train", "validation"]


def test_captions_are_no_labels(tmp_path):
    content = {f"{number}{kind}": data for number in range(30) for kind, data in ((".png", png()), (".txt", f"Photo {number}."))}
    with pytest.raises(DataError, match="captions, not labels"):
        read_dataset(shard(tmp_path / "captions" / "c.tar", content).parent)


def test_shards_without_labels_are_refused_and_audited_all_the_same(tmp_path):
    folder = shard(tmp_path / "bare" / "0.tar", {f"{number}.png": png("disc", number) for number in range(4)}).parent
    with pytest.raises(DataError, match=r"put NAME\.cls"):
        read_dataset(folder)
    assert [ref.member for ref in given_images([folder])] == [f"{number}.png" for number in range(4)]


def test_archives_of_class_folders_and_folders_of_images_are_no_shards(tmp_path):
    photos = write_shapes(tmp_path / "photos", per_class=2)
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        tar.add(photos, "photos")
    assert shards_of(tmp_path / "photos.tar") == ()
    (photos / "backup.tar").write_bytes((tmp_path / "photos.tar").read_bytes())
    assert shards_of(photos) == ()
    assert read_dataset(tmp_path / "photos.tar")[0].labels == read_dataset(photos)[0].labels == SHAPES


@pytest.mark.parametrize("given", ["folder", "pattern"])
def test_findings_name_shard_and_member_and_lead_back_to_them(tmp_path, given):
    folder = shapes_in_shards(tmp_path / "shards", per_shard=3, shards=2)
    root = folder if given == "folder" else folder / "shapes-{0000..0001}.tar"
    dataset, _ = read_dataset(root)
    names = [relative_name(ref, dataset.root) for ref in dataset.refs]
    assert names[3] == "shapes-0001.tar!0010000.png"
    assert [image_at(root, name) for name in names] == list(dataset.refs)


def test_shards_are_trained_on_and_predicted(tmp_path):
    folder = shapes_in_shards(tmp_path / "shards")
    run = sightline.train(folder / "shapes-{0000..0001}.tar", out=str(tmp_path / "run"), **QUICK)
    assert (run.numbers["data"]["n"], run.numbers["data"]["labels"]) == (36, ["0", "1", "2"])
    found = dict(sightline.predict(run.model, [folder / "shapes-0002.tar"]))
    assert len(found) == 18
