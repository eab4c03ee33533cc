"""Bundles for tests of what becomes of them: made in a moment, of a network that is not trained but looks at every pixel."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image

from sightline import bundle as bundles
from sightline.bundle import Part
from sightline.data.prepare import Prepare
from sightline.engines.adapters import Work, onnx_infer
from sightline.exporting.formulas import Formulas, Value
from sightline.manifest import Manifest
from sightline.replay import record
from sightline.runtime import Model

LABELS = ("ash", "elm", "oak", "yew ‘old’")


def random_network(prepare: Prepare, classes: int, seed: int = 0) -> bytes:
    """A graph from (n, rows, columns, 3) uint8 to ``logits`` (n, classes): a convolution, a rectifier and a linear layer."""
    rng = np.random.default_rng(seed)
    rows, columns = prepare.shape
    graph = Formulas()
    scaled = (graph.cast(Value("images", graph), "float32") / np.float32(255) - np.float32(0.5)) * np.float32(4)
    kernel = rng.normal(0, 0.15, (6, 3, 4, 4)).astype(np.float32)
    maps = graph("Conv", graph("Transpose", scaled, perm=[0, 3, 1, 2]), kernel, strides=[4, 4])
    flat = graph("Flatten", graph("Relu", maps))
    inputs = 6 * (rows // 4) * (columns // 4)
    weights = rng.normal(0, 6 / inputs**0.5, (inputs, classes)).astype(np.float32)
    graph("MatMul", flat, weights, output="logits")
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", rows, columns, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes])
    made = helper.make_model(graph.graph("network", [images], [logits]), opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return bytes(made.SerializeToString())


def photograph(seed: int, width: int, height: int) -> NDArray[np.uint8]:
    """(height, width, 3) of soft colours with hard edges and grain, as a camera sees them."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(coarse).astype(np.int16)
    for _ in range(12):
        left, top = int(rng.integers(0, width)), int(rng.integers(0, height))
        right, bottom = left + int(rng.integers(1, max(2, width // 3))), top + int(rng.integers(1, max(2, height // 3)))
        pixels[top:bottom, left:right] = rng.integers(0, 256, 3)
    return np.clip(pixels + rng.integers(-14, 15, pixels.shape, np.int8), 0, 255).astype(np.uint8)


def png(pixels: NDArray[np.uint8]) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG", compress_level=1)
    return sink.getvalue()


def write_plain_bundle(
    path: Path, prepare: Prepare, task: str = "classify", labels: Sequence[str] = LABELS, *, temperature: float = 1.5,
    thresholds: dict[str, float] | None = None, carried: int = 2,
) -> Path:  # fmt: skip
    """A bundle of a random network with so many images to replay."""
    manifest = Manifest(
        task, tuple(labels), prepare.to_json(), thresholds or {}, temperature, config={}, seed=0, fingerprint="", versions={},
        licences={"code": "Apache-2.0", "weights": "Apache-2.0"}, created="2026-01-01T00:00:00+00:00", backbone={},
    )  # fmt: skip
    graph = random_network(prepare, len(labels))
    model = Model(manifest, onnx_infer(Work(graph, ("logits",), str(path), (*prepare.shape, 3), threads=1)), threads=1)
    files = [png(photograph(seed, 90 + 17 * seed, 70)) for seed in range(carried)]
    parts = [Part("model.onnx", "graph", graph, required=True)]
    if files:
        parts.append(Part("replay.npz", "replay", record(model, files, rendered=False)))
    bundles.write(path, replace(manifest, members=()), parts)
    return path
