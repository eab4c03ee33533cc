"""In which numbers training computes: float32, or bfloat16 where the processor has it and a short timing shows that it pays."""

from __future__ import annotations

import copy
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from sightline import console
from sightline.data.store import cache_folder
from sightline.errors import DeviceError
from sightline.model.export import count_parameters
from sightline.model.network import Network
from sightline.processor import processor_features, processor_name
from sightline.training.checkpoint import atomically
from sightline.training.objective import Objective

Batch = tuple[Tensor, Tensor]  # images and targets, on the device

# Without one of these, bfloat16 is emulated, a thousand times slower.
BF16_FEATURES = {"amx_bf16", "avx512_bf16", "bf16"}
TIMED_IMAGES, REPEATS = 8, 3
# How many times as fast bfloat16 has to be, for what it loses in digits.
WORTH = 1.2
CACHE = "precision.json"


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 itself."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(BF16_FEATURES & set(processor_features()))


def choose_precision(
    asked: str, network: Network, objective: Objective, example: Callable[[], Batch], device: torch.device
) -> tuple[str, str]:
    """``fp32`` or ``bf16``, and a sentence, which is said (empty where there was nothing to choose).

    ``auto`` times some steps of a copy of the network on an ``example`` once for each machine and network, and remembers the result, so
    that the same training is not done in other numbers the next time. Raises DeviceError when bf16 is asked for and would be emulated.
    """
    if asked == "bf16" and not has_bf16(device):
        raise DeviceError(f"--precision bf16: {device} here has no bfloat16 arithmetic and would emulate it, far slower than fp32.")
    if asked != "auto" or not has_bf16(device):
        return (asked, f"Training computes in {asked}, as asked.") if asked != "auto" else ("fp32", "")
    where = processor_name() if device.type == "cpu" else torch.cuda.get_device_name(device)
    what = [type(network.backbone.inner).__name__, count_parameters(network), *network.prepare.shape]
    key = json.dumps([where, torch.get_num_threads(), torch.__version__, *what])
    known = _read(cache_folder() / CACHE)
    if key not in known:
        known[key] = float(f"{speed_ratio(network, objective, example()):.3g}")
        cache_folder().mkdir(parents=True, exist_ok=True)
        atomically(cache_folder() / CACHE, lambda temporary: temporary.write_text(json.dumps(known, indent=1)) and None)
    chosen = "bf16" if known[key] >= WORTH else "fp32"
    why = f"Training computes in {chosen}: bf16 was timed and is {known[key]:.2g} times as fast here."
    console.say(why)
    return chosen, why


def speed_ratio(network: Network, objective: Objective, batch: Batch) -> float:
    """How many times as fast a training step is in bfloat16 as in float32: medians of steps in turn, on a copy of the network."""
    images, targets = batch
    fp32, bf16 = _timed(network, objective, (images[:TIMED_IMAGES], targets[:TIMED_IMAGES]), (False, True))
    return fp32 / bf16


def step_seconds(network: Network, objective: Objective, batch: Batch, precision: str) -> float:
    """Seconds of forward and backward pass of a batch, on a copy of the network."""
    return _timed(network, objective, batch, (precision == "bf16",))[0]


def _timed(network: Network, objective: Objective, batch: Batch, halves: tuple[bool, ...]) -> list[float]:
    """Median seconds of steps in each precision, taken in turn."""
    copied, device = copy.deepcopy(network).train(), batch[0].device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        seconds: dict[bool, list[float]] = {half: [] for half in halves}
        for _ in range(1 + REPEATS):  # the first of each is not counted: libraries prepare themselves there
            for half, taken in seconds.items():
                taken.append(_step_seconds(copied, objective, batch, half))
    return [statistics.median(taken[1:]) for taken in seconds.values()]


def _step_seconds(network: Network, objective: Objective, batch: Batch, half: bool) -> float:
    images, targets = batch
    start = time.perf_counter()
    with torch.autocast(images.device.type, torch.bfloat16, enabled=half):
        loss, _ = objective.step(network, images, targets)
    loss.backward()
    float(loss.detach())  # waits for an accelerator
    network.zero_grad(set_to_none=True)
    return time.perf_counter() - start


def _read(path: Path) -> dict[str, float]:
    """What was timed before on this machine; nothing where it cannot be read."""
    try:
        return {str(key): float(value) for key, value in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        console.warn(f"{path}: this list of timings is damaged ({error}) and is begun again.")
        return {}
