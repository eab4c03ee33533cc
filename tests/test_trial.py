"""The trial as a whole: every part in report and bundle, what is required of a model, and what is said of one that falls short."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import sightline
from conftest import QUICK, write_shapes, write_tagged_shapes
from sightline.bundle import Bundle
from sightline.cli import _exit_code
from sightline.errors import RequirementNotMet, UsageError
from sightline.evaluation.promises import unit
from sightline.reference import Known
from sightline.runtime import Model, raw_outputs
from sightline.trust.trial import PARTS

TRIED = {**QUICK, "epochs": 1, "trial": True}


def test_every_part_is_in_the_report(run):
    assert {"confidence", "energy", "requirements", *PARTS} <= run.numbers.keys()
    page = run.report.read_text()
    for title in ("When to believe it", "In harder conditions", "Is a network needed?", "Why it says so", "What it learned"):
        assert title in page
    json.dumps(run.numbers, allow_nan=False)
    assert run.numbers["energy"]["processor_seconds"] > 0


def test_the_shares_of_the_time_add_up():
    assert sum(share for _, share in PARTS.values()) == pytest.approx(1)


def test_the_bundle_knows_training_images_and_its_own_last_layer(run, shapes):
    with Bundle.open(run.model) as bundle:
        arrays = bundle.arrays("reference")
        model = Model.of(bundle, engine="onnxruntime", precision="fp32", outputs=("embedding", "features"))
    known = Known.of(arrays)
    assert len(known.names) == len(known.thumbs) == len(known.targets) == run.numbers["data"]["splits"]["train"]["n"]
    assert all(thumb.startswith(b"\xff\xd8") for thumb in known.thumbs)
    assert all(arrays[f"fact_{name}"].shape == (len(known.names),) for name in ("brightness", "contrast", "sharpness", "width"))
    paths = [shapes / name for name in known.names]
    (batch,) = raw_outputs(model.infer, model.prepare, paths, batch_size=len(paths))
    assert np.allclose(unit(batch.raw["embedding"]), known.embeddings.astype(np.float32), atol=5e-3)
    logits = batch.raw["features"].mean(axis=(2, 3)) @ arrays["head_weight"].T + arrays["head_bias"]
    assert np.allclose(logits, batch.raw["logits"], atol=1e-3)
    assert Known.of({"seen": arrays["seen"]}) is None  # a bundle from before


def test_tags_and_a_handful_of_images_are_tried_as_well(tmp_path):
    table = write_tagged_shapes(tmp_path / "tags", n=40)
    numbers = sightline.train(table, out=str(tmp_path / "run"), embed_images="none", **TRIED).numbers
    assert numbers.keys() >= {"confidence", *PARTS}
    json.dumps(numbers, allow_nan=False)
    with Bundle.open(tmp_path / "run" / "model.sight") as bundle:
        assert "thumbs" not in bundle.arrays("reference")


@pytest.fixture(scope="module")
def untried(shapes, tmp_path_factory):
    """A run without a trial, of which something is required."""
    return sightline.train(shapes, out=str(tmp_path_factory.mktemp("untried") / "run"), require="ece<=1", **{**TRIED, "trial": False})


def test_a_trial_can_be_left_out(untried):
    assert "confidence" in untried.numbers
    assert not untried.numbers.keys() & PARTS.keys()


def test_a_model_that_falls_short_is_kept_and_marked_as_unfit(tmp_path, shapes, capsys):
    with pytest.raises(RequirementNotMet, match=r"accuracy"):
        sightline.train(shapes, out=str(tmp_path / "run"), require="accuracy>=1, ece<=1", **{**TRIED, "trial": False})
    model = tmp_path / "run" / "model.sight"
    with Bundle.open(model) as bundle:
        assert len(bundle.manifest.unfit) == 1
        assert "does not meet 1 of 2 requirements" in bundle.read("card").decode()
    capsys.readouterr()
    assert _exit_code(["predict", str(model), str(shapes / "disc" / "000.png"), "--json"]) == 0
    printed = capsys.readouterr()
    assert "marked as unfit" in printed.err
    assert json.loads(printed.out).keys() >= {"predictions", "abstained", "unfamiliar"}


def test_a_model_that_reaches_what_is_required_is_not_marked(untried):
    assert untried.numbers["requirements"]["met"]
    with Bundle.open(untried.model) as bundle:
        assert bundle.manifest.unfit == ()


@pytest.mark.parametrize("text", ["acuracy>=0.9", "accuracy>=0.9, accuracy<=0.5", "accuracy>=2", "map>=0.5", ""])
def test_what_cannot_be_required_is_refused_before_anything_is_trained(tmp_path, shapes, text):
    with pytest.raises(UsageError):
        sightline.train(shapes, out=str(tmp_path / "run"), require=text, **TRIED)
    assert not (tmp_path / "run").exists()


def test_two_classes_of_which_one_is_rare(tmp_path):
    data = write_shapes(tmp_path / "data", per_class=12, kinds=("disc", "square"))
    for path in sorted((data / "square").glob("*.png"))[6:]:
        path.unlink()
    numbers = sightline.train(data, out=str(tmp_path / "run"), **TRIED).numbers
    assert numbers["confidence"]["promise"] is None
    json.dumps(numbers, allow_nan=False)


def test_the_command_line_takes_what_the_api_takes(tmp_path, shapes, capsys):
    words = ["train", str(shapes), "--out", str(tmp_path / "run"), "--require", "accuracy>=1", "--no-trial", "--promise", "0.8",
             "--backbone", "test_resnet", "--weights", "none", "--epochs", "1"]  # fmt: skip
    assert _exit_code([*words, "--json"]) == 7
    said = capsys.readouterr()
    assert "does not meet its requirement" in said.err
    run = json.loads(said.out)  # all that was done is told of all the same
    assert Path(run["model"]).is_file()
    assert "accuracy" in run["test"]["metrics"]
    assert _exit_code(["train", str(shapes), "--require", "acuracy>=1"]) == 2
    assert "accuracy" in capsys.readouterr().err
