"""What the verbs do with data that is not plain: pages, tables for taggers, steps of one image."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import sightline
from conftest import QUICK, render_shape, write_boxes, write_maps, write_shapes, write_tagged_shapes
from sightline.cli import _exit_code
from sightline.errors import DataError, UsageError


def test_every_page_of_a_file_is_predicted(run, tmp_path):
    pages = [render_shape(kind, 1) for kind in ("disc", "cross", "square")]
    path = tmp_path / "three.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    found = list(sightline.predict(run.model, [path], engine="onnxruntime"))
    assert [name for name, _ in found] == [str(path), f"{path}#1", f"{path}#2"]
    model = sightline.Model.open(run.model, engine="onnxruntime")
    assert [answer for _, answer in found] == [model.predict(np.asarray(page)) for page in pages]


def test_a_file_that_only_is_called_like_one_with_pages_is_named_once(run, tmp_path):
    path = tmp_path / "broken.tif"
    path.write_bytes(b"II*\0broken")
    ((name, error),) = sightline.predict(run.model, [path])
    assert name == str(path)
    assert "TIFF" in error.reason


def test_a_tagger_reads_single_labels_as_tags_and_takes_no_class_folders(shapes, trained_on, tmp_path):
    trained = trained_on("tag")[1]
    data = write_tagged_shapes(tmp_path / "data")
    plain = data.with_name("plain.csv")
    lines = [line for line in data.read_text().splitlines() if "|" not in line]
    assert len(lines) > 3
    plain.write_text("\n".join(lines))
    assert "map" in sightline.evaluate(trained.model, plain, split="all")["metrics"]
    with pytest.raises(DataError, match="class folders, which have one label an image"):
        sightline.evaluate(trained.model, shapes)


def test_data_of_another_task_are_told_by_the_model_where_no_flag_asks_for_a_task(shapes, trained_on, tmp_path):
    model = trained_on("tag")[1].model
    boxes = write_boxes(tmp_path / "boxes", n=4)
    for data, said in ((shapes, "is read as class folders"), (boxes, "holds COCO annotations, which give detect")):
        for wrong in (
            lambda data: sightline.evaluate(model, data),
            lambda data: sightline.export(model, data=data),
            lambda data: sightline.export(model, data=data, standalone=True),
            lambda data: sightline.export(model, data=data, size="10kB"),
        ):
            with pytest.raises(DataError, match=f"^{model} is for tag, and {data} {said}"):
                wrong(data)


def test_boxes_whose_images_were_never_downloaded_are_told_of(tmp_path):
    data = write_boxes(tmp_path / "data", n=4)
    for path in (data / "images").iterdir():
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(DataError, match=r"none of its 4 files can be used as an image .*Git LFS pointer"):
        sightline.train(data, out=str(tmp_path / "run"), weights="none", trial=False, device="cpu")


def test_a_step_of_one_image_is_refused_where_batches_are_normalised(shapes, tmp_path):
    with pytest.raises(UsageError, match=r"--batch-size 1: this network's batch normalisation needs several images in a step"):
        sightline.train(shapes, out=str(tmp_path / "run"), **{**QUICK, "batch_size": 1})


def test_a_picture_is_not_opened_to_count_its_pages(run, tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "one.png")
    ((name, answer),) = sightline.predict(run.model, [tmp_path / "one.png"])
    assert name.endswith("one.png")
    assert answer.label in ("cross", "disc", "square")


@pytest.mark.parametrize(
    ("write", "words", "said"),
    [
        (write_boxes, ["--mixup", "0.2"], "--mixup: images with boxes on them are not mixed; --mosaic puts them together."),
        (write_maps, ["--mixup", "0.2", "--cutmix", "1"], "--mixup and --cutmix: images with maps on them are not mixed"),
        (write_boxes, ["--layers", "head"], "--layers head: where boxes are learned, all layers learn together; leave it out."),
        (write_shapes, ["--mosaic", "0.5"], "--mosaic: puts pictures together from four where boxes or label maps lie on them"),
    ],
)
def test_what_scenes_do_not_take_is_said_before_an_image_is_looked_at(tmp_path, monkeypatch, capsys, write, words, said):
    looked = []
    for name in ("sightline.auditing.admission.median_size", "sightline.auditing.admission.look_once"):
        monkeypatch.setattr(name, lambda *given, **named: looked.append(given))
    data = write(tmp_path / "data")
    assert _exit_code(["train", str(data), "--out", str(tmp_path / "run"), *words]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert looked == []
    assert not (tmp_path / "run").exists()


def test_where_the_task_is_given_nothing_is_read_before_that_either(tmp_path, monkeypatch, capsys):
    read = []
    monkeypatch.setattr("sightline.auditing.admission.read_dataset", lambda *given: read.append(given))
    assert _exit_code(["train", str(tmp_path), "--task", "segment", "--mixup", "0.2"]) == 2
    assert "--mixup: images with maps on them are not mixed" in " ".join(capsys.readouterr().err.split())
    assert read == []
