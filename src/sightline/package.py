"""From a trained network to what is shipped: export, replay the test set, refuse or release, report."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline import bundle
from sightline.auditing.gate import Gated
from sightline.bundle import Part, arrays_to_bytes
from sightline.config import TrainSettings
from sightline.data.decode import Limits
from sightline.data.windows import Tiling, is_cut
from sightline.energy import Meter
from sightline.manifest import Manifest
from sightline.model.choose import Choice
from sightline.model.export import count_parameters, export_graph, weights_bytes
from sightline.records import Dataset
from sightline.report.build import FORMAT, environment, html, library_versions, now
from sightline.report.card import card
from sightline.report.requirements import requirements_section
from sightline.report.suspects import FILE as SUSPECTS
from sightline.report.suspects import suspects_text
from sightline.requirements import parse
from sightline.tasks import Task, load_task
from sightline.training.loop import Trained
from sightline.training.plan import Plan
from sightline.training.run import Clock, Run
from sightline.training.shipping import KNOWN_SHARE
from sightline.trust.judged import Judged, judge
from sightline.trust.trial import Trial, carry_out

DRAFT = ".model.sight.draft"


def ship(
    trained: Trained, gated: Gated, audit: Mapping[str, Any], choice: Choice, plan: Plan, settings: TrainSettings, run: Run, clock: Clock,
    meter: Meter, seconds: float,
) -> dict[str, Any]:  # fmt: skip
    """Export the network, judge the bundle on the untouched test images, write report and bundle; returns the report's numbers.

    The bundle is first written as a draft, which is what is judged and, for about so many ``seconds`` (``trial_seconds``), put on trial.
    It gets its real name together with its report, and only if it predicts what the network does: RequirementNotMet otherwise. One that
    does not reach what is required of it is written all the same, marked as unfit.
    """
    draft, task = run.folder / DRAFT, load_task(gated.dataset.task)
    for_known = KNOWN_SHARE * seconds if settings.trial.trial else seconds
    manifest = _manifest(gated.dataset, choice, settings)
    try:
        with clock("exporting"):
            graph = Part("model.onnx", "graph", export_graph(trained.network, choice.prepare.shape), required=True)
            weights = Part("weights.safetensors", "weights", weights_bytes(trained.network))
            bundle.write(draft, manifest, [graph, weights])
        with clock("testing"):
            judged = judge(draft, trained.network, gated, settings, for_known)
        trial = Trial(judged, trained.network, gated, settings, trained.before)
        with clock("on trial"):
            tried = carry_out(trial, seconds - for_known)
        numbers = {
            **_numbers(task, judged, trained, gated, choice, plan, settings, clock), "audit": audit,
            **{name: found.numbers for name, found in tried.items()}, "energy": meter.read(),
        }  # fmt: skip
        numbers["requirements"] = requirements_section(parse(settings.trial.require) if settings.trial.require else (), numbers)
        pictures = {key: picture for found in tried.values() for key, picture in found.pictures.items()}
        limits = Limits(settings.data.max_pixels, settings.data.max_bytes)
        page = html(numbers, task, gated.refs, choice.prepare.reading, limits, pictures)
        _write_files(run, page, numbers, _predictions(task, judged, gated))
        unfit = (numbers["requirements"]["sentence"],) if not numbers["requirements"].get("met", True) else ()
        parts = [graph, weights, *_parts_beside(trial, numbers, page, run)]
        bundle.write(run.model, replace(manifest.deciding(judged.decision), unfit=unfit), parts)
    finally:
        draft.unlink(missing_ok=True)
    return numbers


def _parts_beside(trial: Trial, numbers: Mapping[str, Any], page: str, run: Run) -> list[Part]:
    """What a bundle holds beside the network: what to hold images against, what is told of it, and what to replay."""
    judged = trial.judged
    known = {"seen": _seen(trial.gated.dataset), **judged.known.arrays(), **judged.drift, **trial.head}
    return [
        Part("reference.npz", "reference", arrays_to_bytes(known)),
        Part("card.md", "card", card(numbers, trial.settings.trial.intended_use).encode()),
        Part("report.html", "report", page.encode()),
        Part("report.json", "report_data", (run.folder / "report.json").read_bytes()),
        Part("replay.npz", "replay", judged.replay),
    ]


def _write_files(run: Run, page: str, numbers: Mapping[str, Any], predictions: str) -> None:
    """What stands beside the bundle for people and programs to read."""
    run.write_text("report.html", page)
    run.write_json("report.json", numbers)
    run.write_text("predictions.csv", predictions)
    if suspects := numbers.get("suspects"):
        run.write_text(SUSPECTS, suspects_text(suspects["items"]))


def _manifest(dataset: Dataset, choice: Choice, settings: TrainSettings) -> Manifest:
    licences = {"code": "Apache-2.0"}
    if choice.pretrained:
        licences["weights"] = choice.licence or "not stated"
    return Manifest(
        task=dataset.task, labels=dataset.labels, prepare=choice.prepare.to_json(), thresholds={}, temperature=1.0,
        config=settings.to_json(), seed=settings.run.seed, fingerprint=dataset.fingerprint, versions=library_versions(),
        licences=licences, created=now(), backbone=choice.spec.to_json(), tiles=_tiles(dataset, settings),
    )  # fmt: skip


def _tiles(dataset: Dataset, settings: TrainSettings) -> dict[str, float]:
    """How pictures were cut; nothing where none was."""
    tiling = Tiling.asked(settings.data.tile, settings.data.overlap) if is_cut(dataset) else None
    return {} if tiling is None else tiling.to_json()


def _seen(dataset: Dataset) -> NDArray[np.uint64]:
    """The content keys of the files that the model learned from or was chosen on, sorted."""
    rows = np.concatenate([dataset.rows_of("train"), dataset.rows_of("validation")])
    assert dataset.content_ids is not None
    return np.unique(np.array([int(dataset.content_ids[row][:16], 16) for row in rows], np.uint64))


def _numbers(
    task: Task, judged: Judged, trained: Trained, gated: Gated, choice: Choice, plan: Plan, settings: TrainSettings, clock: Clock
) -> dict[str, Any]:
    """Everything that ``report.json`` holds."""
    test = _test_section(task, judged, gated)
    dataset, (height, width) = gated.dataset, choice.prepare.shape
    return {
        "format": FORMAT, "title": dataset.root.name, "created": now(), "sightline": library_versions()["sightline"], "task": dataset.task,
        "verdict": task.verdict(test), "data": {**gated.summary(), "tiles": _tiles(dataset, settings)}, "test": test,
        "network": {"backbone": choice.spec.name, "weights": choice.weights_source or "random", "weights_licence": choice.licence,
                    "parameters": count_parameters(trained.network), "size": choice.spec.size, "width": width, "height": height,
                    "reasons": list(choice.reasons)},
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
