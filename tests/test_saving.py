"""What ``predict`` writes beside what it says: pictures, label maps, COCO, YOLO and JSON; nothing is overwritten, and other readers
understand it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import sightline
from found import KINDS, colour_logits, dense_boxes, model_of
from sightline.cli import _exit_code
from sightline.data.class_table import read_class_table
from sightline.data.coco import coco_tree, read_coco
from sightline.data.decode import read_values
from sightline.data.readers import read_dataset
from sightline.data.tree import Tree
from sightline.errors import ConfigError, ImageError
from sightline.records import ImageRef
from sightline.runtime import Model
from sightline.saving.names import free_name

INFER = {"detect": dense_boxes, "segment": colour_logits, "classify": lambda images: {"logits": np.zeros((len(images), 3), np.float32)}}


@pytest.fixture
def opened(monkeypatch):
    """Opens ``detect.sight`` and its like, files that are not there."""
    monkeypatch.setattr(Model, "open", lambda path, **_: model_of(str(path).split(".")[0], INFER[str(path).split(".")[0]]))


@pytest.fixture
def pictures(tmp_path):
    """A picture with two reds and a green, one with nothing, and a text, in a folder."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[4:20, 8:30, 0] = pixels[40:60, 4:20, 0] = pixels[30:50, 36:60, 1] = 255
    Image.fromarray(pixels).save(folder / "one.png")
    Image.new("RGB", (50, 40)).save(folder / "more" / "one.jpg")
    (folder / "text.png").write_text("not an image")
    return folder


@pytest.fixture
def command(opened, capsys, monkeypatch, tmp_path):
    """Runs ``sightline predict`` in a folder of its own: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str, str]:
        code = _exit_code(["predict", *map(str, words)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_a_line_says_how_many_there_are_and_how_much_they_cover(command, pictures):
    code, out, err = command("detect.sight", "photos")
    assert code == 0
    assert set(out.splitlines()) == {"photos/one.png: 2 red, 1 green", "photos/more/one.jpg: nothing found"}
    assert "photos/text.png: " in err
    _, out, _ = command("segment.sight", "photos/one.png")
    assert out.startswith("photos/one.png: red 8")
    assert ", green 1" in out


def test_json_has_boxes_in_pixels_of_the_original(command, pictures):
    _, out, _ = command("detect.sight", "photos/one.png", "--json")
    said = json.loads(out)
    assert {tuple(entry["box"]) for entry in said["predictions"]} == {(8, 4, 30, 20), (4, 40, 20, 60), (36, 30, 60, 50)}
    assert {entry["label"] for entry in said["predictions"]} == {"red", "green"}


def test_pictures_are_saved_and_never_overwritten(command, pictures, tmp_path):
    for turn in (1, 2):
        code, _, err = command("detect.sight", "photos", "--save", "drawn")
        assert code == 0
        assert "2 pictures saved in drawn" in err
        assert len(list((tmp_path / "drawn").iterdir())) == 2 * turn
    assert {path.suffix for path in (tmp_path / "drawn").iterdir()} == {".png", ".jpg"}
    with Image.open(next((tmp_path / "drawn").glob("*.png"))) as image:
        assert image.size == (512, 512)


def test_label_maps_are_saved_as_indices_with_their_names(command, pictures, tmp_path):
    command("segment.sight", "photos/one.png", "--save", "drawn")
    found = model_of("segment", colour_logits).predict(str(pictures / "one.png"))
    assert np.array_equal(read_values(ImageRef(str(tmp_path / "drawn" / "one-classes.png"))), found.classes)
    assert read_class_table(Tree.of(tmp_path / "drawn"), "classes.json").names == KINDS
    command("segment.sight", "photos/one.png", "--save", "drawn")
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == {
        "one.png", "one-classes.png", "one-2.png", "one-2-classes.png", "classes.json"
    }  # fmt: skip


def test_coco_is_read_back_as_it_was(command, pictures, tmp_path):
    code, _, err = command("detect.sight", "photos", "--format", "coco", "--out", "found/boxes.json")
    assert code == 0
    assert "3 boxes on 2 images" in err
    content = json.loads((tmp_path / "found/boxes.json").read_text())
    assert all(0.9 < entry["score"] <= 1 for entry in content["annotations"])
    (tmp_path / "photos" / "boxes.json").write_text(json.dumps(content).replace("../photos/", ""))
    dataset = read_coco(*coco_tree(tmp_path / "photos" / "boxes.json"))
    row = next(row for row, ref in enumerate(dataset.refs) if ref.path.endswith("one.png"))
    expected = model_of("detect", dense_boxes).predict(str(pictures / "one.png"))
    said = {
        (dataset.labels[label], *box) for label, box in zip(dataset.targets[row].labels, dataset.targets[row].boxes.tolist(), strict=True)
    }
    assert said == {(label, *box) for label, box in zip(expected.labels, expected.boxes, strict=True)}
    command("detect.sight", "photos", "--format", "coco", "--out", "found/boxes.json")
    assert (tmp_path / "found/boxes-2.json").exists()


def test_coco_names_files_in_full_where_there_is_no_way_to_them(command, pictures, tmp_path, monkeypatch):
    """As Windows says of two drives."""

    def relpath(path, start):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr("sightline.saving.formats.os.path.relpath", relpath)
    assert command("detect.sight", "photos/one.png", "--format", "coco", "--out", "boxes.json")[0] == 0
    (image,) = json.loads((tmp_path / "boxes.json").read_text())["images"]
    assert image["file_name"] == (pictures / "one.png").as_posix()


def test_yolo_has_a_text_for_each_image_with_scores_last(command, pictures, tmp_path):
    code, _, _ = command("detect.sight", "photos", "--format", "yolo", "--out", "found")
    assert code == 0
    assert (tmp_path / "found/labels/more/one.txt").read_text() == ""
    rows = [list(map(float, line.split())) for line in (tmp_path / "found/labels/one.txt").read_text().splitlines()]
    boxes = [[0, 12 / 64, 50 / 64, 16 / 64, 20 / 64], [0, 19 / 64, 12 / 64, 22 / 64, 16 / 64], [1, 48 / 64, 40 / 64, 24 / 64, 20 / 64]]
    assert np.allclose(sorted(row[:5] for row in rows), boxes, atol=1e-6)
    assert all(0.9 < row[5] <= 1 for row in rows)
    assert '0: "red"' in (tmp_path / "found/data.yaml").read_text()
    command("detect.sight", "photos", "--format", "yolo", "--out", "found")
    assert (tmp_path / "found-2/labels/one.txt").exists()


def test_yolo_is_read_back_as_it_was_with_the_scores_set_aside(command, pictures, tmp_path):
    command("detect.sight", "photos", "--format", "yolo", "--out", "found")
    (pictures / "text.png").unlink()
    pictures.rename(tmp_path / "found" / "images")
    dataset, said = read_dataset(tmp_path / "found")
    assert "2 images with YOLO labels, 3 objects of 2 classes, 1 image with none" in said
    row = next(row for row, ref in enumerate(dataset.refs) if ref.path.endswith("one.png"))
    expected = model_of("detect", dense_boxes).predict(str(tmp_path / "found" / "images" / "one.png"))
    objects = dataset.targets[row]
    read = sorted((dataset.labels[label], *box) for label, box in zip(objects.labels, objects.boxes.tolist(), strict=True))
    known = sorted((label, *box) for label, box in zip(expected.labels, expected.boxes, strict=True))
    assert [label for label, *_ in read] == [label for label, *_ in known] == ["green", "red", "red"]
    np.testing.assert_allclose([box for _, *box in read], [box for _, *box in known], atol=0.01)


def test_json_in_a_file_is_what_is_printed_with_the_unreadable(command, pictures, tmp_path):
    _, out, _ = command("classify.sight", "photos", "--json", "--format", "json", "--out", "all.json")
    printed = {json.loads(line)["path"]: json.loads(line) for line in out.splitlines()}
    written = {entry["path"]: entry for entry in json.loads((tmp_path / "all.json").read_text())}
    assert printed == written
    assert "error" in written["photos/text.png"]


@pytest.mark.parametrize(("words", "classes"), [((), 5), (("--top", "2"), 2), (("--top", "9"), 8)])
def test_json_in_a_file_has_as_many_classes_as_are_printed(capsys, pictures, tmp_path, monkeypatch, words, classes):
    model = model_of("classify", lambda images: {"logits": np.tile(np.arange(8, dtype=np.float32), (len(images), 1))})
    model.manifest = replace(model.manifest, labels=tuple("abcdefgh"))
    monkeypatch.setattr(Model, "open", lambda path, **_: model)
    asked = ["predict", "it.sight", str(pictures / "one.png"), "--json", "--format", "json", "--out", str(tmp_path / "all.json"), *words]
    assert _exit_code(asked) == 0
    printed, written = json.loads(capsys.readouterr().out), json.loads((tmp_path / "all.json").read_text())
    assert written == [printed]
    assert [entry["label"] for entry in printed["predictions"]] == list("hgfedcba")[:classes]


def test_without_top_python_gets_all_classes_into_the_file(opened, pictures, tmp_path):
    list(sightline.predict("classify.sight", [pictures / "one.png"], format="json", out=str(tmp_path / "all.json")))
    assert len(json.loads((tmp_path / "all.json").read_text())[0]["predictions"]) == len(KINDS)


@pytest.mark.parametrize(("task", "words", "says"), [
    ("classify", ["--format", "yolo", "--out", "x"], "--format yolo: holds boxes, and this model is for classify"),
    ("segment", ["--format", "coco", "--out", "x.json"], "--format coco: holds boxes, and this model is for segment"),
    ("detect", ["--format", "coco"], "--format coco: say where to write with --out FILE.json"),
    ("detect", ["--format", "yolo"], "--out FOLDER"),
    ("detect", ["--out", "x"], "--out x: say in what form with --format json, coco, yolo"),
    ("detect", ["--overlap", "0.3"], "give --tile as well"),
    ("classify", ["--save", "x"], "--save: this model is for classify"),
    ("classify", ["--tile", "640"], "--tile 640: this model is for classify"),
    ("detect", ["--tile", "4"], "tile must be at least 16, not 4"),
    ("detect", ["--tile", "64", "--overlap", "0.95"], "overlap must be at most 0.9"),
    ("detect", ["--format", "voc", "--out", "x"], "voc"),
])  # fmt: skip
def test_what_does_not_go_together_is_said_before_anything_is_written(command, pictures, tmp_path, task, words, says):
    code, out, err = command(f"{task}.sight", "photos", *words)
    assert (code, out) == (2, "")
    assert says in " ".join(err.split())
    assert {path.name for path in tmp_path.iterdir()} == {"photos"}


def test_everything_wrong_is_said_at_once(opened):
    with pytest.raises(ConfigError) as raised:
        sightline.predict("classify.sight", ["a.png"], save="x", tile=64, format="yolo")
    assert len(raised.value.problems) == 4


def test_tiles_on_the_command_line(command, tmp_path):
    pixels = np.zeros((300, 200, 3), np.uint8)
    pixels[50:80, 50:75, 2] = pixels[200:230, 120:150, 1] = 255
    Image.fromarray(pixels).save(tmp_path / "large.png")
    _, out, _ = command("detect.sight", "large.png", "--tile", "64", "--overlap", "0.5", "--json")
    assert {(entry["label"], *entry["box"]) for entry in json.loads(out)["predictions"]} == {
        ("blue", 50, 50, 75, 80), ("green", 120, 200, 150, 230)
    }  # fmt: skip


def test_a_place_that_cannot_be_written_is_named(command, pictures, tmp_path):
    (tmp_path / "taken").write_text("")
    for words in (["--save", "taken"], ["--format", "coco", "--out", "taken/x.json"]):
        code, _, err = command("detect.sight", "photos", *words)
        assert code == 6
        assert "taken" in err
        assert "could not be written" in err


def test_what_was_found_until_a_stop_is_written(command, pictures, tmp_path, monkeypatch):
    def stopped(self, top):
        raise KeyboardInterrupt

    monkeypatch.setattr("sightline.scenes.Detections.in_words", stopped)
    code, out, err = command(
        "detect.sight", "photos/one.png", "photos/more/one.jpg", "--format", "coco", "--out", "boxes.json", "--save", "drawn"
    )
    assert (code, out) == (130, "")
    assert "3 boxes on 1 images written" in err
    assert err.endswith("sightline: Stopped.\n")
    assert [image["file_name"] for image in json.loads((tmp_path / "boxes.json").read_text())["images"]] == ["photos/one.png"]
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["one.png"]


def test_an_image_that_goes_away_meanwhile_does_not_lose_the_others(opened, pictures, tmp_path, capsys):
    names = ["one.png", "more/one.jpg"]
    found = sightline.predict("detect.sight", [pictures / name for name in names], format="coco", out=str(tmp_path / "boxes.json"))
    next(found)
    (pictures / "more" / "one.jpg").unlink()
    assert len(list(found)) == 1
    assert [image["file_name"] for image in json.loads((tmp_path / "boxes.json").read_text())["images"]] == ["photos/one.png"]
    assert "one.jpg: no such file; not written" in capsys.readouterr().err


def test_files_of_archives_and_pages_have_names(opened, tmp_path):
    import zipfile

    frames = [Image.new("RGB", (40, 40), colour) for colour in ("black", "red")]
    frames[0].save(tmp_path / "scan.tiff", save_all=True, append_images=frames[1:])
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(tmp_path / "scan.tiff", "in/scan.tiff")
    given = [tmp_path / "scan.tiff", tmp_path / "all.zip"]
    found = list(sightline.predict("detect.sight", given, format="yolo", out=str(tmp_path / "found"), save=str(tmp_path / "drawn")))
    assert not [answer for _, answer in found if isinstance(answer, ImageError)]
    assert len(list((tmp_path / "found/labels").rglob("*.txt"))) == len(found)
    assert len(list((tmp_path / "drawn").iterdir())) == len(found)


def test_names_that_are_taken_get_a_number(tmp_path):
    assert free_name(tmp_path / "a.png") == tmp_path / "a.png"
    (tmp_path / "a.png").touch()
    (tmp_path / "a-2.json").touch()
    assert free_name(tmp_path / "a.png", ".json") == tmp_path / "a-3.png"
