"""A training session: build the network, fit its head on frozen features, train it."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.modules.batchnorm import _BatchNorm

from sightline import console
from sightline.config import TrainSettings
from sightline.data.prepare import Prepare
from sightline.data.store import Store
from sightline.errors import UsageError
from sightline.model.choose import Choice
from sightline.model.network import AUXILIARY_WIDTH, AuxiliaryHead, Network, torch_infer
from sightline.records import Dataset, Infer
from sightline.tasks import TASKS, load_task
from sightline.training.averaging import average_with_start, keep_start
from sightline.training.balance import class_weights, sampling_shares
from sightline.training.batches import TrainBatches, plain_batches
from sightline.training.logs import Log
from sightline.training.loop import Trained, fit
from sightline.training.plan import Plan
from sightline.training.precision import choose_precision

VALIDATION_BATCH = 32


def train_network(
    dataset: Dataset,
    store: Store,
    choice: Choice,
    plan: Plan,
    settings: TrainSettings,
    device: torch.device,
    folder: Path,
    log: Log,
    *,
    resume: bool,
) -> Trained:
    """The trained network; ``dataset`` is split and ``store`` has its images, row for row."""
    torch.manual_seed(settings.run.seed)
    task, head_module = load_task(dataset.task), importlib.import_module(TASKS[dataset.task].head)
    classes = len(dataset.labels)
    network = _build(choice, plan, head_module, classes, settings.network.dropout).to(device)
    train, val = dataset.rows_of("train"), dataset.rows_of("validation")
    assert dataset.targets is not None
    train_targets, val_targets = dataset.targets[train], dataset.targets[val]
    train_store, val_store = store.select(train), store.select(val)
    if plan.probe and not resume:
        console.say(_fit_head(network, head_module, train_store, train_targets, val_store, val_targets, classes, device))
        keep_start(network, folder)
    balance = settings.training.balance
    weights = torch.from_numpy(class_weights(train_targets, classes)).to(device) if balance == "weights" else None
    objective = head_module.Objective(settings.training.label_smoothing, weights)

    def validate(candidate: Network) -> dict[str, float]:
        infer = torch_infer(candidate, device, task.OUTPUTS)
        return dict(objective.validate(_stored_outputs(infer, val_store, choice.prepare), val_targets))

    augment = replace(settings.augment, flip=plan.flip)
    shares = sampling_shares(train_targets, classes) if balance == "sampling" else None
    batches = TrainBatches(
        train_store, train_targets, choice.prepare, augment, plan.batch_size, settings.run.seed, device, classes=classes, shares=shares
    )
    # A resumed run goes on in the precision of its checkpoint.
    precision = "" if resume else choose_precision(settings.training.precision, network, objective, train_targets, device)[0]
    trained = fit(network, objective, batches, validate, plan, folder, log, resume=resume, precision=precision)
    averaged = ""
    if plan.probe and plan.keep == "best" and trained.best_epoch > 0:
        averaged = average_with_start(trained.network, validate, folder, device)
    return replace(trained, notes=(*trained.notes, *([averaged] if averaged else [])))


def _build(choice: Choice, plan: Plan, head_module: ModuleType, classes: int, dropout: float) -> Network:
    backbone = choice.build()
    head = head_module.make_head(backbone.num_features, classes, dropout)
    taps = () if plan.probe else backbone.tap_channels  # fine-tuning has gradients enough
    auxiliary = [AuxiliaryHead(channels, head_module.make_head(AUXILIARY_WIDTH, classes, dropout)) for channels in taps]
    network = Network(backbone, head, choice.prepare, auxiliary)
    if plan.batch_size == 1 and not plan.freeze_norm and any(isinstance(module, _BatchNorm) for module in network.modules()):
        raise UsageError("--batch-size 1: this network's batch normalisation needs several images in a step; give 2 or more.")
    return network


def _fit_head(
    network: Network,
    head_module: ModuleType,
    train: Store,
    train_targets: NDArray[np.int64],
    val: Store,
    val_targets: NDArray[np.int64],
    classes: int,
    device: torch.device,
) -> str:
    infer = torch_infer(network, device, ("embedding",))
    embeddings = [_stored_outputs(infer, part, network.prepare)["embedding"] for part in (train, val)]
    probe = head_module.fit_probe(embeddings[0], train_targets, embeddings[1], val_targets, classes)
    network.head.set_linear(probe.weight, probe.bias)
    return (
        f"The frozen backbone with logistic regression reaches {probe.measure} {probe.reached:.3f} on validation (C = {probe.strength:g})."
    )


def _stored_outputs(infer: Infer, store: Store, prepare: Prepare) -> dict[str, NDArray[np.float32]]:
    """Raw outputs of all stored images, as evaluation would see them."""
    found = [infer(batch) for batch in plain_batches(store, prepare, VALIDATION_BATCH)]
    return {name: np.concatenate([raw[name] for raw in found]) for name in found[0]}
