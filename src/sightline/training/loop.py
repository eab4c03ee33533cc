"""Training by backpropagation, top to bottom: batch, forward, loss, backward, step, average, validate, save.

A checkpoint is written after every epoch and, in long ones, every few minutes. A run that was stopped and resumed from it gives the
same weights, bit for bit, on the same machine and versions: batches depend on (seed, epoch, row) alone, the learning rate on the
step alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sightline import console
from sightline.errors import UsageError
from sightline.model.network import Trainable
from sightline.training.course import Course
from sightline.training.curve import LearningCurve
from sightline.training.feeding import one_ahead
from sightline.training.logs import Log, NoLog
from sightline.training.objective import Objective
from sightline.training.optimizer import schedule, set_learning_rate, set_training, update_average
from sightline.training.plan import PLAIN, Plan, Show
from sightline.training.terms import Cost, Terms

Validate = Callable[[Trainable], dict[str, float]]


class Batches(Protocol):
    """What the loop learns from; ``len`` is the number of batches in an epoch."""

    device: torch.device

    def __len__(self) -> int: ...

    def epoch(self, epoch: int, start: int = 0, show: Show = PLAIN) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and targets from batch ``start`` on, the same whenever they are asked for."""
        ...


# How often training that diverged goes back to its last checkpoint, and by how much it then learns more slowly.
MAX_SETBACKS, SETBACK_FACTOR = 2, 0.25
# Steps between looks at whether the loss is still a number; each look makes the processor wait for an accelerator.
CHECK_STEPS = 50
NO_LOG, FREELY = NoLog(), Terms()
# Epochs by whose time the number of those that are left is planned.
RECENT = 3
# Up to this share of the epochs a budget may still bring more of them.
EXTENDABLE = 0.6


@dataclass(frozen=True)
class Trained:
    """The kept network (the averaged weights of the best epoch), a row for each epoch, and why it stopped.

    notes   sentences on what was chosen on the way
    stages  what each stage of a fine-tuning brought, and the time that it was expected to take and took
    curve   how the probe of a fine-tuning gained by more images
    before  the network's weights before it learned from harder images; None where it did not
    """

    network: Trainable
    rows: list[dict[str, Any]]
    best_epoch: int
    stopped: str
    notes: tuple[str, ...] = ()
    stages: tuple[dict[str, Any], ...] = ()
    curve: LearningCurve | None = None
    before: dict[str, Tensor] | None = None


class Diverged(ArithmeticError):
    """The loss or the weights are no finite numbers any more."""


def fit(
    network: Trainable,
    objective: Objective,
    batches: Batches,
    validate: Validate,
    plan: Plan,
    folder: Path,
    log: Log = NO_LOG,
    terms: Terms = FREELY,
    *,
    resume: bool,
) -> Trained:
    """Train ``network`` in place by the plan; ``folder`` is the run's, and gets ``results.csv`` and ``checkpoint/``."""
    course = Course.at_the_start(network, plan, batches.device, folder, terms)
    if resume:
        course.restore()
    else:  # the start counts as epoch 0: fine-tuning that makes a probe worse is not kept
        course.finish_epoch(_start_row(course, validate, plan))
    for row in course.all_rows:
        log.epoch(row)
    while not (stopped := _why_stop(course, plan)):
        try:
            train_epoch(course, objective, batches, plan)
            row = terms.ranks.of_first(lambda: _judged(course, validate, plan))
            course.finish_epoch(row, last=row["epoch"] == course.epochs)
            _fit_into_budget(course, plan)
        except Diverged:
            _go_back(course)
        else:
            console.say(_line(course))
            log.epoch(course.all_rows[-1])
    network.load_state_dict(course.kept)
    best = terms.place.kept(course.best["epoch"])
    return Trained(network.eval(), course.all_rows, best, stopped, (f"Steps were computed in {course.precision}.",))


def _start_row(course: Course, validate: Validate, plan: Plan) -> dict[str, Any]:
    figures = validate(course.average)
    if not math.isfinite(figures["loss"]):
        raise UsageError("The network's loss is no finite number before training begins; choose other --weights or another --backbone.")
    return _row(0, "probe" if plan.probe else "start", 0.0, None, figures, 0.0)


def _fit_into_budget(course: Course, plan: Plan) -> None:
    """Plan as many epochs as the time allows, by what the last ones took; more than before only until rates have fallen far."""
    done, cost, budget = len(course.rows) - 1, course.terms.cost, course.terms.budget
    if not budget.limited:
        return
    most = plan.epochs if done <= EXTENDABLE * course.epochs else course.epochs
    # The middle one of the last, so that a moment in which the machine was busy does not cut the rest of the training.
    last = range(max(1, done - RECENT + 1), done + 1)
    times = [(float(course.rows[epoch]["seconds"]), cost(plan.size_at(epoch, course.epochs))) for epoch in last]
    taken, expected = sorted(times, key=lambda time: time[0] / time[1])[len(times) // 2]

    def seconds(side: int) -> float:
        # What takes longer than expected will take as many times as long where the machine is busy, and as many seconds more where
        # something else than the network takes them. Which it is is not known: half of each.
        return (taken / expected * cost(side) + cost(side) + taken - expected) / 2

    course.epochs = affordable(plan, most, done, seconds, budget.left())


def affordable(plan: Plan, most: int, done: int, cost: Cost, left: float) -> int:
    """The number of epochs, ``most`` at most and those that are ``done`` at least, for which ``left`` seconds suffice."""

    def seconds(epochs: int) -> float:
        return sum(cost(plan.size_at(epoch, epochs)) for epoch in range(done + 1, epochs + 1))

    return next((epochs for epochs in range(most, done, -1) if seconds(epochs) <= left), done)


def train_epoch(course: Course, objective: Objective, batches: Batches, plan: Plan) -> None:
    """The steps of an epoch that are still to be done, or as many as there is time for. Raises Diverged."""
    network, optimizer, epoch = course.network, course.optimizer, len(course.rows)
    set_training(network, frozen=epoch <= plan.frozen_epochs, freeze_norm=plan.freeze_norm)
    upcoming = one_ahead(batches.epoch(epoch, course.step, plan.show(epoch, course.epochs)), course.device)
    for images, targets in console.track(upcoming, len(batches) - course.step, f"Epoch {epoch} of {course.epochs}"):
        done = (epoch - 1) * len(batches) + course.step
        share = schedule(done, course.epochs * len(batches), plan.warmup, plan.fall)
        set_learning_rate(optimizer, share * SETBACK_FACTOR**course.setbacks)
        with torch.autocast(course.device.type, torch.bfloat16, enabled=course.precision == "bf16"):
            loss, _ = objective.step(network, images, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if plan.clip_norm:
            nn.utils.clip_grad_norm_(network.parameters(), plan.clip_norm)
        optimizer.step()
        update_average(course.average, network, plan.ema, done)
        course.loss_sum += loss.detach()
        course.step += 1
        if course.step % CHECK_STEPS == 0 and not math.isfinite(float(course.loss_sum)):
            raise Diverged
        if course.wants_saving:
            _check_finite(course)
            course.tick()
            course.save()
        if course.terms.budget.left() < 0:
            return


def _judged(course: Course, validate: Validate, plan: Plan) -> dict[str, Any]:
    """The row of the epoch that is done. Raises Diverged."""
    _check_finite(course)
    figures = validate(course.average)
    if not math.isfinite(figures["loss"]):
        raise Diverged
    course.tick()
    epoch = len(course.rows)
    lr = max(group["lr"] for group in course.optimizer.param_groups)
    stage = "head" if epoch <= plan.frozen_epochs else course.terms.place.layers
    return _row(epoch, stage, lr, float(course.loss_sum) / course.step, figures, course.seconds)


def _check_finite(course: Course) -> None:
    if not course.is_finite:
        raise Diverged


def _go_back(course: Course) -> None:
    """Return to the last checkpoint with a lower learning rate; UsageError when that was done often enough."""
    epoch, setbacks = len(course.rows), course.setbacks + 1
    if setbacks > MAX_SETBACKS:
        raise UsageError(f"Training diverged in epoch {epoch}: its loss is no finite number. Start again with a lower --lr.")
    course.restore()
    course.setbacks = setbacks
    course.save()
    rate = f"{SETBACK_FACTOR**setbacks:g} of the planned learning rate"
    console.warn(f"Training diverged in epoch {epoch} (its loss is no finite number): back to the last checkpoint, now with {rate}.")


def _row(epoch: int, stage: str, lr: float, train_loss: float | None, figures: dict[str, float], seconds: float) -> dict[str, Any]:
    return {"epoch": epoch, "stage": stage, "lr": lr, "train_loss": train_loss,
            **{f"val_{name}": value for name, value in figures.items()}, "seconds": round(seconds, 3)}  # fmt: skip


def _why_stop(course: Course, plan: Plan) -> str:
    """The reason to stop after the epochs that are done, or an empty string."""
    done, best = course.rows[-1]["epoch"], course.best["epoch"]
    if done >= course.epochs:
        planned = f" of {plan.epochs}, as many as the budget allowed" if done < plan.epochs else ""
        return f"All {done} epochs were trained." if not planned else f"{done} epochs were trained{planned}."
    if done - best >= plan.patience:
        return f"Stopped after epoch {done}: no better validation loss since epoch {best}."
    return ""


def _line(course: Course) -> str:
    row = course.rows[-1]
    figures = ", ".join(f"{name.removeprefix('val_')} {value:.3f}" for name, value in row.items() if name.startswith("val_"))
    return (
        f"Epoch {row['epoch']:>2} of {course.epochs}: training loss {row['train_loss']:.3f}; validation {figures} ({row['seconds']:.0f} s)"
    )
