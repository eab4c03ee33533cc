"""The example in Node gives the runtime's answers: pixels decoded by another program, resized and judged by the standalone file."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sightline
from conftest import DATA, needs_data
from plain_bundle import LABELS, photograph, write_plain_bundle
from sightline.data.prepare import Prepare

EXAMPLE = Path(__file__).parents[1] / "examples" / "node"
PHOTOGRAPHS, TOLERANCE = 50, 1e-3
SIZES = [(1600, 1200), (1200, 1600), (1920, 1080), (1601, 1203), (2048, 1536)]


@pytest.fixture(scope="session")
def example(tmp_path_factory):
    """The example with what it needs, in a folder of its own; tests that ask for it are skipped where that cannot be had."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    folder = tmp_path_factory.mktemp("node") / "example"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("node_modules"))
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        pytest.skip("npm could not install the example's packages within five minutes")
    if done.returncode:
        pytest.skip(f"npm could not install the example's packages: {done.stderr.strip()[-200:]}")
    return folder


def answers(example, model, files):
    """Scores by label of each file, from Node."""
    done = subprocess.run(["node", "classify.mjs", model, *files], cwd=example, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr + done.stdout
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["path"] for line in lines] == [str(file) for file in files]
    return [{found["label"]: found["score"] for found in line["predictions"]} for line in lines]


def scores_of(bundle, files):
    """What ``predict --full-size`` says of each file."""
    found = sightline.predict(bundle, files, full_size=True, engine="onnxruntime", threads=1)
    return [dict(zip(prediction.labels, prediction.scores, strict=True)) for _, prediction in found]


def farthest(ours, theirs):
    assert [set(one) for one in ours] == [set(other) for other in theirs]
    return max(abs(one[label] - other[label]) for one, other in zip(ours, theirs, strict=True) for label in one)


def test_fifty_photographs_get_the_runtimes_probabilities_in_node(example, tmp_path):
    bundle = write_plain_bundle(tmp_path / "it.sight", Prepare(224, "crop", 0.875, "bicubic"))
    alone = sightline.export(bundle, standalone=True, threads=1).model
    files = []
    for number in range(PHOTOGRAPHS):
        files.append(tmp_path / f"{number:02d}.jpg")
        quality, subsampling = (75, 2) if number % 2 else (92, 0)
        Image.fromarray(photograph(number, *SIZES[number % len(SIZES)])).save(files[-1], quality=quality, subsampling=subsampling)
    expected = scores_of(bundle, files)
    assert len({max(one, key=one.get) for one in expected}) > 1
    assert farthest(answers(example, alone, files), expected) < TOLERANCE


def test_png_files_of_all_kinds_get_the_answers_that_predict_gives_them(example, tmp_path):
    bundle = write_plain_bundle(tmp_path / "it.sight", Prepare(64, "pad"), "tag", thresholds=dict.fromkeys(LABELS, 0.4))
    alone = sightline.export(bundle, standalone=True, threads=1).model
    pixels = photograph(1, 300, 200)
    for name, image in {
        "plain": Image.fromarray(pixels), "grey": Image.fromarray(pixels[:, :, 0]), "palette": Image.fromarray(pixels).quantize(64),
        "one": Image.fromarray(pixels[:1, :1]), "clear": Image.fromarray(np.dstack([pixels, pixels[:, :, 0]])),
    }.items():  # fmt: skip
        image.save(tmp_path / f"{name}.png")
    files = sorted(tmp_path.glob("*.png"))
    model = sightline.Model.open(bundle, engine="onnxruntime", threads=1)
    expected = [{label: found.scores[label] for label in found.labels} for found in (model.predict(file) for file in files)]
    assert farthest(answers(example, alone, files), expected) < TOLERANCE


@needs_data
def test_photographs_stand_upright_in_node_however_they_are_stored(example, tmp_path):
    bundle = write_plain_bundle(tmp_path / "it.sight", Prepare(96, "squash"))
    alone = sightline.export(bundle, standalone=True, threads=1).model
    files = sorted((DATA / "photos").glob("*.jpg"))
    assert len(files) >= 10
    expected = scores_of(bundle, files)
    assert farthest(answers(example, alone, files), expected) < TOLERANCE


def test_bad_input_is_said_in_node_and_loses_no_other_image(example, tmp_path):
    bundle = write_plain_bundle(tmp_path / "it.sight", Prepare(32))
    alone = sightline.export(bundle, standalone=True, threads=1).model
    Image.fromarray(photograph(1, 60, 50)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("no image")
    words = ["node", "classify.mjs", alone, tmp_path / "bad.png", tmp_path / "good.png"]
    done = subprocess.run(words, cwd=example, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    bad, good = (json.loads(line) for line in done.stdout.splitlines())
    assert bad["error"] == "is neither JPEG nor PNG"
    assert len(good["predictions"]) == len(LABELS)
    unused = subprocess.run(["node", "classify.mjs"], cwd=example, capture_output=True, text=True, timeout=60)
    assert unused.returncode == 2
    assert "Usage" in unused.stderr
