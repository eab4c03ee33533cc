"""An INT8 variant of a bundle: quantised, judged on the test images, and written only where it keeps what its source does."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline import bundle as bundles
from sightline import console
from sightline.bundle import Bundle, Part
from sightline.config import ExportConfig
from sightline.data.decode import Limits
from sightline.data.prepare import Prepare
from sightline.engines.adapters import Work, onnx_infer
from sightline.engines.evidence import replay_of
from sightline.errors import RequirementNotMet, ResourceError, UsageError
from sightline.exporting.floats import Mixed, mixed
from sightline.exporting.judging import Figures, Judge, Loss, Raw, replayed, speeds
from sightline.exporting.material import Images, Material
from sightline.exporting.quantise import layers, quantised
from sightline.manifest import Manifest
from sightline.processor import int8_features, processor_features, processor_name, processors
from sightline.records import Infer
from sightline.replay import record
from sightline.report.build import library_versions, now
from sightline.report.markdown import split_front
from sightline.runtime import Model
from sightline.tasks import load_task

NAMED_IMAGES = 5
# Every variant is computed by what each installation has; where another engine is faster here, that one is judged as well.
REFERENCE = "onnxruntime"


@dataclass(frozen=True)
class Exported:
    """The variant that was written, and the figures of its source and of itself."""

    model: Path
    float_layers: tuple[str, ...]
    figures: tuple[Figures, ...]
    loss: Loss
    max_loss: float

    def to_json(self) -> dict[str, Any]:
        return {"model": str(self.model), "max_loss": self.max_loss, "loss": self.loss.points, "changed": self.loss.share,
                "n": self.loss.n, "float_layers": list(self.float_layers),
                "variants": [figures.to_json() for figures in self.figures]}  # fmt: skip

    def lines(self) -> list[str]:
        """The table, a row for each variant."""
        rows = [["", "MB", self.figures[0].metric, "95% interval", "changed", "ms", "ms p99", "images/s", "computed by"]]
        rows += [
            [row.name, f"{row.megabytes:.1f}", f"{row.value:.4f}", f"{row.interval[0]:.4f} to {row.interval[1]:.4f}", f"{row.changed:.2%}",
             f"{row.speed.latency_ms:.2f}", f"{row.speed.latency_p99_ms:.2f}", f"{row.speed.images_per_second:.0f}", row.engine]
            for row in self.figures
        ]  # fmt: skip
        widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
        return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def released(source: Bundle, material: Material, config: ExportConfig, limits: Limits) -> Exported:
    """Make, judge and write the variant; raises RequirementNotMet, with nothing written, where it loses more than ``config.max_loss``."""
    manifest, threads = source.manifest, config.threads or processors()
    if load_task(manifest.task).SCENES:
        raise UsageError(f"{source.path}: INT8 variants of the task {manifest.task} are not made yet; use the bundle as it is.")
    wanted = Path(config.out) if config.out else source.path.with_name(f"{source.path.stem}-int8.sight")
    if not wanted.parent.is_dir():
        raise ResourceError(f"{wanted.parent}: is no folder to write {wanted.name} to; make it or give another --out.")
    chosen = _chosen(source, material, config, limits, threads)
    with tempfile.TemporaryDirectory() as folder:
        draft, facts = Path(folder, "draft.sight"), _facts(source, chosen, material, config)
        parts = [Part("model.onnx", "graph", chosen.graph, required=True)]
        if source.has("reference"):
            parts.append(Part("reference.npz", "reference", source.read("reference")))
        made = replace(manifest, variant=facts, created=now(), versions=library_versions(), members=())
        replay = replay_of(source, load_task(manifest.task).OUTPUTS)
        reference = Model(made, onnx_infer(_work(made, chosen.graph, str(source.path), threads)), threads=threads)
        parts.append(Part("replay.npz", "replay", record(reference, replay.files, rendered=replay.rendered)))
        bundles.write(draft, made, parts)
        figures, loss = _judged(source, draft, chosen.graph, reference.infer, material.test, config, limits, threads)
        parts.append(Part("card.md", "card", _card(source, figures, chosen, loss, config).encode()))
        final = replace(made, variant={**facts, "loss": loss.points, "figures": [row.to_json() for row in figures]})
        path = _free(wanted)
        bundles.write(path, final, parts)
    return Exported(path, chosen.in_float, figures, loss, config.max_loss)


def _work(manifest: Manifest, graph: bytes, source: str, threads: int) -> Work:
    prepare = Prepare.from_json(manifest.prepare)
    shape = (*prepare.shape, prepare.channels)
    return Work(graph, load_task(manifest.task).OUTPUTS, source, shape, threads, int8=manifest.is_int8)


def _chosen(source: Bundle, material: Material, config: ExportConfig, limits: Limits, threads: int) -> Mixed:
    """The quantised graph with as few layers in float as validation asks for; RequirementNotMet where half of them are not enough."""
    manifest, graph = source.manifest, source.read("graph")
    calibration = _prepared(material.calibration, manifest, limits, "Reading images to calibrate with")[0]
    console.say(f"Measuring ranges on {len(calibration)} training images.")
    int8 = quantised(graph, calibration, str(source.path))
    images, kept = _prepared(material.validation, manifest, limits, "Reading validation images")
    judge = Judge(load_task(manifest.task), manifest)

    def compute(made: bytes, count: int | None) -> Raw:
        infer, batch = onnx_infer(_work(manifest, made, str(source.path), threads)), images[:count]
        raws = [infer(batch[start : start + 16]) for start in range(0, len(batch), 16)]
        return {name: np.concatenate([raw[name] for raw in raws]) for name in raws[0]}

    expected = compute(graph, None)
    found = mixed(int8, graph, layers(graph), compute, lambda raw: judge.loss(raw, expected, kept.targets), expected, config.max_loss)
    if not found.holds(config.max_loss):
        raise RequirementNotMet(
            f"{source.path}: not released in INT8, because on validation images it loses too much even with half of its layers in float "
            f"({found.loss}, at best); use it as it is, or allow more with --max-loss."
        )
    return found


def _prepared(images: Images, manifest: Manifest, limits: Limits, what: str) -> tuple[NDArray[np.uint8], Images]:
    """The images as the network takes them, and those that could be read."""
    infer: Infer = lambda batch: {"images": batch}  # noqa: E731  # type: ignore[dict-item]
    raws, kept = replayed({"as": infer}, images, Prepare.from_json(manifest.prepare), limits, what)
    return raws["as"]["images"], kept


def _judged(
    source: Bundle, draft: Path, graph: bytes, reference: Infer, test: Images, config: ExportConfig, limits: Limits, threads: int
) -> tuple[tuple[Figures, ...], Loss]:
    """Figures of both sides on the test images; RequirementNotMet where the variant loses too much, in either engine."""
    manifest = source.manifest
    judge, prepare = Judge(load_task(manifest.task), manifest), Prepare.from_json(manifest.prepare)
    before = Model.of(source, threads=threads, engine=config.engine)
    after = Model.open(draft, threads=threads, engine=config.engine)
    sides = {"float": onnx_infer(_work(manifest, source.read("graph"), str(source.path), threads)), "reference": reference}
    if not after.engine.startswith("ONNX Runtime"):
        sides["here"] = after.infer
    raws, kept = replayed(sides, test, prepare, limits, "Replaying the test images")
    expected = raws.pop("float")
    losses = {side: judge.loss(raw, expected, kept.targets) for side, raw in raws.items()}
    worst = max(losses, key=lambda side: losses[side].points)
    if not losses[worst].points <= config.max_loss + 1e-9:
        named = "; ".join(f"{kept.refs[place]} by {apart:.2f}" for place, apart in judge.farthest(raws[worst], expected, NAMED_IMAGES))
        raise RequirementNotMet(
            f"{source.path}: not released in INT8, because it loses {losses[worst].points:.2f} points of {judge.task.METRIC} on the "
            f"{losses[worst].n} test images, more than --max-loss {config.max_loss:g} ({losses[worst].changed} answers changed; farthest "
            f"off: {named})."
        )
    shape = (*prepare.shape, prepare.channels)
    speed = speeds({"float": before.infer, "int8": after.infer}, shape)
    shown = losses.get("here", losses["reference"])
    rows = (("float", source.read("graph"), expected, 0.0, before.engine),
            ("int8", graph, raws.get("here", raws["reference"]), shown.share, after.engine))  # fmt: skip
    figures = tuple(
        Figures(name, len(data) / 1e6, judge.task.METRIC, *judge.score(raw, kept.targets), changed, len(kept), engine, speed[name])
        for name, data, raw, changed, engine in rows
    )
    return figures, losses[worst]


def _facts(source: Bundle, chosen: Mixed, material: Material, config: ExportConfig) -> dict[str, Any]:
    """What the manifest says of the variant before it was judged."""
    return {
        "precision": config.precision, "of": {"graph_sha256": hashlib.sha256(source.read("graph")).hexdigest(),
                                              "created": source.manifest.created},
        "float_layers": list(chosen.in_float), "calibration_images": len(material.calibration), "max_loss": config.max_loss,
        "validation": {"loss": chosen.loss.points, "changed": chosen.loss.changed, "n": chosen.loss.n},
        "recorded_on": {"processor": processor_name(), "features": processor_features(), "int8": int8_features()},
    }  # fmt: skip


def _card(source: Bundle, figures: tuple[Figures, ...], chosen: Mixed, loss: Loss, config: ExportConfig) -> str:
    """The source's card behind what was measured of the variant, its front matter first as hubs expect it."""
    rows = "\n".join(
        f"| {row.name} | {row.megabytes:.1f} | {row.value:.4f} | {row.changed:.2%} | {row.speed.latency_ms:.2f} |" for row in figures
    )
    kept = f"{len(chosen.in_float)} of {len(layers(source.read('graph')))} layers stay in float"
    said = (
        f"# An INT8 variant\n\nOn {loss.n} test images it loses {loss.points:.2f} points ({config.max_loss:g} allowed); {kept}.\n\n"
        f"| variant | MB | {figures[0].metric} | answers changed | ms an image |\n| --- | --- | --- | --- | --- |\n{rows}\n"
    )
    if not source.has("card"):
        return said
    front, body = split_front(source.read("card").decode())
    return f"{front}{said}\nWhat follows is said of the model it was made from.\n\n{body}"


def _free(wanted: Path) -> Path:
    """The first name that is not taken: this one, or with -2, -3... behind it."""
    number, path = 1, wanted
    while os.path.lexists(path):
        number += 1
        path = wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
    return path
