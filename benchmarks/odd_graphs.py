"""Graphs that no exporter writes: other operators, attributes, constants, shapes and wiring than belong there."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import mutations
import numpy as np
import onnx
from numpy.random import Generator
from onnx import helper, numpy_helper

SHAPERS = ("ConstantOfShape", "Expand", "Tile", "Resize", "Range", "Pad", "Reshape", "Loop", "If", "OneHot", "RandomNormal", "EyeLike",
           "Upsample")  # fmt: skip


@lru_cache(1)
def operators() -> tuple[str, ...]:
    return tuple(sorted({schema.name for schema in onnx.defs.get_all_schemas()}))


def change_graph(rng: Generator, data: bytes) -> bytes:
    """Another operator, attribute, constant, shape or wiring, as a program with bad intent would write it."""
    model = onnx.load_from_string(data)
    for _ in range(rng.integers(1, 4)):
        GRAPH_CHANGES[rng.integers(len(GRAPH_CHANGES))](rng, model)
    return bytes(model.SerializeToString())


def _any(rng: Generator, values: Any) -> Any:
    return values[rng.integers(len(values))]


def _number(rng: Generator) -> int:
    return int(_any(rng, mutations.INTERESTING)) * (1 if rng.integers(4) else -1)


def other_operator(rng: Generator, model: onnx.ModelProto) -> None:
    _any(rng, model.graph.node).op_type = _any(rng, operators() if rng.integers(2) else SHAPERS)


def other_attribute(rng: Generator, model: onnx.ModelProto) -> None:
    node = _any(rng, model.graph.node)
    if node.attribute and rng.integers(4):
        attribute = _any(rng, node.attribute)
        if attribute.ints:
            attribute.ints[rng.integers(len(attribute.ints))] = _number(rng)
        attribute.i, attribute.f = _number(rng), float(_number(rng))
    else:
        name = _any(rng, ("axis", "axes", "pads", "strides", "group", "kernel_shape", "dilations", "to", "keepdims", "perm", "mode"))
        node.attribute.append(helper.make_attribute(name, _any(rng, ([_number(rng)] * int(rng.integers(1, 5)), _number(rng), "linear"))))


def other_constant(rng: Generator, model: onnx.ModelProto) -> None:
    tensor = _any(rng, model.graph.initializer)
    way = rng.integers(3)
    if way == 0 and tensor.dims:
        tensor.dims[rng.integers(len(tensor.dims))] = _number(rng)
    elif way == 1:
        tensor.data_type = int(rng.integers(0, 24))
    else:
        try:
            array = numpy_helper.to_array(tensor).copy()
        except (ValueError, KeyError, TypeError):  # it was changed before
            return
        flat = array.reshape(-1)
        if flat.size:
            flat[rng.integers(flat.size)] = _number(rng) % 2**31 if array.dtype.kind == "i" else _any(rng, (np.nan, np.inf, 1e30, -1e30, 0))
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def other_wiring(rng: Generator, model: onnx.ModelProto) -> None:
    nodes = model.graph.node
    node = _any(rng, nodes)
    names = [name for each in nodes for name in (*each.input, *each.output)]
    way = rng.integers(5)
    if way == 0 and node.input:
        node.input[rng.integers(len(node.input))] = _any(rng, names)
    elif way == 1 and node.output:
        node.output[rng.integers(len(node.output))] = _any(rng, names)
    elif way == 2:
        nodes.remove(node)
        if not nodes:
            nodes.append(node)
    elif way == 3:
        nodes.append(copy.deepcopy(node))
    else:
        node.input.append(_any(rng, names))


def other_values(rng: Generator, model: onnx.ModelProto) -> None:
    """What is said of inputs and outputs, and of versions."""
    value = _any(rng, [*model.graph.input, *model.graph.output])
    way = rng.integers(4)
    if way == 0 and value.type.tensor_type.shape.dim:
        _any(rng, value.type.tensor_type.shape.dim).dim_value = _number(rng)
    elif way == 1:
        value.type.tensor_type.elem_type = int(rng.integers(0, 24))
    elif way == 2:
        value.type.tensor_type.ClearField("shape")
    else:
        model.opset_import[0].version = int(rng.integers(1, 22))


def larger(rng: Generator, model: onnx.ModelProto) -> None:
    """Between two operators, one that makes much of little."""
    nodes, graph = model.graph.node, model.graph
    at = int(rng.integers(len(nodes)))
    if not nodes[at].input:
        return
    size, name = int(_any(rng, (2, 100, 10**4, 10**5, 10**9, 2**40))), f"large{len(nodes)}"
    taken, kind = nodes[at].input[0], _any(rng, ("Tile", "Expand", "Pad", "ConstantOfShape", "Resize", "Range", "Add", "MatMul"))
    sizes = {"Pad": [0, 0, 0, 0, 0, 0, 0, size], "Range": [0], "Resize": [1, 1, size, size]}.get(kind, [1, 1, 1, size])
    constant = np.array(sizes, np.int64) if kind not in ("Add", "MatMul") else np.ones((min(size, 10**5), 1), np.float32)
    graph.initializer.append(numpy_helper.from_array(constant, f"{name}_c"))
    inputs = {
        "ConstantOfShape": [f"{name}_c"], "Resize": [taken, "", "", f"{name}_c"], "Range": [f"{name}_c"] * 3, "Add": [taken, f"{name}_c"],
        "MatMul": [f"{name}_c", taken],
    }.get(kind, [taken, f"{name}_c"])  # fmt: skip
    nodes.insert(at, helper.make_node(kind, inputs, [name]))
    nodes[at + 1].input[0] = name


GRAPH_CHANGES: tuple[Callable[[Generator, onnx.ModelProto], None], ...] = (
    other_operator, other_attribute, other_constant, other_wiring, other_values, larger, larger,
)  # fmt: skip
