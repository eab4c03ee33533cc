"""Claims: in INT8 ResNet-50 is at least 1.3 times as fast as in the fastest float engine, where the processor multiplies int8; and on
CIFAR-10's 10,000 test images ResNet-18 in INT8 is within 0.5 points, with at most 2% of the answers changed.

    python benchmarks/int8.py [MODEL DATA]

The speed is of ResNet-50 with random weights on random images of 224 pixels: medians of single images and of batches of 16, every engine
and precision there is here, in turns. The accuracy is of MODEL and DATA, a bundle and what it was trained on; without them a ResNet-18 is
trained on 5,000 images first, which takes about ten minutes. Prints the ratio and writes benchmarks/results/int8.json. Needs the data that
SIGHTLINE_DATA points to (default ../shared/data), unless MODEL is given.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import sightline
from sightline.data.prepare import Prepare
from sightline.engines.adapters import Work, candidates, version_of
from sightline.exporting.quantise import quantised
from sightline.processor import int8_features, processor_features, processor_name, processors
from sightline.records import Infer

DATA = Path(os.environ.get("SIGHTLINE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
SIZE, ROUNDS, BATCHES = 224, 15, (1, 16)
TRAINED, VALIDATED = 500, 100  # images of each class
TRAINING = ["--backbone", "resnet18", "--weights", "none", "--epochs", "20"]
RATIO, POINTS, CHANGED = 1.3, 0.5, 0.02


def resnet50() -> bytes:
    import torch

    from sightline.model.backbone import BackboneSpec, build
    from sightline.model.export import export_graph
    from sightline.model.heads.classify import make_head
    from sightline.model.network import Network

    torch.manual_seed(0)
    backbone = build(BackboneSpec("resnet50", SIZE))
    return export_graph(Network(backbone, make_head(backbone.num_features, 10, 0.0), Prepare(SIZE)), SIZE)


def milliseconds(infers: Mapping[str, Infer], batch: int) -> dict[str, float]:
    """Median for a batch; engines take turns, so that a slow moment of the machine meets all."""
    images = np.random.default_rng(0).integers(0, 256, (batch, SIZE, SIZE, 3), np.uint8)
    seconds: dict[str, list[float]] = {name: [] for name in infers}
    for done in range(1 + ROUNDS):
        for name, infer in infers.items():
            started = time.perf_counter()
            infer(images)
            if done:  # once unmeasured
                seconds[name].append(time.perf_counter() - started)
    return {name: 1000 * median(values) for name, values in seconds.items()}


def speed() -> dict[str, Any]:
    graph = resnet50()
    noise = np.random.default_rng(1).integers(0, 256, (32, SIZE, SIZE, 3), np.uint8)
    infers = {}
    for side, data in (("float", graph), ("int8", quantised(graph, noise))):
        work = Work(data, ("logits",), "ResNet-50", (SIZE, SIZE, 3), processors(), int8=side == "int8")
        infers |= {f"{side}: {candidate.name}": candidate.load(work) for candidate in candidates()}
    found: dict[str, Any] = {}
    for batch in BATCHES:
        medians = milliseconds(infers, batch)
        best = {side: min(value for name, value in medians.items() if name.startswith(side)) for side in ("float", "int8")}
        found[str(batch)] = {"milliseconds": medians, "ratio": best["float"] / best["int8"]}
        for name, value in medians.items():
            print(f"ResNet-50, batch {batch:<2}  {name:<24} {value:8.1f} ms", flush=True)
        print(f"ResNet-50, batch {batch:<2}  INT8 is {best['float'] / best['int8']:.2f} times as fast as the fastest in float", flush=True)
    return found


def make_data(folder: Path) -> Path:
    """train/ and val/ with the first tiles of each class, test/ with all."""
    subprocess.run([sys.executable, str(DATA / "unpack.py"), str(folder / "tiles")], check=True)
    for label in sorted((folder / "tiles" / "train").iterdir()):
        tiles = sorted(label.iterdir())[: TRAINED + VALIDATED]
        for split, part in (("train", tiles[:TRAINED]), ("val", tiles[TRAINED:])):
            (folder / "set" / split / label.name).mkdir(parents=True)
            for tile in part:
                shutil.move(tile, folder / "set" / split / label.name)
    shutil.move(folder / "tiles" / "test", folder / "set" / "test")
    return folder / "set"


def train(folder: Path) -> tuple[Path, Path]:
    if not (DATA / "cifar10").is_dir():
        sys.exit(f"The data is not at {DATA}; set SIGHTLINE_DATA.")
    data = make_data(folder)
    words = ["train", str(data), "--out", str(folder / "run"), *TRAINING]
    subprocess.run([sys.executable, "-m", "sightline.cli", *words], check=True, stdout=subprocess.DEVNULL)
    return folder / "run" / "model.sight", data


def accuracy(folder: Path, given: list[str]) -> dict[str, Any]:
    model, data = map(Path, given) if given else train(folder)
    made = sightline.export(model, data=data, out=folder / "int8.sight", max_loss=POINTS)
    print("\n".join(made.lines()))
    print(f"{made.loss.n} test images: {made.loss.points:+.2f} points lost, {made.loss.share:.2%} of the answers changed", flush=True)
    return made.to_json()


def main() -> None:
    if len(sys.argv) not in (1, 3):
        sys.exit("Give a model and its data, or neither.")
    with tempfile.TemporaryDirectory() as scratch:
        found = {"speed": speed(), "accuracy": accuracy(Path(scratch), sys.argv[1:])}
    machine = {
        "python": platform.python_version(), "processor": processor_name(), "features": processor_features(), "threads": processors(),
        "versions": {name: version_of(name) for name in ("onnxruntime", "openvino")},
    }  # fmt: skip
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "int8.json").write_text(json.dumps(machine | found, indent=2) + "\n")
    ratios = [entry["ratio"] for entry in found["speed"].values()]
    short = [f"{min(ratios):.2f} times as fast"] * (bool(int8_features()) and min(ratios) < RATIO)
    short += [f"{found['accuracy']['changed']:.2%} of the answers changed"] * (found["accuracy"]["changed"] > CHANGED)
    if short:
        sys.exit(f"Not as claimed: {', '.join(short)}.")


if __name__ == "__main__":
    main()
