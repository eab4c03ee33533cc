"""``sightline explain`` as a user meets it: pictures and JSON of each image, whatever is wrong with some of them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sightline
from found import colour_logits, dense_boxes, model_of
from sightline.bundle import Bundle, Part, arrays_to_bytes, write
from sightline.cli import _exit_code
from sightline.config import ExplainConfig
from sightline.data.prepare import Prepare
from sightline.errors import UsageError
from sightline.explanation.explain import Explainer
from sightline.explanation.words import caption
from sightline.manifest import Manifest
from sightline.records import ImageRef
from sightline.runtime import Model
from test_architecture import TRAIN_ONLY


@pytest.fixture
def explain(capsys, monkeypatch, tmp_path, run):
    """Runs ``explain`` in an empty working folder and returns its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object, model: Path = run.model) -> tuple[int, str, str]:
        code = _exit_code(["explain", *map(str, (model, *words))])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def changed(bundle: Path, to: Path, *, reference=None, report=None) -> Path:
    """A copy of a bundle with other reference arrays or other numbers in its report."""
    new = {"reference": reference and arrays_to_bytes(reference), "report_data": report and json.dumps(report).encode()}
    with Bundle.open(bundle) as opened:
        members = opened.manifest.members
        parts = [Part(member.name, member.role, new.get(member.role) or opened.read(member.role), member.required) for member in members]
        write(to, opened.manifest, parts)
    return to


@pytest.fixture
def older(run, tmp_path):
    """A bundle as earlier versions made them: it knows neither its head nor its training images."""
    with Bundle.open(run.model) as opened:
        seen = opened.arrays("reference")["seen"]
    return changed(run.model, tmp_path / "older.sight", reference={"seen": seen})


def test_each_image_gets_a_picture_and_its_json(explain, run, shapes):
    images = [shapes / "disc" / "000.png", shapes / "cross" / "001.png"]
    code, out, _ = explain(*images, "--json", "--out", "why", "--random-maps", "3")
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [entry["path"] for entry in found] == [str(image) for image in images]
    for entry, image in zip(found, images, strict=True):
        prediction = sightline.Model.open(run.model).predict(image)
        assert (entry["label"], entry["answer"]) == (prediction.label, prediction.label)
        assert entry["score"] == pytest.approx(prediction.score, abs=1e-6)
        assert entry["method"] == "CAM"
        heat = np.array(entry["heat"])
        assert heat.shape == (4, 4)
        assert 0 <= heat.min() <= heat.max() == 1
        assert entry["box"] == pytest.approx([0, 0, 32, 32], abs=5)
        assert entry["tested"]["random_maps"] == 3
        assert len(entry["nearest"]) == 5
        assert all((shapes / near["name"]).exists() and near["labels"] == [Path(near["name"]).parts[0]] for near in entry["nearest"])
        assert Image.open(entry["picture"]).width >= 560
        assert json.loads(Path(entry["picture"]).with_suffix(".json").read_text()) == entry


def test_in_words_and_under_names_that_are_free(explain, shapes, tmp_path):
    image = shapes / "disc" / "000.png"
    for expected in ("000.png", "000-2.png"):
        code, out, _ = explain(image, image.with_name("001.png"), "--out", "why", "--random-maps", "1")
        assert code == 0
        assert f"by CAM; why/{expected}" in out.splitlines()[0]
    assert len(list((tmp_path / "why").iterdir())) == 8
    for folder in ("shapes", "shapes-2"):
        assert f"; runs/explain/{folder}/000.png" in explain(image, "--random-maps", "0")[1]


def test_bad_images_are_named_and_the_rest_goes_on(explain, shapes, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"\xff\xd8\xff nothing more")
    images = [bad, tmp_path / "absent.png", shapes / "disc" / "000.png"]
    code, out, err = explain(*images, "--random-maps", "0")
    assert code == 0
    assert len(out.splitlines()) == 1
    assert f"{bad}: damaged JPEG" in err
    assert "no such file" in err
    code, out, _ = explain(*images, "--random-maps", "0", "--json")
    assert [set(json.loads(line)) == {"path", "error"} for line in out.splitlines()] == [True, True, False]
    code, _, err = explain(*images[:2], "--out", "nothing")
    assert code == 3
    assert "None of the images" in err
    assert not (tmp_path / "nothing").exists()


def test_wrong_labels_methods_and_places_are_one_sentence(explain, shapes, tmp_path):
    image = shapes / "disc" / "000.png"
    (tmp_path / "taken").write_text("a file")
    for words, code, says in (
        (["--label", "dics"], 2, "--label dics: the model has no such label. Did you mean 'disc'?"),
        (["--label", "zzzz"], 2, "It has 'cross', 'disc', 'square'."),
        (["--method", "gradcam"], 2, "--method"),
        (["--random-maps", "-1", "--nearest", "99"], 2, "random_maps must be at least 0, not -1. nearest must be at most 20, not 99."),
        (["--out", "taken"], 6, "taken"),
    ):
        found, _, err = explain(image, *words)
        assert found == code
        *_, last = err.strip().splitlines()
        assert says in last
    assert explain()[0] == 2
    assert explain(image, model=tmp_path / "absent.sight")[0] == 4


def test_another_label_than_the_answer_can_be_asked_for(explain, shapes):
    image = shapes / "disc" / "000.png"
    answer = json.loads(explain(image, "--json", "--random-maps", "0")[1])["label"]
    other = next(label for label in ("cross", "disc", "square") if label != answer)
    found = json.loads(explain(image, "--json", "--label", other, "--random-maps", "0")[1])
    assert (found["label"], found["answer"]) == (other, answer)
    assert found["score"] < 0.5
    assert "--random-maps is 0" in found["tested"]["reason"]


def test_an_older_bundle_is_explained_by_occlusion_and_knows_no_neighbours(explain, shapes, older):
    image = shapes / "square" / "002.png"
    found = json.loads(explain(image, "--json", "--random-maps", "2", model=older)[1])
    assert found["method"] == "occlusion"
    assert np.array(found["heat"]).shape == (7, 7)
    assert found["nearest"] == []
    assert found["tested"]["random_maps"] == 2
    code, _, err = explain(image, "--method", "cam", model=older)
    assert code == 2
    assert "--method cam" in err
    assert "use --method occlusion" in err


def test_occlusion_can_be_asked_for(explain, shapes):
    found = json.loads(explain(shapes / "disc" / "000.png", "--json", "--method", "occlusion", "--random-maps", "0", "--nearest", "2")[1])
    assert found["method"] == "occlusion"
    assert len(found["nearest"]) == 2


@pytest.mark.parametrize(("method", "said"), [("CAM", True), ("occlusion", False)])
def test_the_reports_verdict_on_the_method_is_told(explain, run, shapes, tmp_path, method, said):
    report = {"explanations": {"method": method, "trusted": False, "sentence": "Do not rely on this model's heat maps."}}
    model = changed(run.model, tmp_path / "judged.sight", report=report)
    found = json.loads(explain(shapes / "disc" / "000.png", "--json", "--random-maps", "0", model=model)[1])
    assert found["trust"] == ({"trusted": False, "sentence": "Do not rely on this model's heat maps."} if said else None)


def test_no_more_images_are_computed_at_once_than_asked_for(explain, run, shapes, monkeypatch):
    sizes, model_of = [], Model.of

    def counted(bundle, **settings):
        model = model_of(bundle, **settings)
        infer = model.infer
        model.infer = lambda images: sizes.append(len(images)) or infer(images)
        return model

    monkeypatch.setattr(Model, "of", counted)
    assert explain(shapes / "disc" / "000.png", "--batch-size", "2", "--random-maps", "1")[0] == 0
    assert max(sizes) == 2


def test_each_page_is_explained(explain, shapes, tmp_path):
    pages = [Image.open(shapes / kind / "000.png") for kind in ("disc", "cross")]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    out = explain(tmp_path / "pages.tif", "--out", "why", "--random-maps", "0")[1]
    assert [line.rpartition("/")[2] for line in out.splitlines()] == ["pages.png", "pages-1.png"]


def test_no_training_library_is_needed(run, shapes, tmp_path):
    code = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {TRAIN_ONLY!r}:
            raise ImportError(f"{{name}} is blocked")
sys.meta_path.insert(0, Blocked())
from sightline.cli import _exit_code
assert _exit_code(["explain", {str(run.model)!r}, {str(shapes / "disc" / "000.png")!r}, "--random-maps", "1"]) == 0
assert not set(sys.modules) & set({TRAIN_ONLY!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


# ---- a network made by hand: its evidence for "bright" is brightness ---------------------------------------------------


def by_hand(task: str = "classify", fit: str = "crop", from_score: float | None = None) -> Model:
    manifest = Manifest(
        task=task, labels=("bright", "dark"), prepare=Prepare(64, fit=fit).to_json(),
        thresholds={} if from_score is None else dict.fromkeys(("bright", "dark"), from_score), temperature=1.0, config={}, seed=0,
        fingerprint="", versions={}, licences={}, created="", backbone={},
    )  # fmt: skip

    def infer(batch):
        bright = np.maximum(batch.astype(np.float32) - 140, 0)  # darker than what is padded with counts for nothing
        features = bright.reshape(-1, 1, 8, 8, 8, 8, 3).mean(axis=(3, 5, 6))
        embedding = features.mean(axis=(2, 3))
        return {"logits": embedding @ HEAD.T, "embedding": embedding, "features": features}

    return Model(manifest, infer)


HEAD = np.array([[0.5], [-0.5]], np.float32)


def explained(tmp_path, image, model, **settings):
    config = ExplainConfig(out=str(tmp_path / "out"), **settings)
    return Explainer(model, Path("hand.sight"), config, {"head_weight": HEAD}, {})(ImageRef(str(image)))


@pytest.mark.parametrize("method", ["cam", "occlusion"])
@pytest.mark.parametrize(
    ("fit", "size", "at"), [("crop", (1200, 800), (700, 300)), ("pad", (500, 900), (90, 600)), ("squash", (320, 200), (30, 20))]
)
def test_heat_is_told_in_pixels_of_the_original(tmp_path, method, fit, size, at):
    """A photograph that is stored turned, large enough for the decoder to shrink it."""
    width, height = size
    upright = np.full((height, width, 3), 20, np.uint8)
    upright[at[1] : at[1] + height // 8, at[0] : at[0] + width // 8] = 255
    turned = Image.fromarray(upright).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x112] = 6
    turned.save(tmp_path / "photo.jpg", quality=95, exif=exif)
    found = explained(tmp_path, tmp_path / "photo.jpg", by_hand(fit=fit), method=method, label="bright", random_maps=2)
    left, top, right, bottom = found.box
    rows, columns = found.heat.shape
    row, column = np.unravel_index(found.heat.argmax(), found.heat.shape)
    x, y = left + (column + 0.5) * (right - left) / columns, top + (row + 0.5) * (bottom - top) / rows
    assert abs(x - at[0] - width / 16) <= (right - left) / columns
    assert abs(y - at[1] - height / 16) <= (bottom - top) / rows
    assert found.whole == (fit != "crop")
    picture = np.asarray(Image.open(found.picture).convert("RGB")).astype(int)
    half = 16 + round(448 * min(1, width / height)) + 16
    hot = (picture[16:464, half:, 0] - picture[16:464, half:, 2]).clip(0)
    hot[picture[16:464, half:].min(axis=2) > 240] = 0
    scale = 448 / max(width, height)
    place = np.unravel_index(hot.argmax(), hot.shape)
    assert abs(place[0] - (at[1] + height / 16) * scale) <= 60
    assert abs(place[1] - (at[0] + width / 16) * scale) <= 60


def test_tags_without_an_answer_and_labels_without_a_chance(tmp_path):
    Image.new("RGB", (64, 64), (10, 10, 10)).save(tmp_path / "black.png")
    found = explained(tmp_path, tmp_path / "black.png", by_hand("tag"), random_maps=1)
    assert found.label in ("bright", "dark")
    assert not found.heat.any()
    assert any("No part of the image" in line.text for line in caption(found))
    Image.new("RGB", (64, 64), (250, 250, 250)).save(tmp_path / "white.png")
    found = explained(tmp_path, tmp_path / "white.png", by_hand("tag"), label="dark")
    assert "nothing that taking pixels away could lose" in found.tested["reason"]
    assert any("answer is bright" in line.text for line in caption(found))
    assert any("does not answer" in line.text for line in caption(replace(found, abstained=True)))


def said(found) -> str:
    return " ".join(line.text for line in caption(found))


def test_only_labels_that_are_given_are_called_the_answer(tmp_path):
    """On black both tags have a score of a half."""
    Image.new("RGB", (64, 64)).save(tmp_path / "black.png")
    none, both = ({label: explained(tmp_path, tmp_path / "black.png", by_hand("tag", from_score=least), random_maps=0, label=label)
                   for label in (None, "bright", "dark")} for least in (0.9, 0.3))  # fmt: skip
    assert [found.to_json()["given"] for found in none.values()] == [[]] * 3
    assert [found.to_json()["given"] for found in both.values()] == [["bright", "dark"]] * 3
    assert not none[None].abstained
    assert "The model gives no label; this came nearest." in said(none[None])
    assert "The model gives no label; bright came nearest." in said(none["dark"])
    assert not any("answer" in said(found) or "came nearest" in said(found) for found in both.values())
    assert "its best guess is no label." in said(replace(none["dark"], abstained=True))
    assert "its best guess is bright and dark." in said(replace(both["dark"], abstained=True))


@pytest.mark.parametrize(
    ("task", "infer", "label", "says"),
    [
        ("detect", dense_boxes, None, ""),
        ("detect", dense_boxes, "green", "The surest box is of red."),
        ("detect", dense_boxes, "blue", "The model's answer is boxes of red and green."),
        ("segment", colour_logits, None, "This is the smallest area of note on the model's map."),
        ("segment", colour_logits, "red", "green is the smallest area of note on the model's map."),
        ("segment", colour_logits, "blue", "The model's answer is a map of red and green."),
    ],
)
def test_of_scenes_it_is_said_what_was_chosen(tmp_path, task, infer, label, says):
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[4:60, 4:28, 0] = pixels[8:30, 40:60, 1] = 255
    Image.fromarray(pixels).save(tmp_path / "scene.png")
    config = ExplainConfig(out=str(tmp_path / "out"), random_maps=0, label=label)
    found = Explainer(model_of(task, infer), Path("hand.sight"), config, {}, {})(ImageRef(str(tmp_path / "scene.png")))
    assert found.given == ("red", "green")
    second = caption(found)[1]
    assert second.text == says if says else second.text.startswith("Occlusion")


def test_where_nothing_is_found_that_is_said(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "black.png")
    config = ExplainConfig(out=str(tmp_path / "out"), random_maps=0)
    found = Explainer(model_of("detect", dense_boxes), Path("hand.sight"), config, {}, {})(ImageRef(str(tmp_path / "black.png")))
    assert found.to_json()["given"] == []
    assert "The model gives no box; this came nearest." in said(found)


def test_a_sentence_names_no_more_than_ten_labels(tmp_path):
    Image.new("RGB", (64, 64), (250, 250, 250)).save(tmp_path / "white.png")
    found = explained(tmp_path, tmp_path / "white.png", by_hand("tag"), random_maps=0, label="dark")
    assert "answer is 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 3 more." in said(replace(found, given=tuple(map(str, range(13)))))


def test_a_model_without_such_a_map_allows_no_cam():
    with pytest.raises(UsageError, match="what its head averages"):
        Explainer(by_hand(), Path("hand.sight"), ExplainConfig(method="cam"), {"head_weight": np.ones((2, 9))}, {})
