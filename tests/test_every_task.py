"""Each task in the table goes through the whole line: train, bundle, runtime, verify, evaluate, report."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import sightline
from conftest import QUICK, RENDER
from sightline.bundle import Bundle
from sightline.records import ImageRef
from sightline.runtime import Model
from sightline.tasks import TASKS, load_task


def pictures(data: Path) -> list[Path]:
    """The images of a folder, or of the folder that a table is in; no masks."""
    return sorted(path for path in (data if data.is_dir() else data.parent).rglob("*.png") if path.parent.name != "masks")


@pytest.fixture(scope="module", params=sorted(TASKS))
def trained(request, trained_on):
    assert request.param in RENDER, "a new task needs a small rendered data set in conftest.py"
    return request.param, *trained_on(request.param)


def test_the_run_holds_what_the_design_promises(trained):
    task, _, run = trained
    assert {path.name for path in run.folder.iterdir()} == {
        "config.json", "results.csv", "predictions.csv", "audit.json", "checkpoint", "report.html", "report.json", "model.sight",
    }  # fmt: skip
    numbers = json.loads((run.folder / "report.json").read_text())
    assert numbers == run.numbers
    assert numbers["task"] == task
    assert len((run.folder / "results.csv").read_text().splitlines()) == 1 + 1 + QUICK["epochs"]  # head, start, epochs


def test_the_bundle_holds_its_members_and_they_are_what_the_run_wrote(trained):
    task, _, run = trained
    with Bundle.open(run.model) as bundle:
        assert {member.role for member in bundle.manifest.members} == {
            "graph", "weights", "card", "report", "report_data", "reference", "replay",
        }  # fmt: skip
        assert bundle.manifest.task == task
        assert bundle.read("report").decode() == run.report.read_text()
        assert bundle.read("report_data") == (run.folder / "report.json").read_bytes()


def test_predictions_do_not_depend_on_how_images_are_given(trained):
    _, data, run = trained
    model = Model.open(run.model, engine="onnxruntime")
    paths = pictures(data)[:7]
    by_path = model.predict(paths)
    assert by_path == model.predict([path.read_bytes() for path in paths])
    assert by_path == model.predict([ImageRef(str(path)) for path in paths])
    assert by_path == list(model.stream(paths, batch_size=2))
    assert model.predict(str(paths[0])) == by_path[0]


def test_the_test_figures_of_the_report_are_reproduced_by_evaluating_the_bundle(trained):
    _, data, run = trained
    result = sightline.evaluate(run.model, data, engine="onnxruntime")
    assert result["metrics"] == pytest.approx(run.numbers["test"]["metrics"])
    assert result["answered"]["coverage"] == pytest.approx(run.numbers["confidence"]["coverage"])
    assert result["answered"]["accuracy"] == pytest.approx(run.numbers["confidence"]["answered_accuracy"])
    assert (result["n"], result["split"], result["seen"]) == (run.numbers["test"]["n"], "test", 0)


def test_verify_finds_no_difference_on_the_machine_that_made_it(trained):
    _, _, run = trained
    result = sightline.verify(run.model)
    assert result["n"] == run.numbers["test"]["n"]
    assert result["max_difference"] == 0


def test_the_task_decodes_what_any_infer_gives(trained):
    """A fake network, through the same prepare and decode as the real one."""
    _, data, run = trained
    with Bundle.open(run.model) as bundle:
        manifest = bundle.manifest
    real = Model.open(run.model)
    image = pictures(data)[0]
    raw = next(iter(real.raw([image]))).raw
    fake = Model(manifest, lambda batch: {name: np.repeat(values, len(batch), axis=0) for name, values in raw.items()})
    assert fake.predict(image) == real.predict(image)


def test_what_the_model_says_is_explained(trained, tmp_path):
    _, data, run = trained
    ((_, found),) = sightline.explain(run.model, [pictures(data)[1]], out=str(tmp_path), random_maps=1, engine="onnxruntime")
    assert found.label in run.numbers["data"]["labels"]
    assert found.picture.read_bytes().startswith(b"\x89PNG")
    written = json.loads(found.picture.with_suffix(".json").read_text())
    assert ("object" in written) == (run.numbers["task"] == "detect")
    assert 0 <= written["score"] <= 1


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_float_variants_of_every_task_keep_its_answers(trained, tmp_path, form):
    if form == "openvino":
        pytest.importorskip("openvino", reason="OpenVINO is not installed: sightline[fast]")
    task, data, run = trained
    how = {"threads": 1, "engine": "onnxruntime", "max_loss": 5.0, "out": str(tmp_path)}
    made = sightline.export(run.model, to=form, precision="fp32,fp16", data=str(data), **how)
    assert [variant.loss.n for variant in made.variants] == [run.numbers["test"]["n"]] * 2
    assert made.figures[0].metric == load_task(task).METRIC
    assert made.figures[1].value == pytest.approx(run.numbers["test"]["metrics"][load_task(task).METRIC], abs=1e-4)
    assert sum(row.changed for row in made.figures[:2]) == 0


def test_runs_of_a_task_are_compared(trained, tmp_path):
    _, _, run = trained
    again = tmp_path / "again"
    shutil.copytree(run.folder, again)
    found = sightline.compare([run.folder, again], out=tmp_path / "compare.html")
    assert "0.0" in found.sentence or "equally" in found.sentence
    assert found.page.exists()


def test_both_modules_offer_what_the_seams_ask_for(trained):
    task, _, _ = trained
    assert all(
        hasattr(load_task(task), name)
        for name in ("OUTPUTS", "SCENES", "compact", "decide", "decode", "difference", "evaluate", "outcomes", "verdict", "blocks")
    )
    head = importlib.import_module(TASKS[task].head)
    assert all(hasattr(head, name) for name in ("make_head", "Objective", "DENSE"))
    assert head.DENSE or hasattr(head, "fit_probe")  # what reads an embedding can be fitted on embeddings
