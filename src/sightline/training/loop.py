"""Training by backpropagation, top to bottom: batch, forward, loss, backward, step, average, validate, save.

A checkpoint is written after every epoch. A run that was stopped and resumed from it gives the same weights, bit for
bit, on the same machine and versions: batches depend on (seed, epoch, row) alone, the learning rate on the step alone.
"""

from __future__ import annotations

import copy
import csv
import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sightline import console
from sightline.errors import ModelFileError, UsageError
from sightline.model.network import Network
from sightline.training import checkpoint
from sightline.training.batches import TrainBatches
from sightline.training.objective import Objective
from sightline.training.plan import Plan

Validate = Callable[[Network], dict[str, float]]
NO_DECAY_BELOW_DIMENSIONS = 2
EMA_RAMP = 10


@dataclass(frozen=True)
class Trained:
    """The kept network (the averaged weights of the best epoch), a row for each epoch, and why it stopped."""

    network: Network
    rows: list[dict[str, Any]]
    best_epoch: int
    stopped: str


def fit(
    network: Network, objective: Objective, batches: TrainBatches, validate: Validate, plan: Plan, folder: Path, *, resume: bool
) -> Trained:
    """Train ``network`` in place by the plan; ``folder`` is the run's, and gets ``results.csv`` and ``checkpoint/``."""
    device, steps = batches.device, len(batches)
    optimizer = make_optimizer(network, plan)
    average = copy.deepcopy(network)
    if resume:
        rows = _restore(folder, network, average, optimizer, device)
    else:  # the start counts as epoch 0: fine-tuning that makes a probe worse is not kept
        rows = [_row(0, "probe" if plan.probe else "start", 0.0, None, validate(average), 0.0)]
        _check_finite(rows[0])
        _save(folder, network, average, optimizer, rows, device)

    stopped = _why_stop(rows, plan)
    while not stopped:
        epoch, start = len(rows), time.monotonic()
        frozen = epoch <= plan.frozen_epochs
        set_training(network, frozen=frozen, freeze_norm=plan.freeze_norm)
        total_loss = torch.zeros((), device=device)
        for step, (images, targets) in enumerate(console.track(batches.epoch(epoch), steps, f"Epoch {epoch} of {plan.epochs}")):
            done = (epoch - 1) * steps + step
            set_learning_rate(optimizer, schedule(done, plan.epochs * steps, plan.warmup))
            loss, _ = objective.step(network, images, targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if plan.clip_norm:
                nn.utils.clip_grad_norm_(network.parameters(), plan.clip_norm)
            optimizer.step()
            update_average(average, network, plan.ema, done)
            total_loss += loss.detach()
        figures = validate(average)
        lr = max(group["lr"] for group in optimizer.param_groups)
        row = _row(epoch, "head" if frozen else "all", lr, float(total_loss) / steps, figures, time.monotonic() - start)
        _check_finite(row)
        rows.append(row)
        _save(folder, network, average, optimizer, rows, device)
        console.say(_line(row, plan))
        stopped = _why_stop(rows, plan)

    best = checkpoint.load(folder / "checkpoint", checkpoint.BEST, device)
    network.load_state_dict(best["network"])
    return Trained(network.eval(), rows, best["epoch"], stopped)


def make_optimizer(network: Network, plan: Plan) -> torch.optim.Optimizer:
    """AdamW or SGD over four groups: backbone and head, with and without weight decay (biases and normalisation have none)."""
    groups = []
    for part, lr in ((network.backbone, plan.lr * plan.backbone_lr_scale), (network.head, plan.lr)):
        for decays in (True, False):
            parameters = [p for p in part.parameters() if (p.ndim >= NO_DECAY_BELOW_DIMENSIONS) == decays]
            if parameters:
                groups.append({"params": parameters, "lr": lr, "peak": lr, "weight_decay": plan.weight_decay if decays else 0.0})
    if plan.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=plan.momentum, nesterov=plan.momentum > 0)
    return torch.optim.AdamW(groups)


def schedule(step: int, steps: int, warmup: float) -> float:
    """Share of the highest learning rate: a linear rise over the first ``warmup`` of the steps, then half a cosine to zero."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def set_training(network: Network, *, frozen: bool, freeze_norm: bool) -> None:
    """Training mode; a frozen backbone neither learns nor updates its statistics, frozen norms keep theirs."""
    network.train()
    network.backbone.requires_grad_(not frozen)
    if frozen:
        network.backbone.eval()
    elif freeze_norm:
        for module in network.backbone.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


@torch.no_grad()
def update_average(average: Network, network: Network, decay: float, step: int) -> None:
    """Exponential moving average of weights and statistics, with a shorter memory in the first steps."""
    decay = min(decay, (1 + step) / (EMA_RAMP + step))
    weights = network.state_dict()
    for name, kept in average.state_dict().items():
        new = weights[name]
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def _row(epoch: int, stage: str, lr: float, train_loss: float | None, figures: dict[str, float], seconds: float) -> dict[str, Any]:
    return {"epoch": epoch, "stage": stage, "lr": lr, "train_loss": train_loss,
            **{f"val_{name}": value for name, value in figures.items()}, "seconds": round(seconds, 3)}  # fmt: skip


def _check_finite(row: dict[str, Any]) -> None:
    losses = [row[name] for name in ("train_loss", "val_loss") if row[name] is not None]
    if not all(map(math.isfinite, losses)):
        raise UsageError(f"Training diverged in epoch {row['epoch']}: its loss is no finite number. Start again with a lower --lr.")


def _best(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The row with the lowest validation loss; the earliest of equals."""
    return min(rows, key=lambda row: row["val_loss"])


def _why_stop(rows: list[dict[str, Any]], plan: Plan) -> str:
    """The reason to stop after these rows, or an empty string."""
    done, best = rows[-1]["epoch"], _best(rows)["epoch"]
    if done >= plan.epochs:
        return f"All {plan.epochs} epochs were trained."
    if done - best >= plan.patience:
        return f"Stopped after epoch {done}: no better validation loss since epoch {best}."
    return ""


def _save(
    folder: Path, network: Network, average: Network, optimizer: torch.optim.Optimizer, rows: list[dict[str, Any]], device: torch.device
) -> None:
    """The state to resume from, then what follows from it: a stop in between is made good by ``_restore``."""
    state = {"network": network.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict(),
             "random": checkpoint.random_state(device), "rows": rows}  # fmt: skip
    checkpoint.save(folder / "checkpoint", checkpoint.LAST, state)
    _save_best_and_table(folder, average, rows)


def _save_best_and_table(folder: Path, average: Network, rows: list[dict[str, Any]]) -> None:
    if _best(rows) is rows[-1]:
        checkpoint.save(folder / "checkpoint", checkpoint.BEST, {"network": average.state_dict(), "epoch": rows[-1]["epoch"]})
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    checkpoint.atomically(folder / "results.csv", lambda temporary: temporary.write_bytes(table.getvalue().encode()))


def _restore(
    folder: Path, network: Network, average: Network, optimizer: torch.optim.Optimizer, device: torch.device
) -> list[dict[str, Any]]:
    """Bring everything to the end of the last saved epoch; returns its rows."""
    state = checkpoint.load(folder / "checkpoint", checkpoint.LAST, device)
    try:
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        checkpoint.restore_random_state(state["random"], device)
        rows: list[dict[str, Any]] = state["rows"]
    except (KeyError, RuntimeError, ValueError) as error:
        path = folder / "checkpoint" / checkpoint.LAST
        raise ModelFileError(f"{path}: this checkpoint does not fit the run it lies in; start the run again.") from error
    _save_best_and_table(folder, average, rows)
    return rows


def _line(row: dict[str, Any], plan: Plan) -> str:
    figures = ", ".join(f"{name.removeprefix('val_')} {value:.3f}" for name, value in row.items() if name.startswith("val_"))
    return f"Epoch {row['epoch']:>2} of {plan.epochs}: training loss {row['train_loss']:.3f}; validation {figures} ({row['seconds']:.0f} s)"
