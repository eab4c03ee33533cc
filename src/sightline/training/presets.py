"""Presets: settings that go together, filled in where nothing else was given; ``auto`` chooses one by the data.

``speed`` is for small images from scratch. It puts together what the quickest training of small networks has in common (Jordan, "94% on
CIFAR-10 in 3.29 seconds on a single GPU", 2024): a small network whose first layer whitens patches, filters learned by Muon, each image
mirrored in every other epoch and moved by a few pixels, soft labels, and answers that are the mean over an image and its mirror image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sightline import console
from sightline.config import NetworkConfig, TrainConfig, TrainSettings
from sightline.errors import UsageError
from sightline.model.backbone import SMALL_SIDE
from sightline.model.choose import is_from_scratch
from sightline.model.small import PATCHNET
from sightline.model.views import MIRROR, ONE
from sightline.records import Dataset
from sightline.training.plan import mirroring_matters

AUTO, PLAIN, SPEED, MUON = "auto", "default", "speed", "muon"
# What the preset fills in, setting by setting; the rest follows from the data.
FILLED: Mapping[str, Any] = {
    "backbone": PATCHNET, "weights": "none", "dropout": 0.0, "optimizer": MUON, "fall": "linear", "warmup": 0.1, "label_smoothing": 0.2,
    "clip_norm": 0.0, "ema": 0.98, "keep": "last", "crop_scale": 1.0, "rotate": 0.0, "alternate": True, "shift": 2,
}  # fmt: skip
# Median shorter side of the images, in pixels, up to which the network is made for them.
LARGEST = 96
# What ``auto`` takes the preset for: this task, with so many images to learn from. From fewer its networks are more accurate than the
# default's too, but see less in noise and poor light (decision 038).
TASK, LEAST_IMAGES = "classify", 5000
# A step takes this share of the training images, within bounds; more at once would leave too few steps, fewer fill no GPU.
STEPS_AN_EPOCH, LEAST_BATCH, MOST_BATCH = 32, 64, 1024
# The learning rate (of filters, the angle of a step in radians) at a batch of so many images; it goes with the batch's square root.
LR, LR_BATCH = 0.06, 128
# Passes over the images for which a budget or --epochs does not say otherwise: as many as give so many views, within bounds.
VIEWS, LEAST_EPOCHS, MOST_EPOCHS = 500_000, 10, 60


def with_preset(chosen: TrainSettings, given: Mapping[str, Any]) -> TrainSettings:
    """The settings with those of their preset filled in where they were not ``given``, which is said.

    Of ``auto`` only this is decided, that it is the default where something is given that ``speed`` would set; the rest is ``settled``
    by the data. Raises UsageError where pretrained weights are asked for, from which the preset does not start.
    """
    if chosen.training.preset == AUTO and any(given.get(name, value) != value for name, value in FILLED.items()):
        return chosen.changed(preset=PLAIN)
    if chosen.training.preset != SPEED:
        return chosen
    if given.get("weights", "none") != "none":
        raise UsageError(
            f"--preset speed: learns small images from random weights, and --weights {given['weights']} asks for others; leave one out."
        )
    wanted = {name: value for name, value in FILLED.items() if name not in given}
    if wanted:
        console.say(f"The preset speed sets {_flags(wanted)}.")
    return TrainSettings.of(**wanted, **given)


def settled(chosen: TrainSettings, dataset: Dataset, median_size: tuple[int, int]) -> TrainSettings:
    """The settings with the preset that ``auto`` chooses for the data, which is said where it is not the default.

    That is ``speed`` where one label is learned of each of many small images, from random weights.
    """
    if chosen.training.preset != AUTO or chosen.data.where is not None:  # how many that leaves is known later
        return chosen
    n = _left(chosen.data.limit, dataset)
    side = chosen.network.size or min(median_size)
    suits = dataset.task == TASK and side <= SMALL_SIDE and n >= LEAST_IMAGES and not chosen.augment.robust
    if not suits or not is_from_scratch(chosen.network):
        return chosen
    console.say(
        f"{n:,} images of {side} px, learned from random weights: --preset speed suits them and sets {_flags(FILLED)}; --preset default "
        "leaves these as they are."
    )
    return chosen.changed(preset=SPEED, **FILLED)


def _left(limit: int | None, dataset: Dataset) -> int:
    """How many images there are to learn from where no more than ``limit`` are taken, as many of each split as its share is."""
    n, total = len(dataset) if dataset.splits is None else len(dataset.rows_of("train")), len(dataset)
    return n if limit is None else n * min(limit, total) // total


def _flags(wanted: Mapping[str, Any]) -> str:
    return ", ".join(f"--{_flag(name, value)}" for name, value in wanted.items())


def _flag(name: str, value: Any) -> str:
    flag = name.replace("_", "-")
    return flag if value is True else f"{flag} {value:g}" if isinstance(value, float) else f"{flag} {value}"


def network_for(chosen: TrainSettings, dataset: Dataset, median_size: tuple[int, int], network: NetworkConfig) -> NetworkConfig:
    """The ``network`` settings with what the data decides of a preset.

    Raises UsageError where the preset is not made for the data: for large images.
    """
    if chosen.training.preset != SPEED:
        return network
    side = network.size or min(median_size)
    if side > LARGEST:
        raise UsageError(
            f"--preset speed: is made for images of up to {LARGEST} px, and these have {side} px; leave it out, or give --size."
        )
    if network.views is not None:
        return network
    mirrored = chosen.augment.flip if chosen.augment.flip is not None else mirroring_matters(dataset.labels) is None
    return replace(network, views=MIRROR if mirrored else ONE)


def training_for(config: TrainConfig, n_train: int) -> TrainConfig:
    """The settings of the optimisation with what the number of training images decides of a preset."""
    if config.preset != SPEED:
        return config
    batch = config.batch_size or min(MOST_BATCH, max(LEAST_BATCH, _rounded(n_train / STEPS_AN_EPOCH)))
    epochs = config.epochs or (None if config.budget else min(MOST_EPOCHS, max(LEAST_EPOCHS, round(VIEWS / n_train))))
    lr = config.lr
    if lr is None and config.optimizer == MUON:
        lr = float(f"{LR * math.sqrt(batch / LR_BATCH):.2g}")
    return replace(config, batch_size=batch, epochs=epochs, lr=lr)


def _rounded(number: float) -> int:
    """To a power of two."""
    return 1 << max(0, round(number).bit_length() - 1)
