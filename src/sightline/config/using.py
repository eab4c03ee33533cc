"""Settings of using what was trained: predicting, explaining, verifying, exporting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sightline.config.opening import most_bytes, most_pixels
from sightline.settings import setting

ENGINES = ("auto", "onnxruntime", "openvino")
PRECISIONS = ("auto", "fp32", "bf16")
RAY, PARQUET = "ray", "parquet"
REQUIRE_SIGNATURE = "A file with a public key (PEM): refuse a bundle that is not signed with it."


@dataclass(frozen=True)
class RuntimeConfig:
    """Using a bundle."""

    batch_size: int = setting(16, "Images computed at once.", low=1, high=4096)
    threads: int | None = setting(None, "Processor threads; as many as this process may use when not given.", low=1, high=1024)
    precision: str = setting(
        "auto",
        "Numbers to compute in; auto takes bf16 only where it is faster and changes no answer on the photographs in the bundle.",
        choices=PRECISIONS,
    )
    max_pixels: int = most_pixels()
    max_bytes: int = most_bytes()
    require_signature: str | None = setting(None, REQUIRE_SIGNATURE)

    def opening(self, engine: str) -> dict[str, Any]:
        """What ``Model.open`` takes of this, with the engine."""
        return {"threads": self.threads, "engine": engine, "precision": self.precision, "batch_size": self.batch_size}


@dataclass(frozen=True)
class EngineConfig:
    """What computes."""

    engine: str = setting("auto", "What computes; auto measures once which of those installed is fastest here.", choices=ENGINES)


@dataclass(frozen=True)
class BulkConfig:
    """Many images, by several workers or machines."""

    engine: str = setting(
        "auto",
        "What computes; auto measures once which of those installed is fastest here; ray shares the images out to workers, on this machine "
        "or a cluster, each of which measures for itself.",
        choices=(*ENGINES, RAY),
    )
    workers: int | None = setting(
        None, "Workers of --engine ray; when not given, one for every four processors there are.", low=1, high=100_000
    )
    address: str | None = setting(
        None, "The Ray cluster for --engine ray, such as 10.0.0.1:6379, or auto for the one that this machine is part of."
    )
    chunk: int | None = setting(
        None,
        "Images in a file of the output, which a worker is given at once; 256 when not given, more above 25.6 million images.",
        low=1,
        high=100_000,
    )
    column: str | None = setting(
        None, "The column of a parquet table that holds images, as paths or as the bytes of their files; found by its name when not given."
    )


@dataclass(frozen=True)
class EmbedConfig:
    """Embedding."""

    out: str | None = setting(
        None,
        "Where to: a file that ends in .parquet or .npz, or a folder for many images, of which what is missing is done when the same is "
        "asked again.",
    )


@dataclass(frozen=True)
class PredictConfig:
    """Predicting."""

    save: str | None = setting(
        None, "A folder for the images with the boxes or label maps found drawn on them; of label maps also the classes as PNG."
    )
    format: str | None = setting(
        None,
        "Also write all predictions to --out: as a list of what --json prints, as COCO JSON, or as YOLO labels with scores. Or, for many "
        "images, as a folder of parquet files, of which what is missing is done when the same is asked again.",
        choices=("json", "coco", "yolo", PARQUET),
    )
    out: str | None = setting(
        None, "The file, or folder for yolo and parquet, that --format writes; -2 is put behind a name that is taken, but for parquet."
    )
    tile: int | None = setting(
        None, "Look at each image in squares of so many pixels of its own, to find small things on large pictures.", low=16, high=100_000
    )
    overlap: float | None = setting(None, "Share of a tile's side that neighbours both see; 0.2 when not given.", low=0.0, high=0.9)
    full_size: bool = setting(
        False,
        "Decode each JPEG at full size, as other programs do. Otherwise one much larger than the input is decoded at reduced size: several "
        "times as fast, and scores differ by a few hundredths.",
    )


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
    require_signature: str | None = setting(None, REQUIRE_SIGNATURE)


@dataclass(frozen=True)
class SignConfig:
    """Signing a bundle."""

    key: str | None = setting(None, "A file with the private key (PEM, Ed25519) to sign with.")
    new_key: str | None = setting(None, "Make a pair of keys, the private one in this file, the public one beside it as NAME.pub.pem.")


@dataclass(frozen=True)
class ExportConfig:
    """Making variants of a bundle."""

    data: str | None = setting(
        None, "The labelled images that the bundle was made from: INT8 is calibrated on training images, and all is judged on test images."
    )
    to: str = setting("onnx", "What to write, a list with commas: onnx (a bundle), openvino (a folder), torch (an exported program).")
    precision: str = setting(
        "int8", "Numbers of the variants, a list with commas: fp32, fp16 (weights stored in half the size), int8 (which needs --data)."
    )
    max_loss: float = setting(
        0.5, "Points of the task's metric (accuracy, or mAP) that a variant may lose on test images.", low=0.0, high=100.0
    )
    max_difference: float = setting(
        1e-4,
        "Most that a probability (or a box's or a mask's score) of any image may move in fp32 or fp16. Where fp16 moves it further, "
        "three bytes of each weight are stored instead of two; with 0.02 two are mostly enough.",
        low=1e-6,
        high=1.0,
    )
    standalone: bool = setting(
        False, "Instead one plain ONNX file for any program: decoded pixels of any size in, probabilities out. Needs no --data."
    )
    latency: str | None = setting(
        None,
        "Make a model that takes at most so long for an image on this machine, such as 20ms: in INT8, by a smaller input, with fewer "
        "channels, or as a smaller network that learns from this one.",
    )
    size: str | None = setting(None, "Make a model whose file is at most so large, such as 4MB; with --latency both must hold.")
    epochs: int | None = setting(
        None, "Passes over the training images for each smaller model that is trained; 8 to 30 when not given.", low=1, high=10_000
    )
    out: str | None = setting(
        None,
        "File for the variant, or a folder for it; for several a folder, made where there is none. MODEL-int8.sight and the like, or "
        "MODEL-small.sight with --latency or --size, when not given, with -2 behind a name that is taken.",
    )
    calibration_images: int = setting(256, "Training images on which the ranges of activations are measured, at most.", low=1, high=10_000)
    engine: str = setting("auto", "What each bundle is timed with; auto measures which of those installed is fastest.", choices=ENGINES)
    threads: int | None = setting(None, "Processor threads; as many as this process may use when not given.", low=1, high=1024)
    max_pixels: int = most_pixels()
    max_bytes: int = most_bytes()


@dataclass(frozen=True)
class CatalogueConfig:
    """Listing backbones."""

    sort: str = setting("name", "Order: by name, fewest parameters first, or fastest first.", choices=("name", "parameters", "speed"))
    limit: int = setting(50, "How many to list at most.", low=1)
    time: bool = setting(False, "Measure the speed of each on this machine; takes seconds a backbone.")
    device: str = setting("auto", "Where to measure the speed.", choices=("auto", "cpu", "cuda", "mps"))
