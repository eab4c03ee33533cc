"""Training by backpropagation, top to bottom: batch, forward, loss, backward, step, average, validate, save.

A checkpoint is written after every epoch and, in long ones, every few minutes. A run that was stopped and resumed from it gives the
same weights, bit for bit, on the same machine and versions: batches depend on (seed, epoch, row) alone, the learning rate on the
step alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sightline import console
from sightline.errors import UsageError
from sightline.model.network import Network
from sightline.training.batches import TrainBatches
from sightline.training.course import Course
from sightline.training.logs import Log, NoLog
from sightline.training.objective import Objective
from sightline.training.optimizer import schedule, set_learning_rate, set_training, update_average
from sightline.training.plan import Plan

Validate = Callable[[Network], dict[str, float]]
# How often training that diverged goes back to its last checkpoint, and by how much it then learns more slowly.
MAX_SETBACKS, SETBACK_FACTOR = 2, 0.25
# Steps between looks at whether the loss is still a number; each look makes the processor wait for an accelerator.
CHECK_STEPS = 50
NO_LOG = NoLog()


@dataclass(frozen=True)
class Trained:
    """The kept network (the averaged weights of the best epoch), a row for each epoch, and why it stopped.

    ``notes`` are sentences on what was chosen on the way.
    """

    network: Network
    rows: list[dict[str, Any]]
    best_epoch: int
    stopped: str
    notes: tuple[str, ...] = ()


class Diverged(ArithmeticError):
    """The loss or the weights are no finite numbers any more."""


def fit(
    network: Network,
    objective: Objective,
    batches: TrainBatches,
    validate: Validate,
    plan: Plan,
    folder: Path,
    log: Log = NO_LOG,
    *,
    resume: bool,
    precision: str = "fp32",
) -> Trained:
    """Train ``network`` in place by the plan; ``folder`` is the run's, and gets ``results.csv`` and ``checkpoint/``.

    ``precision`` is fp32 or bf16; a resumed run goes on in that of its checkpoint.
    """
    course = Course.at_the_start(network, plan, batches.device, folder, precision)
    if resume:
        course.restore()
    else:  # the start counts as epoch 0: fine-tuning that makes a probe worse is not kept
        figures = validate(course.average)
        if not math.isfinite(figures["loss"]):
            raise UsageError("The network's loss is no finite number before training begins; choose other --weights or another --backbone.")
        course.finish_epoch(_row(0, "probe" if plan.probe else "start", 0.0, None, figures, 0.0))
    for row in course.rows:
        log.epoch(row)
    while not (stopped := _why_stop(course, plan)):
        try:
            train_epoch(course, objective, batches, plan)
            row = _judged(course, validate, plan)
            course.finish_epoch(row, last=row["epoch"] == plan.epochs)
        except Diverged:
            _go_back(course)
        else:
            console.say(_line(course.rows[-1], plan))
            log.epoch(course.rows[-1])
    network.load_state_dict(course.kept)
    return Trained(network.eval(), course.rows, course.best["epoch"], stopped, (f"Steps were computed in {course.precision}.",))


def train_epoch(course: Course, objective: Objective, batches: TrainBatches, plan: Plan) -> None:
    """The steps of an epoch that are still to be done. Raises Diverged."""
    network, optimizer, epoch = course.network, course.optimizer, len(course.rows)
    set_training(network, frozen=epoch <= plan.frozen_epochs, freeze_norm=plan.freeze_norm)
    left = len(batches) - course.step
    for images, targets in console.track(batches.epoch(epoch, course.step), left, f"Epoch {epoch} of {plan.epochs}"):
        done = (epoch - 1) * len(batches) + course.step
        set_learning_rate(optimizer, schedule(done, plan.epochs * len(batches), plan.warmup) * SETBACK_FACTOR**course.setbacks)
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


def _judged(course: Course, validate: Validate, plan: Plan) -> dict[str, Any]:
    """The row of the epoch that is done. Raises Diverged."""
    _check_finite(course)
    figures = validate(course.average)
    if not math.isfinite(figures["loss"]):
        raise Diverged
    course.tick()
    epoch = len(course.rows)
    lr = max(group["lr"] for group in course.optimizer.param_groups)
    stage = "head" if epoch <= plan.frozen_epochs else "all"
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
    if done >= plan.epochs:
        return f"All {plan.epochs} epochs were trained."
    if done - best >= plan.patience:
        return f"Stopped after epoch {done}: no better validation loss since epoch {best}."
    return ""


def _line(row: dict[str, Any], plan: Plan) -> str:
    figures = ", ".join(f"{name.removeprefix('val_')} {value:.3f}" for name, value in row.items() if name.startswith("val_"))
    return f"Epoch {row['epoch']:>2} of {plan.epochs}: training loss {row['train_loss']:.3f}; validation {figures} ({row['seconds']:.0f} s)"
