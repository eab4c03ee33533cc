"""ONNX operators written as formulas: each operation on a ``Value`` adds an operator to its ``Formulas``, which become a graph.

Numbers in a formula are constants: whole numbers int64, all others float64, arrays of the type that they have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Number = float | int | Sequence[int] | NDArray[Any] | np.generic


class Formulas:
    """Operators and constants in the order in which they were asked for; ``prefix`` begins all their names."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.nodes: list[Any] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], Any] = {}

    def __call__(self, operator: str, *inputs: Value | Number, output: str = "", unused: int = 0, **attributes: Any) -> Value:
        """What a standard operator makes of its inputs, called ``output`` or by a name of its own; it has so many more outputs, which are
        ``unused``."""
        from onnx import helper

        names = [(given if isinstance(given, Value) else self.constant(given)).name for given in inputs]
        name = f"{self.prefix}{operator}_{len(self.nodes)}"
        outputs = [output or f"{name}_out", *(f"{name}_unused_{place}" for place in range(unused))]
        self.nodes.append(helper.make_node(operator, names, outputs, name=name, **attributes))
        return Value(output or f"{name}_out", self)

    def cast(self, value: Value, kind: str) -> Value:
        """A value as "float32", "int64" and so on: towards zero where it becomes a whole number."""
        from onnx import TensorProto

        return self("Cast", value, to=TensorProto.DataType.Value({"float32": "FLOAT", "float64": "DOUBLE"}.get(kind, kind.upper())))

    def choice(self, condition: Value, true: Callable[[Formulas], Value], false: Callable[[Formulas], Value]) -> Value:
        """What one of two sets of formulas gives, of which only that one is computed. They may use values of these."""
        from onnx import helper

        branches = {}
        for name, formulas in (("then_branch", true), ("else_branch", false)):
            inner = Formulas(f"{self.prefix}If_{len(self.nodes)}_{name}_")
            result = formulas(inner)
            branches[name] = inner.graph(name, [], [helper.make_empty_tensor_value_info(result.name)])
        return self("If", condition, **branches)

    def graph(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        """All of it as a GraphProto with these ValueInfoProtos."""
        from onnx import helper

        return helper.make_graph(self.nodes, name, inputs, outputs, self.constants)

    @property
    def constants(self) -> list[Any]:
        """As TensorProtos."""
        return list(self._constants.values())

    def constant(self, number: Number) -> Value:
        """A number as a value; the same one for the same number."""
        from onnx import numpy_helper

        array = np.asarray(number if isinstance(number, np.ndarray | np.generic) else np.array(number, _kind(number)))
        key = str(array.dtype), array.shape, array.tobytes()
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(array, f"{self.prefix}constant_{len(self._constants)}")
        return Value(self._constants[key].name, self)


def _kind(number: float | Sequence[int]) -> type:
    return np.float64 if isinstance(number, float) else np.int64


@dataclass(frozen=True)
class Value:
    """A tensor of a graph under construction."""

    name: str
    graph: Formulas
    __array_ufunc__: ClassVar[None] = None  # an array in front of an operator leaves it to the value behind

    def __add__(self, other: Value | Number) -> Value:
        return self.graph("Add", self, other)

    def __sub__(self, other: Value | Number) -> Value:
        return self.graph("Sub", self, other)

    def __mul__(self, other: Value | Number) -> Value:
        return self.graph("Mul", self, other)

    def __truediv__(self, other: Value | Number) -> Value:
        return self.graph("Div", self, other)

    def __rtruediv__(self, other: Number) -> Value:
        return self.graph("Div", other, self)

    def __rsub__(self, other: Number) -> Value:
        return self.graph("Sub", other, self)

    def __matmul__(self, other: Value) -> Value:
        return self.graph("MatMul", self, other)

    def __lt__(self, other: Value | Number) -> Value:
        return self.graph("Less", self, other)

    def __gt__(self, other: Value | Number) -> Value:
        return self.graph("Greater", self, other)
