"""airbench94 (Jordan, 2024; MIT) on our tiles: its own script, which has to be at hand, with the images put where it looks for them.

    python airbench.py DATA --script airbench94.py [--runs 10]

What it prints after each epoch is taken instead of printed: its own clock, which counts training steps alone until the last epoch, and its
test accuracy with its test-time augmentation. One run before them warms the card up and is not counted.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import peer
import torch
from PIL import Image


def write_tiles(data: Path, folder: Path) -> None:
    """Class folders of PNG files as the tensors that the script reads."""
    labels = sorted(path.name for path in (data / "train").iterdir())
    folder.mkdir()
    for split in ("train", "test"):
        files = [(file, number) for number, label in enumerate(labels) for file in sorted((data / split / label).iterdir())]
        images = torch.from_numpy(np.stack([np.asarray(Image.open(file).convert("RGB")) for file, _ in files]))
        targets = torch.tensor([number for _, number in files])
        torch.save({"images": images, "labels": targets, "classes": labels}, folder / f"{split}.pt")


def main() -> None:
    args = peer.arguments(script="", runs=10)
    spec = importlib.util.spec_from_file_location("airbench", Path(args.script).resolve())
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    data = args.data.resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_tiles(data, Path("cifar10"))
        spec.loader.exec_module(script)
        told: list[Mapping[str, Any]] = []
        script.print_training_details = lambda variables, is_final_entry: told.append(dict(variables))
        script.main("warmup")
        for run in range(args.runs):
            told.clear()
            torch.manual_seed(run)
            accuracy = script.main(run)
            trained = [variables["total_time_seconds"] for variables in told if variables["epoch"] != "eval"]
            peer.say(run=run, accuracy=accuracy, seconds=trained[-1])


main()
