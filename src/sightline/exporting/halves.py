"""Weights in sixteen bits: half the size, and the sums in thirty-two as before.

A processor computes in fp16 only by going through fp32, so that it would lose digits and gain no time; what is gained is the size.
OpenVINO's own fp16 files are made the same way, but round biases and norms as well: twice the difference for one percent of the size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sightline.exporting.quantise import LAYERS

# Rounding takes up to 2^-12 off a number. Where a tensor as a whole loses more, its numbers are too large or too small for fp16.
LOST = 2.0**-11


def fits(values: NDArray[np.float32]) -> bool:
    """Whether a tensor keeps its digits in fp16."""
    with np.errstate(over="ignore"):
        lost = values - values.astype(np.float16).astype(np.float32)
    return bool(np.linalg.norm(lost.ravel()) <= LOST * np.linalg.norm(values.ravel()))


def halved(graph: bytes) -> bytes:
    """An ONNX graph with the weights of its layers in fp16, each behind a Cast to fp32, which engines fold away when they load it.

    Biases, norms and whatever is no weight of a layer stay in fp32: they take little room, and coordinates among them need their digits.
    """
    from onnx import TensorProto, helper, load_from_string, numpy_helper

    model = load_from_string(graph)
    weights = {name for node in model.graph.node if node.op_type in LAYERS for name in node.input[1:2]}
    casts = []
    for tensor in model.graph.initializer:
        if tensor.name not in weights or tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        values = numpy_helper.to_array(tensor)
        if not fits(values):
            continue
        name, half = tensor.name, f"{tensor.name}_in_half"
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), half))
        casts.append(helper.make_node("Cast", [half], [name], name=f"{name}_to_fp32", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return bytes(model.SerializeToString(deterministic=True))
