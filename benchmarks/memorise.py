"""Claim: every network we name learns: trained from scratch on 200 CIFAR-10 images, it knows at least 95% of those same images.

    python benchmarks/memorise.py [NAME...]

One command each, with augmentation off and the last epoch kept, as nothing is to be generalised here. Prints accuracy on the 200
training images by ``sightline evaluate`` and the seconds from process start to report, and writes benchmarks/results/memorise.json.
Needs the data that SIGHTLINE_DATA points to (default ../shared/data).
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
from pathlib import Path

DATA = Path(os.environ.get("SIGHTLINE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
# Images of each class: to learn, and for the splits a data set has to have.
COUNTS = {"train": 20, "val": 5, "test": 5}
PLAIN = ["--weights", "none", "--keep", "last", "--crop-scale", "1", "--rotate", "0", "--no-flip", "--colour", "0",
         "--label-smoothing", "0", "--dropout", "0"]  # fmt: skip
NETWORKS = {
    "alexnet": "--backbone alexnet --size 96 --epochs 60",
    "vgg11": "--backbone torchvision/vgg11 --size 32 --epochs 45",
    "resnet18": "--backbone resnet18 --epochs 30",
    "googlenet": "--backbone googlenet --epochs 80",
    "inception_v3": "--backbone inception_v3 --size 96 --epochs 40",
}
LEAST = 0.95


def make_data(folder: Path) -> Path:
    """train/, val/ and test/ with class folders of the first tiles."""
    subprocess.run([sys.executable, str(DATA / "unpack.py"), str(folder / "tiles"), "--per-class", str(sum(COUNTS.values()))], check=True)
    start = 0
    for split, count in COUNTS.items():
        for label in sorted((folder / "tiles" / "train").iterdir()):
            (folder / "set" / split / label.name).mkdir(parents=True)
            for tile in sorted(label.iterdir())[start : start + count]:
                shutil.copy(tile, folder / "set" / split / label.name)
        start += count
    return folder / "set"


def sightline(*words: str) -> dict[str, object]:
    done = subprocess.run([sys.executable, "-m", "sightline.cli", *words, "--json"], check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    chosen = sys.argv[1:] or list(NETWORKS)
    if not (DATA / "cifar10").is_dir():
        sys.exit(f"The data is not at {DATA}; set SIGHTLINE_DATA.")
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        data = make_data(Path(scratch))
        for name in chosen:
            start = time.perf_counter()
            run = sightline("train", str(data), "--out", str(Path(scratch) / name), *NETWORKS[name].split(), *PLAIN)
            seconds = time.perf_counter() - start
            accuracy = sightline("evaluate", str(run["model"]), str(data), "--split", "train")["metrics"]["accuracy"]  # type: ignore[index]
            found[name] = {"accuracy": accuracy, "seconds": round(seconds, 1)}
            print(f"{name:<14} {accuracy:.3f} of 200 images, {seconds:.0f} s", flush=True)
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    settings = {"python": platform.python_version(), "machine": platform.machine(), "n": 200}
    (results / "memorise.json").write_text(json.dumps(settings | {"networks": found}, indent=2) + "\n")
    if short := [name for name, figures in found.items() if figures["accuracy"] < LEAST]:
        sys.exit(f"Under {LEAST}: {', '.join(short)}.")


if __name__ == "__main__":
    main()
