"""A training session: build the network and bring it, by one way or another, through the loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
from sightline.model.assembly import assembled, heads_of
from sightline.model.choose import Choice
from sightline.model.network import AUXILIARY_WIDTH, AuxiliaryHead, Network, Trainable, torch_infer
from sightline.model.small import whiten
from sightline.model.views import one_view
from sightline.records import Dataset
from sightline.tasks import Task, load_task
from sightline.training.balance import class_weights, sampling_shares
from sightline.training.batches import TrainBatches, frames_of, plain_batches
from sightline.training.device_batches import DeviceBatches, fit_on
from sightline.training.logs import Log
from sightline.training.objective import Objective
from sightline.training.plan import Plan, Show
from sightline.training.precision import choose_precision
from sightline.training.ranks import ALONE, Ranks
from sightline.training.scenes import SceneBatches
from sightline.training.together import Together

# Images looked at together in validation; of small ones that lie on a GPU, so that it has something to do.
VALIDATION_BATCH, LARGE_BATCH = 32, 1024
# Images whose patches tell what is usual; thousands of patches are on each.
WHITENED = 2000
# Where the score of a box says how well it fits and that of a pixel is one of thousands, there is none.
LABEL_SMOOTHING = 0.1


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
    task: Task
    head_module: ModuleType
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
    ranks: Ranks = ALONE

    @classmethod
    def begin(
        cls, dataset: Dataset, store: Store, choice: Choice, plan: Plan, settings: TrainSettings, device: torch.device, folder: Path,
        log: Log, read_seconds: float = 0.0, ranks: Ranks = ALONE,
    ) -> Session:  # fmt: skip
        """The session's network is built here; ``dataset`` is split and ``store`` has its images, row for row."""
        torch.manual_seed(settings.run.seed)
        task, head_module = load_task(dataset.task), heads_of(dataset.task, choice.spec.name)
        classes = len(dataset.labels)
        network = _build(choice, plan, head_module, classes, settings.network.dropout)
        # On a GPU filters lie as the images do, channel by channel; a processor's library arranges them itself.
        network = network.to(device, memory_format=torch.channels_last) if device.type == "cuda" else network.to(device)
        ranks.part_ways(settings.run.seed)
        targets = dataset.targets
        assert targets is not None
        stopping, calibrating = validation_parts(dataset)
        train, validation = (Part(store.select(rows), targets[rows]) for rows in (dataset.rows_of("train"), stopping))
        to_judge = len(calibrating), len(dataset.rows_of("test"))
        parts = network, task, head_module, train, validation, to_judge, classes
        session = cls(*parts, choice, plan, settings, device, folder, log, read_seconds, ranks)
        if not choice.pretrained:
            session._whiten()
        return session

    def _whiten(self) -> None:
        """Set the first layer of one of our own networks by some of the training images."""
        rows = np.random.default_rng(self.settings.run.seed).permutation(len(self.train))[:WHITENED]
        some = Part(self.train.store.select(np.sort(rows)), self.train.targets[rows])
        with torch.no_grad():
            whiten(self.network, lambda: torch.cat([self.network.normal(images) for images in self.plain(some)]))

    @cached_property
    def objective(self) -> Objective:
        smoothing = self.settings.training.label_smoothing
        return self.objective_with((0.0 if self.task.SCENES else LABEL_SMOOTHING) if smoothing is None else smoothing)

    def objective_with(self, label_smoothing: float) -> Objective:
        balanced = self.settings.training.balance == "weights"
        weights = torch.from_numpy(class_weights(self.train.targets, self.classes)).to(self.device) if balanced else None
        return Together(self.head_module.Objective(label_smoothing, weights), self.ranks)

    @cached_property
    def shares(self) -> NDArray[np.float64] | None:
        """Each training image's chances to be drawn; None for all alike."""
        return sampling_shares(self.train.targets, self.classes) if self.settings.training.balance == "sampling" else None

    @cached_property
    def batches(self) -> TrainBatches | DeviceBatches | SceneBatches:
        """Changed training images, none of them made harder: that is a stage of its own."""
        augment = replace(self.settings.augment, flip=self.plan.flip, rotate=self.plan.rotate, robust=False)
        data = self.train.store, self.train.targets, self.choice.prepare, augment, self.plan.batch_size, self.settings.run.seed, self.device
        if self.task.SCENES:
            return SceneBatches(*data, mosaic=self.plan.mosaic, shares=self.shares, ranks=self.ranks)
        batches, prepare = TrainBatches(*data, classes=self.classes, shares=self.shares, ranks=self.ranks), self.choice.prepare
        there = not self.plan.probe and fit_on(self.device, self.train.store, augment, (*prepare.shape, prepare.channels))
        return DeviceBatches(batches) if there and not self.ranks.together else batches

    def plain(self, part: Part) -> Iterator[Tensor]:
        """A part's images as evaluation sees them, in order: (n, size, size, channels) uint8 on the device."""
        for batch in plain_batches(part.store, self.choice.prepare, VALIDATION_BATCH):
            yield torch.from_numpy(batch).to(self.device)

    def validate(self, candidate: Trainable) -> dict[str, float]:
        """The objective's figures of a whole network on the validation images."""
        with one_view(candidate):
            return self.figures(candidate, self._seen)

    @property
    def _seen(self) -> Iterable[NDArray[np.uint8]]:
        """The validation images in batches; small ones, whose training images lie on the device, are prepared only once."""
        if isinstance(self.batches, DeviceBatches):
            return self._kept
        return plain_batches(self.validation.store, self.choice.prepare, VALIDATION_BATCH)

    @cached_property
    def _kept(self) -> list[NDArray[np.uint8]]:
        at_once = VALIDATION_BATCH if self.device.type == "cpu" else LARGE_BATCH
        return list(plain_batches(self.validation.store, self.choice.prepare, at_once))

    def figures(self, candidate: Trainable, *passes: Iterable[NDArray[np.uint8]]) -> dict[str, float]:
        """The objective's figures of a whole network on batches of all validation images in order, in one or several passes; of several
        processes the first one's."""
        return self.ranks.of_first(lambda: self._figures(candidate, *passes))

    def _figures(self, candidate: Trainable, *passes: Iterable[NDArray[np.uint8]]) -> dict[str, float]:
        infer, targets, found = torch_infer(candidate, self.device, self.task.OUTPUTS), self.validation.targets, []
        for batches in passes:
            start = 0
            for batch in batches:
                rows = slice(start, start := start + len(batch))
                found.append(self.task.compact({**infer(batch), "frame": self.frames[rows]}, targets[rows]))
        raw = {name: np.concatenate([each[name] for each in found]) for name in found[0]}
        return dict(self.objective.validate(raw, np.concatenate([targets] * len(passes))))

    @cached_property
    def frames(self) -> NDArray[np.float64]:
        """(n, 10) how the validation images, as evaluation sees them, lie on the originals."""
        return frames_of(self.validation.store, self.choice.prepare)

    def precision(self) -> str:
        """The numbers that steps are to be computed in, which is said."""
        asked = self.settings.training.precision
        return self.ranks.of_first(lambda: choose_precision(asked, self.network, self.objective, self.example, self.device)[0])

    def example(self, size: int | None = None) -> tuple[Tensor, Tensor]:
        """A batch to time steps on, of images with such sides."""
        return next(self.batches.epoch(1, 0, Show(size)))


def _build(choice: Choice, plan: Plan, head_module: ModuleType, classes: int, dropout: float) -> Network:
    backbone = choice.build()
    taps = () if plan.probe else backbone.tap_channels  # fine-tuning has gradients enough
    auxiliary = [AuxiliaryHead(channels, head_module.make_head(AUXILIARY_WIDTH, classes, dropout)) for channels in taps]
    network = assembled(backbone, head_module, classes, dropout, choice.prepare, auxiliary)
    if plan.batch_size == 1 and not plan.freeze_norm and any(isinstance(module, _BatchNorm) for module in network.modules()):
        raise UsageError("--batch-size 1: this network's batch normalisation needs several images in a step; give 2 or more.")
    return network
