"""What an ONNX file holds, before ONNX Runtime sees it: refuse what reaches outside the file, list inputs and outputs.

The base install has no ``onnx`` package, so this walks the protobuf wire format itself. Field numbers are those of the
ONNX IR specification (``onnx.proto``); a test compares every one with the installed ``onnx`` package. The walk copies no tensor,
keeps memory in proportion to the nesting, and looks at every occurrence of a field: protobuf merges repeated occurrences
of a message, so that a second ``graph`` or tensor value could otherwise carry what the first does not show.

Operators of the default domain are not listed here: ONNX Runtime refuses the ones it does not know when it loads the graph. But no
operator may hold a graph of its own, and none may be defined in the file: loops need not end, and definitions that use each other twice
unfold to any size. No network that Sightline exports has either.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, NoReturn

from sightline.errors import ModelFileError

# Newest operator sets that the oldest supported ONNX Runtime (1.20) loads, so that a bundle runs on every supported machine.
NEWEST_OPSET = {"": 21, "ai.onnx": 21, "ai.onnx.ml": 5, "com.microsoft": 1}
# Operators of an allowed domain that load a file or call back into the host program.
REACHING_OUT = frozenset({"EPContext", "Snpe", "PythonOp", "PythonOpGrad"})

# The messages that can hold an operator, a tensor or an operator set, and in which fields.
CHILDREN: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 8: "OperatorSetIdProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {5: "TensorProto", 6: "GraphProto", 10: "TensorProto", 11: "GraphProto",
                       22: "SparseTensorProto", 23: "SparseTensorProto"},
    "FunctionProto": {7: "NodeProto", 9: "OperatorSetIdProto", 11: "AttributeProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {},
    "OperatorSetIdProto": {},
}  # fmt: skip
# The other fields that are read here.
FIELDS: dict[str, dict[str, int]] = {
    "ModelProto": {"ir_version": 1, "graph": 7},
    "GraphProto": {"node": 1, "initializer": 5, "input": 11, "output": 12, "sparse_initializer": 15},
    "NodeProto": {"input": 1, "output": 2, "op_type": 4, "attribute": 5, "domain": 7},
    "AttributeProto": {"name": 1, "i": 3, "g": 6, "graphs": 11},
    "TensorProto": {"dims": 1, "data_type": 2, "name": 8, "external_data": 13, "data_location": 14},
    "SparseTensorProto": {"values": 1},
    "OperatorSetIdProto": {"domain": 1, "version": 2},
    "ValueInfoProto": {"name": 1, "type": 2},
    "TypeProto": {"tensor_type": 1},
    "TypeProto.Tensor": {"elem_type": 1, "shape": 2},
    "TensorShapeProto": {"dim": 1},
    "TensorShapeProto.Dimension": {"dim_value": 1, "dim_param": 2},
}
# By number of TensorProto.DataType, with numpy's names.
ELEMENTS = ("undefined", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool", "float16",
            "float64", "uint32", "uint64", "complex64", "complex128", "bfloat16")  # fmt: skip

# What no network that Sightline exports has, and with which a small file can ask for any amount of time or memory.
_NEEDLESS = {"FunctionProto": "defines operators of its own", "TrainingInfoProto": "holds instructions for training",
             "SparseTensorProto": "holds a sparse tensor that may unpack to any size"}  # fmt: skip
_MAX_DEPTH = 100  # messages in messages; the same bound as protobuf's own parsers
_MAX_FIELDS = 4_000_000  # a network of 20,000 operators has about 600,000; the bound keeps a hostile file to seconds
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_NEGATIVE = 1 << 63  # from here on an int64 is below zero, which some exporters write for a free size
NOTHING = memoryview(b"")  # an absent text or message; None is a field whose type is wrong for everything asked for here


class GraphValue(NamedTuple):
    """An input or output of a graph.

    element   numpy's name of the type
    shape     sizes as int, or the name of a free size, "" where it has none; None when not even the rank is stated
    """

    name: str
    element: str
    shape: tuple[int | str, ...] | None


class Malformed(Exception):
    """The bytes are not what the specification says; the text completes "is not an ONNX model: "."""


def check_graph(data: bytes | memoryview, source: str = "The graph") -> None:
    """Refuse a model that is not ONNX, reaches outside its file, or needs operators from elsewhere.

    ``source`` begins the message. Raises ModelFileError for: bytes that are no ModelProto; external data in a tensor anywhere
    (initializers, attributes, sparse tensors, subgraphs, functions, training information); an operator of a domain that is
    not in ``NEWEST_OPSET`` or that loads files; an operator set newer than ``NEWEST_OPSET``; loops, branches, functions and training.
    """
    try:
        _walk(memoryview(data), source)
    except Malformed as error:
        refuse_malformed(source, error)


def graph_io(data: bytes | memoryview, source: str = "The graph") -> tuple[tuple[GraphValue, ...], tuple[GraphValue, ...]]:
    """The inputs and outputs of the main graph; initializers that are also listed as inputs (IR 3) are left out.

    Raises ModelFileError for bytes that are no ModelProto and for an input or output that is not a tensor. Does not repeat
    the checks of ``check_graph``.
    """
    model, graph = FIELDS["ModelProto"], FIELDS["GraphProto"]
    try:
        bodies = bodies_of(memoryview(data), model["graph"])
        fixed = {_text(last_of(body, FIELDS["TensorProto"]["name"], NOTHING)) for body in within(bodies, graph["initializer"])}
        for sparse in within(bodies, graph["sparse_initializer"]):
            fixed |= {
                _text(last_of(body, FIELDS["TensorProto"]["name"], NOTHING))
                for body in bodies_of(sparse, FIELDS["SparseTensorProto"]["values"])
            }
        inputs = tuple(_graph_value(body) for body in within(bodies, graph["input"]))
        outputs = tuple(_graph_value(body) for body in within(bodies, graph["output"]))
    except Malformed as error:
        refuse_malformed(source, error)
    return tuple(value for value in inputs if value.name not in fixed), outputs


def refuse_malformed(source: str, error: Malformed) -> NoReturn:
    raise ModelFileError(f"{source} is not an ONNX model ({error}): export it again.") from error


def _walk(data: memoryview, source: str) -> None:
    """Check every message below a ModelProto; the stack holds iterators, so memory grows with depth and not with breadth."""
    stack: list[tuple[str, Iterator[tuple[int, int | memoryview | None]], dict[int, int | memoryview | None]]]
    stack = [("ModelProto", fields_of(data), {})]
    seen = 0
    while stack:
        kind, fields, found = stack[-1]
        for number, value in fields:
            seen += 1
            if seen > _MAX_FIELDS:
                raise Malformed(f"it has more than {_MAX_FIELDS:,} fields")
            if number < 32:  # no field of interest is beyond, and an attacker may invent millions
                found[number] = value  # the last one counts, as in protobuf
            if number in CHILDREN[kind]:
                if len(stack) == _MAX_DEPTH:
                    raise Malformed(f"it is nested more than {_MAX_DEPTH} deep")
                stack.append((CHILDREN[kind][number], fields_of(as_body(value)), {}))
                break
        else:
            _check_message(kind, found, source)
            stack.pop()


def _check_message(kind: str, found: dict[int, int | memoryview | None], source: str) -> None:
    """Refuse one message from its own fields: ``found`` has the last value of each field number."""
    at = FIELDS.get(kind, {})
    if kind == "ModelProto" and not (as_number(found.get(at["ir_version"], 0)) and at["graph"] in found):
        raise Malformed("it has no version or no graph")
    if kind == "TensorProto" and (at["external_data"] in found or as_number(found.get(at["data_location"], 0))):
        name = _text(found.get(at["name"], NOTHING))
        raise ModelFileError(f"{source} keeps the tensor {name[:80]!r} in another file: export it again with all data inside.")
    if kind == "AttributeProto" and (at["g"] in found or at["graphs"] in found):
        raise ModelFileError(f"{source} holds a loop or a branch, which is refused: export it with a fixed order of operators.")
    if kind in _NEEDLESS:
        what = _NEEDLESS[kind]
        raise ModelFileError(f"{source} {what}, which is refused: export it with standard ONNX operators, for inference alone.")
    if kind == "NodeProto":
        operator, domain = _text(found.get(at["op_type"], NOTHING)), _text(found.get(at["domain"], NOTHING))
        if not operator:
            raise Malformed("it has an operator without a type")
        if domain not in NEWEST_OPSET or operator in REACHING_OUT:
            operator = f"{domain[:80]}::{operator[:80]}".removeprefix("::")
            raise ModelFileError(f"{source} needs the operator {operator!r}, which is refused: export it with standard ONNX operators.")
    if kind == "OperatorSetIdProto":
        domain, version = _text(found.get(at["domain"], NOTHING)), as_number(found.get(at["version"], 0))
        # An import of any other domain is harmless as long as no operator of it is used; exporters leave such imports behind.
        if version > NEWEST_OPSET.get(domain, version):
            raise ModelFileError(
                f"{source} needs version {version} of the operator set {domain or 'ai.onnx'!r}, and the newest that Sightline runs is "
                f"{NEWEST_OPSET[domain]}: upgrade Sightline or export it for an older one."
            )


def _graph_value(body: memoryview) -> GraphValue:
    """Name, type and shape from a ValueInfoProto."""
    value, tensor, dimension = FIELDS["ValueInfoProto"], FIELDS["TypeProto.Tensor"], FIELDS["TensorShapeProto.Dimension"]
    name = _text(last_of(body, value["name"], NOTHING))
    described = as_body(last_of(as_body(last_of(body, value["type"], NOTHING)), FIELDS["TypeProto"]["tensor_type"], NOTHING))
    number = as_number(last_of(described, tensor["elem_type"], 0))
    if not number:
        raise Malformed(f"its input or output {name[:80]!r} is not a tensor")
    element = ELEMENTS[number] if number < len(ELEMENTS) else f"type {number}"
    shapes = bodies_of(described, tensor["shape"])
    if not shapes:
        return GraphValue(name, element, None)
    dims: list[int | str] = []
    for dim in bodies_of(shapes[-1], FIELDS["TensorShapeProto"]["dim"]):
        size = as_number(last_of(dim, dimension["dim_value"], _NEGATIVE))
        dims.append(_text(last_of(dim, dimension["dim_param"], NOTHING)) if size >= _NEGATIVE else size)
    return GraphValue(name, element, tuple(dims))


def fields_of(body: memoryview) -> Iterator[tuple[int, int | memoryview | None]]:
    """Field numbers with values: an int, the bytes of a string or message, None for the fixed-size kinds."""
    position, end = 0, len(body)
    while position < end:
        key, position = varint_at(body, position)
        number, kind = key >> 3, key & 7
        if not 0 < number < 1 << 29:
            raise Malformed(f"field number {number}")
        value: int | memoryview | None = None
        if kind == _VARINT:
            value, position = varint_at(body, position)
        elif kind == _LENGTH:
            length, position = varint_at(body, position)
            value, position = body[position : position + length], position + length
        elif kind in (_FIXED64, _FIXED32):
            position += 8 if kind == _FIXED64 else 4
        else:
            raise Malformed(f"wire type {kind}")
        if position > end:
            raise Malformed("a field runs past its end")
        yield number, value


def varint_at(body: memoryview, position: int) -> tuple[int, int]:
    """An unsigned number of up to ten bytes, and the position after it."""
    value = 0
    for index, byte in enumerate(body[position : position + 10]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise Malformed("a number has no end")


def within(bodies: list[memoryview], number: int) -> list[memoryview]:
    return [inner for body in bodies for inner in bodies_of(body, number)]


def bodies_of(body: memoryview, number: int) -> list[memoryview]:
    return [as_body(value) for found, value in fields_of(body) if found == number]


def last_of(body: memoryview, number: int, absent: int | memoryview) -> int | memoryview | None:
    last: int | memoryview | None = absent
    for found, value in fields_of(body):
        if found == number:
            last = value
    return last


def as_body(value: int | memoryview | None) -> memoryview:
    if not isinstance(value, memoryview):
        raise Malformed("a text or message has another type")
    return value


def as_number(value: int | memoryview | None) -> int:
    if not isinstance(value, int):
        raise Malformed("a number has another type")
    return value


def _text(value: int | memoryview | None) -> str:
    """Bytes that are not UTF-8 are replaced, so that they match no known name."""
    return str(as_body(value), "utf-8", "replace")
