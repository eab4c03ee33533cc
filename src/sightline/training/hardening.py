"""The last stage of ``--robust``: all layers learn once more, from images of which half are made harder.

It comes after everything that is done without ``--robust``, so that the network as it stood before it is the one that would have been
shipped otherwise, and the two can be held against each other on the same test images.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sightline import console
from sightline.model.network import Trainable
from sightline.training import checkpoint
from sightline.training.averaging import SHARES, Figures, average_with_start
from sightline.training.batches import TrainBatches, harder_batches, plain_batches
from sightline.training.budget import Budget, spoken
from sightline.training.curve import LearningCurve
from sightline.training.device_batches import DeviceBatches
from sightline.training.loop import Trained, Validate, affordable, fit
from sightline.training.plan import Plan
from sightline.training.scenes import SceneBatches
from sightline.training.session import VALIDATION_BATCH, Session
from sightline.training.shipping import trial_seconds
from sightline.training.terms import Cost, Place, Terms

# The stage's number in checkpoints, above any that fine-tuning has.
STAGE = 100
STARTED = "start-harder.pt"
# Of the plan's epochs, and of its learning rate: the network is trained already.
EPOCHS_SHARE, FEWEST_EPOCHS, RATE_SHARE = 0.4, 2, 0.5
# Of a budget's time, what is kept for this stage.
BUDGET_SHARE = 0.3
# How often the validation images are judged after the last epoch: before and after, and with averages of the two.
JUDGED = 2 + len(SHARES)

# What an epoch of a plan in some precision takes, and the seconds of a pass through all validation images and of shipping.
Estimate = Callable[[Plan, str], tuple[Cost, float, float]]


@dataclass(frozen=True)
class Start:
    """The network as it was trained without harder images, and what is to be told of that; written once, so that a stopped run can go
    on in this stage."""

    network: dict[str, Tensor]
    precision: str
    rows: list[dict[str, Any]]
    best_epoch: int
    stopped: str
    notes: tuple[str, ...]
    stages: tuple[dict[str, Any], ...]
    curve: LearningCurve | None

    @classmethod
    def of(cls, session: Session, trained: Trained) -> Start:
        """Steps go on in the precision of the last checkpoint, whatever a new choice would be."""
        precision = checkpoint.load(session.folder / "checkpoint", checkpoint.LAST, session.device)["precision"]
        network = {name: tensor.detach().clone() for name, tensor in session.network.state_dict().items()}
        return cls(network, precision, trained.rows, trained.best_epoch, trained.stopped, trained.notes, trained.stages, trained.curve)

    def save(self, session: Session) -> None:
        """Write it beside the checkpoint; ResourceError when the disk does not take it."""
        checkpoint.save(session.folder / "checkpoint", STARTED, {**asdict(replace(self, network={})), "network": self.network})

    @classmethod
    def load(cls, session: Session) -> Start:
        """ModelFileError when it is missing or broken."""
        state = checkpoint.load(session.folder / "checkpoint", STARTED, session.device)
        curve = LearningCurve(**state["curve"]) if state["curve"] else None
        return cls(**{**state, "notes": tuple(state["notes"]), "stages": tuple(state["stages"]), "curve": curve})


def hardened(session: Session, train: Callable[[Budget], Trained], estimate: Estimate, budget: Budget, *, resume: bool) -> Trained:
    """What ``train`` gives, trained on from harder images; a run that was stopped goes on where it was."""
    under_way = resume and checkpoint.load(session.folder / "checkpoint", checkpoint.LAST, session.device)["stage"] == STAGE
    if under_way:
        start = Start.load(session)
        session.network.load_state_dict(start.network)
    else:
        start = Start.of(session, train(_without_this_stage(budget)))
        session.ranks.of_first(lambda: start.save(session))
    return _harder(session, start, estimate, budget, resume=under_way)


def _without_this_stage(budget: Budget) -> Budget:
    """The budget of what comes before."""
    return replace(budget, seconds=(1 - BUDGET_SHARE) * budget.seconds) if budget.limited else budget


def _harder(session: Session, start: Start, estimate: Estimate, budget: Budget, *, resume: bool) -> Trained:
    begun, network = time.monotonic(), session.network
    epochs = max(FEWEST_EPOCHS, round(EPOCHS_SHARE * session.plan.epochs))
    plan = replace(session.plan, epochs=epochs, frozen_epochs=0, lr=RATE_SHARE * session.plan.lr, sizes=None)
    terms = Terms(start.precision, place=Place(STAGE, "harder", tuple(start.rows), start.best_epoch), ranks=session.ranks)
    if budget.limited:
        cost, one_pass, shipping = estimate(plan, start.precision)
        budget = budget.keeping(shipping + 2 * JUDGED * one_pass, trial_seconds(budget, session.settings.trial))
        cost = partial(_judged_twice, cost, one_pass)
        terms = replace(terms, budget=budget, cost=cost, epochs=affordable(plan, plan.epochs, 0, cost, budget.left()))
    # Not what happens to be left of the stages before, which a run that was stopped between them no longer knows.
    torch.manual_seed(session.settings.run.seed + STAGE)
    session.ranks.part_ways(session.settings.run.seed + STAGE)
    validate = validation(session)
    trained = fit(network, session.objective, batches(session), validate, plan, session.folder, session.log, terms, resume=resume)
    rows = trained.rows[len(start.rows) :]
    kept = next((row for row in rows if row["epoch"] == trained.best_epoch), None)
    before = _before(session, start, validate)
    share, figures = (0.0, before) if kept is None else (1.0, _figures(kept))
    if share and session.plan.keep == "best":
        share, figures = average_with_start(network, start.network, validate, (before, figures))
    told = _told(len(rows), before, figures, share, time.monotonic() - begun)
    console.say(told["sentence"])
    return replace(
        trained,
        network=network.eval(),
        best_epoch=trained.best_epoch if share else start.best_epoch,
        stopped=f"{start.stopped} From harder images: {trained.stopped}",
        notes=(*start.notes, told["sentence"]),
        stages=(*start.stages, told),
        curve=start.curve,
        before=start.network if share else None,
    )


def _judged_twice(cost: Cost, one_pass: float, side: int | None) -> float:
    """An epoch's time where all validation images are passed through once more."""
    return cost(side) + one_pass


def batches(session: Session) -> TrainBatches | SceneBatches:
    """Changed training images, half of them made harder."""
    plain = session.batches.of if isinstance(session.batches, DeviceBatches) else session.batches
    return replace(plain, augment=replace(plain.augment, robust=True))


def validation(session: Session) -> Validate:
    """The objective's figures on every validation image twice: as it is, and in a harder condition that stays the same."""
    about, settings = (session.validation.store, session.choice.prepare, VALIDATION_BATCH), session.settings
    turn = session.plan.rotate > 0 and not session.task.SCENES

    def validate(candidate: Trainable) -> Figures:
        return session.figures(candidate, plain_batches(*about), harder_batches(*about, settings.run.seed, turn=turn))

    return validate


def _before(session: Session, start: Start, validate: Validate) -> Figures:
    """The figures of the network that this stage started from; the loop's row of it is not among those of all stages."""
    tuned = {name: tensor.detach().clone() for name, tensor in session.network.state_dict().items()}
    session.network.load_state_dict(start.network)
    figures = validate(session.network)
    session.network.load_state_dict(tuned)
    return figures


def _figures(row: dict[str, Any]) -> Figures:
    return {name.removeprefix("val_"): value for name, value in row.items() if name.startswith("val_")}


def _told(epochs: int, before: Figures, after: Figures, share: float, seconds: float) -> dict[str, Any]:
    """What the stage brought on validation, as ``finetune`` tells of its own."""
    changes = ", ".join(f"{figure} from {before[figure]:.3f} to {after[figure]:.3f}" for figure in after)
    averaged = f", as {share:.0%} of what was learned and {1 - share:.0%} of what was there before" if share < 1 else ""
    brought = f"brought {changes} on validation{averaged}" if share else "brought nothing on validation, so the network stays as it was"
    counted = f"there each image counts as it is and made harder. It took {spoken(seconds)}."
    sentence = f"Learning from harder images {brought}; {counted}" if epochs else "There was no time to learn from harder images."
    return {"layers": "harder", "epochs": epochs, "views": 0, "share": share, "before": before, "after": after,
            "expected_seconds": None, "seconds": round(seconds, 1), "sentence": sentence}  # fmt: skip
