"""The whole line on handwritten digits: write them as image files, train, audit, evaluate, verify, predict, export, explain,
and say where the report is.

The digits are scikit-learn's own 1,797 scans of 8x8 pixels, so nothing is downloaded. Every step is a command you could type.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path("demo")
SIDE = 32


def write_digits(folder: Path) -> None:
    """One folder for each digit, one 32x32 PNG for each scan; what is there already is left alone."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number, (scan, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / str(label) / f"{number:04d}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            grey = Image.fromarray((scan * 255 / 16).astype(np.uint8))
            grey.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path)


def sightline(*arguments: str | Path) -> str:
    """Run a command as a user would, show it, and return what it printed."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ sightline {shlex.join(words)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "sightline.cli", *words], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def main() -> None:
    start = time.monotonic()
    data = FOLDER / "digits"
    write_digits(data)
    # A mirrored 2 is no 2, and a digit lying on its side may be another one.
    choices = ("--no-flip", "--rotate", "10", "--crop-scale", "0.8", "--epochs", "12")
    run = json.loads(sightline("train", data, *choices, "--out", FOLDER / "run", "--json"))
    print(run["verdict"])
    print(sightline("audit", data, "--out", FOLDER / "audit"))
    print(sightline("evaluate", run["model"], data))
    print(sightline("verify", run["model"]))
    print(sightline("predict", run["model"], data / "3" / "0003.png", data / "8" / "0008.png", "--top", "3"))
    print(sightline("export", run["model"], "--precision", "fp16", "--out", FOLDER / "half.sight"))
    print(sightline("explain", run["model"], data / "3" / "0003.png", "--out", FOLDER / "explained"))
    print(f"Done in {time.monotonic() - start:.0f} seconds. Open the report: {Path(run['report']).resolve()}")


if __name__ == "__main__":
    main()
