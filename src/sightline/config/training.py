"""Settings of training, stage by stage."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from sightline.config.data import DataConfig, ReadConfig
from sightline.config.using import RAY
from sightline.settings import make_all, setting


@dataclass(frozen=True)
class NetworkConfig:
    """Which network, and what it starts from."""

    backbone: str | None = setting(
        None, "A timm or torchvision backbone by name, such as resnet18 or torchvision/alexnet; for boxes also rfdetr-nano to -large."
    )
    weights: str = setting(
        "auto",
        "What the backbone starts from: a .safetensors file (of RF-DETR also .pth), 'hub' (downloads), 'none', or 'auto' (a copy on this "
        "machine, else none).",
    )
    size: int | None = setting(
        None, "Side of the network's square input in pixels; where boxes or label maps are learned, its longer side.", low=8, high=2048
    )
    fit: str | None = setting(
        None,
        "How an image is fitted to the input: crop its middle, pad it, or squash it; by default crop, or pad for boxes and label maps.",
        choices=("crop", "pad", "squash"),
    )
    views: str | None = setting(
        None,
        "In what views the finished network sees an image, whose mean is its answer: one as it is, its mirror image too, or both shifted "
        "by a pixel too, six in all; several take as many times the time in use. One when not given.",
        choices=("one", "mirror", "shifts"),
    )
    dropout: float = setting(0.2, "Dropout before the last layer.", low=0.0, high=0.9)
    drop_path: float = setting(0.0, "Share of the residual branches left out at random in training (stochastic depth).", low=0.0, high=0.9)


@dataclass(frozen=True)
class TrainConfig:
    """The optimisation."""

    preset: str = setting(
        "auto",
        "Settings that go together: speed learns small images from scratch in a fraction of the time, by a network, an optimiser and "
        "changes to the images of its own; what is given besides stays as given. auto takes it where the images suit it and nothing that "
        "it sets is given.",
        choices=("auto", "default", "speed"),
    )
    budget: str | None = setting(
        None, "Time for everything from start to report, such as 90s, 10m or 1h30m; what is trained is planned to fit into it."
    )
    layers: str = setting(
        "auto",
        "Which layers of a pretrained network learn: only the head's probe, then the upper layers, then all; auto goes on while it pays.",
        choices=("auto", "head", "upper", "all"),
    )
    epochs: int | None = setting(None, "Passes over the training images, at most.", low=1, high=10_000)
    frozen_epochs: int | None = setting(None, "Epochs at the start in which only the head learns.", low=0, high=10_000)
    start_size: int | None = setting(
        None, "Side in pixels of the images in the first epoch, from where they grow to --size.", low=8, high=2048
    )
    batch_size: int | None = setting(
        None, "Images in a step; 32 when not given, 8 where boxes or label maps are learned.", low=1, high=65_536
    )
    optimizer: str = setting(
        "adamw", "The optimiser; muon learns filters by momentum made orthogonal, the rest by SGD.", choices=("adamw", "sgd", "muon")
    )
    lr: float | None = setting(None, "Highest learning rate of the head (of everything, from scratch).", low=1e-8, high=100.0)
    backbone_lr_scale: float | None = setting(None, "The backbone's learning rate as a share of the head's.", low=0.0, high=10.0)
    weight_decay: float | None = setting(None, "Weight decay; biases and normalisation have none.", low=0.0, high=10.0)
    momentum: float = setting(0.9, "Momentum of SGD and Muon.", low=0.0, high=0.999)
    warmup: float = setting(0.05, "Share of the steps in which the learning rate rises.", low=0.0, high=0.9)
    fall: str = setting("cosine", "How the learning rate falls after that.", choices=("cosine", "linear"))
    label_smoothing: float | None = setting(
        None,
        "Probability mass that the target gives to the other classes; 0.1 when not given, 0 for boxes and label maps.",
        low=0.0,
        high=0.9,
    )
    ema: float | None = setting(
        None,
        "Decay of the moving average of the weights, which is the model that is kept; 0 turns it off; "
        "0.98 when not given, 0.998 for boxes and label maps.",
        low=0.0,
        high=0.99999,
    )
    clip_norm: float | None = setting(
        None, "Largest norm of the gradient; 0 turns clipping off; 1 when not given, 10 for boxes and label maps.", low=0.0
    )
    precision: str = setting(
        "auto", "Numbers that training computes in; auto times bf16 where the processor has it.", choices=("auto", "fp32", "bf16")
    )
    compile: str = setting(
        "auto",
        "Whether training steps are compiled by torch; auto does so on CUDA, where the run is long enough to repay it.",
        choices=("auto", "on", "off"),
    )
    balance: str = setting(
        "none",
        "What rare classes get: nothing, a larger weight in the loss, or more turns in an epoch.",
        choices=("none", "weights", "sampling"),
    )
    keep: str = setting("best", "Which epoch is kept: the best on validation, or the last.", choices=("best", "last"))
    patience: int | None = setting(
        None, "Stop after this many epochs without a better validation loss; 10 when not given, 30 for boxes and label maps.", low=1
    )


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes to the training images."""

    crop_scale: float = setting(0.35, "Smallest share of the area that a random crop keeps; 1 turns cropping off.", low=0.01, high=1.0)
    rotate: float | None = setting(
        None,
        "Largest random rotation in degrees; 15 when not given, 0 where there are boxes, which would fit no more.",
        low=0.0,
        high=180.0,
    )
    flip: bool | None = setting(
        None, "Mirror images left to right at random; when not given, the class names decide: not for digits, letters, left and right."
    )
    alternate: bool = setting(False, "Where images are mirrored: each in every other epoch, instead of at random.")
    shift: int = setting(
        0, "Move images by up to so many pixels in any direction, what comes in at the edge being mirrored.", low=0, high=64
    )
    colour: float = setting(0.3, "Strength of random brightness, contrast and saturation.", low=0.0, high=1.0)
    erase: float = setting(0.0, "Share of the images in which a random rectangle is painted over.", low=0.0, high=1.0)
    mixup: float = setting(0.0, "Mix pairs of images: alpha of the beta distribution that their shares come from.", low=0.0, high=10.0)
    cutmix: float = setting(0.0, "Paste parts of images into others: alpha of the beta distribution of the part.", low=0.0, high=10.0)
    mosaic: float = setting(
        0.0, "Share of the training pictures put together from four, where boxes or label maps lie on them; not in the last epochs.",
        low=0.0, high=1.0,
    )  # fmt: skip
    robust: bool = setting(
        False, "At the end, train on images made harder as well: night, rain, blur, noise... The report shows what that cost and won."
    )


@dataclass(frozen=True)
class TrialConfig:
    """Trying the trained network."""

    trial: bool = setting(
        True, "Put the network through harder conditions, groups, plain baselines and tests of its explanations, for the report."
    )
    promise: float | None = setting(
        None, "Share of right answers to keep by not answering unsure images; the highest that half of them keep when not given.",
        low=0.5, high=0.9999,
    )  # fmt: skip
    require: str | None = setting(
        None, "What the model must reach, or it is marked unfit (exit code 7): 'accuracy>=0.9, ece<=0.05, worst_group_recall>=0.8'."
    )
    intended_use: str | None = setting(None, "What the model is meant for, in a sentence for its card.")


@dataclass(frozen=True)
class RunConfig:
    """Where and how a run is carried out."""

    out: str | None = setting(None, "Folder for the run; runs/TASK/NAME when not given.")
    seed: int = setting(0, "Seed of everything random.", low=0, high=2**31 - 1)
    device: str = setting("auto", "Where to compute.", choices=("auto", "cpu", "cuda", "mps"))
    embed_images: str = setting("replay", "Whether the bundle holds up to 64 test images for 'verify'.", choices=("replay", "none"))
    log: str = setting(
        "none",
        "Log the training for TensorBoard (in the run's folder) or MLflow (there too, or at MLFLOW_TRACKING_URI) as well.",
        choices=("none", "tensorboard", "mlflow"),
    )


@dataclass(frozen=True)
class ShareConfig:
    """Sharing the training out."""

    engine: str = setting(
        "auto",
        "Who trains: this process, and those that torchrun started beside it; or with ray as many workers of a Ray cluster as --workers "
        "says, by default one a GPU, or one a machine where there are none.",
        choices=("auto", RAY),
    )
    address: str | None = setting(
        None,
        "The Ray cluster for --engine ray, such as 10.0.0.1:6379, or auto for the one that this machine is part of; one is started here "
        "when not given.",
    )


@dataclass(frozen=True)
class TrainSettings:
    """Everything ``train`` can be told, stage by stage."""

    reading: ReadConfig = field(default_factory=ReadConfig)
    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    training: TrainConfig = field(default_factory=TrainConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    trial: TrialConfig = field(default_factory=TrialConfig)
    run: RunConfig = field(default_factory=RunConfig)

    @classmethod
    def stages(cls) -> list[type]:
        """The stages' classes, in order."""
        return [typing.get_type_hints(cls)[stage.name] for stage in fields(cls)]

    @classmethod
    def of(cls, **flat: Any) -> TrainSettings:
        """Settings from flat names, such as ``of(epochs=5, seed=1)``; raises ConfigError naming every mistake."""
        return cls(*make_all(cls.stages(), flat))

    @classmethod
    def from_json(cls, nested: Mapping[str, Mapping[str, Any]]) -> TrainSettings:
        return cls.of(**{name: value for stage in nested.values() for name, value in stage.items()})

    def changed(self, **flat: Any) -> TrainSettings:
        """The same but for the settings given, by flat names; raises ConfigError naming every mistake."""
        return TrainSettings.of(**{name: value for stage in self.to_json().values() for name, value in stage.items()} | flat)

    def to_json(self) -> dict[str, dict[str, Any]]:
        return asdict(self)
