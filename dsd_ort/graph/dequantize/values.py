"""Quantised values, and the float ones that they stand for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.dequantize import numbers
from dsd_ort.graph.dequantize.table import KEEPS
from dsd_ort.rewrite.names import Names, label, place
from dsd_ort.rewrite.nodes import Nodes, constant_value
from dsd_ort.rewrite.operators import key
from dsd_ort.rewrite.quantised import RANGES

_FIX = "train the model that it was quantised from"
_ENDINGS = ("_quantized", "_DequantizeLinear_Output", "_q", "/DequantizeLinear_output_0")
"""What quantisers put behind the name of a weight."""


class Grid(NamedTuple):
    """What tells a quantised value from the numbers that it stands for."""

    scale: ir.Value
    zero: ir.Value | None
    axis: int = -1
    block: int = 0


class Values:
    """What is known of the quantised values of *model*, and its new weights."""

    def __init__(self, model: ir.Model) -> None:
        self.model, self.names = model, Names(model.graph)
        self.floats: dict[ir.Value, ir.Value] = {}
        """Quantised value → what it stands for."""
        self.grids: dict[ir.Value, Grid] = {}
        self.weights: dict[str, str] = {}
        """Float weight → the stored numbers that it stands for."""
        self._stored: dict[tuple[object, ...], ir.Value] = {}

    def new(self, node: ir.Node) -> Nodes:
        """To write nodes with in the place of *node*."""
        return Nodes(label(node), opset=self.model.opset_imports.get("", 1), names=self.names)

    def stand(self, q: ir.Value, x: ir.Value, grid: Grid) -> None:
        """*q* stands for *x*."""
        self.floats[q], self.grids[q] = x, grid

    def known(self, q: ir.Value, grid: Grid, node: ir.Node, called: str = "") -> ir.Value | None:
        """What *q* stands for: the float value it was made of, or a stored weight; None where neither is known.

        Raises:
            UnsupportedError: *q* was made with another scale or zero point.
        """
        if q in self.floats:
            if not _equal(self.grids[q], grid):
                raise refusal(node, f"reads {q.name!r} by another scale or zero point than it was made with")
            return self.floats[q]
        stored, scale, zero = constant_value(q), constant_value(grid.scale), constant_value(grid.zero)
        if stored is None or scale is None or (grid.zero is not None and zero is None):
            return None
        value = numbers.stands_for(stored, scale, zero, grid.axis, grid.block)
        return self.store(q, value, (scale, zero), called)

    def store(
        self, q: ir.Value, value: numbers.Array, by: tuple[numbers.Array | None, ...], called: str = ""
    ) -> ir.Value:
        """A new weight, once for all that read the same numbers *by* the same scale."""
        known = (q, *(None if part is None else part.tobytes() for part in by), value.shape)
        if known not in self._stored:
            of_weight = (text for text in (str(q.name), called) if text.endswith(_ENDINGS))
            text = next(of_weight, f"{q.name}/float")
            text = next((text.removesuffix(ending) for ending in _ENDINGS if text.endswith(ending)), text)
            tensor = ir.Tensor(np.ascontiguousarray(value), name=self.names.free(text))
            kind, shape = ir.TensorType(tensor.dtype), ir.Shape(value.shape)
            weight = ir.Value(name=tensor.name, type=kind, shape=shape, const_value=tensor)
            self.model.graph.register_initializer(weight)
            self._stored[known] = weight
            self.weights[str(tensor.name)] = str(q.name)
        return self._stored[known]

    def cut(self, node: ir.Node, x: ir.Value, grid: Grid, *, end: bool) -> ir.Value:
        """*x* within what the numbers that *node* makes of it can stand for, by a Clip if it may be outside.

        The model's inputs are not cut.  At its *end*, numbers are not cut but at 0, as a ReLU in front would do it.
        """
        scale, zero, q = constant_value(grid.scale), constant_value(grid.zero), node.outputs[0]
        dtype = q.dtype or (grid.zero.dtype if grid.zero is not None else None) or ir.DataType.UINT8
        if x.is_graph_input() or scale is None or dtype not in RANGES or (grid.zero is None) != (zero is None):
            return x
        (least, most), (low, high), slack = _range(x), numbers.bounds(scale, zero, dtype), float(scale.max()) / 2
        below, above = least < low - slack, most > high + slack and not end
        new, kind = self.new(node), (x.dtype or ir.DataType.FLOAT).numpy()
        if below and low == 0 and not above:
            out = new.Relu(x)
        elif not above and (not below or end):
            return x
        elif new.opset < 11:
            out = new.op("Clip", x, min=low, max=high)
        else:
            out = new.Clip(x, np.asarray(low, kind), np.asarray(high, kind))
        out.shape = x.shape
        new.put_before(node)
        return out


def refusal(node: ir.Node, why: str) -> UnsupportedError:
    """The error for a node that nothing can be made of."""
    return UnsupportedError(f"the operator {key(node)} {why}", where=place(node), fix=_FIX)


def needed(node: ir.Node, index: int) -> ir.Value:
    """The input *index* of *node*, which must be there."""
    value = optional(node, index)
    if value is None:
        raise refusal(node, f"has no input {index}")
    return value


def optional(node: ir.Node, index: int) -> ir.Value | None:
    """The same, where it need not."""
    return node.inputs[index] if index < len(node.inputs) else None


def _equal(one: Grid, other: Grid) -> bool:
    for a, b in ((one.scale, other.scale), (one.zero, other.zero)):
        left, right = constant_value(a), constant_value(b)
        if a is not b and (left is None or right is None or not np.array_equal(left, right)):
            return False
    return True


def _range(x: ir.Value) -> tuple[float, float]:
    """Between which numbers *x* lies, as far as its node says."""
    if (known := constant_value(x)) is not None and known.size:
        return float(known.min()), float(known.max())
    node = x.producer()
    if node is None:
        return -np.inf, np.inf
    if node.op_type in KEEPS:
        ranges = [_range(value) for value in node.inputs[: None if node.op_type == "Concat" else 1] if value]
        return min(low for low, _ in ranges), max(high for _, high in ranges)
    if node.op_type == "Clip" and len(node.inputs) == 3:
        low, high = (constant_value(value) for value in node.inputs[1:])
        return -np.inf if low is None else float(low), np.inf if high is None else float(high)
    return {"Relu": (0.0, np.inf), "Sigmoid": (0.0, 1.0), "Softmax": (0.0, 1.0)}.get(node.op_type, (-np.inf, np.inf))
