"""Where a training stands: everything that changes from step to step, and so everything a checkpoint has to hold."""

from __future__ import annotations

import copy
import csv
import io
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sightline.errors import ModelFileError
from sightline.model.network import Trainable
from sightline.training import checkpoint
from sightline.training.optimizer import make_optimizer
from sightline.training.plan import Plan
from sightline.training.terms import Terms

# Seconds of work that a stop may cost, where an epoch takes longer.
SAVE_SECONDS = 120.0
# Where writing a checkpoint takes over a second, as of a network of a hundred million weights, it may take this share of the time.
SAVE_SHARE = 0.1


@dataclass
class Course:
    """The networks, the optimiser and how far they have come.

    precision the numbers that steps compute in, fp32 or bf16
    epochs    how many there are to be, which may change on the way for a budget to be kept
    rows      what the finished epochs gave, the start as epoch 0
    kept      the averaged weights of the epoch that is kept
    step      steps done in the epoch under way
    loss_sum  () their losses added up, on the device
    seconds   that the epoch under way has taken
    setbacks  how often training diverged and went back
    """

    network: Trainable
    average: Trainable
    optimizer: torch.optim.Optimizer
    device: torch.device
    folder: Path
    keep: str
    terms: Terms
    precision: str
    epochs: int
    rows: list[dict[str, Any]] = field(default_factory=list)
    kept: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0
    loss_sum: Tensor = field(default_factory=lambda: torch.zeros(()))
    seconds: float = 0.0
    setbacks: int = 0
    _now: float = field(default_factory=time.monotonic)
    _saved: float = field(default_factory=time.monotonic)
    _cost: float = 0.0

    @classmethod
    def at_the_start(cls, network: Trainable, plan: Plan, device: torch.device, folder: Path, terms: Terms) -> Course:
        average, optimizer, epochs = copy.deepcopy(network), make_optimizer(network, plan), terms.epochs
        precision, epochs = terms.precision, plan.epochs if epochs is None else epochs
        course = cls(network, average, optimizer, device, folder, plan.keep, terms, precision, epochs)
        course.loss_sum = course.loss_sum.to(device)
        return course

    @property
    def best(self) -> dict[str, Any]:
        """The row whose weights are kept: that with the lowest validation loss, the earliest of equals; or the last."""
        return self.rows[-1] if self.keep == "last" else min(self.rows, key=lambda row: float(row["val_loss"]))

    @property
    def all_rows(self) -> list[dict[str, Any]]:
        """The rows of this stage and those before, their epochs counted through."""
        return self.terms.place.whole(self.rows)

    @property
    def is_finite(self) -> bool:
        """Whether the losses of this epoch and all weights are finite numbers."""
        return bool(torch.isfinite(self.loss_sum)) and all(bool(torch.isfinite(p).all()) for p in self.network.parameters())

    def tick(self) -> None:
        """Count the time since the last call towards the epoch under way."""
        now = time.monotonic()
        self.seconds, self._now = self.seconds + now - self._now, now

    def finish_epoch(self, row: dict[str, Any], *, last: bool = False) -> None:
        """Note what an epoch gave and save, unless saving would take too much of the time; of the ``last`` epoch always."""
        self.rows.append(row)
        self.tick()
        self.step, self.seconds, self.loss_sum = 0, 0.0, torch.zeros_like(self.loss_sum)
        if self.best is row:
            self.kept = {name: tensor.detach().clone() for name, tensor in self.average.state_dict().items()}
        if self._agreed(last or self._can_save):
            self.save()
        self.terms.ranks.of_first(self._write_table)

    @property
    def wants_saving(self) -> bool:
        """Whether it is time to save in the middle of an epoch."""
        return self._agreed(time.monotonic() - self._saved > SAVE_SECONDS and self._can_save)

    def _agreed(self, wanted: bool) -> bool:
        return bool(self.terms.ranks.agree(wanted))

    @property
    def _can_save(self) -> bool:
        return self._cost < 1 or time.monotonic() - self._saved > self._cost / SAVE_SHARE

    def save(self) -> None:
        """Write all that is needed to go on from here, in one file that is whole or not there; of several processes the first does."""
        terms = self.terms
        state = {"network": self.network.state_dict(), "average": self.average.state_dict(), "kept": self.kept,
                 "optimizer": self.optimizer.state_dict(), **checkpoint.random_states(self.device, terms.ranks), "rows": self.rows,
                 "step": self.step, "loss_sum": self.loss_sum, "seconds": self.seconds, "setbacks": self.setbacks,
                 "precision": self.precision, "epochs": self.epochs,
                 "stage": terms.place.stage, "spent": terms.budget.elapsed()}  # fmt: skip
        start = time.monotonic()
        terms.ranks.of_first(lambda: checkpoint.save(self.folder / "checkpoint", checkpoint.LAST, state))
        self._saved = time.monotonic()
        self._cost = self._saved - start

    def restore(self) -> None:
        """Bring everything to where the last checkpoint was written; ModelFileError when that is missing, broken or of another run."""
        state = checkpoint.load(self.folder / "checkpoint", checkpoint.LAST, self.device)
        try:
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            checkpoint.restore_random_states(state, self.device, self.terms.ranks)
            self.rows, self.kept, self.step, self.loss_sum = state["rows"], state["kept"], state["step"], state["loss_sum"]
            self.seconds, self.setbacks, self.precision = state["seconds"], state["setbacks"], state["precision"]
            self.epochs = state["epochs"]
        except (KeyError, RuntimeError, ValueError) as error:
            path = self.folder / "checkpoint" / checkpoint.LAST
            raise ModelFileError(f"{path}: this checkpoint does not fit the run it lies in; start the run again.") from error
        self._now = self._saved = time.monotonic()
        self.terms.ranks.of_first(self._write_table)

    def _write_table(self) -> None:
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, list(self.rows[0]))
        writer.writeheader()
        writer.writerows(self.all_rows)
        checkpoint.atomically(self.folder / "results.csv", lambda temporary: temporary.write_bytes(table.getvalue().encode()))
