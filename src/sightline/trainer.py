"""From data to a finished run: what ``train`` does, stage by stage."""

from __future__ import annotations

import importlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline import console
from sightline.config import DataConfig, TrainSettings
from sightline.data.decode import Limits
from sightline.data.part import Part
from sightline.data.reading import Reading
from sightline.data.remote import keep, local
from sightline.energy import Meter
from sightline.errors import ConfigError, Interrupted, UsageError
from sightline.processor import end_undisturbed, keep_memory, share_processors
from sightline.requirements import parse
from sightline.tasks import load_task
from sightline.training.budget import Budget, parse_budget, spoken

if TYPE_CHECKING:
    import torch

    from sightline.auditing.admission import Admitted
    from sightline.auditing.gate import Gated
    from sightline.model.choose import Choice
    from sightline.records import Dataset
    from sightline.training.logs import Log
    from sightline.training.loop import Trained as TrainedNetwork
    from sightline.training.plan import Plan
    from sightline.training.ranks import Ranks
    from sightline.training.run import Run

AUDIT = "audit.json"
# What stands for weights without being a file.
WEIGHTS = ("auto", "hub", "none")


@dataclass(frozen=True)
class Trained:
    """What ``train`` leaves: its folder, the bundle, the report page, and the report's numbers (``report.json``)."""

    folder: Path
    model: Path
    report: Path
    numbers: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        test = self.numbers["test"]
        return {"run": str(self.folder), "model": str(self.model), "report": str(self.report), "task": self.numbers["task"],
                "verdict": self.numbers["verdict"]["sentence"],
                "test": {"split": "test", "n": test["n"], "metrics": test["metrics"]}}  # fmt: skip


def _alone() -> Ranks:
    from sightline.training.ranks import ALONE

    return ALONE


@dataclass(frozen=True)
class Start:
    """What a training begins with: settings and data, and for one that goes on its run and record (empty otherwise).

    ``fold`` is the number, from 1, of the fold that is the test set; ``module`` a user's own backbone; ``ranks`` the processes that train
    together; ``begun`` is told the run's folder once it is there; ``check`` is given the data once they passed the gate.
    """

    settings: TrainSettings
    root: Path
    budget: Budget
    run: Run | None = None
    record: dict[str, Any] = field(default_factory=dict)
    fold: int | None = None
    module: Any = None
    ranks: Ranks = field(default_factory=_alone)
    begun: Callable[[Path], None] = lambda folder: None
    check: Callable[[Dataset], None] = lambda dataset: None

    @property
    def wants_folds(self) -> bool:
        return self.settings.data.folds is not None and self.fold is None

    @property
    def goes_on(self) -> bool:
        """Whether an earlier process has trained some of it."""
        return self.run is not None and self.run.has_checkpoint

    @property
    def is_first_look(self) -> bool:
        """Whether nothing has been looked at for this training: what was refused then stays so, or its images would change."""
        return not self.record and self.fold in (None, 1) and self.ranks.is_first


def train_once(start: Start) -> Trained:
    """One training from data to report: read, look, gate, plan, train, ship."""
    from sightline.auditing.admission import admit
    from sightline.model.choose import Choice
    from sightline.model.device import gpu_uuid, torch_device
    from sightline.package import ship
    from sightline.training.logs import held_log
    from sightline.training.plan import Plan
    from sightline.training.run import Clock, begin
    from sightline.training.shipping import trial_seconds

    clock, record, ranks = Clock(), start.record, start.ranks
    clock.seconds["starting"] = round(time.monotonic() - start.budget.started, 3)
    device = ranks.device(torch_device(start.settings.run.device))
    with clock("reading and looking"), ranks.in_turn():
        known = Choice.from_json(record["choice"], start.module) if start.goes_on else None
        data = admit(start.root, start.settings, choice=known, module=start.module, fold=start.fold, retry=start.is_first_look)
    ranks.of_first(lambda: start.check(data.whole))
    chosen, gated, choice = data.settings, data.gated, data.choice
    plan = Plan.from_json(record["plan"]) if record else _planned(chosen, gated, choice)
    for sentence in (*choice.reasons, *plan.reasons):
        console.say(sentence)
    run = ranks.of_first(lambda: start.run or begin(start.root, gated.dataset, chosen, choice, plan, start.fold))
    start.begun(run.folder)
    run.check_unchanged(gated.dataset)
    try:
        with ranks.watched(), held_log(run, ranks) as log, Meter.start(gpu_uuid(device)) as meter:
            with clock("auditing"):
                audit = ranks.of_first(lambda: _audited(run, data, start))
            with clock("training"):
                network = _learned(start, data, plan, run, device, log)
            trial = trial_seconds(start.budget, chosen.trial)
            numbers = ranks.of_first(lambda: ship(network, gated, audit, choice, plan, chosen, run, clock, meter, trial))
            log.finish(numbers, run)
        if start.budget.limited:
            console.say(f"It took {spoken(start.budget.elapsed())} of a budget of {spoken(start.budget.seconds)}.")
    except KeyboardInterrupt:
        end_undisturbed()
        raise Interrupted(f"Stopped. What was trained is kept: sightline train --resume {run.folder} goes on.") from None
    return Trained(run.folder, run.model, run.report, numbers)


def _planned(chosen: TrainSettings, gated: Gated, choice: Choice) -> Plan:
    """The plan of a new run, made from what the data turned out to be."""
    from sightline.training.balance import imbalance
    from sightline.training.plan import make_plan
    from sightline.training.presets import training_for

    targets, labels = gated.dataset.of_split("train").targets, gated.dataset.labels
    return make_plan(
        training_for(chosen.training, gated.n_train), gated.n_train, pretrained=choice.pretrained, augment=chosen.augment, labels=labels,
        normalised=choice.normalised, imbalance=imbalance(targets, len(labels)), size=choice.prepare.size, takes=choice.takes,
        lies=load_task(gated.dataset.task).SCENES, queries=choice.queries,
    )  # fmt: skip


def _audited(run: Run, data: Admitted, start: Start) -> dict[str, Any]:
    """The report's ``audit`` section: made once a run, as the network it takes is not the same after a stop."""
    from sightline.auditing.inside import audit_of_run

    if (run.folder / AUDIT).exists():
        return dict(json.loads((run.folder / AUDIT).read_text(encoding="utf-8")))
    # What decisions changed cannot be told from tiles, which are all cut after them.
    decided = start.settings.data.decisions is not None and start.settings.data.tile is None
    seed, quick = start.settings.run.seed, start.budget.limited
    found = audit_of_run(data.dataset, data.store, data.gated, data.choice, seed, decided=decided, quick=quick)
    run.write_json(AUDIT, found)
    return found


def _learned(start: Start, data: Admitted, plan: Plan, run: Run, device: torch.device, log: Log) -> TrainedNetwork:
    """The network, trained as planned from where an earlier process of the run left it."""
    from sightline.training.session import Session
    from sightline.training.shipping import read_seconds
    from sightline.training.ways import train_network

    chosen, ranks, gated, choice = data.settings, start.ranks, data.gated, data.choice
    limits, limited = Limits(chosen.data.max_pixels, chosen.data.max_bytes), start.budget.limited
    resume = ranks.of_first(lambda: run.has_checkpoint)
    reading_time = ranks.of_first(lambda: read_seconds(gated.dataset, choice.prepare, limits) if limited else 0.0)
    session = Session.begin(gated.dataset, gated.store, choice, plan, chosen, device, run.folder, log, reading_time, ranks)
    return train_network(session, start.budget, resume=resume)


def check_libraries(what: str = "Training", *modules: str) -> None:
    """UsageError where libraries that the modules, by default those of training, import are missing; has to come first, as it
    sets what torch reads when imported."""
    share_processors()
    keep_memory()
    try:
        # The first two are otherwise imported only when a backbone is built, after the data was read.
        for module in ("torchvision", "timm", *(modules or ("sightline.package", "sightline.training.session"))):
            importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UsageError(f"{what} needs {error.name}, which is not installed: pip install 'sightline[train]'.") from error


def start(data: str | Path | None, resume: str | Path | None, settings: dict[str, Any], started: float) -> Start:
    """What is asked for, checked as far as that goes without the data; budgets count from ``started``, a ``time.monotonic()``."""
    if resume is None and data is None:
        raise UsageError("Give the folder of images to train on, or --resume RUN.")
    module = settings.get("backbone") if callable(settings.get("backbone")) else None
    if module is not None:
        settings = {**settings, "backbone": f"module/{type(module).__name__}"}
    settings = _from_anywhere(settings)
    chosen = _checked(settings)  # mistakes in settings are told before seconds are spent on importing torch
    check_libraries()
    from sightline.model.device import torch_device
    from sightline.training.logs import check_installed
    from sightline.training.presets import with_preset
    from sightline.training.ranks import Ranks
    from sightline.training.run import RUNS, check_outside

    budget = budget_of(chosen, started)
    if resume is None:
        root = local(str(data), chosen.data.store_limit).resolve()
        check_outside("--out", chosen.run.out or RUNS, root)
        begun = Start(with_preset(chosen, settings), root, budget, module=module)
    else:
        begun = go_on(Path(resume), started, data, settings, module)
        keep(begun.root)
    check_installed(begun.settings.run.log)
    return replace(begun, ranks=Ranks.join(torch_device(begun.settings.run.device)))


def _from_anywhere(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with whole paths to the files they name, as a run may be taken up again from another folder."""
    named = {name: os.fspath(settings[name]) for name in ("decisions", "weights") if isinstance(settings.get(name), str | os.PathLike)}
    files = {name: os.path.abspath(path) for name, path in named.items() if path not in WEIGHTS and os.path.isfile(path)}
    return {**settings, **files}


def _checked(settings: dict[str, Any]) -> TrainSettings:
    """The settings, each of which makes sense; raises ConfigError or UsageError."""
    chosen = TrainSettings.of(**settings)
    Reading.of(chosen.data.window, chosen.data.bands)
    Part.asked(chosen.data.where, chosen.data.limit)
    if chosen.trial.require is not None:
        parse(chosen.trial.require)
    if chosen.data.folds is not None and chosen.data.test_fraction != DataConfig.test_fraction:
        raise ConfigError([f"--test-fraction {chosen.data.test_fraction:g}: with --folds each fold is the test set once; leave it out."])
    return chosen


def go_on(folder: Path, started: float, data: object = None, settings: Mapping[str, Any] | None = None, module: Any = None) -> Start:
    """The start of a run that was stopped, with a budget that knows what was spent. A user's own ``module`` has to be given again,
    anything else may not."""
    from sightline.training import checkpoint
    from sightline.training.run import reopen

    given = {name: value for name, value in (settings or {}).items() if module is None or name != "backbone"}
    run, record = reopen(folder, data, given)
    chosen = TrainSettings.from_json(record["settings"])
    budget = budget_of(chosen, started)
    if budget.limited and run.has_checkpoint:
        budget = budget.after(checkpoint.spent(run.folder / "checkpoint"))
    return Start(chosen, Path(record["data"]), budget, run, record, record.get("fold"), module)


def budget_of(settings: TrainSettings, started: float) -> Budget:
    asked = settings.training.budget
    return Budget(math.inf if asked is None else parse_budget(asked), started)
