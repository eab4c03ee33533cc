"""Bundles without training: a graph of two layers whose last one is fitted by least squares, for tests of what is done with a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from conftest import SHAPES, render_shape
from sightline.bundle import Part, write
from sightline.data.prepare import Prepare
from sightline.engines.adapters import Work, onnx_infer
from sightline.manifest import Manifest
from sightline.replay import record
from sightline.runtime import Model

SIDE = 32
PREPARE = Prepare(SIDE, crop_fraction=0.9, mean=(0.4, 0.45, 0.5), std=(0.2, 0.25, 0.3))


def small_graph(head: NDArray[np.float32] | None = None, bias: NDArray[np.float32] | None = None) -> bytes:
    """Normalisation, a convolution of stride 2 that pads below and to the right only, its averages, and a linear layer."""
    rng = np.random.default_rng(0)
    std = np.array(PREPARE.std, np.float32)
    tensors = {
        "scale": 1 / (255 * std), "shift": np.array(PREPARE.mean, np.float32) / std,
        "kernels": rng.normal(0, 0.4, (48, 3, 3, 3)), "axes": np.array([2, 3], np.int64),
        "head": rng.normal(0, 1, (3, 48)) if head is None else head, "bias": np.zeros(3) if bias is None else bias,
    }  # fmt: skip
    model = onnx.parser.parse_model(
        f"""
        <ir_version: 9, opset_import: ["" : 20]>
        it (uint8[n, {SIDE}, {SIDE}, 3] images) => (float[n, 3] logits, float[n, 48] embedding) {{
            numbers = Cast <to = 1> (images)
            scaled = Mul (numbers, scale)
            normal = Sub (scaled, shift)
            maps = Transpose <perm = [0, 3, 1, 2]> (normal)
            seen = Conv <strides = [2, 2], pads = [0, 0, 1, 1]> (maps, kernels)
            lit = Relu (seen)
            embedding = ReduceMean <keepdims = 0> (lit, axes)
            logits = Gemm <transB = 1> (embedding, head, bias)
        }}
    """
    )
    for name, values in tensors.items():
        kind = np.int64 if name == "axes" else np.float32
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(values, kind), name))
    return bytes(model.SerializeToString())


def prepared(kinds: Sequence[str], seeds: Sequence[int]) -> NDArray[np.uint8]:
    return np.stack([PREPARE(np.asarray(render_shape(kind, seed)))[0] for kind in kinds for seed in seeds])


def fitted_graph() -> bytes:
    """``small_graph`` that tells the rendered shapes apart, most of the time."""
    images = prepared(SHAPES, range(10_000, 10_040))
    truth = np.repeat(np.arange(3), 40)
    seen = onnx_infer(Work(small_graph(), ("embedding",), "it", (SIDE, SIDE, 3), threads=1))(images)["embedding"]
    spread = seen.std(axis=0) + 1e-6
    columns = np.hstack([(seen - seen.mean(axis=0)) / spread, np.ones((len(seen), 1))])
    solved = np.linalg.lstsq(np.vstack([columns, 2 * np.eye(49)]), np.vstack([8 * np.eye(3)[truth], np.zeros((49, 3))]), rcond=None)[0]
    head = (solved[:-1] / spread[:, None]).T
    return small_graph(head, solved[-1] - head @ seen.mean(axis=0))


def write_bundle(
    path: Path, graph: bytes, files: Sequence[bytes], prepare: Prepare = PREPARE, *, task: str = "classify",
    labels: Sequence[str] = SHAPES, backbone: dict[str, Any] | None = None, weights: bytes | None = None,
) -> Path:  # fmt: skip
    """A bundle of a graph with the images that it replays."""
    manifest = Manifest(
        task=task, labels=tuple(labels), prepare=prepare.to_json(), thresholds={}, temperature=1.0, config={}, seed=0, fingerprint="none",
        versions={}, licences={}, created="2026-01-01T00:00:00", backbone=backbone or {},
    )  # fmt: skip
    model = Model(manifest, lambda batch: {}, threads=1)
    work = Work(graph, model.task.OUTPUTS, "it", (*prepare.shape, prepare.channels), threads=1)
    model = Model(manifest, onnx_infer(work), threads=1)
    parts = [Part("model.onnx", "graph", graph, required=True), Part("replay.npz", "replay", record(model, files, rendered=False))]
    if weights is not None:
        parts.append(Part("weights.safetensors", "weights", weights))
    write(path, manifest, parts)
    return path
