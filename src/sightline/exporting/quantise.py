"""An ONNX graph in INT8: pairs of QuantizeLinear and DequantizeLinear around what is to be computed in eight bits.

Activations are unsigned with a zero point, weights signed with a scale for each channel, because that is what the dot products of
x86 processors multiply. ONNX Runtime and OpenVINO both read this form. Layers are put back into float by removing the pairs
around them, so that the activations' ranges are measured once.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.errors import ModelFileError

# Operators with weights of their own; each is a layer that can be left in float.
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Those of them whose outputs are not rounded.
UNROUNDED = ("Gemm", "MatMul")
# Those that the quantiser may remove.
ACTIVATIONS = ("Relu", "Clip")
CALIBRATION_BATCH = 16


def quantised(graph: bytes, images: NDArray[np.uint8], source: str = "The graph") -> bytes:
    """The graph in INT8, every layer of it but the ``last_layers``, with ranges of the activations as they are on ``images``
    (n, height, width, channels).

    Ranges are means of the batches' extremes: a single odd image does not widen them. Raises ModelFileError, which begins with
    ``source``, for a graph that has no layer or that cannot be quantised.
    """
    from onnx import load_from_string
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    model = load_from_string(plain(graph))
    if not layers(graph):
        raise ModelFileError(f"{source}: its graph has no layer that can be computed in INT8 ({', '.join(LAYERS)}); use it as it is.")
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path, excluded = Path(folder, "model.onnx"), [*_before_layers(model.graph), *_behind_layers(model.graph)]
        try:
            quantize_static(
                model, path, _reader(model.graph.input[0].name, images), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, nodes_to_exclude=excluded,
                # The last layer's outputs stay as they are: rounded to 256 levels, near scores would become equal.
                extra_options={"CalibMovingAverage": True, "OpTypesToExcludeOutputQuantization": [*UNROUNDED]},
            )  # fmt: skip
            return path.read_bytes()
        except Exception as error:
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ModelFileError(f"{source}: its graph cannot be computed in INT8 ({reason}); use it as it is.") from error


def _before_layers(graph: Any) -> list[str]:
    """Names of the operators in front of the first layer: normalisation of the images, which eight bits would round twice."""
    names = [node.name for node in graph.node]
    return names[: next(place for place, node in enumerate(graph.node) if node.op_type in LAYERS)]


def _behind_layers(graph: Any) -> list[str]:
    """Names of the operators that lead to no layer any more, and of the convolutions that are last.

    Places in pixels have more than 256 values, and of a convolution, other than of the rest, the quantiser leaves no outputs as they are.
    """
    led: set[str] = set()
    names = []
    for node in reversed(graph.node):  # whoever needs a node was seen before it
        leads = bool(led.intersection(node.output))
        if leads or node.op_type in LAYERS:
            led.update(node.input)
        if not leads and node.op_type not in UNROUNDED:
            names.append(node.name)
    return names


def _reader(name: str, images: NDArray[np.uint8]) -> Any:
    """The images as the quantiser asks for them: batch by batch, then None."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.starts = iter(range(0, len(images), CALIBRATION_BATCH))

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            start = next(self.starts, None)
            return None if start is None else {name: images[start : start + CALIBRATION_BATCH]}

    return Reader()


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser advises its developers through the root logger; none of it is for our users."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)


def layers(graph: bytes) -> tuple[str, ...]:
    """Names of the operators with weights, from the input to the output."""
    from onnx import load_from_string

    made = load_from_string(plain(graph)).graph
    fixed = {tensor.name for tensor in made.initializer}
    return tuple(node.name for node in made.node if node.op_type in LAYERS and any(name in fixed for name in node.input[1:]))


def last_layers(graph: bytes) -> tuple[str, ...]:
    """Those of the ``layers`` that ``quantised`` leaves in float."""
    from onnx import load_from_string

    behind = set(_behind_layers(load_from_string(plain(graph)).graph))
    return tuple(name for name in layers(graph) if name in behind)


def in_float(int8: bytes, graph: bytes, names: Collection[str]) -> bytes:
    """The quantised graph with the named layers as they are in ``graph``, which it was made from."""
    from onnx import load_from_string

    model, original = load_from_string(int8), load_from_string(plain(graph)).graph
    rooms = _Original(original, {output: node.op_type for node in model.graph.node for output in node.output})
    nodes: list[Any] = []
    for node in model.graph.node:
        if node.name in names:
            node.input[:] = [rooms.restored(name, model.graph.initializer, nodes) for name in rooms.inputs[node.name]]
        nodes.append(node)
    _keep(model.graph, nodes)
    return bytes(model.SerializeToString(deterministic=True))


class _Original:
    """What the quantised graph was made from, to take tensors from that it has no longer."""

    def __init__(self, graph: Any, made_by: dict[str, str]) -> None:
        """``made_by``: for each tensor of the quantised graph the operator that makes it."""
        self.made_by = made_by
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.makers = {output: node for node in graph.node for output in node.output}
        self.inputs = {node.name: list(node.input) for node in graph.node}
        self.restored_names: dict[str, str] = {}

    def restored(self, name: str, initializers: Any, nodes: list[Any]) -> str:
        """The name under which a tensor can be had in float in the quantised graph; what it lacks is added to the two lists.

        The quantiser gives names of weights to what it rounds them to. It removes a Relu or Clip where rounding to unsigned numbers
        does the same, and the operator before it takes over its name.
        """
        if name in self.tensors:
            copied = _copy(self.tensors[name])
            copied.name = f"{name}_in_float"
            if name not in self.restored_names:
                initializers.append(copied)
            self.restored_names[name] = str(copied.name)
        elif name not in self.restored_names and (maker := self.makers.get(name)) is not None and self._removed(maker, name):
            activation = _copy(maker)
            activation.input[:] = [name, *(self.restored(other, initializers, nodes) for other in activation.input[1:])]
            activation.output[0] = f"{name}_in_float"
            self.restored_names[name] = str(activation.output[0])
            nodes.append(activation)
        return self.restored_names.get(name, name)

    def _removed(self, maker: Any, name: str) -> bool:
        return maker.op_type in ACTIVATIONS and self.made_by.get(name) != maker.op_type


def _copy(message: Any) -> Any:
    return type(message).FromString(message.SerializeToString())


def plain(graph: bytes) -> bytes:
    """The graph with a name for every operator, and without the detour that global pooling is exported with.

    torch writes it as a Gather by computed indices from the flattened means, which gives each mean to its own place. OpenVINO computes
    those indices wrongly as soon as anything in the graph is quantised (the answers of 8% of CIFAR-10's images changed).
    """
    from onnx import load_from_string

    model = load_from_string(graph)
    for place, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{place}"
    shapes = {value.name: _shape(value) for value in model.graph.value_info}
    producers = {output: node for node in model.graph.node for output in node.output}
    ours = {node.output[0]: source for node in model.graph.node if (source := _gathered_from(node, producers, shapes)) is not None}
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = ours.get(name, name)
    _drop_unused(model.graph)
    return bytes(model.SerializeToString(deterministic=True))


def _gathered_from(node: Any, producers: dict[str, Any], shapes: dict[str, tuple[int | str, ...]]) -> str | None:
    """The tensor whose values a Gather only repeats: pooled means, flattened, in the shape they had before; None for anything else."""
    if node.op_type != "Gather":
        return None
    flat = producers.get(node.input[0])
    if flat is None or flat.op_type != "Reshape":
        return None
    pooled, shape = producers.get(flat.input[0]), shapes.get(flat.input[0])
    computed = _reaches(node.input[1], "Range", producers)
    means = pooled is not None and pooled.op_type in ("ReduceMean", "GlobalAveragePool")
    return str(flat.input[0]) if means and computed and shape is not None and shape == shapes.get(node.output[0]) else None


def _reaches(name: str, operator: str, producers: dict[str, Any]) -> bool:
    node = producers.get(name)
    return node is not None and (node.op_type == operator or any(_reaches(source, operator, producers) for source in node.input))


def _shape(value: Any) -> tuple[int | str, ...]:
    return tuple(size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim)


def _drop_unused(graph: Any) -> None:
    _keep(graph, list(graph.node))


def _keep(graph: Any, nodes: Sequence[Any]) -> None:
    """Make these, in the order of computation, the graph's operators, without those and the tensors that no output needs."""
    needed = {output.name for output in graph.output}
    kept: list[Any] = []
    for node in reversed(nodes):  # whoever needs a node was seen before it
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.insert(0, node)
    for field, values in ((graph.node, kept), (graph.initializer, [tensor for tensor in graph.initializer if tensor.name in needed])):
        copies = [_copy(value) for value in values]
        del field[:]
        field.extend(copies)
