"""From a trained network to what is shipped: export, replay the test set, refuse or release, report."""

from __future__ import annotations

import copy
import csv
import io
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sightline import bundle, console
from sightline.auditing.gate import Gated
from sightline.bundle import Bundle, Part, arrays_to_bytes
from sightline.config import TrainSettings
from sightline.data.decode import Limits, read_bytes
from sightline.data.formats import format_of
from sightline.errors import RequirementNotMet
from sightline.manifest import Manifest
from sightline.model.choose import Choice
from sightline.model.export import count_parameters, export_graph, weights_bytes
from sightline.model.network import Network, torch_infer
from sightline.records import Dataset, Decision, Infer
from sightline.replay import MAX_IMAGES, choose_images, record, rendered_images
from sightline.report.build import FORMAT, environment, html, library_versions, now
from sightline.report.card import card
from sightline.runtime import Model, raw_outputs
from sightline.tasks import Task, load_task
from sightline.training.loop import Trained
from sightline.training.plan import Plan
from sightline.training.run import Clock, Run

DRAFT = ".model.sight.draft"
TEST_BATCH = 16
# A graph is released only if every probability is this close to the network's. fp32 engines agree to about 1e-6.
TOLERANCE = 1e-4
SIDES = ("shipped ", "original ")


@dataclass(frozen=True)
class Judged:
    """What the bundle's draft did: how its outputs become answers, chosen on validation; its raw outputs on the test images;
    the images it will replay; and figures on the export."""

    decision: Decision
    raw: dict[str, NDArray[np.float32]]
    replay: bytes
    export: dict[str, Any]


def ship(
    trained: Trained, gated: Gated, audit: Mapping[str, Any], choice: Choice, plan: Plan, settings: TrainSettings, run: Run, clock: Clock
) -> dict[str, Any]:
    """Export the network, judge the bundle on the untouched test images, write report and bundle; returns the report's numbers.

    The bundle is first written as a draft, which is what is judged. It gets its real name together with its report, and only
    if it predicts what the network does: RequirementNotMet otherwise.
    """
    draft, task = run.folder / DRAFT, load_task(gated.dataset.task)
    manifest = _manifest(gated.dataset, choice, settings)
    try:
        with clock("exporting"):
            parts = [
                Part("model.onnx", "graph", export_graph(trained.network, choice.spec.size), required=True),
                Part("weights.safetensors", "weights", weights_bytes(trained.network)),
                Part("reference.npz", "reference", arrays_to_bytes({"seen": _seen(gated.dataset)})),
            ]
            bundle.write(draft, manifest, parts)
        with clock("testing"):
            judged = _judge(draft, trained.network, gated.dataset, task, settings)
        manifest = replace(manifest, temperature=judged.decision.temperature, thresholds=dict(judged.decision.thresholds))
        numbers = {**_numbers(task, judged, trained, gated, choice, plan, settings, clock), "audit": audit}
        page = html(numbers, task, gated.refs, choice.prepare.reading, Limits(settings.data.max_pixels, settings.data.max_bytes))
        run.write_text("report.html", page)
        run.write_json("report.json", numbers)
        run.write_text("predictions.csv", _predictions(task, judged, gated))
        parts += [
            Part("card.md", "card", card(numbers).encode()),
            Part("report.html", "report", page.encode()),
            Part("report.json", "report_data", (run.folder / "report.json").read_bytes()),
            Part("replay.npz", "replay", judged.replay),
        ]
        bundle.write(run.model, manifest, parts)
    finally:
        draft.unlink(missing_ok=True)
    return numbers


def _judge(draft: Path, network: Network, dataset: Dataset, task: Task, settings: TrainSettings) -> Judged:
    """The draft against the network it was made from, on every test image; RequirementNotMet when they differ."""
    limits = Limits(settings.data.max_pixels, settings.data.max_bytes)
    with Bundle.open(draft) as opened:
        # What every installation has, whatever is faster here: a bundle is judged by the reference.
        model, graph_bytes = Model.of(opened, engine="onnxruntime", precision="fp32"), len(opened.read("graph"))
    test, validation = dataset.of_split("test"), dataset.of_split("validation")
    assert validation.targets is not None
    started = time.monotonic()
    chosen_on = _outputs(model.infer, model, validation, limits, "Choosing on validation")
    speed = len(validation) / (time.monotonic() - started)
    decision = task.decide(chosen_on, validation.targets, dataset.labels)
    original = torch_infer(copy.deepcopy(network).cpu(), torch.device("cpu"), task.OUTPUTS)
    both = _outputs(_side_by_side(model.infer, original), model, test, limits, "Testing the bundle")
    raw, expected = ({name: both[side + name] for name in task.OUTPUTS} for side in SIDES)
    difference = task.difference(raw, expected, decision)
    check_agreement(difference)
    export = {"max_difference": difference, "tolerance": TOLERANCE, "graph_bytes": graph_bytes, "engine": model.engine,
              "parameters": count_parameters(network), "images_per_second": round(speed, 2)}  # fmt: skip
    photographs = _replay_files(test, limits, settings.run.embed_images)
    replayed = choose_images(photographs or rendered_images(bands=max(model.prepare.reading.bands or (3,))))
    return Judged(decision, raw, record(model, replayed, rendered=not photographs), export)


def _side_by_side(shipped: Infer, original: Infer) -> Infer:
    """Two computations of the same images, which are only read once; ``SIDES`` begin the names of their outputs."""

    def infer(batch: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return {side + name: values for side, one in zip(SIDES, (shipped, original), strict=True) for name, values in one(batch).items()}

    return infer


def check_agreement(difference: float, tolerance: float = TOLERANCE) -> None:
    """Refuse an export that predicts something else; RequirementNotMet."""
    if not difference <= tolerance:
        raise RequirementNotMet(
            f"The exported graph was refused: its predictions differ from the trained network's by up to {difference:.2g}, more than the "
            f"tolerance of {tolerance:g}. The training is kept: upgrade torch and onnxruntime, then run again with --resume."
        )


def _manifest(dataset: Dataset, choice: Choice, settings: TrainSettings) -> Manifest:
    licences = {"code": "Apache-2.0"}
    if choice.pretrained:
        licences["weights"] = choice.licence or "not stated"
    return Manifest(
        task=dataset.task, labels=dataset.labels, prepare=choice.prepare.to_json(), thresholds={}, temperature=1.0,
        config=settings.to_json(), seed=settings.run.seed, fingerprint=dataset.fingerprint, versions=library_versions(),
        licences=licences, created=now(), backbone=choice.spec.to_json(),
    )  # fmt: skip


def _seen(dataset: Dataset) -> NDArray[np.uint64]:
    """The content keys of the images that the model learned from or was chosen on, sorted."""
    rows = np.concatenate([dataset.rows_of("train"), dataset.rows_of("validation")])
    assert dataset.content_ids is not None
    return np.sort(np.array([int(dataset.content_ids[row][:16], 16) for row in rows], np.uint64))


def _outputs(infer: Infer, model: Model, dataset: Dataset, limits: Limits, what: str) -> dict[str, NDArray[np.float32]]:
    """Raw outputs of images from their original files."""
    found = []
    batches = raw_outputs(infer, model.prepare, dataset.refs, batch_size=TEST_BATCH, limits=limits)
    for batch in console.track(batches, -(-len(dataset) // TEST_BATCH), what):
        if batch.errors:
            raise batch.errors[0][1]
        found.append(batch.raw)
    return {name: np.concatenate([raw[name] for raw in found]) for name in found[0]}


def _replay_files(dataset: Dataset, limits: Limits, embed_images: str) -> list[bytes]:
    """The user's files that a bundle may carry. A DICOM file is none of them: it says who the patient is."""
    if embed_images == "none":
        return []
    places = np.unique(np.linspace(0, len(dataset) - 1, MAX_IMAGES).astype(int))
    return [data for data in (read_bytes(dataset.refs[place], limits) for place in places) if format_of(data) != "DICOM"]


def _numbers(
    task: Task, judged: Judged, trained: Trained, gated: Gated, choice: Choice, plan: Plan, settings: TrainSettings, clock: Clock
) -> dict[str, Any]:
    """Everything that ``report.json`` holds."""
    test = _test_section(task, judged, gated)
    dataset = gated.dataset
    return {
        "format": FORMAT, "title": dataset.root.name, "created": now(), "sightline": library_versions()["sightline"], "task": dataset.task,
        "verdict": task.verdict(test), "data": gated.summary(), "test": test,
        "network": {"backbone": choice.spec.name, "weights": choice.weights_source or "random", "weights_licence": choice.licence,
                    "parameters": count_parameters(trained.network), "size": choice.spec.size, "reasons": list(choice.reasons)},
        "training": {"plan": [*plan.reasons, *trained.notes], "epochs": trained.rows, "best_epoch": trained.best_epoch,
                     "stopped": trained.stopped, "seconds": clock.seconds, "stages": list(trained.stages),
                     "learning_curve": asdict(trained.curve) if trained.curve else None},
        "export": judged.export, "environment": environment(settings.run.seed), "settings": settings.to_json(),
    }  # fmt: skip


def _test_section(task: Task, judged: Judged, gated: Gated) -> dict[str, Any]:
    """The figures on the test images and, where some have copies in other splits, on those without."""
    rows, dataset = gated.dataset.rows_of("test"), gated.dataset
    assert dataset.targets is not None

    def figures(keep: NDArray[np.bool_]) -> dict[str, Any]:
        kept = {name: values[keep] for name, values in judged.raw.items()}
        return task.evaluate(kept, dataset.targets[rows[keep]], dataset.labels, judged.decision, [gated.names[row] for row in rows[keep]])

    test = figures(np.ones(len(rows), bool))
    leaked = {row for pair in gated.leaks for row in (pair.a, pair.b)}
    clean = np.array([row not in leaked for row in rows])
    if clean.any() and not clean.all():
        without = figures(clean)
        test["without_leaks"] = {name: without[name] for name in ("n", "metrics", "intervals")}
    return test


def _predictions(task: Task, judged: Judged, gated: Gated) -> str:
    """``predictions.csv``: a row for each test image, by path, with its content id and what the task says of it."""
    test = gated.dataset.rows_of("test")
    assert gated.dataset.targets is not None
    assert gated.dataset.content_ids is not None
    outcomes = task.outcomes(judged.raw, gated.dataset.targets[test], gated.dataset.labels, judged.decision)
    sink = io.StringIO(newline="")
    writer = csv.DictWriter(sink, ["path", "content_id", *outcomes[0]], lineterminator="\n")
    writer.writeheader()
    for row, outcome in sorted(zip(test.tolist(), outcomes, strict=True), key=lambda pair: gated.names[pair[0]]):
        writer.writerow({"path": gated.names[row], "content_id": gated.dataset.content_ids[row], **outcome})
    return sink.getvalue()
