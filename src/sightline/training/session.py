"""A training session: build the network and bring it, by one way or another, through the loop."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from sightline.config import TrainSettings
from sightline.data.calibration import validation_parts
from sightline.data.store import Store
from sightline.errors import UsageError
from sightline.model.assembly import assembled
from sightline.model.choose import Choice
from sightline.model.network import AUXILIARY_WIDTH, AuxiliaryHead, Network, Trainable, torch_infer
from sightline.records import Dataset
from sightline.tasks import TASKS, load_task
from sightline.training.balance import class_weights, sampling_shares
from sightline.training.batches import TrainBatches, plain_batches
from sightline.training.logs import Log
from sightline.training.objective import Objective
from sightline.training.plan import Plan
from sightline.training.precision import choose_precision

VALIDATION_BATCH = 32


@dataclass(frozen=True)
class Part:
    """The images of a split in their store, and their targets, row for row."""

    store: Store
    targets: NDArray[Any]

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Session:
    """A network and all it learns from; what the ways of training share.

    ``validation`` is what stops training. The bundle will be calibrated and tested on so many images each (``to_judge``), of which
    one takes ``read_seconds`` from its file.
    """

    network: Network
    head_module: ModuleType
    outputs: tuple[str, ...]
    train: Part
    validation: Part
    to_judge: tuple[int, int]
    classes: int
    choice: Choice
    plan: Plan
    settings: TrainSettings
    device: torch.device
    folder: Path
    log: Log
    read_seconds: float

    @classmethod
    def begin(
        cls, dataset: Dataset, store: Store, choice: Choice, plan: Plan, settings: TrainSettings, device: torch.device, folder: Path,
        log: Log, read_seconds: float = 0.0,
    ) -> Session:  # fmt: skip
        """The session's network is built here; ``dataset`` is split and ``store`` has its images, row for row."""
        torch.manual_seed(settings.run.seed)
        task, head_module = load_task(dataset.task), importlib.import_module(TASKS[dataset.task].head)
        classes = len(dataset.labels)
        network = _build(choice, plan, head_module, classes, settings.network.dropout).to(device)
        targets = dataset.targets
        assert targets is not None
        stopping, calibrating = validation_parts(dataset)
        train, validation = (Part(store.select(rows), targets[rows]) for rows in (dataset.rows_of("train"), stopping))
        to_judge = len(calibrating), len(dataset.rows_of("test"))
        parts = network, head_module, task.OUTPUTS, train, validation, to_judge, classes
        return cls(*parts, choice, plan, settings, device, folder, log, read_seconds)

    @cached_property
    def objective(self) -> Objective:
        return self.objective_with(self.settings.training.label_smoothing)

    def objective_with(self, label_smoothing: float) -> Objective:
        balanced = self.settings.training.balance == "weights"
        weights = torch.from_numpy(class_weights(self.train.targets, self.classes)).to(self.device) if balanced else None
        objective: Objective = self.head_module.Objective(label_smoothing, weights)
        return objective

    @cached_property
    def shares(self) -> NDArray[np.float64] | None:
        """Each training image's chances to be drawn; None for all alike."""
        return sampling_shares(self.train.targets, self.classes) if self.settings.training.balance == "sampling" else None

    @cached_property
    def batches(self) -> TrainBatches:
        """Changed training images, none of them made harder: that is a stage of its own."""
        augment = replace(self.settings.augment, flip=self.plan.flip, robust=False)
        return TrainBatches(
            self.train.store, self.train.targets, self.choice.prepare, augment, self.plan.batch_size, self.settings.run.seed,
            self.device, classes=self.classes, shares=self.shares,
        )  # fmt: skip

    def plain(self, part: Part) -> Iterator[Tensor]:
        """A part's images as evaluation sees them, in order: (n, size, size, channels) uint8 on the device."""
        for batch in plain_batches(part.store, self.choice.prepare, VALIDATION_BATCH):
            yield torch.from_numpy(batch).to(self.device)

    def validate(self, candidate: Trainable) -> dict[str, float]:
        """The objective's figures of a whole network on the validation images."""
        infer = torch_infer(candidate, self.device, self.outputs)
        found = [infer(batch) for batch in plain_batches(self.validation.store, self.choice.prepare, VALIDATION_BATCH)]
        raw = {name: np.concatenate([each[name] for each in found]) for name in found[0]}
        return dict(self.objective.validate(raw, self.validation.targets))

    def precision(self) -> str:
        """The numbers that steps are to be computed in, which is said."""
        return choose_precision(self.settings.training.precision, self.network, self.objective, self.train.targets, self.device)[0]


def _build(choice: Choice, plan: Plan, head_module: ModuleType, classes: int, dropout: float) -> Network:
    backbone = choice.build()
    taps = () if plan.probe else backbone.tap_channels  # fine-tuning has gradients enough
    auxiliary = [AuxiliaryHead(channels, head_module.make_head(AUXILIARY_WIDTH, classes, dropout)) for channels in taps]
    network = assembled(backbone, head_module, classes, dropout, choice.prepare, auxiliary)
    if plan.batch_size == 1 and not plan.freeze_norm and any(isinstance(module, _BatchNorm) for module in network.modules()):
        raise UsageError("--batch-size 1: this network's batch normalisation needs several images in a step; give 2 or more.")
    return network
