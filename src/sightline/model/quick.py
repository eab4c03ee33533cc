"""Layers that only compute and do not learn, run by whatever is quicker here: torch, or ONNX Runtime where torch computes in fp32.

ONNX Runtime joins convolutions with what follows them, which torch does not: on processors without bfloat16 it is two to three times
as fast. The choice is kept for each machine and network, so that the same training computes in the same way the next time: the two round
differently, and what is trained on their activations comes to another network.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable
from importlib import metadata

import torch
from torch import Tensor, nn

from sightline.engines import cache
from sightline.model.export import quiet
from sightline.processor import processor_name, processors

TORCH, ONNXRUNTIME = "torch", "onnxruntime"
# Seconds that the other engine takes to begin with, so that it is only tried for work that lasts several times as long.
WORTH_TRYING = 12.0
# In relative terms; both compute in fp32.
TOLERANCE = 1e-3

Layers = Callable[[Tensor], Tensor]


def quickest(layers: nn.Module, images: Tensor, precision: str, n: int) -> tuple[str, Layers]:
    """The name of the quicker engine for ``n`` images, of which ``images`` are some, and the layers run by it.

    Timed once for each machine, layers and n, and then kept.
    """
    if images.device.type != "cpu" or precision != "fp32":
        return TORCH, by_torch(layers, precision)
    key = {
        "layers": hashlib.sha256(str(layers).encode()).hexdigest(), "images": list(images.shape), "n": n, "processor": processor_name(),
        "processors": processors(), "torch": torch.__version__, "onnxruntime": metadata.version("onnxruntime"),
    }  # fmt: skip
    if (kept := cache.recall(key, (TORCH, ONNXRUNTIME))) is not None:
        return kept, by(kept, layers, images, precision)
    chosen, run = _timed(layers, images, n)
    cache.keep(key, {"chosen": chosen})
    return chosen, run


def _timed(layers: nn.Module, images: Tensor, n: int) -> tuple[str, Layers]:
    """Of what takes less time for ``n`` images; torch where that is too little to try another."""
    with_torch = by_torch(layers, "fp32")
    expected = _seconds(with_torch, images) / len(images) * n
    if expected < WORTH_TRYING:
        return TORCH, with_torch
    with_onnx = by_onnxruntime(layers, images)
    if with_onnx is None or _seconds(with_onnx, images) / len(images) * n > expected:
        return TORCH, with_torch
    return ONNXRUNTIME, with_onnx


def by(engine: str, layers: nn.Module, images: Tensor, precision: str) -> Layers:
    """The layers run by the named engine, or by torch where that engine does not take them."""
    found = by_onnxruntime(layers, images) if engine == ONNXRUNTIME else None
    return found or by_torch(layers, precision)


def by_torch(layers: nn.Module, precision: str) -> Layers:
    """The layers as they are, in ``fp32`` or ``bf16``."""

    def run(batch: Tensor) -> Tensor:
        with torch.inference_mode(), torch.autocast(batch.device.type, torch.bfloat16, enabled=precision == "bf16"):
            computed: Tensor = layers(batch)
        return computed

    return run


def by_onnxruntime(layers: nn.Module, images: Tensor) -> Layers | None:
    """The layers in ONNX Runtime; None where it does not take them, or computes something else."""
    import onnxruntime

    sink = io.BytesIO()
    try:
        with quiet():
            torch.onnx.export(
                layers.eval(), (images.float(),), sink, dynamo=False, input_names=["images"], dynamic_axes={"images": {0: "n"}}
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = processors(), 4
        session = onnxruntime.InferenceSession(sink.getvalue(), options, providers=["CPUExecutionProvider"])
    except Exception:  # exporter and engine raise whatever they like of layers that they do not know; torch takes all
        return None

    def run(batch: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"images": batch.float().numpy()})[0])

    expected = by_torch(layers, "fp32")(images)
    scale = float(expected.abs().max()) or 1.0
    return run if float((run(images) - expected).abs().max()) <= TOLERANCE * scale else None


def _seconds(run: Layers, images: Tensor) -> float:
    """Of the second of two passes: libraries prepare themselves in the first."""
    run(images)
    started = time.perf_counter()
    run(images)
    return time.perf_counter() - started
