"""The INT8 graph of a bundle: calibrated on training images, with as few layers in float as validation images ask for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline import console
from sightline.bundle import Bundle
from sightline.config import ExportConfig
from sightline.data.decode import Limits
from sightline.data.prepare import Prepare
from sightline.engines.adapters import onnx_infer
from sightline.errors import RequirementNotMet
from sightline.exporting.floats import Mixed, mixed
from sightline.exporting.forms import work_of
from sightline.exporting.judging import BATCH, Judge, Raw, replayed
from sightline.exporting.material import Images, Material
from sightline.exporting.quantise import layers, quantised
from sightline.manifest import Manifest
from sightline.processor import int8_features, processor_features, processor_name
from sightline.records import Infer
from sightline.tasks import load_task


def in_int8(source: Bundle, material: Material, config: ExportConfig, limits: Limits, threads: int) -> Mixed:
    """The quantised graph with as few layers in float as validation asks for; RequirementNotMet where half of them are not enough."""
    manifest, graph = source.manifest, source.read("graph")
    calibration = _prepared(material.calibration, manifest, limits, "Reading images to calibrate with")[0]
    console.say(f"Measuring ranges on {len(calibration)} training images.")
    int8 = quantised(graph, calibration, str(source.path))
    images, kept = _prepared(material.validation, manifest, limits, "Reading validation images")
    judge = Judge(load_task(manifest.task), manifest)

    def compute(made: bytes, count: int | None) -> Raw:
        infer, batch = onnx_infer(work_of(manifest, made, str(source.path), threads)), images[:count]
        raws = [infer(batch[start : start + BATCH]) for start in range(0, len(batch), BATCH)]
        return {name: np.concatenate([raw[name] for raw in raws]) for name in raws[0]}

    expected = compute(graph, None)
    found = mixed(int8, graph, layers(graph), compute, lambda raw: judge.loss(raw, expected, kept.targets), expected, config.max_loss)
    if not found.holds(config.max_loss):
        raise RequirementNotMet(
            f"{source.path}: not released in INT8, because on validation images it loses too much or changes too many "
            f"answers, even with half of its layers in float ({found.loss}, at best); use it as it is, or allow more with --max-loss."
        )
    return found


def int8_facts(chosen: Mixed, material: Material, config: ExportConfig) -> dict[str, Any]:
    """What a variant's manifest says of how it was quantised."""
    return {
        "float_layers": list(chosen.in_float), "calibration_images": len(material.calibration), "max_loss": config.max_loss,
        "validation": {"loss": chosen.loss.points, "changed": chosen.loss.changed, "n": chosen.loss.n},
        "recorded_on": {"processor": processor_name(), "features": processor_features(), "int8": int8_features()},
    }  # fmt: skip


def _prepared(images: Images, manifest: Manifest, limits: Limits, what: str) -> tuple[NDArray[np.uint8], Images]:
    """The images as the network takes them, and those that could be read."""
    infer: Infer = lambda batch: {"images": batch}  # noqa: E731  # type: ignore[dict-item]
    raws, kept = replayed({"as": infer}, images, Prepare.from_json(manifest.prepare), limits, what)
    return raws["as"]["images"], kept
