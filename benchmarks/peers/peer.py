"""What the peers' scripts share. They are run by the peers' own Python and import nothing of Sightline.

Each prints JSON objects, one a line: ``{"event": "trained"}`` at the moment when the model is saved, and its figures at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()
# Seconds that do not count, such as for testing between epochs; see ``aside``.
_aside: list[float] = []
# Of the time given, what is left for saving the model and for epochs that take longer than those that were timed.
MARGIN = 0.03
# How long training is timed before the number of epochs is fitted to the time.
TIMING_SECONDS = 15.0


def say(**figures: Any) -> None:
    print(json.dumps(figures), flush=True)


def spent() -> float:
    """Seconds since the script began, which is when this module was imported, without those spent ``aside``."""
    return time.perf_counter() - STARTED - sum(_aside)


@contextmanager
def aside() -> Iterator[None]:
    """What is done within does not count as ``spent``."""
    start = time.perf_counter()
    yield
    _aside.append(time.perf_counter() - start)


def step_seconds(step: Callable[[], object], timing: float) -> float:
    """Of a step of training, from those that fit into ``timing`` seconds, at least one, without the first, which is slower."""
    step()
    start, count = time.perf_counter(), 0
    while not count or time.perf_counter() - start < timing:
        step()
        count += 1
    return (time.perf_counter() - start) / count


def fitting_epochs(seconds: float, epoch_seconds: float) -> int:
    """As many epochs as the time left of ``seconds`` takes, at least 1."""
    return max(1, int((seconds * (1 - MARGIN) - spent()) / epoch_seconds))


def workers() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def arguments(**flags: Any) -> argparse.Namespace:
    """The data's folder, ``--seed``, and a flag for each keyword, whose type and default are those of its value."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    for name, default in flags.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    return parser.parse_args()


def mobilenet_arguments(weights: Path) -> dict[str, Any]:
    """What timm is told to start its ``mobilenetv2_100`` from a file of weights, with the mean and the padding the file states.

    A local file stands in for timm's download as its own documentation says, by ``pretrained_cfg_overlay``.
    """
    from safetensors import safe_open

    with safe_open(weights, framework="pt") as file:
        stated = file.metadata()
    mean, std = (tuple(float(value) for value in stated[name].strip("[]").split(",")) for name in ("mean", "std"))
    overlay = {"file": str(weights), "mean": mean, "std": std, "interpolation": stated.get("interpolation", "bilinear"), "crop_pct": 0.875}
    return {"pad_type": stated["pad_type"], "pretrained_cfg_overlay": overlay}
