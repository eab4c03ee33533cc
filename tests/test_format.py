"""One bundle of each format and task, as the version wrote it that made the format: every later version reads it and says the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import SHAPES, render_shape
from sightline import pipeline
from sightline.bundle import Bundle
from sightline.engines.acceptance import replay_of
from sightline.manifest import FORMAT_VERSION, ROLES
from sightline.runtime import Model
from sightline.saving.formats import told
from sightline.tasks import TASKS

FIXTURES = Path(__file__).parent / "fixtures"
KEPT = sorted(FIXTURES.glob("format-*.sight"))


def near(found: object, expected: object) -> bool:
    """Equal but for how numbers were rounded: scores of other engines, places of a hundredth of a pixel."""
    if isinstance(expected, dict):
        return isinstance(found, dict) and found.keys() == expected.keys() and all(near(found[name], expected[name]) for name in expected)
    if isinstance(expected, list):
        return isinstance(found, list) and len(found) == len(expected) and all(map(near, found, expected))
    return found == pytest.approx(expected, abs=0.02) if isinstance(expected, float) else found == expected


def test_there_is_one_of_each_format_and_task():
    names = {path.name for path in KEPT}
    assert {f"format-1-{task}.sight" for task in ("classify", "tag", "detect", "segment")} <= names
    assert {f"format-{number}-classify.sight" for number in range(1, FORMAT_VERSION + 1)} <= names
    assert all(path.stat().st_size < 100_000 for path in KEPT)


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_it_opens_with_all_it_holds(path):
    number, task = path.stem.split("-")[1:]
    with Bundle.open(path) as bundle:
        assert (bundle.manifest.format_version, bundle.manifest.task) == (int(number), task)
        assert task in TASKS
        assert bundle.manifest.labels == SHAPES
        assert {role for role in ROLES if bundle.has(role)} == {"graph", "card", "report", "report_data", "reference", "replay"}
        assert bundle.numbers()["task"] == task
        assert bundle.arrays("reference")["names"].tolist() == [f"{kind}/000.png" for kind in SHAPES]


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_it_computes_what_was_recorded(path):
    found = pipeline.verify(path, threads=1)
    assert found["n"] == 6
    assert found["max_difference"] < 1e-4


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_it_says_what_it_said(path):
    number, task = path.stem.split("-")[1:]
    expected = json.loads((FIXTURES / f"format-{number}.json").read_text())[task]
    with Bundle.open(path) as bundle:
        model, files = Model.of(bundle, engine="onnxruntime", threads=1), replay_of(bundle, ()).files
    found = [told(f"{place}.png", prediction, 3) for place, prediction in enumerate(model.predict(files[1:3]))]
    assert near(found, expected), found


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_it_is_explained(path, tmp_path):
    image = tmp_path / "image.png"
    render_shape("disc", 0).save(image)
    ((_, found),) = pipeline.explain(path, [image], out=str(tmp_path / "out"), random_maps=1, threads=1, engine="onnxruntime")
    assert found.picture.stat().st_size > 1000
    assert found.trust == {"trusted": False, "sentence": "Do not rely on these heat maps."}
    assert len(found.nearest) == 3
