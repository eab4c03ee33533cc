"""The run folder: a name of its own, and what is needed to go on with it."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.config import TrainSettings
from sightline.data.container import stem
from sightline.data.locks import try_lock
from sightline.errors import DataError, ResourceError, UsageError
from sightline.model.choose import Choice
from sightline.records import Dataset
from sightline.training.checkpoint import LAST
from sightline.training.plan import Plan

CONFIG, LOCK = "config.json", ".lock"
# Where runs go that are not told where to.
RUNS = "runs"
# What files are called while they are written; a user's own file is not called so.
HALF_WRITTEN = re.compile(r".+\.\d+\.tmp|\.\w+\.sight\.(draft|part)")


@dataclass(frozen=True)
class Run:
    """A run's folder with the names of what it holds."""

    folder: Path

    @property
    def model(self) -> Path:
        return self.folder / "model.sight"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def has_checkpoint(self) -> bool:
        return (self.folder / "checkpoint" / LAST).exists()

    def check_unchanged(self, dataset: Dataset) -> None:
        """DataError when the data is not what the run was started with."""
        if self.read_config()["fingerprint"] != dataset.fingerprint:
            raise DataError(
                f"{dataset.root}: the images, labels or splits changed since {self.folder} was started; restore them, or start a new run. "
                "A file that could not be read then and can be now is such a change, too."
            )

    def check_same_images(self, dataset: Dataset) -> None:
        """DataError when the data of a fold are not those of the folds before it, however they are split; the first fold's are recorded."""
        record, unsplit = self.read_config(), dataset.replace(splits=None)
        if "fingerprint" in record:
            self.check_unchanged(unsplit)
        else:
            self.write_json(CONFIG, {**record, "fingerprint": unsplit.fingerprint})

    @contextmanager
    def held(self) -> Iterator[None]:
        """The folder for this process alone, cleared of what a killed one left half-written; UsageError when another has it."""
        path = self.folder / "checkpoint" / LOCK
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as lock:
            if not try_lock(lock.fileno()):
                raise UsageError(f"{self.folder}: another process is working in this folder; wait for it, or train into another --out.")
            for file in (*self.folder.iterdir(), *path.parent.iterdir()):
                if HALF_WRITTEN.fullmatch(file.name) and file.is_file():
                    file.unlink()
            yield  # the file stays: were it removed, another process could lock the removed one while a third locks a new one

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file whole or not at all; ResourceError when the disk does not take it.

        Names of files may hold bytes that are no UTF-8 (lone surrogates): then all that is not ASCII is spelt out, and reads back the same.
        """
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        try:
            text.encode()
        except UnicodeEncodeError:
            text = json.dumps(content, indent=2, allow_nan=False)
        self.write_text(name, text)

    def write_text(self, name: str, text: str) -> None:
        temporary = self.folder / f".{name}.{os.getpid()}.tmp"
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self.folder / name)
        except OSError as error:
            reason = f"could not be written ({error.strerror})"
            raise ResourceError(f"{self.folder / name}: {reason}; make room or give another --out.") from error
        finally:
            temporary.unlink(missing_ok=True)

    def read_config(self) -> dict[str, Any]:
        """What was recorded when the run was started; UsageError when the folder is no run."""
        path = self.folder / CONFIG
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise UsageError(f"--resume {self.folder}: this folder holds no run that was started (no {CONFIG}).") from error
        except (OSError, ValueError, TypeError) as error:
            raise UsageError(f"--resume {self.folder}: its {CONFIG} cannot be read ({error}).") from error


def check_outside(flag: str, folder: str | Path, data: Path) -> None:
    """UsageError for a folder to write to that is the data's or lies below it, where the next reader would take it for data."""
    if data.is_dir() and Path(folder).resolve().is_relative_to(data.resolve()):
        raise UsageError(f"{flag} {folder}: lies inside the data, {data}; name a folder elsewhere.")


def new_run(out: str | None, task: str, name: str) -> Run:
    """A new, empty folder: ``out`` or ``runs/TASK/NAME``, with -2, -3... behind a name that is taken."""
    wanted = Path(out) if out else Path(RUNS, task, name)
    if wanted.name in ("", ".."):  # a folder such as "." has no name to count on from
        wanted = wanted.resolve()
    number, folder = 1, wanted
    while True:
        try:
            folder.mkdir(parents=True)
            return Run(folder)
        except FileExistsError:
            if folder.is_dir() and number == 1 and out and not any(folder.iterdir()):
                return Run(folder)
            number += 1
            folder = wanted.with_name(f"{wanted.name}-{number}")
        except OSError as error:
            raise ResourceError(f"{folder}: the run's folder cannot be made ({error.strerror}); give another --out.") from error


def begin(root: Path, dataset: Dataset, settings: TrainSettings, choice: Choice, plan: Plan, fold: int | None = None) -> Run:
    """A new run's folder with its ``config.json``: the data, the settings and the plan, so that it can go on after a stop; and ``root``,
    from which names of images lead to them."""
    run = new_run(settings.run.out, dataset.task, stem(root))
    record = {"data": str(root), "root": str(dataset.root), "fingerprint": dataset.fingerprint, "settings": settings.to_json(),
              "choice": choice.to_json(), "plan": plan.to_json(), "fold": fold}  # fmt: skip
    run.write_json(CONFIG, record)
    return run


def reopen(folder: Path, data: object, settings: Mapping[str, Any]) -> tuple[Run, dict[str, Any]]:
    """A started run and its record; UsageError when it is finished, or when it is given settings of its own."""
    run = Run(folder)
    record = run.read_config()
    given = [*settings, *(["DATA"] if data is not None else [])]
    if given:
        raise UsageError(f"--resume {folder} goes on as the run was started; leave out {', '.join(sorted(given))}.")
    needed = ("data", "settings", "folds") if "folds" in record else ("data", "fingerprint", "settings", "choice", "plan", "fold")
    lacking = [name for name in needed if name not in record]
    if lacking:
        raise UsageError(f"--resume {folder}: its {CONFIG} lacks {', '.join(lacking)}; start a new run.")
    if run.model.exists():
        raise UsageError(f"--resume {folder}: this run is finished, its model is {run.model}.")
    return run, record


class Clock:
    """Seconds spent in each named stage, in order: ``with clock("training"): ...``"""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.monotonic() - start, 3)
