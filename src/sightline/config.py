"""Every setting, its default, its bounds and its help: one frozen dataclass a stage.

The command line's flags are made from these fields and the Python API takes the same names, so a
setting is written once. ``None`` as a default means "chosen from the data", and the run says what was chosen.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from sightline.settings import make_all, setting

# What computes a bundle's graph, and in which numbers; a test holds them against the engines there are.
ENGINES = ("auto", "onnxruntime", "openvino")
PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True)
class ReadConfig:
    """Reading a table of images."""

    path_column: str | None = setting(None, "The table's column with the images' paths; guessed from its name when not given.")
    label_column: str | None = setting(None, "The table's column with the labels, several divided by |; guessed when not given.")
    split_column: str | None = setting(None, "The table's column with the splits, or 'none'; guessed when not given.")
    group_column: str | None = setting(
        None, "The table's column with what must not straddle a split (patient, person, camera), or 'none'; guessed when not given."
    )


@dataclass(frozen=True)
class LookConfig:
    """Looking at the images."""

    window: str | None = setting(
        None, "Levels that become black and white, of images deeper than 8 bits: --window=0,4095 for a 12-bit X-ray, --window=-1024,3071."
    )
    bands: str | None = setting(
        None, "Bands of the images that are read, in this order, counted from 1: '4,3,2'; what a viewer shows if not given."
    )
    max_pixels: int = setting(120_000_000, "Refuse images with more pixels than this.", low=1)
    max_bytes: int = setting(256_000_000, "Refuse image files larger than this many bytes.", low=1)
    workers: int | None = setting(None, "Processes that read images; as many as there are processors when not given.", low=1, high=256)
    store_limit: float = setting(20.0, "Gigabytes that the store of decoded images may take on disk.", low=0.01)


@dataclass(frozen=True)
class DataConfig(LookConfig):
    """Reading, looking at and splitting the images."""

    task: str | None = setting(None, "What to learn; guessed from the data when not given.")
    decisions: str | None = setting(
        None, "The decisions.csv of an audit, edited: images to drop or to relabel before anything is split or learned."
    )
    val_fraction: float = setting(0.15, "Share of the images for validation, where the data did not come split.", low=0.01, high=0.5)
    test_fraction: float = setting(
        0.15, "Share of the images for the untouched test set, where the data did not come split.", low=0.01, high=0.5
    )
    folds: int | None = setting(
        None, "Cross-validation for small sets: train once for each of so many folds, each the test set once.", low=2, high=20
    )
    near_copies: bool = setting(True, "Look for near-copies and keep them on one side of the split.")


@dataclass(frozen=True)
class AuditConfig:
    """Auditing a data set."""

    weights: str = setting(
        "auto",
        "Of the network that compares images: a .safetensors file, 'hub' (downloads), 'none', or 'auto' (a copy here, else none).",
    )
    backbone: str | None = setting(None, "A timm or torchvision backbone by name, such as resnet18; that of the weights when not given.")
    size: int | None = setting(None, "Side in pixels at which the network compares images.", low=8, high=2048)
    face_detector: str | None = setting(None, "A YuNet model (.onnx) that looks for faces; none are looked for when not given.")
    strip_metadata: str | None = setting(None, "A new folder for a copy of the images without EXIF, GPS positions and comments.")
    blur_faces: str | None = setting(None, "A new folder for a copy of the images with faces blurred and without metadata.")
    out: str | None = setting(None, "Folder for what is found; runs/audit/NAME when not given.")
    seed: int = setting(0, "Seed of everything random.", low=0, high=2**31 - 1)


@dataclass(frozen=True)
class NetworkConfig:
    """Which network, and what it starts from."""

    backbone: str | None = setting(None, "A timm or torchvision backbone by name, such as resnet18 or torchvision/alexnet.")
    weights: str = setting(
        "auto",
        "What the backbone starts from: a .safetensors file, 'hub' (downloads), 'none', or 'auto' (a copy on this machine, else none).",
    )
    size: int | None = setting(
        None, "Side of the network's square input in pixels; where boxes or label maps are learned, its longer side.", low=8, high=2048
    )
    fit: str | None = setting(
        None,
        "How an image is fitted to the input: crop its middle, pad it, or squash it; by default crop, or pad for boxes and label maps.",
        choices=("crop", "pad", "squash"),
    )
    dropout: float = setting(0.2, "Dropout before the last layer.", low=0.0, high=0.9)
    drop_path: float = setting(0.0, "Share of the residual branches left out at random in training (stochastic depth).", low=0.0, high=0.9)


@dataclass(frozen=True)
class TrainConfig:
    """The optimisation."""

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
    optimizer: str = setting("adamw", "The optimiser.", choices=("adamw", "sgd"))
    lr: float | None = setting(None, "Highest learning rate of the head (of everything, from scratch).", low=1e-8, high=100.0)
    backbone_lr_scale: float | None = setting(None, "The backbone's learning rate as a share of the head's.", low=0.0, high=10.0)
    weight_decay: float | None = setting(None, "Weight decay; biases and normalisation have none.", low=0.0, high=10.0)
    momentum: float = setting(0.9, "Momentum of SGD.", low=0.0, high=0.999)
    warmup: float = setting(0.05, "Share of the steps in which the learning rate rises.", low=0.0, high=0.9)
    label_smoothing: float | None = setting(
        None,
        "Probability mass that the target gives to the other classes; 0.1 when not given, 0 for boxes and label maps.",
        low=0.0,
        high=0.9,
    )
    ema: float = setting(
        0.98, "Decay of the moving average of the weights, which is the model that is kept; 0 turns it off.", low=0.0, high=0.99999
    )
    clip_norm: float = setting(1.0, "Largest norm of the gradient; 0 turns clipping off.", low=0.0)
    precision: str = setting(
        "auto", "Numbers that training computes in; auto times bf16 where the processor has it.", choices=("auto", "fp32", "bf16")
    )
    balance: str = setting(
        "none",
        "What rare classes get: nothing, a larger weight in the loss, or more turns in an epoch.",
        choices=("none", "weights", "sampling"),
    )
    keep: str = setting("best", "Which epoch is kept: the best on validation, or the last.", choices=("best", "last"))
    patience: int = setting(10, "Stop after this many epochs without a better validation loss.", low=1)


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
    colour: float = setting(0.3, "Strength of random brightness, contrast and saturation.", low=0.0, high=1.0)
    erase: float = setting(0.0, "Share of the images in which a random rectangle is painted over.", low=0.0, high=1.0)
    mixup: float = setting(0.0, "Mix pairs of images: alpha of the beta distribution that their shares come from.", low=0.0, high=10.0)
    cutmix: float = setting(0.0, "Paste parts of images into others: alpha of the beta distribution of the part.", low=0.0, high=10.0)
    mosaic: float | None = setting(
        None, "Share of the training pictures put together from four; half where there are boxes, except in the last epochs.",
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
class RuntimeConfig:
    """Using a bundle."""

    batch_size: int = setting(16, "Images computed at once.", low=1, high=4096)
    threads: int | None = setting(None, "Processor threads; as many as this process may use when not given.", low=1, high=1024)
    engine: str = setting("auto", "What computes; auto measures once which of those installed is fastest here.", choices=ENGINES)
    precision: str = setting(
        "auto",
        "Numbers to compute in; auto takes bf16 only where it is faster and changes no answer on the photographs in the bundle.",
        choices=PRECISIONS,
    )
    max_pixels: int = setting(120_000_000, "Refuse images with more pixels than this.", low=1)
    max_bytes: int = setting(256_000_000, "Refuse image files larger than this many bytes.", low=1)


@dataclass(frozen=True)
class PredictConfig:
    """Predicting."""

    save: str | None = setting(
        None, "A folder for the images with the boxes or label maps found drawn on them; of label maps also the classes as PNG."
    )
    format: str | None = setting(
        None,
        "Also write all predictions to --out: as a list of what --json prints, as COCO JSON, or as YOLO labels with scores.",
        choices=("json", "coco", "yolo"),
    )
    out: str | None = setting(None, "The file, or folder for yolo, that --format writes; -2 is put behind a name that is taken.")
    tile: int | None = setting(
        None, "Look at each image in squares of so many pixels of its own, to find small things on large pictures.", low=16, high=100_000
    )
    overlap: float | None = setting(None, "Share of a tile's side that neighbours both see; 0.2 when not given.", low=0.0, high=0.9)


@dataclass(frozen=True)
class ExplainConfig:
    """Explaining a bundle's answers."""

    label: str | None = setting(None, "The label whose evidence is shown; the model's answer when not given.")
    method: str = setting(
        "auto",
        "CAM reads the evidence off a network with a linear head, occlusion paints over parts of the image; auto takes CAM if it can.",
        choices=("auto", "cam", "occlusion"),
    )
    out: str | None = setting(None, "Folder for the pictures; runs/explain/NAME when not given.")
    random_maps: int = setting(10, "Random maps that each heat map is tested against; 0 leaves the test out.", low=0, high=50)
    nearest: int = setting(5, "How many of the nearest training images to show.", low=0, high=20)


@dataclass(frozen=True)
class VerifyConfig:
    """Replaying the images in a bundle."""

    threads: int | None = setting(None, "Processor threads; as many as this process may use when not given.", low=1, high=1024)
    engine: str = setting("onnxruntime", "What computes; onnxruntime is what recorded the images' outputs.", choices=ENGINES)
    precision: str = setting("auto", "Numbers to compute in; the tolerance is wider in bf16.", choices=PRECISIONS)


@dataclass(frozen=True)
class ExportConfig:
    """Making a variant of a bundle."""

    data: str | None = setting(None, "The labelled images that the bundle was made from: calibrated on training, judged on test images.")
    precision: str = setting("int8", "Numbers that the variant computes in.", choices=("int8",))
    max_loss: float = setting(0.5, "Points of accuracy (mAP for tags) that the variant may lose on test images.", low=0.0, high=100.0)
    out: str | None = setting(None, "File for the variant; MODEL-int8.sight when not given, with -2 behind a name that is taken.")
    calibration_images: int = setting(256, "Training images on which the ranges of activations are measured, at most.", low=1, high=10_000)
    engine: str = setting("auto", "What each side is timed with; auto measures which of those installed is fastest.", choices=ENGINES)
    threads: int | None = setting(None, "Processor threads; as many as this process may use when not given.", low=1, high=1024)
    max_pixels: int = setting(120_000_000, "Refuse images with more pixels than this.", low=1)
    max_bytes: int = setting(256_000_000, "Refuse image files larger than this many bytes.", low=1)


@dataclass(frozen=True)
class CatalogueConfig:
    """Listing backbones."""

    sort: str = setting("name", "Order: by name, fewest parameters first, or fastest first.", choices=("name", "parameters", "speed"))
    limit: int = setting(50, "How many to list at most.", low=1)
    time: bool = setting(False, "Measure the speed of each on this machine; takes seconds a backbone.")
    device: str = setting("auto", "Where to measure the speed.", choices=("auto", "cpu", "cuda", "mps"))


@dataclass(frozen=True)
class TrainSettings:
    """Everything ``train`` can be told, stage by stage."""

    reading: ReadConfig = ReadConfig()
    data: DataConfig = DataConfig()
    network: NetworkConfig = NetworkConfig()
    training: TrainConfig = TrainConfig()
    augment: AugmentConfig = AugmentConfig()
    trial: TrialConfig = TrialConfig()
    run: RunConfig = RunConfig()

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

    def to_json(self) -> dict[str, dict[str, Any]]:
        return asdict(self)
