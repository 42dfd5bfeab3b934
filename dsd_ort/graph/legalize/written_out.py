"""What exporters write out in several operators and ONNX Runtime has as one: GELU, by Erf or Tanh, and layer norm.

Exporters have no other way before opset 20, and 17.  One operator has one number to keep for its gradient, what it
reads, where the others have four and more.  ONNX Runtime's inference puts the same operators in their place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from dsd_ort.notes import Note
from dsd_ort.rewrite.names import place
from dsd_ort.rewrite.nodes import Nodes, constant_value, take_over
from dsd_ort.rewrite.shapes import dims_of

_CLOSE = 1e-5
"""By which a factor may differ from what it stands for: exporters round."""


class _Written(NamedTuple):
    """What *last* gives is what *operator* makes of *inputs*."""

    last: ir.Node
    operator: str
    inputs: tuple[ir.Value, ...]
    attributes: Mapping[str, float] = {}


def as_one(model: ir.Model) -> list[Note]:
    """Puts one operator in the place of what is written out in the graph of *model*; a note for each."""
    notes = []
    for node in [node for node in model.graph if node.op_type in _FINDERS and not node.domain]:
        found = _FINDERS[node.op_type](node)
        if found is None or found.inputs[0].dtype != ir.DataType.FLOAT:
            continue
        name = found.operator.rpartition(".")[2]
        notes.append(
            Note(kind="rewrite", node=place(found.last), words=f"written out with {node.op_type}, as one {name}")
        )
        new = Nodes.of(model.graph, found.last.name or name)
        y = new.op(found.operator, *found.inputs, **found.attributes)
        new.put_before(found.last)
        take_over(found.last.outputs[0], y)
        if "." in found.operator:
            model.graph.opset_imports.setdefault("com.microsoft", 1)
    if notes:
        RemoveUnusedNodesPass()(model)
    return notes


def _gelu(node: ir.Node) -> _Written | None:
    """GELU, x · ½ · (1 + t), where t is Erf's or Tanh's."""
    x = _by_erf(node) if node.op_type == "Erf" else _by_tanh(node)
    last = None if x is None else _end(node, x)
    operator = "com.microsoft.Gelu" if node.op_type == "Erf" else "com.microsoft.FastGelu"
    return None if x is None or last is None else _Written(last, operator, (x,))


def _by_erf(erf: ir.Node) -> ir.Value | None:
    """The x of erf(x/√2)."""
    return _scaled(_maker(erf.inputs[0]), math.sqrt(0.5))


def _by_tanh(tanh: ir.Node) -> ir.Value | None:
    """The x of tanh(√(2/π)·(x + 0.044715·x³))."""
    total = _maker(_scaled(_maker(tanh.inputs[0]), math.sqrt(2 / math.pi)))
    if total is None or total.op_type != "Add" or total.domain:
        return None
    for x, cubic in (total.inputs, total.inputs[::-1]):
        if x is not None and _is_cube(_scaled(_maker(cubic), 0.044715), x):
            return x
    return None


def _is_cube(value: ir.Value | None, x: ir.Value) -> bool:
    """Is it x³, as a power or as a product?"""
    node = _maker(value)
    if node is None or node.domain or len(node.inputs) != 2:
        return False
    if node.op_type == "Pow":
        return node.inputs[0] is x and _is(node.inputs[1], 3.0)
    if node.op_type != "Mul" or x not in node.inputs:
        return False
    square = _maker(node.inputs[1] if node.inputs[0] is x else node.inputs[0])
    if square is None or square.domain or square.inputs[0] is not x:
        return False
    return square.inputs[1] is x if square.op_type == "Mul" else square.op_type == "Pow" and _is(square.inputs[1], 2.0)


def _end(node: ir.Node, x: ir.Value) -> ir.Node | None:
    """What gives x · ½ · (1 + t), factors in any order, for the t of *node*, if nothing else reads what is between."""
    added = _only_reader(node.outputs[0])
    if added is None or not _is(_other(added, node.outputs[0], "Add"), 1.0):
        return None
    left, last = {"x", "half"}, added
    while left:
        value = last.outputs[0]
        reader = _only_reader(value)
        other = None if reader is None else _other(reader, value, "Mul")
        if reader is None or other is None:
            return None
        if other is x and "x" in left:
            left -= {"x"}
        elif _is(other, 0.5) and "half" in left:
            left -= {"half"}
        elif _scaled(_maker(other), 0.5) is x and left == {"x", "half"}:
            left = set()
        else:
            return None
        last = reader
    return last


def _layer_norm(root: ir.Node) -> _Written | None:
    """(x - mean) / √(variance + ε) · γ + β along the last axis, for the root."""
    variance = _maker(root.inputs[0])
    epsilon = variance and _number_beside(variance, "Add")
    quotient, squares = (
        _only_reader(root.outputs[0]),
        None if variance is None else _mean_of_last(_maker(variance.inputs[0])),
    )
    if not epsilon or quotient is None or squares is None or quotient.op_type != "Div" or quotient.domain:
        return None
    x = _centred(quotient.inputs[0])
    if x is None or quotient.inputs[1] is not root.outputs[0] or _centred(_squared(squares)) is not x:
        return None
    scaled = _only_reader(quotient.outputs[0])
    scale = None if scaled is None else _other(scaled, quotient.outputs[0], "Mul")
    last = None if scaled is None else _only_reader(scaled.outputs[0])
    bias = None if scaled is None or last is None else _other(last, scaled.outputs[0], "Add")
    width = dims_of(x)
    if last is None or scale is None or bias is None or not width or not isinstance(width[-1], int):
        return None
    if dims_of(scale) != (width[-1],) or dims_of(bias) != (width[-1],):
        return None
    return _Written(last, "LayerNormalization", (x, scale, bias), {"epsilon": epsilon})


def _number_beside(node: ir.Node, op_type: str) -> float | None:
    """The scalar that *node*, an *op_type*, reads as its second input."""
    if node.op_type != op_type or node.domain or len(node.inputs) != 2:
        return None
    array = constant_value(node.inputs[1])
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def _mean_of_last(node: ir.Node | None) -> ir.Value | None:
    """What *node* takes the mean of along the last axis, which stays with length 1."""
    if node is None or node.op_type != "ReduceMean" or node.domain or node.attributes.get_int("keepdims", 1) != 1:
        return None
    x, axes = node.inputs[0], constant_value(node.inputs[1]) if len(node.inputs) > 1 else None
    dims = None if x is None else dims_of(x)
    if axes is None or dims is None or axes.size != 1 or int(axes.reshape(-1)[0]) % len(dims) != len(dims) - 1:
        return None
    return x


def _centred(value: ir.Value | None) -> ir.Value | None:
    """The x of x - mean x."""
    node = _maker(value)
    if node is None or node.op_type != "Sub" or node.domain:
        return None
    return node.inputs[0] if _mean_of_last(_maker(node.inputs[1])) is node.inputs[0] else None


def _squared(value: ir.Value | None) -> ir.Value | None:
    node = _maker(value)
    if node is None or node.domain or len(node.inputs) != 2:
        return None
    is_square = node.op_type == "Pow" and _is(node.inputs[1], 2.0)
    return node.inputs[0] if is_square or (node.op_type == "Mul" and node.inputs[0] is node.inputs[1]) else None


def _maker(value: ir.Value | None) -> ir.Node | None:
    return None if value is None else value.producer()


def _only_reader(value: ir.Value) -> ir.Node | None:
    readers = [use.node for use in value.uses()]
    return readers[0] if len(readers) == 1 and not value.is_graph_output() else None


def _other(node: ir.Node, value: ir.Value, op_type: str) -> ir.Value | None:
    """What *node*, an *op_type*, reads beside *value*."""
    if node.op_type != op_type or node.domain or len(node.inputs) != 2:
        return None
    return node.inputs[1] if node.inputs[0] is value else node.inputs[0]


def _scaled(node: ir.Node | None, factor: float) -> ir.Value | None:
    """What *node* multiplies by *factor*, or divides by its inverse."""
    if node is None or node.domain or len(node.inputs) != 2:
        return None
    if node.op_type == "Div":
        return node.inputs[0] if _is(node.inputs[1], 1 / factor) else None
    if node.op_type != "Mul":
        return None
    for value, other in (node.inputs, node.inputs[::-1]):
        if _is(other, factor):
            return value
    return None


def _is(value: ir.Value | None, number: float) -> bool:
    """Is it this number, a scalar?"""
    array = constant_value(value)
    return array is not None and array.size == 1 and abs(float(array.reshape(-1)[0]) - number) <= _CLOSE


_FINDERS = {"Erf": _gelu, "Tanh": _gelu, "Sqrt": _layer_norm}
"""By the operator that is looked from."""
