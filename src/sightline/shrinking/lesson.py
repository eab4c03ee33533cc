"""What a smaller network learns from: the data as the model that it is made from had them, and that model's answers."""

from __future__ import annotations

import importlib
import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sightline import console
from sightline.auditing.gate import Gated, gate
from sightline.bundle import Bundle
from sightline.config import TrainConfig, TrainSettings
from sightline.data.calibration import validation_parts
from sightline.data.decode import Limits
from sightline.data.prepare import Prepare
from sightline.data.store import Store, look_once
from sightline.errors import DataError
from sightline.exporting.material import Material, divided
from sightline.model.device import torch_device
from sightline.model.network import Network, Trainable, torch_infer
from sightline.processor import processors
from sightline.records import Dataset, Infer
from sightline.shrinking.candidates import Shape
from sightline.shrinking.distil import Distillation, Teacher, teacher_of
from sightline.tasks import TASKS, load_task
from sightline.training.batches import TrainBatches, plain_batches
from sightline.training.loop import fit
from sightline.training.plan import Plan, make_plan
from sightline.training.precision import choose_precision
from sightline.training.terms import Terms

VALIDATION_BATCH = 32
# All layers heal at this rate from what was taken from them; a new head on a pretrained backbone at this one, and that at
# a share of it.
HEALING_RATE, TUNING_RATE, TUNING_SCALE = 5e-4, 1e-3, 0.3


@dataclass(frozen=True)
class Lesson:
    """The data, split as they were for the model, its settings, and itself as a teacher.

    held_out  whether the validation images are the model's own, so that none of its weights were trained on them
    epochs    None for each shape's own number
    """

    gated: Gated
    held_out: bool
    material: Material
    settings: TrainSettings
    prepare: Prepare
    teacher: Teacher
    device: torch.device
    epochs: int | None

    @classmethod
    def of(cls, source: Bundle, dataset: Dataset, infer: Infer, epochs: int | None, calibration: int, limits: Limits) -> Lesson:
        """``dataset`` has the model's own labels; ``infer`` is the bundle's. Raises DataError for other data than it was trained on."""
        manifest = source.manifest
        settings, prepare = TrainSettings.from_json(manifest.config), Prepare.from_json(manifest.prepare)
        side = math.ceil(min(prepare.shape) / prepare.crop_fraction)
        workers = settings.data.workers or processors()
        # There is no flag for a limit here, so the disk is the only one.
        store = look_once(dataset, side, limits=limits, workers=workers, limit_bytes=math.inf, reading=prepare.reading)
        gated, held_out = _as_it_was_split(source, dataset, store, settings)
        targets = gated.dataset.targets
        assert targets is not None
        device = torch_device("auto")
        material = divided(gated.dataset, targets, None, calibration)
        return cls(gated, held_out, material, settings, prepare, teacher_of(source, infer, device), device, epochs)

    def seen(self, source: Bundle) -> NDArray[np.uint64]:
        """The content keys of what ``source``, or a network that is taught here, learned from or was chosen on."""
        assert self.gated.dataset.splits is not None
        return np.union1d(source.arrays("reference")["seen"], _keys(self.gated.store)[self.gated.dataset.splits != "test"])

    def teach(self, network: Network, shape: Shape) -> Network:
        """The network, trained in place, with the weights of its best epoch."""
        data, seed = self.gated.dataset, self.settings.run.seed
        assert data.targets is not None
        task, heads = load_task(data.task), importlib.import_module(TASKS[data.task].head)
        plan, train = self._plan(shape), data.rows_of("train")
        augment = replace(self.settings.augment, flip=plan.flip, rotate=plan.rotate, robust=False)
        stored, targets = self.gated.store.select(train), data.targets[train]
        batches = TrainBatches(stored, targets, self.prepare, augment, plan.batch_size, seed, self.device, classes=len(data.labels))
        objective = Distillation(heads.Objective(0.0, None), self.teacher, network.prepare.shape, task.ONE_LABEL)
        torch.manual_seed(seed)
        network.to(self.device)
        stopping = validation_parts(data)[0]
        watched = self.gated.store.select(stopping)

        def validate(candidate: Trainable) -> dict[str, float]:
            infer = torch_infer(candidate, self.device, task.OUTPUTS)
            found = [infer(batch) for batch in plain_batches(watched, network.prepare, VALIDATION_BATCH)]
            raw = {name: np.concatenate([each[name] for each in found]) for name in found[0]}
            return dict(objective.validate(raw, data.targets[stopping]))  # type: ignore[index]

        example = lambda: next(batches.epoch(1))  # noqa: E731
        precision = choose_precision(self.settings.training.precision, network, objective, example, self.device)[0]
        with tempfile.TemporaryDirectory() as folder:
            fit(network, objective, batches, validate, plan, Path(folder), terms=Terms(precision), resume=False)
        return network

    def _plan(self, shape: Shape) -> Plan:
        config = TrainConfig(epochs=self.epochs or shape.epochs, batch_size=self.settings.training.batch_size)
        labels = self.gated.dataset.labels
        plan = make_plan(config, self.gated.n_train, pretrained=False, augment=self.settings.augment, labels=labels)
        if shape.inherits:
            return replace(plan, lr=HEALING_RATE)
        return replace(plan, lr=TUNING_RATE, backbone_lr_scale=TUNING_SCALE) if shape.weights else plan


def _as_it_was_split(source: Bundle, dataset: Dataset, store: Store, settings: TrainSettings) -> tuple[Gated, bool]:
    """The data past the gate as they were for the model, and whether their validation images are its own.

    Data other than those of the training, of which no test images came, cannot be split as those were: what the model has seen is for
    training then, everything else for the test. Raises DataError where the model saw none of the training images.
    """
    seen = _are_seen(source, store)
    came = np.full(len(dataset), "") if dataset.splits is None else dataset.splits
    if not (seen & (came != "test")).any():
        raise DataError(
            f"{dataset.root}: holds none of the images that {source.path} was trained on, from which a smaller model learns; "
            "give the data that it was made from."
        )
    if (came == "test").any():
        gated = gate(dataset, store, settings.data, settings.run.seed)
        same = gated.dataset.fingerprint == source.manifest.fingerprint
    else:
        found = _same_again(source, dataset, store, settings)
        unseen = dataset.replace(splits=np.where(seen | (came == "validation"), np.where(came == "", "train", came), "test"))
        gated, same = found or gate(unseen, store, settings.data, settings.run.seed), found is not None
    gated.announce()
    if flattering := int(_are_seen(source, gated.store)[gated.dataset.rows_of("test")].sum()):
        console.warn(f"{flattering} of the test images were used in training, so the figures flatter every model.")
    # Test images that the model has seen tell that this is not the split of its training, whose validation images are others then.
    held_out = same or (bool((came == "validation").any()) and not flattering)
    if not held_out:
        console.warn(
            "The data differ from those of the training, so that their validation images may be among its training images: a network that "
            "is trained on them makes no promises."
        )
    return gated, held_out


def _same_again(source: Bundle, dataset: Dataset, store: Store, settings: TrainSettings) -> Gated | None:
    """The data split as for the training, fold and all; None where they are not the same to the last image."""
    folds = None if dataset.splits is not None else settings.data.folds
    for fold in [None] if folds is None else range(1, folds + 1):
        try:
            gated = gate(dataset, store, settings.data, settings.run.seed, fold)
        except DataError:  # those of the training could be split
            return None
        if gated.dataset.fingerprint == source.manifest.fingerprint:
            return gated
    return None


def _are_seen(source: Bundle, store: Store) -> NDArray[np.bool_]:
    """(n,) which images the model was trained or validated on."""
    seen = source.arrays("reference")["seen"] if source.has("reference") else np.zeros(0, np.uint64)
    return np.isin(_keys(store), seen)


def _keys(store: Store) -> NDArray[Any]:
    """The content keys by which a bundle knows images; 0 for those that could not be read."""
    return np.array([int(content[:16] or "0", 16) for content in store.facts.sha256.tolist()], np.uint64)
