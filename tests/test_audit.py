"""audit: from images to a page, numbers and decisions; and the same inside train."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import sightline
from conftest import DATA, QUICK, SHAPES, WEIGHTS, needs_data
from sightline.cli import _exit_code
from sightline.errors import DataError, UsageError
from sightline.model.backbone import BackboneSpec, build

pytestmark = pytest.mark.usefixtures("all_trees")
PER_CLASS = 24


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A tiny network's weights, random but fixed: enough to tell shapes apart a little."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "test_resnet.safetensors"
    backbone = build(BackboneSpec("test_resnet", 32))
    save_file(backbone.inner.state_dict(), path, {"timm": "test_resnet", "licence": "Apache-2.0"})
    return path


def soft_patches(label: str, seed: int) -> Image.Image:
    """Soft patches in the label's tint: no two are alike."""
    rng = np.random.default_rng([seed, sum(map(ord, label))])
    tint = {"cross": (1, 0.6, 0.6), "disc": (0.6, 1, 0.6), "square": (0.6, 0.6, 1)}[label]
    patches = (rng.integers(30, 256, (6, 6, 1)) * np.array(tint)).astype(np.uint8)
    return Image.fromarray(patches).resize((48, 48), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Three kinds of pictures, split, with a copy across the split, a copy under another label, a broken file, and a position in one."""
    folder = tmp_path_factory.mktemp("photos")
    for split, count in (("train", PER_CLASS), ("validation", 8), ("test", 8)):
        for label in SHAPES:
            (folder / split / label).mkdir(parents=True)
            for number in range(count):
                soft_patches(label, 1000 * len(split) + number).save(folder / split / label / f"{number:03d}.png")
    shutil.copy(folder / "train/disc/003.png", folder / "test/disc/copy.png")
    shutil.copy(folder / "train/disc/004.png", folder / "train/cross/wrong.png")
    (folder / "train/square/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    exif = Image.Exif()
    exif.get_ifd(0x8825)[2] = (52.0, 30.0, 0.0)
    Image.open(folder / "train/square/005.png").save(folder / "train/square/placed.jpg", exif=exif, quality=60)
    return folder


@pytest.fixture(scope="module")
def audited(photos, weights, tmp_path_factory):
    return sightline.audit(photos, weights=str(weights), out=str(tmp_path_factory.mktemp("audits") / "photos"))


def kinds(numbers) -> dict[str, dict]:
    return {finding["kind"]: finding for finding in numbers["findings"]}


def pairs(finding) -> set[frozenset[str]]:
    return {frozenset(item["images"]) for item in finding["items"]}


def test_what_was_planted_is_found(audited):
    found = kinds(audited.numbers)
    assert frozenset({"train/disc/003.png", "test/disc/copy.png"}) in pairs(found["copies-across-splits"])
    assert frozenset({"train/disc/004.png", "train/cross/wrong.png"}) in pairs(found["copies-with-different-labels"])
    assert any(
        "train/square/broken.jpg" in item["images"] for kind, entry in found.items() if kind.startswith("file-") for item in entry["items"]
    )
    assert "placed.jpg" in json.dumps(found["positions"])
    assert audited.numbers["refused"] == 1
    assert audited.numbers["n"] == 3 * (PER_CLASS + 16) + 3


def test_problems_come_first_and_are_named_in_the_verdict(audited):
    levels = [finding["level"] for finding in audited.numbers["findings"]]
    assert levels == sorted(levels, key=("problem", "warning", "note").index)
    assert audited.numbers["counts"]["problem"] == levels.count("problem") >= 3
    assert audited.numbers["verdict"].startswith(f"In {audited.numbers['n']} images there is what spoils a model or its figures: ")


def test_the_page_shows_pictures_side_by_side_and_loads_nothing(audited):
    page = audited.page.read_text(encoding="utf-8")
    for finding in audited.numbers["findings"]:
        assert finding["title"] in page
    assert page.count("data:image/jpeg;base64,") >= 2
    assert "http://" not in page
    assert "<script" not in page


def test_the_numbers_and_the_decisions_are_written(audited):
    assert json.loads((audited.folder / "audit.json").read_text()) == audited.numbers
    with audited.decisions.open(newline="") as source:
        rows = {row["path"]: row for row in csv.DictReader(source)}
    assert {row["verb"] for row in rows.values()} == {"keep"}
    assert rows["train/disc/003.png"]["suggestion"] == "drop"
    assert "test/disc/copy.png" not in rows or rows["test/disc/copy.png"]["suggestion"] != "drop"


def test_decisions_are_obeyed_by_train_and_their_effect_is_measured(photos, audited, weights, tmp_path):
    edited = tmp_path / "decisions.csv"
    edited.write_text("path,verb,label\ntrain/disc/003.png,drop,\ntrain/cross/wrong.png,relabel,disc\nold.png,drop,\n")
    quick = {**QUICK, "backbone": None, "weights": str(weights), "epochs": 1}
    run = sightline.train(photos, decisions=str(edited), out=str(tmp_path / "run"), **quick)
    data, audit = run.numbers["data"], run.numbers["audit"]
    assert data["leaks"] == []
    assert data["conflicts"] == []
    assert data["splits"]["train"]["classes"] == {"cross": PER_CLASS, "disc": PER_CLASS, "square": PER_CLASS + 1}
    effect = audit["decisions"]
    assert (effect["dropped"], effect["relabelled"], effect["n"]) == (1, 1, data["splits"]["test"]["n"])
    assert effect["difference"] == pytest.approx(effect["after"] - effect["before"])
    assert effect["interval"][0] <= effect["difference"] <= effect["interval"][1]
    assert "What the decisions changed" in run.report.read_text(encoding="utf-8")
    assert json.loads((run.folder / "audit.json").read_text()) == audit


def test_train_audits_by_facts_where_there_are_no_weights(run):
    audit = run.numbers["audit"]
    assert audit["decisions"] is None
    assert audit["left_out"].startswith("Wrong labels and foreign images were not looked for, as there are no pretrained weights")
    assert "What the audit found" in run.report.read_text(encoding="utf-8")


def test_images_without_labels_are_audited_all_the_same(photos, tmp_path, capsys):
    loose = tmp_path / "loose"
    loose.mkdir()
    for file in (photos / "train/disc").iterdir():
        shutil.copy(file, loose)
    shutil.copy(photos / "train/disc/000.png", loose / "again.png")
    found = sightline.audit(loose, out=str(tmp_path / "audit"))
    assert pairs(kinds(found.numbers)["exact-copies"]) == {frozenset({"000.png", "again.png"})}
    assert "no-labels" in kinds(found.numbers)
    assert found.numbers["labels"] == []
    assert "Audited without labels." in capsys.readouterr().err


def test_a_single_class_and_images_that_are_all_the_same_are_audited(tmp_path):
    (tmp_path / "data/only").mkdir(parents=True)
    for number in range(12):
        Image.new("RGB", (40, 40), (90, 120, 30)).save(tmp_path / f"data/only/{number}.png")
    found = sightline.audit(tmp_path / "data", out=str(tmp_path / "audit"))
    (copies,) = [finding for finding in found.numbers["findings"] if finding["kind"] == "exact-copies"]
    assert len(copies["items"]) == 11
    assert found.numbers["labels"] == ["only"]


def test_a_class_of_one_is_named(photos, weights, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(photos / "train", data)
    (data / "lone").mkdir()
    shutil.copy(photos / "test/disc/001.png", data / "lone")
    found = sightline.audit(data, weights=str(weights), out=str(tmp_path / "audit"))
    assert "'lone'" in json.dumps(found.numbers["findings"])


def test_no_image_that_can_be_read_is_an_error_in_a_sentence(tmp_path):
    (tmp_path / "data/a").mkdir(parents=True)
    (tmp_path / "data/a/1.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="none of its 1 files can be used as an image"):
        sightline.audit(tmp_path / "data", out=str(tmp_path / "audit"))


def test_data_that_are_not_there_are_named(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        sightline.audit(tmp_path / "nowhere")


def test_a_single_file_that_is_no_data_set_is_refused_for_what_it_is(photos):
    with pytest.raises(DataError, match=r"000\.png: is a file; give the folder that holds one folder for each class"):
        sightline.audit(photos / "train/disc/000.png")


def test_data_in_a_folder_whose_name_is_no_text_are_audited(own_shapes, tmp_path, capsys):
    data = own_shapes.rename(tmp_path / os.fsdecode(b"b\xff"))
    shutil.copy(data / "disc/000.png", data / "disc/again.png")
    assert _exit_code(["audit", str(data), "--weights", "none", "--out", str(tmp_path / "audit"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == data.name
    assert json.loads((tmp_path / "audit/audit.json").read_text(encoding="utf-8"))["title"] == data.name
    assert "b\\udcff: audit" in (tmp_path / "audit/audit.html").read_text(encoding="utf-8")
    assert "disc/again.png" in (tmp_path / "audit/decisions.csv").read_text(encoding="utf-8")


def test_blurring_faces_needs_a_detector(photos, tmp_path):
    with pytest.raises(UsageError, match="--blur-faces: name the model that finds them with --face-detector FILE"):
        sightline.audit(photos, blur_faces=str(tmp_path / "blurred"))


def test_a_clean_copy_has_no_position(photos, tmp_path):
    found = sightline.audit(photos, strip_metadata=str(tmp_path / "clean"), out=str(tmp_path / "audit"))
    assert found.copies == (tmp_path / "clean",)
    again = sightline.audit(tmp_path / "clean", out=str(tmp_path / "audit-clean"))
    assert "positions" in kinds(found.numbers)
    assert "positions" not in kinds(again.numbers)
    assert again.numbers["n"] == found.numbers["n"]


@pytest.mark.parametrize("inside", ["clean", "train/clean"])
def test_a_clean_copy_inside_the_data_is_refused(photos, inside):
    with pytest.raises(UsageError, match="lies inside the data"):
        sightline.audit(photos, strip_metadata=str(photos / inside))


@pytest.fixture
def looked(monkeypatch):
    """The sets that were looked at, which is nothing but noted."""
    found = []
    monkeypatch.setattr("sightline.auditing.audit.look_once", lambda dataset, *given, **how: found.append(dataset) or pytest.fail("looked"))
    return found


def test_an_audit_is_not_written_among_the_data(photos, looked, monkeypatch):
    with pytest.raises(UsageError, match=rf"--out {photos}/audit: lies inside the data, {photos}; name a folder elsewhere"):
        sightline.audit(photos, out=str(photos / "audit"))
    monkeypatch.chdir(photos)
    with pytest.raises(UsageError, match="--out runs: lies inside the data"):
        sightline.audit(".")
    assert sorted(path.name for path in photos.iterdir()) == ["test", "train", "validation"]


@pytest.mark.parametrize("flag", ["strip_metadata", "blur_faces"])
def test_a_folder_in_use_is_refused_before_anything_is_looked_at(photos, looked, tmp_path, flag):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="new or empty folder"):
        sightline.audit(photos, out=str(tmp_path / "audit"), **{flag: str(tmp_path / "taken")})
    assert looked == []
    assert not (tmp_path / "audit").exists()


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        ({"out": "clean", "strip_metadata": "clean"}, "--strip-metadata clean: the audit is written to clean"),
        ({"out": "clean/audit", "blur_faces": "clean"}, "--blur-faces clean: the audit is written to clean/audit"),
        ({"strip_metadata": "runs"}, "--strip-metadata runs: the audit is written to runs/audit/"),
        ({"strip_metadata": "a", "blur_faces": "b/../a"}, "name two folders, neither of them in the other"),
        ({"strip_metadata": "a", "blur_faces": "a/b"}, "name two folders, neither of them in the other"),
        ({"strip_metadata": "a/b", "blur_faces": "a"}, "name two folders, neither of them in the other"),
    ],
)
def test_folders_that_would_collide_are_refused_before_anything_is_looked_at(photos, looked, tmp_path, monkeypatch, folders, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=said):
        sightline.audit(photos, **folders)
    assert looked == []


def test_a_clean_copy_may_lie_within_the_audit(own_shapes, tmp_path):
    found = sightline.audit(own_shapes, weights="none", out=str(tmp_path / "audit"), strip_metadata=str(tmp_path / "audit/clean"))
    assert found.page.exists()
    assert len([*(tmp_path / "audit/clean").rglob("*.png")]) == 12


def test_the_folder_that_one_is_in_has_its_name(own_shapes, tmp_path, monkeypatch):
    monkeypatch.chdir(own_shapes)
    found = sightline.audit(".", out=str(tmp_path / "audit"), weights="none")
    assert found.numbers["title"] == "data"


def test_the_command_line_says_each_finding_and_where_to_go_on(photos, tmp_path, capsys):
    assert _exit_code(["audit", str(photos), "--out", str(tmp_path / "audit")]) == 0
    said = capsys.readouterr().out
    assert "PROBLEM" in said
    assert f"Page       {tmp_path / 'audit' / 'audit.html'}" in said
    assert _exit_code(["audit", str(photos), "--out", str(tmp_path / "audit"), "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert numbers["folder"] == str(tmp_path / "audit-2")
    assert numbers["findings"]


def test_a_misspelt_verb_stops_training_before_anything_is_learned(photos, tmp_path, capsys):
    (tmp_path / "d.csv").write_text("path,verb,label\ntrain/disc/003.png,dorp,\n")
    assert _exit_code(["train", str(photos), "--decisions", str(tmp_path / "d.csv"), "--out", str(tmp_path / "run")]) == 3
    assert "the verb 'dorp' on line 2 is none of keep, drop, relabel" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@needs_data
def test_photographs_of_people_are_said_to_show_faces(tmp_path):
    images = tmp_path / "people"
    images.mkdir()
    for name in ("hopper.jpg", "hopper_gray.jpg"):
        shutil.copy(DATA / "hostile" / name, images)
    found = sightline.audit(
        images,
        face_detector=str(DATA / "weights" / "yunet_n_dynamic.onnx"),
        blur_faces=str(tmp_path / "blurred"),
        out=str(tmp_path / "audit"),
    )
    assert "faces" in kinds(found.numbers)
    again = sightline.audit(
        tmp_path / "blurred", face_detector=str(DATA / "weights" / "yunet_n_dynamic.onnx"), out=str(tmp_path / "audit-blurred")
    )
    assert "faces" not in kinds(again.numbers)


@needs_data
def test_clothing_raises_no_alarm(tmp_path):
    found = sightline.audit(DATA / "clothing", weights=str(WEIGHTS), size=96, out=str(tmp_path / "audit"))
    assert found.numbers["counts"]["problem"] == 0
    assert kinds(found.numbers)["suspect-labels"]["figures"]["likely"] <= 5
