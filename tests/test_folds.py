"""Cross-validation: every image tested once, a stop loses nothing, the figures are those of the folds."""

from __future__ import annotations

import csv
import json
import statistics
import time

import pytest

import sightline
from conftest import QUICK, write_shapes
from sightline import folds, trainer
from sightline.config import TrainSettings
from sightline.errors import DataError, Interrupted
from sightline.folds import all_suspects, summary, train_folds
from sightline.trainer import Start, Trained
from sightline.training import checkpoint
from sightline.training.budget import Budget
from sightline.training.run import CONFIG, Run


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Three folds of 30 images, stopped in the second and continued."""
    folder = tmp_path_factory.mktemp("folds")
    data = write_shapes(folder / "data", per_class=10)
    once, calls = trainer.train_once, []

    def stopped(start):
        calls.append(start.fold)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return once(start)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sightline.folds.train_once", stopped)
        with pytest.raises(Interrupted, match=r"sightline train --resume .*run goes on"):
            sightline.train(data, folds=3, out=str(folder / "run"), **{**QUICK, "epochs": 1})
    return data, sightline.train(resume=folder / "run")


def test_every_image_is_tested_in_exactly_one_fold(done):
    data, run = done
    with (run.folder / "predictions.csv").open(newline="") as source:
        rows = list(csv.DictReader(source))
    assert sorted(row["path"] for row in rows) == sorted(path.relative_to(data).as_posix() for path in data.rglob("*.png"))
    assert {row["fold"] for row in rows} == {"1", "2", "3"}


def test_the_figures_are_those_of_the_folds_and_the_model_is_the_median_one(done):
    _, run = done
    folds = [json.loads((run.folder / f"fold-{number}" / "report.json").read_text())["test"]["metrics"]["accuracy"] for number in (1, 2, 3)]
    numbers = json.loads((run.folder / "report.json").read_text())
    assert numbers == run.numbers
    assert numbers["test"]["metrics"]["accuracy"] == pytest.approx(statistics.fmean(folds))
    assert numbers["test"]["spread"]["accuracy"] == pytest.approx(statistics.stdev(folds))
    assert numbers["test"]["n"] == 30
    assert folds[numbers["kept"] - 1] == sorted(folds)[1]
    assert run.model.read_bytes() == (run.folder / f"fold-{numbers['kept']}" / "model.sight").read_bytes()
    assert sightline.verify(run.model)["max_difference"] == 0
    assert "Over 3 folds, in which each of 30 images was tested once" in numbers["verdict"]["sentence"]


def test_a_class_smaller_than_the_folds_is_named(tmp_path):
    data = write_shapes(tmp_path / "data", per_class=8)
    for path in sorted((data / "disc").iterdir())[3:]:
        path.unlink()
    with pytest.raises(DataError, match=r"class 'disc' has 3 usable images\. 5 folds need one each, so 5 different images at least"):
        sightline.train(data, folds=5, out=str(tmp_path / "run"), **QUICK)


def test_data_that_came_split_is_not_mixed(tmp_path):
    for part in ("train", "test"):
        write_shapes(tmp_path / "data" / part, per_class=3)
    with pytest.raises(DataError, match="the data came split, and --folds would mix what was kept apart"):
        sightline.train(tmp_path / "data", folds=3, out=str(tmp_path / "run"), **QUICK)


def test_a_metric_that_a_fold_lacks_has_no_mean():
    def fold(accuracy, **more):
        return {"format": 1, "task": "classify", "title": "t", "verdict": {"level": "fair"},
                "test": {"n": 5, "metrics": {"accuracy": accuracy, **more}}}  # fmt: skip

    found = summary([fold(0.5, top5=1.0), fold(0.7)], 0)
    assert found["test"]["metrics"] == {"accuracy": pytest.approx(0.6)}


def test_the_page_has_every_fold(done):
    _, run = done
    text = run.report.read_text()
    assert all(f"fold-{number}/report.html" in text for number in (1, 2, 3))
    assert run.numbers["verdict"]["sentence"].split(",")[0] in text


def test_runs_of_folds_can_be_compared(done, tmp_path):
    data, run = done
    found = sightline.compare([run.folder, run.folder / "fold-1"], out=tmp_path / "compare.html")
    assert found.pairs[0].paired.n == 10
    assert [each.root for each in found.runs] == [data.resolve()] * 2


def test_doubts_of_several_folds_are_told_once_the_surest_first():
    doubt = {"key": "a.png", "kind": "missing", "label": "red", "score": 0.6, "box": [0, 0, 4, 4], "suggestion": "add red"}
    parts = [{"suspects": {"items": [doubt]}}, {"suspects": {"items": [{**doubt, "score": 0.9}, {**doubt, "key": "b.png"}]}}, {}]
    assert [(item["key"], item["score"]) for item in all_suspects(parts)] == [("a.png", 0.9), ("b.png", 0.6)]


def test_two_networks_never_agree_on_the_sides_of_a_box_that_is_missing():
    doubt = {"key": "a.png", "kind": "missing", "label": "red", "suggestion": "add red"}
    first = [{**doubt, "score": 0.8, "box": [10, 10, 30, 30]}, {**doubt, "score": 0.7, "box": [50, 10, 70, 30]}]
    second = [{**doubt, "score": 0.9, "box": [10.4, 9.7, 31.2, 30]}, {**doubt, "score": 0.6, "label": "blue", "box": [10, 10, 30, 30]}]
    moved = {"key": "a.png", "kind": "badly placed", "label": "red", "truth": "red", "suggestion": "move"}
    first += [{**moved, "score": 0.55, "box": [12, 60, 30, 90], "truth_box": [10, 70, 30, 90]}]
    second += [{**moved, "score": 0.5, "box": [10, 55, 28, 85], "truth_box": [10, 70, 30, 90]}]
    found = all_suspects([{"suspects": {"items": first}}, {"suspects": {"items": second}}])
    assert [(item["label"], item["score"]) for item in found] == [("red", 0.9), ("red", 0.7), ("blue", 0.6), ("red", 0.55)]


def test_a_fold_of_other_images_than_the_folds_before_it_is_refused(tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "_audited", stopped)
    data, run = write_shapes(tmp_path / "data", per_class=6), tmp_path / "run"

    def before_its_first_file():
        (run / "fold-1" / "config.json").unlink()

    with pytest.raises(Interrupted):
        sightline.train(data, folds=3, out=str(run), **QUICK)
    before_its_first_file()
    with pytest.raises(Interrupted):
        sightline.train(resume=run)
    before_its_first_file()
    (data / "disc" / "000.png").rename(data / "square" / "disc.png")
    with pytest.raises(DataError, match=r"the images, labels or splits changed since .*run was started; restore them, or start a new run"):
        sightline.train(resume=run)
    (data / "square" / "disc.png").rename(data / "disc" / "000.png")
    with pytest.raises(Interrupted):
        sightline.train(resume=run)


@pytest.mark.parametrize("again", [False, True])
def test_folds_that_go_on_have_what_was_left_of_the_budget(tmp_path, monkeypatch, again):
    """Of 900 s the first fold took 300, in one process or in two, and the second 150 until it was stopped."""
    settings = TrainSettings.of(folds=3, budget="15m")
    record = {"data": str(tmp_path), "settings": settings.to_json(), **dict.fromkeys(("fingerprint", "choice", "plan", "fold"))}
    for number, spent in ((1, 300.0 if again else 200.0), (2, 150.0)):
        run = Run(tmp_path / f"fold-{number}")
        checkpoint.save(run.folder / "checkpoint", checkpoint.LAST, {"spent": spent})
        run.write_json(CONFIG, record)
    finished = Run(tmp_path / "fold-1")
    finished.model.touch()
    finished.write_json("report.json", {"training": {"seconds": {"training": 10.0 if again else 200.0, "testing": 100.0}}})
    begun: list[Budget] = []

    def once(start: Start) -> Trained:
        begun.append(start.budget)
        return Trained(tmp_path, tmp_path, tmp_path, {})

    monkeypatch.setattr(folds, "train_once", once)
    monkeypatch.setattr(folds, "_written", lambda run, done: {})
    train_folds(Start(settings, tmp_path, Budget(900, time.monotonic()), Run(tmp_path), {"folds": 3}))
    under_way, new = begun
    assert (under_way.seconds, under_way.spent) == (pytest.approx(300, abs=5), 150)
    assert under_way.left() == pytest.approx(150, abs=5)
    assert (new.seconds, new.spent) == (pytest.approx(450, abs=5), 0)  # no time passed in the one before
