"""Logs: TensorBoard's event files and MLflow's store hold what results.csv does, once, and cost a training nothing when they fail."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import sightline
from conftest import QUICK
from sightline.errors import Interrupted, UsageError
from sightline.training import logs, loop
from sightline.training.logs import CarefulLog, EventFile, MlflowLog, TensorBoardLog, points_of
from sightline.training.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = ("tensorboard", "mlflow")
ROW = {"epoch": 0, "stage": "start", "lr": 0.0, "train_loss": None, "val_loss": 1.5, "val_accuracy": 0.25, "seconds": 0.0}
NEXT = {**ROW, "epoch": 1, "stage": "all", "lr": 0.0078125, "train_loss": 1.25, "val_loss": 0.75, "seconds": 2.5}


@pytest.fixture(autouse=True)
def local(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)


def events(folder: Path):
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    return EventAccumulator(str(folder / "tensorboard"), {SCALARS: 0}).Reload()


def mlflow_run(folder: Path):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=(folder / "mlruns").as_uri())
    (found,) = client.search_runs([client.get_experiment_by_name("sightline").experiment_id])
    assert json.loads((folder / "mlflow.json").read_text()) == {"run_id": found.info.run_id}
    return client, found


def points(name: str, folder: Path) -> list[tuple[str, int, float]]:
    """(figure, epoch, value) of everything that was logged, doubles included."""
    if name == "tensorboard":
        found = events(folder)
        return [(tag, event.step, event.value) for tag in found.Tags()["scalars"] for event in found.Scalars(tag)]
    client, run = mlflow_run(folder)
    return [(key, point.step, point.value) for key in run.data.metrics for point in client.get_metric_history(run.info.run_id, key)]


def settings(name: str, folder: Path) -> dict[str, str]:
    if name == "mlflow":
        return mlflow_run(folder)[1].data.params
    (event,) = events(folder).Tensors("settings/text_summary")
    rows = event.tensor_proto.string_val[0].decode().splitlines()[2:]
    return dict(row.strip("| ").split(" | ", 1) for row in rows)


def expected(folder: Path) -> dict[tuple[str, int], float]:
    """What results.csv and report.json say, as (figure, epoch) -> value."""
    with (folder / "results.csv").open(newline="") as source:
        rows = list(csv.DictReader(source))
    figures = {
        (name, int(row["epoch"])): float(value)
        for row in rows
        for name, value in row.items()
        if name not in ("epoch", "stage") and value != ""
    }
    numbers = json.loads((folder / "report.json").read_text())
    best = numbers["training"]["best_epoch"]
    return figures | {(f"test_{name}", best): value for name, value in numbers["test"]["metrics"].items()}


def assert_is_what_the_run_says(name: str, folder: Path) -> None:
    found = points(name, folder)
    assert max(Counter((figure, epoch) for figure, epoch, _ in found).values()) == 1
    wanted = expected(folder)
    assert {(figure, epoch) for figure, epoch, _ in found} == set(wanted)
    for figure, epoch, value in found:
        assert value == pytest.approx(wanted[figure, epoch], rel=1e-6), (figure, epoch)


# ---- whole trainings -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=NAMES)
def stopped(request, shapes, tmp_path_factory):
    """A training of three epochs that was stopped in the second, and continued; its folder's name is one that addresses escape."""
    folder, epochs = tmp_path_factory.mktemp(request.param) / "my rün #1", []
    once = loop.train_epoch

    def stop_in_the_second(*arguments):
        epochs.append(1)
        if len(epochs) == 2:
            raise KeyboardInterrupt
        once(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr(loop, "train_epoch", stop_in_the_second)
        with pytest.raises(Interrupted):
            sightline.train(shapes, out=str(folder), log=request.param, **{**QUICK, "epochs": 3})
        status = mlflow_run(folder)[1].info.status if request.param == "mlflow" else None
        before = points(request.param, folder)
        sightline.train(resume=folder)
    return request.param, folder, before, status


def test_a_run_that_was_stopped_and_resumed_has_each_figure_once(stopped):
    name, folder, before, _ = stopped
    assert {epoch for _, epoch, _ in before} == {0, 1}
    assert_is_what_the_run_says(name, folder)
    assert set(before) <= set(points(name, folder))


def test_the_settings_are_there_with_what_was_chosen(stopped):
    name, folder, _, _ = stopped
    found = settings(name, folder)
    assert {key: found[key] for key in ("epochs", "backbone", "size", "lr", "seed", "log")} == {
        "epochs": "3", "backbone": "test_resnet", "size": "32", "lr": "0.002", "seed": "0", "log": name,
    }  # fmt: skip
    assert "None" not in found.values()


def test_the_run_folder_gets_the_log_and_nothing_else(stopped, run):
    name, folder, _, _ = stopped
    more = {path.name for path in folder.iterdir()} - {path.name for path in run.folder.iterdir()}
    assert more == {"tensorboard": {"tensorboard"}, "mlflow": {"mlruns", "mlflow.json"}}[name]


def test_mlflow_knows_how_the_run_ended_and_where_its_files_are(stopped):
    name, folder, _, status = stopped
    assert status == {"mlflow": "KILLED", "tensorboard": None}[name]  # TensorBoard keeps no state of a run
    if name == "tensorboard":
        return
    _, found = mlflow_run(folder)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "/".join(folder.parts[-2:])
    assert found.data.tags["sightline.model"] == str(folder / "model.sight")
    assert found.data.tags["sightline.task"] == "classify"


# ---- opened again ----------------------------------------------------------------------------------------------------


@pytest.fixture
def begun(run, tmp_path) -> Run:
    """A run's folder with its record."""
    begun = Run(tmp_path)
    begun.write_json("config.json", run_record(run))
    return begun


def run_record(run) -> dict:
    return json.loads((run.folder / "config.json").read_text())


@pytest.mark.parametrize(("name", "kind"), [("tensorboard", TensorBoardLog), ("mlflow", MlflowLog)])
def test_a_process_that_was_killed_leaves_what_it_had_logged_and_the_next_adds_what_is_missing(begun, name, kind):
    kind(begun, begun.read_config()).epoch(ROW)  # and is never closed
    again = kind(begun, begun.read_config())
    for row in (ROW, NEXT):
        again.epoch(row)
    again.close("FINISHED")
    assert sorted(points(name, begun.folder)) == sorted(
        (key, row["epoch"], value) for row in (ROW, NEXT) for key, value in points_of(row).items()
    )
    assert settings(name, begun.folder)["backbone"] == "test_resnet"


def test_an_event_file_that_was_cut_off_is_filled_up(begun):
    first = TensorBoardLog(begun, begun.read_config())
    first.epoch(ROW)
    first.close("KILLED")
    (file,) = (begun.folder / "tensorboard").iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    again = TensorBoardLog(begun, begun.read_config())
    again.epoch(ROW)
    again.close("FINISHED")
    assert sorted(points("tensorboard", begun.folder)) == sorted((key, 0, value) for key, value in points_of(ROW).items())


def test_figures_that_are_no_finite_numbers_are_left_out():
    assert points_of({"epoch": 3, "stage": "all", "lr": 1, "train_loss": None, "val_loss": float("nan"), "val_f1": np.float64(0.5)}) == {
        "lr": 1.0, "val_f1": 0.5,
    }  # fmt: skip


def test_mlflow_logs_where_the_user_says(begun, monkeypatch):
    store = begun.folder / "elsewhere"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "birds")
    MlflowLog(begun, begun.read_config()).close("FINISHED")
    assert "birds" in "".join(path.read_text() for path in store.glob("*/meta.yaml"))
    assert not (begun.folder / "mlruns").exists()


# ---- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_library_is_said_before_anything_is_done(name, shapes, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=rf"^--log {name} needs {name}: pip install 'sightline\[log\]'\.$"):
        sightline.train(shapes, out=str(tmp_path / "run"), log=name, **QUICK)
    assert not (tmp_path / "run").exists()


def test_a_server_that_is_away_costs_the_training_nothing_and_is_said_once(shapes, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    trained = sightline.train(shapes, out=str(tmp_path / "run"), log="mlflow", **QUICK)
    assert trained.model.exists()
    said = capsys.readouterr().err
    assert said.count("! --log mlflow failed and is left out from here on (") == 1
    assert not (tmp_path / "run" / "mlflow.json").exists()


def test_a_disk_that_fills_up_ends_the_log_and_not_the_training(begun, capsys):
    calls = []

    class Full(TensorBoardLog):
        def epoch(self, row):
            calls.append(row["epoch"])
            if row["epoch"]:
                raise OSError(28, "No space left on device")
            super().epoch(row)

    log = CarefulLog("tensorboard", lambda: Full(begun, begun.read_config()))
    for epoch in range(4):
        log.epoch({**NEXT, "epoch": epoch})
    log.close("FINISHED")
    assert calls == [0, 1]
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "! --log tensorboard failed and is left out from here on ([Errno 28] No space left on device); "
        "training goes on, results.csv has it all."
    ]


def test_a_folder_that_cannot_be_made_is_said_once(begun, capsys):
    (begun.folder / "tensorboard").touch()
    log = CarefulLog("tensorboard", lambda: TensorBoardLog(begun, begun.read_config()))
    for row in (ROW, NEXT):
        log.epoch(row)
    log.close("FINISHED")
    assert capsys.readouterr().err.count("--log tensorboard failed") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_shows_where_the_event_is_added(tmp_path, monkeypatch):
    once = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode, **more: once(Path("/dev/full") if mode == "xb" else path, "wb", **more))
    with pytest.raises(OSError, match="No space left on device"):
        EventFile(tmp_path)


def test_every_choice_of_the_flag_has_its_log():
    from dataclasses import fields

    from sightline.config import RunConfig

    (entry,) = [entry for entry in fields(RunConfig) if entry.name == "log"]
    assert set(entry.metadata["choices"]) == {"none", *logs.LOGS}
