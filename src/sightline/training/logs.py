"""Logs beside ``results.csv``: a training's figures for TensorBoard or MLflow, written as it goes.

A log may be opened again for a run that goes on: whatever it holds already is not written twice. One that fails says so once, and
training goes on without it.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from sightline import console
from sightline.errors import UsageError
from sightline.training.ranks import Ranks
from sightline.training.run import Run

MLFLOW_RUN = "mlflow.json"
EXPERIMENT = "sightline"
# A server that is away must not hold up every epoch for minutes, which are the library's own limits.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}

Points = dict[str, float]


class Log(Protocol):
    """Where figures go. ``epoch`` takes a row of ``results.csv``, the start as epoch 0; rows that were logged before are passed over."""

    def epoch(self, row: Mapping[str, Any]) -> None: ...

    def finish(self, numbers: Mapping[str, Any], run: Run) -> None:
        """The figures on the test images (``numbers`` is ``report.json``) and where the run's files are."""

    def close(self, status: str) -> None:
        """``status`` is FINISHED, FAILED or KILLED."""


class NoLog:
    """``--log none``."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        pass

    def finish(self, numbers: Mapping[str, Any], run: Run) -> None:
        pass

    def close(self, status: str) -> None:
        pass


class TensorBoardLog:
    """Event files in the run's ``tensorboard`` folder: a scalar for each figure by epoch, and the settings as text."""

    def __init__(self, run: Run, record: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard.summary import text

        folder = run.folder / "tensorboard"
        self._logged = _logged_events(folder)
        self._events = EventFile(folder)
        if not self._logged:
            rows = [f"| {name} | {value} |" for name, value in settings_of(record).items()]
            self._events.add(0, summary=text("settings", "\n".join(["| setting | value |", "|---|---|", *rows])))

    def epoch(self, row: Mapping[str, Any]) -> None:
        self._add(points_of(row), row["epoch"])

    def finish(self, numbers: Mapping[str, Any], run: Run) -> None:
        self._add(tested_points(numbers), numbers["training"]["best_epoch"])

    def close(self, status: str) -> None:
        self._events.close()

    def _add(self, points: Points, epoch: int) -> None:
        from torch.utils.tensorboard.summary import scalar

        for name, value in points.items():
            if (name, epoch) not in self._logged:
                self._events.add(epoch, summary=scalar(name, value))


class EventFile:
    """A new file of TensorBoard's events in a folder. An error comes up where the event is added: the library's own writer
    would meet it in a thread, and leave a traceback there."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(exist_ok=True)
        # TensorBoard reads a folder's files in the order of their names.
        name = f"events.out.tfevents.{time.time_ns() / 1e9:020.9f}.{os.getpid()}"
        self._records = RecordWriter((folder / name).open("xb", buffering=0))
        self.add(file_version="brain.Event:2")

    def add(self, epoch: int = 0, **what: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time.time(), step=epoch, **what).SerializeToString())

    def close(self) -> None:
        self._records.close()


def _logged_events(folder: Path) -> set[tuple[str, int]]:
    """(tag, step) of everything in the event files of a folder; a file that was cut off counts as far as it goes."""
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, TENSORS, EventAccumulator

    if not folder.is_dir():
        return set()
    events = EventAccumulator(str(folder), {SCALARS: 0, TENSORS: 0}).Reload()
    tags = events.Tags()
    scalars = {(tag, event.step) for tag in tags[SCALARS] for event in events.Scalars(tag)}
    return scalars | {(tag, event.step) for tag in tags[TENSORS] for event in events.Tensors(tag)}


class MlflowLog:
    """A run of MLflow, in the run's ``mlruns`` folder or at ``MLFLOW_TRACKING_URI``; its id is kept in ``mlflow.json``."""

    def __init__(self, run: Run, record: Mapping[str, Any]) -> None:
        address = _prepare_mlflow(run)
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=address)
        path = run.folder / MLFLOW_RUN
        if path.exists():
            self._id = json.loads(path.read_text(encoding="utf-8"))["run_id"]
            self._client.update_run(self._id, "RUNNING")
        else:
            self._id = self._new_run(run)
            run.write_json(MLFLOW_RUN, {"run_id": self._id})
        names = self._client.get_run(self._id).data.metrics
        self._logged = {(name, point.step) for name in names for point in self._client.get_metric_history(self._id, name)}
        # Equal to what a first process may have written before it was stopped, so they may be written again.
        self._client.log_batch(self._id, params=[Param(name, str(value)) for name, value in settings_of(record).items()])

    def _new_run(self, run: Run) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        experiment = self._client.get_experiment_by_name(name)
        number = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        tags = {"mlflow.source.name": "sightline", "sightline.run": str(run.folder.resolve())}
        return str(self._client.create_run(number, tags=tags, run_name="/".join(run.folder.resolve().parts[-2:])).info.run_id)

    def epoch(self, row: Mapping[str, Any]) -> None:
        self._add(points_of(row), row["epoch"])

    def finish(self, numbers: Mapping[str, Any], run: Run) -> None:
        from mlflow.entities import RunTag

        self._add(tested_points(numbers), numbers["training"]["best_epoch"])
        tags = {"sightline.version": numbers["sightline"], "sightline.task": numbers["task"],
                "sightline.verdict": numbers["verdict"]["sentence"], "sightline.model": str(run.model.resolve()),
                "sightline.report": str(run.report.resolve())}  # fmt: skip
        self._client.log_batch(self._id, tags=[RunTag(name, value) for name, value in tags.items()])

    def close(self, status: str) -> None:
        self._client.set_terminated(self._id, status)

    def _add(self, points: Points, epoch: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        new = [Metric(name, value, now, epoch) for name, value in points.items() if (name, epoch) not in self._logged]
        self._client.log_batch(self._id, metrics=new)


def _prepare_mlflow(run: Run) -> str:
    """The address to log to; sets what the library reads from the environment, and leaves what the user has set there."""
    # Read when the library is imported: it would report its use to its makers.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    if address := os.environ.get("MLFLOW_TRACKING_URI"):
        return address
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # a database in its place would need far more to be installed
    return (run.folder / "mlruns").resolve().as_uri()


# The flag's value: the class, and the library it needs.
LOGS: dict[str, tuple[Callable[[Run, Mapping[str, Any]], Log], str]] = {
    "tensorboard": (TensorBoardLog, "tensorboard"),
    "mlflow": (MlflowLog, "mlflow"),
}


class CarefulLog:
    """A log whose failure costs nothing but the log: it is said once, and nothing more is tried."""

    def __init__(self, name: str, make: Callable[[], Log]) -> None:
        self._name = name
        self._log: Log = NoLog()
        self._try(self._open, make)

    def epoch(self, row: Mapping[str, Any]) -> None:
        self._try(self._log.epoch, row)

    def finish(self, numbers: Mapping[str, Any], run: Run) -> None:
        self._try(self._log.finish, numbers, run)

    def close(self, status: str) -> None:
        self._try(self._log.close, status)

    def _open(self, make: Callable[[], Log]) -> None:
        self._log = make()

    def _try(self, call: Callable[..., None], *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception as error:
            self._log = NoLog()
            reason = next(iter(str(error).splitlines()), "").rstrip(".") or type(error).__name__
            console.warn(f"--log {self._name} failed and is left out from here on ({reason}); training goes on, results.csv has it all.")


def check_installed(name: str) -> None:
    """UsageError when the log's library is missing."""
    if name in LOGS and importlib.util.find_spec(LOGS[name][1]) is None:
        raise UsageError(f"--log {name} needs {LOGS[name][1]}: pip install 'sightline[log]'.")


@contextmanager
def open_log(run: Run) -> Iterator[Log]:
    """The log that the run's settings ask for, closed with how the run ended."""
    record = run.read_config()
    name = record["settings"]["run"].get("log", "none")
    log: Log = CarefulLog(name, lambda: LOGS[name][0](run, record)) if name in LOGS else NoLog()
    status = "FAILED"
    try:
        yield log
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        log.close(status)


@contextmanager
def held_log(run: Run, ranks: Ranks) -> Iterator[Log]:
    """A run's folder for the processes that train together alone, and its log, which the first of them keeps."""
    if not ranks.is_first:
        yield NoLog()
        return
    with run.held(), open_log(run) as log:
        yield log


def settings_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """A run's settings by name, what was left open as it was then chosen; what is open still is left out."""
    given = {name: value for stage in record["settings"].values() for name, value in stage.items()}
    spec = record["choice"]["spec"]
    chosen = {"backbone": spec["name"], "size": spec["size"], **record["plan"]}
    found = {name: chosen.get(name, value) for name, value in given.items()} | {"fold": record["fold"]}
    return {name: value for name, value in found.items() if value is not None}


def points_of(row: Mapping[str, Any]) -> Points:
    """The figures of a row that are finite numbers, but for the epoch, which is where they belong."""
    return {name: float(value) for name, value in row.items() if name != "epoch" and _is_number(value)}


def tested_points(numbers: Mapping[str, Any]) -> Points:
    return {f"test_{name}": float(value) for name, value in numbers["test"]["metrics"].items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
