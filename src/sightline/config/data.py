"""Settings of reading, looking at and auditing images."""

from __future__ import annotations

from dataclasses import dataclass

from sightline.config.opening import most_bytes, most_pixels
from sightline.config.using import RAY
from sightline.settings import setting


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
    max_pixels: int = most_pixels()
    max_bytes: int = most_bytes()
    workers: int | None = setting(None, "Processes that read images; as many as there are processors when not given.", low=1, high=256)
    where: str | None = setting(
        None, "Only images of which facts hold: 'width >= 640 and format = jpeg'. Facts are width, height, bytes, brightness, contrast, "
        "sharpness, quality, format, mode, camera, taken and position."
    )  # fmt: skip
    limit: int | None = setting(None, "No more than so many images, drawn at random and evenly from each class.", low=1)
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
    tile: int | None = setting(
        None, "Learn boxes or label maps on squares of so many pixels of the images, to find small things on large pictures.",
        low=16, high=100_000,
    )  # fmt: skip
    overlap: float | None = setting(None, "Share of a tile's side that neighbours both show; 0.2 when not given.", low=0.0, high=0.9)
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
    engine: str = setting(
        "auto", "Who looks at the images: processes of this machine, or with ray the workers of a Ray cluster.", choices=("auto", RAY)
    )
    address: str | None = setting(None, "The Ray cluster for --engine ray, such as 10.0.0.1:6379; one is started here when not given.")
    seed: int = setting(0, "Seed of everything random.", low=0, high=2**31 - 1)
