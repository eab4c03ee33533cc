"""Fine-tuning a pretrained network stage by stage: a probe on the frozen backbone, the upper layers, everything.

Each stage starts from what the one before it gave, and is only begun when that had lowered the validation loss. The upper layers learn
from activations that were computed once and kept, several times as fast as the whole network does.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from sightline import console
from sightline.model.network import Trainable, torch_infer
from sightline.model.quick import TORCH
from sightline.records import Infer
from sightline.training import checkpoint
from sightline.training.activations import KeptBatches
from sightline.training.averaging import Figures, average_with_start
from sightline.training.budget import Budget, spoken
from sightline.training.curve import LearningCurve, learning_curve
from sightline.training.halves import Halves, outputs
from sightline.training.loop import Trained, Validate, fit
from sightline.training.objective import Objective
from sightline.training.plan import Plan
from sightline.training.session import Part, Session
from sightline.training.shipping import shipping_seconds, trial_seconds
from sightline.training.stages import Stage, Workload, plan_stages
from sightline.training.terms import Place, Terms

# Above the cut all layers are near the labels and learn at this share of the head's rate.
UPPER_LR_SCALE = 0.5
# Mixing of kept activations where none is asked for: the same few views are seen again and again.
MIXUP = 0.4
# Numbers in the embeddings of a fit that is worth several threads.
LARGE_FIT = 3e7


@dataclass(frozen=True)
class Start:
    """What a stage begins with and what was done before it; written once a stage, so that a stopped run can go on in it.

    network  weights of the whole network
    engine   what computes the layers below the cut
    reserve  of the budget, for what follows training
    told     of each stage before, as ``Trained.stages``
    """

    network: dict[str, Tensor]
    stages: tuple[Stage, ...]
    place: Place
    precision: str
    engine: str
    notes: tuple[str, ...]
    reserve: float = 0.0
    told: tuple[dict[str, Any], ...] = ()
    curve: LearningCurve | None = None

    def save(self, folder: Path) -> None:
        """Write it beside the checkpoint; ResourceError when the disk does not take it."""
        plain = asdict(replace(self, network={}))
        place = {**plain["place"], "rows": list(self.place.rows)}
        checkpoint.save(folder / "checkpoint", _file(self.place.stage), {**plain, "place": place, "network": self.network})

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> Start:
        """That of the stage which the last checkpoint is of; ModelFileError when it is missing or broken."""
        stage = checkpoint.load(folder / "checkpoint", checkpoint.LAST, device)["stage"]
        state = checkpoint.load(folder / "checkpoint", _file(stage), device)
        place = Place(**{**state["place"], "rows": tuple(state["place"]["rows"])})
        stages = tuple(Stage(**fields) for fields in state["stages"])
        curve = LearningCurve(**state["curve"]) if state["curve"] else None
        notes, told = tuple(state["notes"]), tuple(state["told"])
        return cls(state["network"], stages, place, state["precision"], state["engine"], notes, state["reserve"], told, curve)


def _file(stage: int) -> str:
    return f"start-{stage}.pt"


def fine_tune(session: Session, budget: Budget, *, resume: bool) -> Trained:
    """The network after all stages that paid; a run that was stopped goes on in the stage it was in."""
    ranks = session.ranks
    if resume:
        start = Start.load(session.folder, session.device)
        ranks.wait()  # the first process may soon write the next stage's
        session.network.load_state_dict(start.network)
        wanted = start.stages[start.place.stage].layers == "upper" and ranks.is_first
        halves = Halves.of(session, start.precision, start.engine) if wanted else None
    else:
        start, halves = _probed_by_first(session, budget)
    budget = replace(budget, reserve=start.reserve)
    while True:
        trained = _staged(session, start, halves, budget, resume=resume)
        following = start.place.stage + 1
        paid = trained.best_epoch != start.place.best
        if following >= len(start.stages) or not paid or not start.stages[following].affordable(budget.left()):
            return trained
        place = Place(following, start.stages[following].layers, tuple(trained.rows), trained.best_epoch)
        start = replace(start, network=_copied(session.network), place=place, notes=trained.notes, told=trained.stages)
        ranks.of_first(partial(start.save, session.folder))
        resume = False


def _probed_by_first(session: Session, budget: Budget) -> tuple[Start, Halves | None]:
    """What the first process begins with, in all of them; the activations are its own."""
    kept: list[Halves | None] = [None]

    def probed() -> Start:
        start, kept[0] = _probed(session, budget)
        return replace(start, network={})

    start = session.ranks.of_first(probed)
    session.ranks.copy(session.network)
    return replace(start, network=_copied(session.network)), kept[0]


def _staged(session: Session, start: Start, halves: Halves | None, budget: Budget, *, resume: bool) -> Trained:
    """A stage, taken by all processes together where all layers learn; what activations are kept for, the first one does."""
    if start.stages[start.place.stage].layers == "all":
        return _run(session, start, halves, budget, resume=resume)
    trained = session.ranks.of_first(lambda: replace(_run(session, start, halves, budget, resume=resume), network=Trainable()))
    session.ranks.copy(session.network)
    session.ranks.part_ways(session.settings.run.seed + start.place.stage)
    return replace(trained, network=session.network.eval())


def _probed(session: Session, budget: Budget) -> tuple[Start, Halves | None]:
    """The network with a probe for its head, and the stages that are to follow."""
    precision = session.precision()
    halves = Halves.of(session, precision)
    embeddings, work = _embedded(session, halves)
    targets, head = (session.train.targets, session.validation.targets), session.head_module
    # Steps of a small fit are so short that threads wait for each other most of the time: 15 times as long, measured on two cores.
    with threadpool_limits(1 if embeddings[0].size < LARGE_FIT else None):
        probe = head.fit_probe(embeddings[0], targets[0], embeddings[1], targets[1], session.classes)
        curve = learning_curve(head, embeddings, targets, session.classes, probe, session.settings.run.seed)
    session.network.head.set_linear(probe.weight, probe.bias)
    notes = [
        f"The frozen backbone with logistic regression reaches {probe.measure} {probe.reached:.3f} on validation (C = {probe.strength:g})."
    ]
    budget = budget.keeping(shipping_seconds(session, work.lower + work.upper), trial_seconds(budget, session.settings.trial))
    stages, said = plan_stages(session.settings.training.layers, session.plan, work, budget.left())
    notes += [curve.sentence, said] if curve else [said]
    for sentence in notes:
        console.say(sentence)
    place, engine = Place(layers=stages[0].layers), halves.engine if halves else TORCH
    start = Start(_copied(session.network), stages, place, precision, engine, tuple(notes), budget.reserve, curve=curve)
    start.save(session.folder)
    return start, halves


def _embedded(session: Session, halves: Halves | None) -> tuple[list[NDArray[np.float32]], Workload]:
    """Embeddings of the training and of the validation images, and how long such passes take: the second was seen, as libraries prepare
    themselves in the first."""
    if halves is None:
        infer = torch_infer(session.network, session.device, ("embedding",))
        parts = [partial(_embeddings, infer, session, part) for part in (session.train, session.validation)]
    else:
        parts = [partial(outputs, halves.cut.upper, kept, ("embedding",)) for kept in (halves.train, halves.validation)]
    of_train, begun = parts[0](), time.monotonic()
    of_validation = parts[1]()
    upper = (time.monotonic() - begun) / len(session.validation)
    lower, bytes_of_view = (halves.seconds, halves.train.bytes_of_view) if halves else (0.0, None)
    found = [given["embedding"] for given in (of_train, of_validation)]
    return found, Workload(len(session.train), len(session.validation), lower, upper, bytes_of_view)


def _embeddings(infer: Infer, session: Session, part: Part) -> dict[str, NDArray[np.float32]]:
    return {"embedding": np.concatenate([infer(batch.cpu().numpy())["embedding"] for batch in session.plain(part)])}


def _run(session: Session, start: Start, halves: Halves | None, budget: Budget, *, resume: bool) -> Trained:
    """A stage: some epochs, then the average with its start; the next one begins with what is then in the session's network."""
    stage, begun = start.stages[start.place.stage], time.monotonic()
    if stage.layers == "upper" and halves is not None:
        trainable: Trainable = halves.cut.upper
        plan, objective, batches, validate = _above_the_cut(session, stage, halves)
    else:
        trainable, objective, batches, validate = session.network, session.objective, session.batches, session.validate
        plan = replace(session.plan, epochs=stage.epochs)
    before = _copied(trainable)
    terms = Terms(start.precision, budget, stage.affordable(budget.left()), place=start.place, ranks=session.ranks)
    trained = fit(trainable, objective, batches, validate, plan, session.folder, session.log, terms, resume=resume)
    ends = _figures_before(start, trained), _figures(trained.rows[trained.best_epoch])
    share, figures = (0.0, ends[0]) if trained.best_epoch == start.place.best else (1.0, ends[1])
    if share and (session.plan.keep == "best" or stage.layers == "upper"):
        share, figures = average_with_start(trainable, before, validate, ends)
    if stage.epochs:
        epochs = trained.rows[-1]["epoch"] - start.place.counted(0)
        told = _told(replace(stage, epochs=epochs), ends[0], figures, share, time.monotonic() - begun)
        console.say(told["sentence"])
        start = replace(start, notes=(*start.notes, told["sentence"]), told=(*start.told, told))
    best = trained.best_epoch if share else start.place.best
    return replace(trained, network=session.network.eval(), best_epoch=best, notes=start.notes, stages=start.told, curve=start.curve)


def _figures(row: dict[str, Any]) -> Figures:
    return {name.removeprefix("val_"): value for name, value in row.items() if name.startswith("val_")}


def _figures_before(start: Start, trained: Trained) -> Figures:
    """What validation gave for the weights that a stage starts from."""
    return dict(start.told[-1]["after"]) if start.told else _figures(trained.rows[0])


def _above_the_cut(session: Session, stage: Stage, halves: Halves) -> tuple[Plan, Objective, KeptBatches, Validate]:
    """What the loop needs to train the upper layers on kept views, which are made here."""
    views = range(len(halves.train.views), stage.views)
    for view in console.track(views, len(views), "Looking at each image in several ways"):
        halves.train.add_view(map(halves.lower, session.batches.in_order(view)))
    augment = replace(session.settings.augment, mixup=session.settings.augment.mixup or MIXUP, cutmix=0.0)
    plan = replace(session.plan, epochs=stage.epochs, patience=stage.epochs, frozen_epochs=0, backbone_lr_scale=UPPER_LR_SCALE, sizes=None)
    objective = session.objective_with(0.0)  # mixing has smoothed the labels
    batches = KeptBatches(
        halves.train,
        session.train.targets,
        augment,
        plan.batch_size,
        session.settings.run.seed,
        session.device,
        session.classes,
        session.shares,
    )

    def validate(candidate: Trainable) -> dict[str, float]:
        return dict(objective.validate(outputs(candidate, halves.validation, session.task.OUTPUTS), session.validation.targets))

    return plan, objective, batches, validate


def _told(stage: Stage, before: Figures, after: Figures, share: float, seconds: float) -> dict[str, Any]:
    """What a stage brought on validation, for the report: figures before and after, the time expected and taken, and a sentence."""
    name = {"upper": "The upper layers", "all": "All layers"}[stage.layers]
    changes = ", ".join(f"{figure} from {before[figure]:.3f} to {after[figure]:.3f}" for figure in after)
    averaged = f", as {share:.0%} of what they learned and {1 - share:.0%} of what was there before" if share < 1 else ""
    brought = f"brought {changes} on validation{averaged}" if share else "brought nothing on validation and stay as they were"
    return {"layers": stage.layers, "epochs": stage.epochs, "views": stage.views, "share": share, "before": before, "after": after,
            "expected_seconds": round(stage.seconds, 1), "seconds": round(seconds, 1),
            "sentence": f"{name} {brought}; it took {spoken(seconds)}."}  # fmt: skip


def _copied(network: Trainable) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
