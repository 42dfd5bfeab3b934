"""New nodes, written as mathematics.

::

    def softsign(new: Nodes, x: ir.Value) -> ir.Value:
        return new.Div(x, new.Add(new.Abs(x), 1.0))

``new.Op(inputs…, attribute=…)`` is a new node and stands for its first output.  Among the inputs a float is a float32
scalar, an int or a list of ints an int64 constant, an array itself, None an absent input.  Types and shapes of what a
node gives are known as soon as they follow from what it reads (:func:`dsd_ort.rewrite.shapes.infer`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dsd_ort.rewrite import shapes
from dsd_ort.rewrite.autograd import DOMAIN, OPSET, Operator
from dsd_ort.rewrite.names import Names

Operand: TypeAlias = "ir.Value | float | Sequence[int] | npt.NDArray[Any] | None"


class Nodes:
    """The nodes that were written, in order; they are in no graph until their caller puts them into one.

    Args:
        name: what their names begin with.
        opset: ONNX's operators are those of this version.
        names: makes names that nothing else has; without them the caller does so for the whole graph.
    """

    def __init__(self, name: str = "", *, opset: int = OPSET, names: Names | None = None) -> None:
        self.name, self.opset, self.names = name, opset, names
        self.nodes: list[ir.Node] = []
        self.operators: dict[str, Operator] = {}
        """Those with a backward of their own that were called: the caller puts them into the model."""

    def __getattr__(self, op_type: str) -> Callable[..., ir.Value]:
        if not op_type[0].isupper():
            raise AttributeError(op_type)
        return partial(self.op, op_type)

    def op(self, op_type: str, *inputs: Operand, **attributes: Any) -> ir.Value:
        """The first output of a new node; another domain's operator carries the domain in front."""
        return self.several(op_type, 1, *inputs, **attributes)[0]

    def several(self, op_type: str, count: int, *inputs: Operand, **attributes: Any) -> Sequence[ir.Value]:
        """All outputs of a new node that has *count* of them."""
        values = [value if value is None or isinstance(value, ir.Value) else self.constant(value) for value in inputs]
        domain, _, kind = op_type.rpartition(".")
        node = ir.node(kind, values, attributes, domain=domain, num_outputs=count, name=self._named(kind))
        for i, output in enumerate(node.outputs):
            output.name = node.name if self.names is None or i == 0 else self.names.free(f"{node.name}/{i}")
        self._keep(node)
        return node.outputs

    def call(self, operator: Operator, *inputs: Operand) -> Sequence[ir.Value]:
        """The outputs of a new node of an operator with a backward of its own."""
        self.operators[operator.name] = operator
        return self.several(f"{DOMAIN}.{operator.name}", len(operator.forward.output), *inputs)

    def constant(self, value: float | Sequence[int] | npt.NDArray[Any]) -> ir.Value:
        """A constant: f32[] of a float, i64[] or i64[n] of whole numbers, an array as it is."""
        if not isinstance(value, np.ndarray):
            value = np.asarray(value, np.float32 if isinstance(value, float) else np.int64)
        return self.Constant(value=ir.tensor(value))

    def _named(self, op_type: str) -> str:
        name = f"{self.name}/{op_type}" if self.name else op_type
        return name if self.names is None else self.names.free(name)

    def _keep(self, node: ir.Node) -> None:
        self.nodes.append(node)
        shapes.infer(node, constant_value, self.opset)


def constant_value(value: ir.Value | None) -> npt.NDArray[Any] | None:
    """The content of *value* if the file fixes it."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()
