"""The INT8 graph of a bundle: calibrated on training images, with as few layers in float as validation images ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sightline import console
from sightline.bundle import Bundle
from sightline.config import ExportConfig
from sightline.data.decode import Limits
from sightline.data.prepare import Prepare
from sightline.engines.adapters import onnx_infer
from sightline.errors import RequirementNotMet
from sightline.exporting.floats import CHANGED, Mixed, mixed
from sightline.exporting.forms import work_of
from sightline.exporting.judging import Judge, Loss
from sightline.exporting.material import Material
from sightline.exporting.prepared import Prepared, prepared
from sightline.exporting.quantise import last_layers, layers, quantised
from sightline.processor import int8_features, processor_features, processor_name
from sightline.records import Infer
from sightline.tasks import load_task

# Layers are compared on so many images.
COMPARED_IMAGES = 32


def in_int8(source: Bundle, material: Material, config: ExportConfig, limits: Limits, threads: int) -> Mixed:
    """The quantised graph with as few layers in float as validation asks for; RequirementNotMet where half of them are not enough."""
    manifest, graph = source.manifest, source.read("graph")
    prepare = Prepare.from_json(manifest.prepare)
    calibration = prepared(material.calibration, prepare, limits, "Reading images to calibrate with")
    console.say(f"Measuring ranges on {len(calibration)} training images.")
    int8 = quantised(graph, calibration.pixels, str(source.path))
    validation = prepared(material.validation, prepare, limits, "Reading validation images")

    def opened(made: bytes) -> Infer:
        return onnx_infer(work_of(manifest, made, str(source.path), threads))

    found = tried_in_float(int8, graph, opened, validation, Judge(load_task(manifest.task), manifest), config.max_loss)
    if not found.holds(config.max_loss):
        raise RequirementNotMet(
            f"{source.path}: not released in INT8, because on validation images it loses too much or changes too many "
            f"answers, even with half of its layers in float ({found.loss}, at best); use it as it is, or allow more with --max-loss."
        )
    return found


def tried_in_float(
    int8: bytes, graph: bytes, opened: Callable[[bytes], Infer], validation: Prepared, judge: Judge, max_loss: float
) -> Mixed:  # fmt: skip
    """The quantised ``graph`` with as few of its layers in float as it takes to lose no more than ``max_loss`` on validation images.

    opened  what computes a graph
    """
    itself, few = opened(graph), validation.first(COMPARED_IMAGES)
    expected, near = validation.kept(itself, judge.task), few.dense(itself)

    def apart(made: bytes) -> float:
        return judge.apart(few.dense(opened(made)), near)

    def lost(made: bytes) -> Loss:
        return judge.loss(validation.kept(opened(made), judge.task), expected, validation.targets)

    # One faint box, or one pixel, makes another set of classes of what is said of a scene; how much that matters its metric tells.
    most_changed = 1.0 if judge.task.SCENES else CHANGED
    every, last = layers(graph), last_layers(graph)
    found = mixed(int8, graph, [name for name in every if name not in last], apart, lost, max_loss, most_changed)
    return replace(found, in_float=tuple(name for name in every if name in (*last, *found.in_float)))


def int8_facts(chosen: Mixed, material: Material, config: ExportConfig) -> dict[str, Any]:
    """What a variant's manifest says of how it was quantised."""
    return {
        "float_layers": list(chosen.in_float), "calibration_images": len(material.calibration), "max_loss": config.max_loss,
        "validation": {"loss": chosen.loss.points, "changed": chosen.loss.changed, "n": chosen.loss.n},
        "recorded_on": {"processor": processor_name(), "features": processor_features(), "int8": int8_features()},
    }  # fmt: skip
