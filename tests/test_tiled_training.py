"""Large pictures with small objects through the whole line: cut, trained on, shipped with how they were cut, and looked at so in use."""

from __future__ import annotations

import numpy as np
import pytest

import sightline
from conftest import QUICK, write_boxes, write_maps, write_shapes
from sightline.bundle import Bundle
from sightline.cli import _exit_code
from sightline.errors import ConfigError, UsageError
from sightline.runtime import Model
from test_every_task import pictures

RENDER = {"detect": write_boxes, "segment": write_maps}


@pytest.fixture(scope="module", params=sorted(RENDER))
def tiled(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(f"tiled-{request.param}")
    data = RENDER[request.param](folder / "data", n=10, side=112)
    return data, sightline.train(data, tile=64, overlap=0.25, out=str(folder / "run"), **QUICK)


def test_the_report_and_the_bundle_say_how_pictures_were_cut(tiled):
    _, run = tiled
    said = "The figures are of tiles of 64 pixels of larger pictures, not of whole ones."
    assert said in run.report.read_text()
    with Bundle.open(run.model) as bundle:
        assert bundle.manifest.tiles == {"side": 64, "overlap": 0.25}
        assert said in bundle.read("card").decode()
    counts = {name: part["n"] for name, part in run.numbers["data"]["splits"].items()}
    assert all(n % 4 == 0 for name, n in counts.items() if name != "train")  # four tiles of each picture
    assert run.numbers["network"]["size"] == 64
    assert run.numbers["data"]["tiles"] == {"side": 64, "overlap": 0.25}


def test_evaluating_cuts_the_data_as_training_did(tiled, capsys):
    data, run = tiled
    result = sightline.evaluate(run.model, data, engine="onnxruntime")
    assert result["metrics"] == pytest.approx(run.numbers["test"]["metrics"])
    assert (result["n"], result["split"], result["seen"]) == (run.numbers["test"]["n"], "test", 0)
    assert "The figures are of tiles of 64 pixels, which the model was trained on, not of whole pictures." in capsys.readouterr().err


def test_the_tiles_in_the_bundle_are_replayed(tiled):
    _, run = tiled
    result = sightline.verify(run.model)
    assert (result["n"], result["max_difference"]) == (run.numbers["test"]["n"], 0)


def test_whole_pictures_are_looked_at_in_tiles_unless_others_are_asked_for(tiled, capsys):
    data, run = tiled
    model, image = Model.open(run.model, engine="onnxruntime"), pictures(data)[3]
    assert model.predict(image) == model.predict(image, tile=64, overlap=0.25)
    assert model.predict(image, overlap=0.5) == model.predict(image, tile=64, overlap=0.5)
    first = sightline.predict(run.model, [image], engine="onnxruntime")
    assert next(iter(first))[1] == model.predict(image)
    assert "The model was trained on tiles of 64 pixels, so it looks at images in such; --tile N takes others." in capsys.readouterr().err
    ((_, other),) = sightline.predict(run.model, [image], tile=112, engine="onnxruntime")
    assert other == model.predict(image, tile=112)
    assert "trained on tiles" not in capsys.readouterr().err


def test_a_condition_on_the_size_of_what_was_cut_is_refused_before_it_is_looked_at(tmp_path):
    data = write_boxes(tmp_path / "data", n=10, side=112)
    with pytest.raises(ConfigError, match=r"--where width >= 100: width is that of a tile once --tile has cut the pictures; leave it out"):
        sightline.train(data, tile=64, where="width >= 100", out=str(tmp_path / "run"), **QUICK)
    assert not (tmp_path / "run").exists()


def test_a_class_folder_takes_no_tiles(tmp_path, capsys):
    data = write_shapes(tmp_path / "data", per_class=4)
    assert _exit_code(["train", str(data), "--tile", "16", "--out", str(tmp_path / "run")]) == 2
    assert "is for classify, which answers for whole images; leave it out" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match=r"--overlap 0\.1: is what tiles share; give --tile as well"):
        sightline.train(data, overlap=0.1)


def test_decisions_about_whole_pictures_hold_for_all_of_their_tiles(tmp_path):
    data = write_boxes(tmp_path / "data", n=8, side=96)
    (tmp_path / "decisions.csv").write_text("path,verb\nimages/001.png,drop\n")
    run = sightline.train(data, tile=64, decisions=str(tmp_path / "decisions.csv"), out=str(tmp_path / "run"), **{**QUICK, "epochs": 1})
    kept = run.numbers["data"]["n"]
    assert kept <= 7 * 4
    assert "001.png" not in (run.folder / "predictions.csv").read_text()
    assert run.numbers["audit"]["decisions"] is None


def test_data_that_nothing_is_cut_of_gives_a_model_of_whole_pictures(tmp_path, capsys):
    data = write_boxes(tmp_path / "data", n=12)
    run = sightline.train(data, tile=100, out=str(tmp_path / "run"), **{**QUICK, "epochs": 1})
    assert "No picture is larger than 100 pixels, so nothing is cut into tiles." in capsys.readouterr().err
    with Bundle.open(run.model) as bundle:
        assert bundle.manifest.tiles == {}
    assert run.numbers["data"]["tiles"] == {}
    assert np.isfinite(run.numbers["test"]["metrics"]["map50"])
