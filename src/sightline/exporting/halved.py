"""A graph with weights in sixteen bits: half the size, and the sums in thirty-two as before.

A processor computes in fp16 only by going through fp32, so that it would lose digits and gain no time; what is gained is the size.
OpenVINO's own fp16 files are made the same way, but round biases and norms as well: twice the difference for one percent of the size.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sightline.exporting.quantise import LAYERS
from sightline.fp16 import STEP, in_fp16

STEP_NAME, ONE_NAME = "rest_step", "rest_one"


def halved(graph: bytes, rests: bool = False) -> bytes:
    """An ONNX graph with the weights of its layers in fp16, behind operators that make them fp32, which engines fold away as they load.

    Biases, norms and whatever is no weight of a layer stay in fp32: they take little room, and coordinates among them need their digits.

    rests  with what fp16 rounds off in eight bits beside it: three bytes a weight
    """
    from onnx import TensorProto, load_from_string, numpy_helper

    model = load_from_string(graph)
    named = {name for node in model.graph.node if node.op_type in LAYERS for name in node.input[1:2]}
    layers = {
        tensor.name: tensor for tensor in model.graph.initializer
        if tensor.name in named and tensor.data_type == TensorProto.FLOAT and len(tensor.dims) >= 2
    }  # fmt: skip
    nodes: list[Any] = []
    for name, (half, rest) in in_fp16({name: numpy_helper.to_array(tensor) for name, tensor in layers.items()}, rests).items():
        layers[name].CopyFrom(numpy_helper.from_array(half, f"{name}_in_half"))
        if rest is not None:
            model.graph.initializer.append(numpy_helper.from_array(rest, f"{name}_rest"))
        nodes += _made_whole(name, rest is not None)
    if nodes and rests:
        constants = {STEP_NAME: STEP, ONE_NAME: 1.0}
        model.graph.initializer.extend(numpy_helper.from_array(np.float32(value), name) for name, value in constants.items())
    nodes += model.graph.node
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return bytes(model.SerializeToString(deterministic=True))


def _made_whole(name: str, rest: bool) -> list[Any]:
    """The operators that give a weight in fp32 under its name: half * (1 + STEP * rest)."""
    from onnx import TensorProto, helper

    def node(kind: str, inputs: list[str], output: str, **how: Any) -> Any:
        return helper.make_node(kind, inputs, [output], **how)

    if not rest:
        return [node("Cast", [f"{name}_in_half"], name, to=TensorProto.FLOAT)]
    return [
        node("Cast", [f"{name}_in_half"], f"{name}_rounded", to=TensorProto.FLOAT),
        node("Cast", [f"{name}_rest"], f"{name}_steps", to=TensorProto.FLOAT),
        node("Mul", [f"{name}_steps", STEP_NAME], f"{name}_share"),
        node("Add", [f"{name}_share", ONE_NAME], f"{name}_factor"),
        node("Mul", [f"{name}_rounded", f"{name}_factor"], name),
    ]
