"""A finished run as its folder tells it: ``report.json``, ``config.json`` and ``predictions.csv``, each checked before it is used."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sightline.data.container import is_archive
from sightline.data.limits import Limits
from sightline.data.reading import Reading
from sightline.data.table import is_table
from sightline.errors import ConfigError, DataError, SightlineError, UsageError

REPORT, CONFIG, PREDICTIONS = "report.json", "config.json", "predictions.csv"
NUMBER = (int, float)
NAMED_CLASSES = 5


class Answer(NamedTuple):
    """A row of ``predictions.csv``; ``path`` is relative to the data's root, ``right`` in [0, 1]."""

    path: str
    content_id: str
    truth: str
    predicted: str
    score: float
    right: float


@dataclass(frozen=True)
class FinishedRun:
    """What a run's folder says. ``name`` tells it from the others it was read with; ``data`` is what it was given, ``root`` the place from
    which names in ``predictions.csv`` lead to images, which it read by ``reading`` and ``limits``;
    ``seconds`` is the time spent in training; ``settings`` maps (stage, name) to a value, with versions as a stage of their own."""

    name: str
    folder: Path
    data: Path
    root: Path
    reading: Reading
    limits: Limits
    task: str
    labels: tuple[str, ...]
    backbone: str
    weights: str
    size: int
    parameters: int
    seed: int
    seconds: float
    n: int
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    settings: Mapping[tuple[str, str], Any]
    answers: Sequence[Answer]

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "run": str(self.folder), "task": self.task, "backbone": self.backbone, "weights": self.weights,
                "size": self.size, "parameters": self.parameters, "seed": self.seed, "seconds": self.seconds, "n": self.n,
                "metrics": dict(self.metrics), "intervals": {name: list(ends) for name, ends in self.intervals.items()}}  # fmt: skip


class _Damaged(Exception):
    """What is wrong with a file; the text continues a sentence that begins with its path."""


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn every way in which a file of a run can be broken into one DataError."""
    try:
        yield
    except _Damaged as error:
        raise DataError(f"{path}: {error}; restore the file, or train again.") from error
    except (OSError, ValueError, TypeError, RecursionError, csv.Error, ConfigError) as error:
        raise DataError(f"{path}: cannot be read ({str(error)[:200]}); restore the file, or train again.") from error


def read_runs(paths: Sequence[str | Path]) -> list[FinishedRun]:
    """Runs named by their folder or the bundle inside, in the order given; every problem is reported, not only the first.

    Raises UsageError for a path that is no run, for fewer than two and for the same one twice; DataError for a run that is
    unfinished, too old or damaged, and for runs that cannot be compared.
    """
    if isinstance(paths, str | Path) or len(paths) < 2:
        raise UsageError("Give at least two runs to compare; the first is the one that the others are held against.")
    folders, problems = [], []
    for path in map(Path, paths):
        try:
            folders.append(_folder_of(path))
        except SightlineError as error:
            problems.append(error)
    twice = sorted({str(folder) for folder in folders if folders.count(folder) > 1})
    problems += [UsageError(f"{folder}: this run is given twice; name each run once.") for folder in twice]
    runs = []
    for folder, name in zip(folders, _names(folders), strict=True):
        try:
            runs.append(_read(folder, name))
        except DataError as error:
            problems.append(error)
    if problems:
        kind = UsageError if any(isinstance(problem, UsageError) for problem in problems) else DataError
        raise kind(" ".join(dict.fromkeys(map(str, problems))))
    _check_comparable(runs)
    return runs


def _folder_of(path: Path) -> Path:
    """The resolved folder of a finished run with its predictions."""
    if not path.exists():
        raise UsageError(f"{path}: there is no such run; name a run's folder, or the model.sight inside it.")
    folder = (path.parent if path.is_file() and path.suffix == ".sight" else path).resolve()
    if not (folder / CONFIG).is_file():
        raise UsageError(f"{path}: is no run (there is no {CONFIG}); name a run's folder, or the model.sight inside it.")
    if not (folder / REPORT).is_file():
        raise DataError(f"{path}: this run is not finished (there is no {REPORT}); go on with sightline train --resume {folder}.")
    if not (folder / PREDICTIONS).is_file():
        raise DataError(f"{path}: this run has no {PREDICTIONS}, as those of older versions; train it again.")
    return folder


def _names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell the runs apart."""
    for length in range(1, max((len(folder.parts) for folder in folders), default=0) + 1):
        names = ["/".join(folder.parts[-length:]) for folder in folders]
        if len(set(names)) == len(set(folders)):
            return names
    return []


def _read(folder: Path, name: str) -> FinishedRun:
    with _reading(folder / CONFIG):
        data, root = _places(_read_json(folder / CONFIG))
    with _reading(folder / PREDICTIONS):
        answers = _read_answers(folder / PREDICTIONS)
    with _reading(folder / REPORT):
        run = _finished(folder, name, (data, root), _read_json(folder / REPORT), answers)
    if len(answers) != run.n:
        raise DataError(
            f"{folder / PREDICTIONS}: holds {len(answers)} images where {REPORT} counts {run.n}; restore the file, or train again."
        )
    return run


def _places(config: Mapping[str, Any]) -> tuple[Path, Path]:
    """The data that a run was given, and the root of its images, which is another where a file says what is on them. Older versions did
    not record it: then it is that file's folder."""
    data = Path(_value(config, str, "data"))
    if "root" in config:
        return data, Path(_value(config, str, "root"))
    is_place = data.is_dir() or is_archive(data) or not (is_table(data) or data.is_file())
    return data, data if is_place else data.parent


def _finished(folder: Path, name: str, places: tuple[Path, Path], report: Mapping[str, Any], answers: Sequence[Answer]) -> FinishedRun:
    settings = {(stage, key): value for stage, named in _value(report, dict, "settings").items()
                for key, value in (named if isinstance(named, dict) else {}).items()}  # fmt: skip
    versions = {("version", package): version for package, version in _value(report, dict, "environment", "versions").items()}
    return FinishedRun(
        name, folder, *places, *_opening(settings), _value(report, str, "task"), tuple(map(str, _value(report, list, "data", "labels"))),
        _value(report, str, "network", "backbone"), _value(report, str, "network", "weights"), _value(report, int, "network", "size"),
        _value(report, int, "network", "parameters"), _value(report, int, "environment", "seed"),
        float(_value(report, NUMBER, "training", "seconds", "training")), _value(report, int, "test", "n"),
        {key: float(_value(report, NUMBER, "test", "metrics", key)) for key, value in _value(report, dict, "test", "metrics").items()
         if value is not None},
        {key: _interval(report, key) for key in _value(report, dict, "test", "intervals")},
        settings | versions, answers,
    )  # fmt: skip


def _opening(settings: Mapping[tuple[str, str], Any]) -> tuple[Reading, Limits]:
    """How images were read, and how large they could be; what older versions did not have is as it is by default."""
    known = {"window": None, "bands": None, **vars(Limits())}
    known |= {name: value for (stage, name), value in settings.items() if stage == "data"}
    window, bands = (_value(known, (str, type(None)), name) for name in ("window", "bands"))
    return Reading.of(window, bands), Limits(_value(known, int, "max_pixels"), _value(known, int, "max_bytes"))


def _interval(report: Mapping[str, Any], metric: str) -> tuple[float, float]:
    ends = _value(report, list, "test", "intervals", metric)
    if len(ends) != 2 or not all(isinstance(end, int | float) for end in ends):
        raise _Damaged(f"the interval of {metric} is not two numbers")
    return float(ends[0]), float(ends[1])


def _value(content: Any, kind: type | tuple[type, ...], *keys: str) -> Any:
    """What stands below the keys, which must be of a kind."""
    for key in keys:
        if not isinstance(content, dict) or key not in content:
            raise _Damaged(f"has no {'.'.join(keys)}")
        content = content[key]
    if not isinstance(content, kind) or isinstance(content, bool):
        raise _Damaged(f"has {str(content)[:50]!r} for {'.'.join(keys)}")
    return content


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _read_answers(path: Path) -> list[Answer]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, strict=True)
        if missing := [column for column in Answer._fields if column not in (rows.fieldnames or ())]:
            raise _Damaged(f"has no column {', '.join(missing)}")
        return [_answer(row, rows.line_num) for row in rows]


def _answer(row: Mapping[str, str | None], line: int) -> Answer:
    texts = [row[column] for column in Answer._fields]
    if None in texts or not row["path"] or not row["content_id"]:
        raise _Damaged(f"is cut short in line {line}")
    path, content_id, truth, predicted, score, right = map(str, texts)
    answer = Answer(path, content_id, truth, predicted, float(score), float(right))
    if not math.isfinite(answer.score) or not 0 <= answer.right <= 1:
        raise _Damaged(f"has a score in line {line} that cannot be")
    return answer


def _check_comparable(runs: Sequence[FinishedRun]) -> None:
    """DataError unless all runs learned the same task with the same classes."""
    first, *others = runs
    for other in others:
        if other.task != first.task:
            raise DataError(f"{other.name} learned the task {other.task!r} and {first.name} {first.task!r}: compare runs of one task.")
        apart = [f"only {run.name} has {_some(extra)}"
                 for run, extra in ((first, set(first.labels) - set(other.labels)), (other, set(other.labels) - set(first.labels)))
                 if extra]  # fmt: skip
        if apart:
            raise DataError(f"{first.name} and {other.name} know different classes ({'; '.join(apart)}): compare runs of the same classes.")


def _some(labels: set[str]) -> str:
    named = ", ".join(map(repr, sorted(labels)[:NAMED_CLASSES]))
    return f"{named} and {len(labels) - NAMED_CLASSES} more" if len(labels) > NAMED_CLASSES else named
