"""What a training run will do, decided before it starts and recorded, so that a resumed run does the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sightline.config import AugmentConfig, TrainConfig
from sightline.errors import UsageError
from sightline.model.backbone import SMALL_SIDE
from sightline.training.plan_words import reasons_for

FINE_TUNE_EPOCHS = 10
# From random weights a network needs steps more than epochs.
SCRATCH_STEPS, MIN_SCRATCH_EPOCHS, MAX_SCRATCH_EPOCHS = 1200, 12, 100
# Below this many images batch statistics are noisier than those the weights came with.
FROZEN_NORM_BELOW = 20_000
LEARNING_RATES = {("adamw", True): 1e-3, ("adamw", False): 2e-3, ("sgd", True): 1e-2, ("sgd", False): 5e-2,
                  ("muon", True): 1e-2, ("muon", False): 5e-2}  # fmt: skip


@dataclass(frozen=True)
class Usual:
    """What is usual where nothing is asked for."""

    batch_size: int
    ema: float
    clip_norm: float
    patience: int
    backbone_lr_scale: float


OF_IMAGES = Usual(batch_size=32, ema=0.98, clip_norm=1.0, patience=10, backbone_lr_scale=0.1)
# Images on which things lie are larger, and there are fewer of them; their heads are new and deep, so that the backbone has more to
# learn from them, and for longer.
OF_SCENES = Usual(batch_size=8, ema=0.998, clip_norm=10.0, patience=30, backbone_lr_scale=0.3)
SCENE_LR = 2e-3
# What RF-DETR was trained with, its rates that fall from layer to layer of the backbone as one in their middle.
OF_QUERIES = Usual(batch_size=8, ema=0.993, clip_norm=0.1, patience=30, backbone_lr_scale=0.25)
QUERIES_LR, QUERIES_DECAY = 1e-4, 1e-4
UNNORMALISED_FACTOR = 0.1
# Images that grow have their full size after this share of the epochs, and come there in steps of so many pixels.
GROWN_BY, SMALL_STEP, LARGE_STEP = 0.8, 4, 32
# From scratch they begin with this share of the side, if that is not too small to show anything.
START_SHARE, SMALLEST_START = 0.57, 16
# Degrees that images are turned by at most; where boxes lie on them not at all, as a turned box fits its object no more.
ROTATE = 15.0
# The last share of the epochs, in which images look as they do in use.
LATE = 0.15
# Words in class names for which a mirrored image may be of another class.
SIDES = {"left", "right", "leftward", "rightward", "clockwise", "counterclockwise", "anticlockwise", "links", "rechts", "gauche", "droite",
         "izquierda", "derecha", "sinistra", "destra"}  # fmt: skip
WRITTEN = {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "digit", "letter", "text", "handwriting"}
# AdamW's decay acts apart from the gradient, SGD's through it; Muon turns filters and leaves their length alone, so only the head's decays.
WEIGHT_DECAY = {"adamw": 0.05, "sgd": 5e-4, "muon": 0.01}


@dataclass(frozen=True)
class Show:
    """How an epoch shows its images.

    size  their side in pixels; None for the network's own
    late  whether it is one of the last, in which images look as they do in use: none is put together from several
    """

    size: int | None = None
    late: bool = False


PLAIN = Show()


@dataclass(frozen=True)
class Plan:
    """The resolved optimisation. ``reasons`` are sentences for the log and the report.

    probe        the head starts from a logistic regression on the frozen backbone's embeddings
    freeze_norm  batch normalisation keeps the statistics it came with
    keep         "best": the epoch with the lowest validation loss, "last": the last
    fall         how the learning rate falls after its highest: as half a "cosine", or "linear"
    flip         images are mirrored at random
    rotate       by so many degrees at most they are turned
    mosaic       the share of training pictures that are put together from four images
    sizes        side in pixels of the images in the first epoch and in the last; None for the network's own throughout
    """

    epochs: int
    frozen_epochs: int
    probe: bool
    freeze_norm: bool
    batch_size: int
    optimizer: str
    lr: float
    backbone_lr_scale: float
    weight_decay: float
    momentum: float
    warmup: float
    fall: str
    ema: float
    clip_norm: float
    patience: int
    keep: str
    flip: bool
    rotate: float
    mosaic: float
    sizes: tuple[int, int] | None
    reasons: tuple[str, ...]

    def size_at(self, epoch: int, epochs: int) -> int | None:
        """Side in pixels of an epoch's images, the first of ``epochs`` being 1; None for the network's own.

        Sides grow as learning goes on, for the first steps learn as much from small images, several times as fast (Touvron et al.,
        "Fixing the train-test resolution discrepancy", 2019; Tan and Le, "EfficientNetV2", 2021).
        """
        if self.sizes is None:
            return None
        first, last = self.sizes
        share = (epoch - 1) / (GROWN_BY * epochs)
        if epoch >= epochs or share >= 1:
            return last
        step = SMALL_STEP if last <= SMALL_SIDE else LARGE_STEP
        return min(last, first + step * round((last - first) * share / step))

    def show(self, epoch: int, epochs: int) -> Show:
        """How an epoch, the first of ``epochs`` being 1, shows its images."""
        return Show(self.size_at(epoch, epochs), late=epoch > (1 - LATE) * epochs)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "reasons": list(self.reasons)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Plan:
        """The plan that a run was started with; UsageError when another version wrote it."""
        try:
            sizes = None if fields["sizes"] is None else tuple(fields["sizes"])
            return cls(**{**fields, "sizes": sizes, "reasons": tuple(fields["reasons"])})
        except (TypeError, KeyError) as error:
            raise UsageError(f"The run to resume was planned by another version of Sightline ({error}); start a new run.") from error


def make_plan(
    config: TrainConfig,
    n_train: int,
    *,
    pretrained: bool,
    augment: AugmentConfig = AugmentConfig(),
    labels: Sequence[str] = (),
    normalised: bool = True,
    imbalance: float = 1.0,
    size: int | None = None,
    takes: Callable[[int], bool] = lambda side: False,
    lies: str | None = None,
    queries: bool = False,
) -> Plan:
    """The plan for ``n_train`` images; what the configuration leaves open is chosen here.

    ``normalised`` says whether the network has normalisation layers: without any, large steps end its learning for good.
    ``imbalance`` is how many times as many images, objects or pixels the largest class has as the smallest, ``size`` the side of the
    network's input, and ``takes`` tells whether the network takes images with another side. ``lies`` says what lies on the images and
    moves with them: "boxes" or "maps". ``queries`` says that the network answers with a set of them, for which AdamW is usual at other
    rates.
    """
    _check(config, augment, size, probe=pretrained and lies is None)
    scenes, usual, mirrored = lies is not None, OF_QUERIES if queries else OF_SCENES if lies else OF_IMAGES, mirroring_matters(labels)
    lr, decay = _rate(config, pretrained=pretrained, normalised=normalised, scenes=scenes), WEIGHT_DECAY[config.optimizer]
    if queries and config.optimizer == "adamw":
        lr, decay = QUERIES_LR, QUERIES_DECAY
    epochs = config.epochs or _epochs(config, n_train, pretrained=pretrained, scenes=scenes)
    plan = Plan(
        epochs=epochs, frozen_epochs=min(config.frozen_epochs or 0, epochs), probe=pretrained and not scenes,
        freeze_norm=pretrained and n_train < FROZEN_NORM_BELOW, batch_size=config.batch_size or usual.batch_size,
        optimizer=config.optimizer, lr=config.lr or lr,
        backbone_lr_scale=_or(config.backbone_lr_scale, usual.backbone_lr_scale if pretrained else 1.0),
        weight_decay=_or(config.weight_decay, decay), momentum=config.momentum, warmup=config.warmup,
        fall=config.fall, ema=_or(config.ema, usual.ema), clip_norm=_or(config.clip_norm, usual.clip_norm),
        patience=config.patience or usual.patience, keep=config.keep, flip=mirrored is None if augment.flip is None else augment.flip,
        rotate=_or(augment.rotate, 0.0 if lies == "boxes" else ROTATE), mosaic=augment.mosaic,
        sizes=_sizes(config, size, takes, pretrained=pretrained), reasons=(),
    )  # fmt: skip
    slow = not (normalised or pretrained or config.lr)
    return replace(plan, reasons=tuple(reasons_for(plan, config, augment, n_train, mirrored, imbalance, slow=slow, lies=lies)))


def _or(asked: float | None, usual: float) -> float:
    return usual if asked is None else asked


def _rate(config: TrainConfig, *, pretrained: bool, normalised: bool, scenes: bool) -> float:
    """The highest learning rate of the head."""
    rate = SCENE_LR if scenes and config.optimizer == "adamw" else LEARNING_RATES[config.optimizer, pretrained]
    return rate * (1 if normalised or pretrained else UNNORMALISED_FACTOR)


def check_scenes(config: TrainConfig, augment: AugmentConfig, lies: str | None) -> None:
    """UsageError for what a task of whole images knows and one of scenes does not, and the other way round.

    It takes the task alone, so it is asked before any image is looked at.
    """
    if lies is None and augment.mosaic:
        raise UsageError("--mosaic: puts pictures together from four where boxes or label maps lie on them; leave it out.")
    if lies is not None and config.preset == "speed":
        raise UsageError(f"--preset {config.preset}: learns what whole images show, not {lies} on them; leave it out.")
    if lies is not None and config.layers != "auto":
        raise UsageError(f"--layers {config.layers}: where {lies} are learned, all layers learn together; leave it out.")
    if lies is not None and (mixed := [flag for flag in ("mixup", "cutmix") if getattr(augment, flag)]):
        raise UsageError(f"--{' and --'.join(mixed)}: images with {lies} on them are not mixed; --mosaic puts them together.")
    if lies is not None and (moved := [flag for flag in ("alternate", "shift") if getattr(augment, flag)]):
        raise UsageError(f"--{' and --'.join(moved)}: for images of which the whole is learned, not {lies} on them; leave it out.")


def _check(config: TrainConfig, augment: AugmentConfig, size: int | None, *, probe: bool) -> None:
    """UsageError for settings that do not go together, or not with what is learned."""
    if size is not None and augment.shift >= size:
        raise UsageError(f"--shift {augment.shift}: images of {size} px cannot be moved as far; give less than {size}.")
    if not probe and config.layers != "auto":
        raise UsageError(f"--layers {config.layers}: random weights have to be learned in all layers; give --weights or leave it out.")
    if augment.robust and config.layers in ("head", "upper"):
        raise UsageError(f"--robust: all layers have to learn to see through harder conditions; leave out --layers {config.layers}.")


def _epochs(config: TrainConfig, n_train: int, *, pretrained: bool, scenes: bool) -> int:
    if pretrained and not scenes:
        return FINE_TUNE_EPOCHS
    if config.budget:  # which says when to stop
        return MAX_SCRATCH_EPOCHS
    steps = max(1, n_train // (config.batch_size or (OF_SCENES if scenes else OF_IMAGES).batch_size))
    return min(MAX_SCRATCH_EPOCHS, max(MIN_SCRATCH_EPOCHS, round(SCRATCH_STEPS / steps)))


def _sizes(config: TrainConfig, size: int | None, takes: Callable[[int], bool], *, pretrained: bool) -> tuple[int, int] | None:
    """Sides of the images in the first epoch and in the last, where they differ."""
    if size is None:
        return None
    if config.start_size is not None:
        if config.start_size < size and not takes(config.start_size):
            raise UsageError(f"--start-size {config.start_size}: this network only takes images of {size} px; leave it out.")
        return (config.start_size, size) if config.start_size < size else None
    step = SMALL_STEP if size <= SMALL_SIDE else LARGE_STEP
    first = step * round(START_SHARE * size / step)
    return (first, size) if not pretrained and SMALLEST_START <= first < size and takes(first) else None


def mirroring_matters(labels: Sequence[str]) -> str | None:
    """Why mirrored images may show another class, as the class names suggest; None where they do not."""
    words = [set(re.findall(r"[^\W\d_]+|\d+", label.lower())) for label in labels]
    sided = [label for label, found in zip(labels, words, strict=True) if found & SIDES]
    if sided:
        return f"the class name {sided[0]!r} tells left from right"
    written = [label for label, found in zip(labels, words, strict=True) if len(label.strip()) == 1 or found & WRITTEN]
    if len(written) > len(labels) / 2:
        return f"class names such as {written[0]!r} look like letters or digits"
    return None
