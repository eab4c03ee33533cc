"""What a training is asked for is checked before anything is read, and holds wherever the run is taken up again."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import torch

import sightline
from conftest import QUICK
from sightline import trainer
from sightline.errors import ConfigError, UsageError
from sightline.training import checkpoint


def started(data: Path, **settings) -> trainer.Start:
    return trainer.start(data, None, {"device": "cpu", **settings}, time.monotonic())


@pytest.mark.parametrize("out", [None, "run", "disc/run", "."])
def test_a_run_is_not_written_among_the_data(own_shapes, monkeypatch, out):
    monkeypatch.chdir(own_shapes)
    before = sorted(own_shapes.rglob("*"))
    for data in (".", own_shapes):
        with pytest.raises(UsageError, match=rf"--out {out or 'runs'}: lies inside the data, {own_shapes}; name a folder elsewhere"):
            sightline.train(data, out=out)
    assert sorted(own_shapes.rglob("*")) == before
    assert started(Path("."), out="../run").root == own_shapes


def test_files_are_found_again_from_another_folder(own_shapes, tmp_path, monkeypatch):
    (tmp_path / "blob").touch()
    (tmp_path / "w.safetensors").symlink_to("blob")  # as in a hub's cache
    for name in ("decisions.csv", "auto"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    chosen = started(own_shapes, weights="w.safetensors", decisions=Path("decisions.csv")).settings
    assert chosen.network.weights == str(tmp_path / "w.safetensors")
    assert chosen.data.decisions == str(tmp_path / "decisions.csv")
    for word in ("auto", "hub", "none", "absent.safetensors"):
        assert started(own_shapes, weights=word).settings.network.weights == word


def test_a_share_of_test_images_is_not_asked_for_beside_folds(own_shapes):
    with pytest.raises(ConfigError, match=r"--test-fraction 0\.3: with --folds each fold is the test set once; leave it out"):
        sightline.train(own_shapes, folds=5, test_fraction=0.3)
    assert started(own_shapes, folds=5, val_fraction=0.3).settings.data.folds == 5


def test_a_run_that_goes_on_says_what_it_took_of_its_budget_in_all(shapes, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    monkeypatch.setattr("sightline.package.ship", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(sightline.SightlineError, match="--resume"):
        sightline.train(shapes, out=str(run), budget="30m", **QUICK)
    monkeypatch.undo()
    state = checkpoint.load(run / "checkpoint", checkpoint.LAST, torch.device("cpu"))
    assert 0 < state["spent"] < 1200
    checkpoint.save(run / "checkpoint", checkpoint.LAST, {**state, "spent": 1200.0})
    budget = trainer.go_on(run, time.monotonic()).budget
    assert budget.left() == pytest.approx(600, abs=5)
    capsys.readouterr()
    sightline.train(resume=run)
    assert re.search(r"It took 2\d min( \d+ s)? of a budget of 30 min\.", capsys.readouterr().err)
