"""What an engine does when it loads a graph: operators that depend on no image are computed then, and weights are laid out anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from math import prod
from typing import NamedTuple

from sightline.onnx_check import (
    ELEMENTS,
    FIELDS,
    NOTHING,
    Malformed,
    as_body,
    as_number,
    bodies_of,
    fields_of,
    last_of,
    refuse_malformed,
    varint_at,
    within,
)

FLOAT = ELEMENTS.index("float32")
FLOAT_BYTES = 4
# No tensor of a network has more axes.
MOST_AXES = 8


class LoadCost(NamedTuple):
    """What there is to do.

    constants  operators that depend on no image, which are computed then; where operators stand before those that they depend on, all
    weights    bytes of the weights of each operator, which are laid out anew for it: weights that many share count many times
    plain      those of the constants that make one number in fp32 of each that they are given, as weights in fewer bits are made whole
    made       bytes of what these give, all together
    """

    constants: int
    weights: int
    plain: int
    made: int


class _Tensor(NamedTuple):
    """A tensor that depends on no image: its shape, and whether its numbers are in fp32."""

    shape: tuple[int, ...]
    is_float: bool


def load_cost(data: bytes | memoryview, source: str = "The graph") -> LoadCost:
    """Of a checked graph; raises ModelFileError for bytes that are no ModelProto."""
    try:
        bodies = bodies_of(memoryview(data), FIELDS["ModelProto"]["graph"])
        graph, node = FIELDS["GraphProto"], FIELDS["NodeProto"]
        weights = {_name(body, "TensorProto"): body for body in within(bodies, graph["initializer"])}
        tensors = {name: _tensor(body) for name, body in weights.items()}
        fixed = {b"", *weights}
        known = fixed | {_name(body, "ValueInfoProto") for body in within(bodies, graph["input"])}
        constants = laid_out = plain = made = 0
        nodes, in_order = within(bodies, graph["node"]), True
        for body in nodes:
            inputs, outputs = ({bytes(name) for name in bodies_of(body, node[field])} for field in ("input", "output"))
            laid_out += sum(len(weights.get(name, b"")) for name in inputs)
            in_order &= inputs <= known
            known |= outputs
            if inputs <= fixed:
                fixed, constants = fixed | outputs, constants + 1
                whole = _made_whole(body, [tensors.get(name) for name in inputs])
                if whole is not None:
                    plain, made = plain + 1, made + FLOAT_BYTES * prod(whole.shape)
                    tensors |= dict.fromkeys(outputs, whole)
    except Malformed as error:
        refuse_malformed(source, error)
    return LoadCost(constants, laid_out, plain, made) if in_order else LoadCost(len(nodes), laid_out, 0, 0)


def _made_whole(body: memoryview, given: Sequence[_Tensor | None]) -> _Tensor | None:
    """What an operator gives that makes one number in fp32 of each that it is given, beside single ones; None for any other."""
    known = [tensor for tensor in given if tensor is not None]
    if not known or len(known) < len(given):
        return None
    kind = bytes(as_body(last_of(body, FIELDS["NodeProto"]["op_type"], NOTHING)))
    is_plain = _gives_float(body) if kind == b"Cast" else kind in (b"Mul", b"Add") and all(tensor.is_float for tensor in known)
    shapes = {tensor.shape for tensor in known if prod(tensor.shape) != 1}
    if not is_plain or len(shapes) > 1:
        return None
    return _Tensor(shapes.pop() if shapes else (), True)


def _gives_float(cast: memoryview) -> bool:
    at = FIELDS["AttributeProto"]
    attributes = bodies_of(cast, FIELDS["NodeProto"]["attribute"])
    return [as_number(last_of(one, at["i"], 0)) for one in attributes if _name(one, "AttributeProto") == b"to"] == [FLOAT]


def _tensor(body: memoryview) -> _Tensor | None:
    """Of a TensorProto; None for one of more axes than tensors have."""
    shape = tuple(islice(_sizes(body), MOST_AXES + 1))
    is_float = as_number(last_of(body, FIELDS["TensorProto"]["data_type"], 0)) == FLOAT
    return _Tensor(shape, is_float) if len(shape) <= MOST_AXES else None


def _sizes(body: memoryview) -> Iterator[int]:
    """The sizes of a TensorProto's axes, which stand there one by one or in one piece."""
    for number, value in fields_of(body):
        if number != FIELDS["TensorProto"]["dims"]:
            continue
        if isinstance(value, int):
            yield value
            continue
        piece, position = as_body(value), 0
        while position < len(piece):
            size, position = varint_at(piece, position)
            yield size


def _name(body: memoryview, kind: str) -> bytes:
    return bytes(as_body(last_of(body, FIELDS[kind]["name"], NOTHING)))
