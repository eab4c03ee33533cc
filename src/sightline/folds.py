"""A training, or cross-validation: one training a fold, each image a test image once, and what they say together."""

from __future__ import annotations

import csv
import io
import json
import shutil
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline import console, trainer
from sightline.errors import Interrupted
from sightline.evaluation.box_errors import ON
from sightline.evaluation.boxes import iou
from sightline.processor import end_undisturbed
from sightline.requirements import refuse_unmet
from sightline.tasks.blocks import Bar, Bars, Table, Text
from sightline.trainer import Start, Trained, go_on, train_once
from sightline.training.budget import Budget

if TYPE_CHECKING:
    from sightline.training.run import Run

PREDICTIONS = "predictions.csv"
Told = Callable[[Path], None]


def train(
    data: str | Path | None, resume: str | Path | None, settings: dict[str, Any], started: float, begun: Told | None = None
) -> Trained:
    """A whole training by this process, and by those that it meets; ``begun`` is told the run's folder, in each of them."""
    start = trainer.start(data, resume, settings, started)
    start = start if begun is None else replace(start, begun=begun)
    with start.ranks:
        trained = train_folds(start) if start.wants_folds else train_once(start)
        refuse_unmet(trained.numbers["requirements"], trained.model, trained)
    return trained


def train_folds(start: Start) -> Trained:
    """Train once for each fold, in folders of their own below the run's; the run gets the figures over all and the median fold's model.

    A run that was stopped goes on with the fold it was in, and has what its folds left of a budget.
    """
    from sightline.training.run import CONFIG, new_run

    count = start.settings.data.folds
    assert count is not None

    def begun() -> Run:
        if start.run is not None:
            return start.run
        run = new_run(start.settings.run.out, "folds", start.root.stem)
        run.write_json(CONFIG, {"data": str(start.root), "settings": start.settings.to_json(), "folds": count})
        return run

    run = start.ranks.of_first(begun)
    start.begun(run.folder)
    start = replace(start, check=run.check_same_images)
    if start.budget.limited:
        taken = start.ranks.of_first(lambda: sum(_taken(run.folder / f"fold-{number}") for number in range(1, count + 1)))
        start = replace(start, budget=start.budget.after(taken))
    with run.held() if start.ranks.is_first else nullcontext():
        try:
            done = [_one_fold(start, run.folder / f"fold-{number}", number, count) for number in range(1, count + 1)]
        except (Interrupted, KeyboardInterrupt):
            end_undisturbed()
            raise Interrupted(f"Stopped. What was trained is kept: sightline train --resume {run.folder} goes on.") from None
        numbers = start.ranks.of_first(lambda: _written(run, done))
    return Trained(run.folder, run.model, run.report, numbers)


def _written(run: Run, done: list[Trained]) -> dict[str, Any]:
    """What the folds say together, on the disk and as ``report.json`` has it."""
    from sightline.report.suspects import FILE as SUSPECTS
    from sightline.report.suspects import suspects_text
    from sightline.training.run import CONFIG, Run

    middle = _median_fold(done)
    numbers = summary([fold.numbers for fold in done], middle)
    run.write_json("report.json", numbers)
    run.write_text("report.html", page(numbers))
    run.write_text(PREDICTIONS, _all_predictions(done))
    # The folds have read the data, and know their root; those of older versions did not keep it.
    begun = Run(done[0].folder).read_config()
    run.write_json(CONFIG, run.read_config() | {name: begun[name] for name in ("root",) if name in begun})
    if any("suspects" in fold.numbers for fold in done):
        run.write_text(SUSPECTS, suspects_text(all_suspects([fold.numbers for fold in done])))
    # Last, as a run with a model is a finished one.
    temporary = run.folder / f".{run.model.name}.part"
    shutil.copyfile(done[middle].model, temporary)
    temporary.replace(run.model)
    return numbers


def _taken(folder: Path) -> float:
    """Seconds that earlier processes spent on a fold, as far as they have left a word of it."""
    from sightline.training import checkpoint
    from sightline.training.run import Run

    run = Run(folder)
    stages = json.loads((folder / "report.json").read_text(encoding="utf-8"))["training"]["seconds"] if run.model.exists() else {}
    # The report is of the last process alone, and the checkpoint of all up to the end of training.
    return max(sum(stages.values()), checkpoint.spent(folder / "checkpoint") if run.has_checkpoint else 0.0)


def _one_fold(start: Start, folder: Path, number: int, count: int) -> Trained:
    """The fold's run: as it is when finished, continued when begun, else from the start."""
    from sightline.training.run import CONFIG, Run

    run = Run(folder)
    console.say(f"Fold {number} of {count}: {folder}")
    finished, under_way = start.ranks.of_first(lambda: (run.model.exists(), (folder / CONFIG).exists()))
    left, folds = start.budget.left(), count - number + 1
    if finished:
        return Trained(folder, run.model, run.report, json.loads((folder / "report.json").read_text(encoding="utf-8")))
    if under_way:
        going = go_on(folder, time.monotonic(), module=start.module)
        # What it spent is gone from what is left for all, and is taken off its own part.
        budget = replace(going.budget, seconds=(left + going.budget.spent) / folds)
        return train_once(replace(going, budget=budget, ranks=start.ranks))
    # A stop before its first file leaves a folder whose name would be taken.
    start.ranks.of_first(lambda: shutil.rmtree(folder, ignore_errors=True))
    settings = replace(start.settings, run=replace(start.settings.run, out=str(folder)))
    budget = Budget(left / folds, time.monotonic())
    return train_once(replace(start, settings=settings, budget=budget, run=None, record={}, fold=number))


def _first_metric(numbers: dict[str, Any]) -> float:
    return float(next(iter(numbers["test"]["metrics"].values())))


def _median_fold(done: list[Trained]) -> int:
    """The place of the fold whose first metric is the median, the lower of two: a model of average luck."""
    order = sorted(range(len(done)), key=lambda place: _first_metric(done[place].numbers))
    return order[(len(order) - 1) // 2]


def summary(folds: list[dict[str, Any]], kept: int) -> dict[str, Any]:
    """The run's ``report.json``: that of the fold whose model is shipped, at the place ``kept``, with the figures of all in its ``test``.

    Those are the means over the folds and ``spread``, their standard deviation (n - 1); ``folds`` has each fold's own.
    """
    names = [name for name in folds[0]["test"]["metrics"] if all(name in fold["test"]["metrics"] for fold in folds)]
    values = {name: [fold["test"]["metrics"][name] for fold in folds] for name in names}
    means = {name: statistics.fmean(found) for name, found in values.items()}
    spread = {name: statistics.stdev(found) for name, found in values.items()}
    first, n = names[0], sum(fold["test"]["n"] for fold in folds)
    sentence = (
        f"Over {len(folds)} folds, in which each of {n} images was tested once by a model that had not seen it, {first} is "
        f"{means[first]:.1%} on average, {min(values[first]):.1%} to {max(values[first]):.1%} (standard deviation {spread[first]:.1%}). "
        f"The model kept is that of fold {kept + 1}, the median."
    )
    return {
        **folds[kept],
        "verdict": {"level": folds[kept]["verdict"]["level"], "sentence": sentence},
        "test": {"n": n, "metrics": means, "intervals": {}, "spread": spread}, "kept": kept + 1,
        "folds": [{"fold": number, "n": fold["test"]["n"], "metrics": fold["test"]["metrics"]} for number, fold in enumerate(folds, 1)],
    }  # fmt: skip


def page(numbers: dict[str, Any]) -> str:
    """``report.html``: what the folds say together; each fold has a report of its own."""
    from sightline.report.html import Page, render_page
    from sightline.report.sections import Section, facts, reproduce_blocks

    test, folds = numbers["test"], numbers["folds"]
    names = list(test["metrics"])
    rows = [[str(fold["fold"]), str(fold["n"]), *(f"{fold['metrics'][name]:.3f}" for name in names)] for fold in folds]
    rows += [["mean", str(test["n"]), *(f"{test['metrics'][name]:.3f}" for name in names)],
             ["spread", "", *(f"{test['spread'][name]:.3f}" for name in names)]]  # fmt: skip
    note = "Each image was a test image in one fold. Spread is the standard deviation over the folds."
    first = Bars(f"{names[0].capitalize()} of each fold", [Bar(f"fold {fold['fold']}", fold["metrics"][names[0]]) for fold in folds])
    where = Text(
        "Where the details are",
        [f"fold-{fold['fold']}/report.html is the whole report of fold {fold['fold']}." for fold in folds],
        listed=True,
    )
    sections = [
        Section("folds", "The folds", [first, Table("Figures of each fold", ["fold", "test images", *names], rows, note), where]),
        Section("reproduce", "To reproduce", reproduce_blocks(numbers)),
    ]
    return render_page(
        Page(
            title=numbers["title"],
            window=f"{numbers['title']}: {len(folds)} folds",
            sentence=numbers["verdict"]["sentence"],
            facts=facts(numbers),
            sections=sections,
            created=numbers["created"],
            version=numbers["sightline"],
            level=numbers["verdict"]["level"],
        ),
        {},
    )


def all_suspects(folds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Annotations that any fold's model doubts of images that it did not learn from, the surest first; of the same doubt the surest."""
    items = [item for fold in folds for item in fold.get("suspects", {}).get("items", ())]
    found: list[dict[str, Any]] = []
    alike: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for item in sorted(items, key=lambda item: -item["score"]):
        others = alike.setdefault((item["key"], item["kind"], item["label"]), [])
        if not any(_same_place(item, other) for other in others):
            others.append(item)
            found.append(item)
    return found


def _same_place(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two doubts of an image, of the same kind and label, are about one annotation, or where there is none about one object, on
    whose sides two networks never quite agree."""
    if "truth_box" in one or "box" not in one:
        return bool(one.get("truth_box") == other.get("truth_box"))
    return bool(iou(np.array([one["box"]], np.float64), np.array([other["box"]], np.float64))[0, 0] >= ON)


def _all_predictions(done: list[Trained]) -> str:
    """Every fold's ``predictions.csv`` in one, with the number of the fold."""
    sink = io.StringIO(newline="")
    writer: csv.DictWriter[str] | None = None
    for number, fold in enumerate(done, 1):
        with (fold.folder / PREDICTIONS).open(newline="", encoding="utf-8") as source:
            for row in csv.DictReader(source):
                if writer is None:
                    writer = csv.DictWriter(sink, ["fold", *row], lineterminator="\n")
                    writer.writeheader()
                writer.writerow({"fold": number, **row})
    return sink.getvalue()
