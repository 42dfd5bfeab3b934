"""What exporters write out in several operators and ONNX Runtime has as one: GELU, by Erf and by Tanh.

Exporters of opsets before 20 have no other way.  One operator has one number to keep for its gradient, what it reads,
where the others have four and more.  ONNX Runtime's inference puts the same operators in their place.
"""

from __future__ import annotations

import math

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from dsd_ort.notes import Note
from dsd_ort.rewrite.names import place
from dsd_ort.rewrite.nodes import Nodes, constant_value, take_over

_CLOSE = 1e-5
"""By which a factor may differ from what it stands for: exporters round."""
_GELU = {"Erf": "Gelu", "Tanh": "FastGelu"}
"""The operator that t makes of x in x · ½ · (1 + t)."""


def as_one(model: ir.Model) -> list[Note]:
    """Puts one operator in the place of what is written out in the graph of *model*; a note for each."""
    notes = []
    for node in [node for node in model.graph if node.op_type in _GELU and not node.domain]:
        x = _by_erf(node) if node.op_type == "Erf" else _by_tanh(node)
        last = None if x is None or x.dtype != ir.DataType.FLOAT else _end(node, x)
        if last is None:
            continue
        one = _GELU[node.op_type]
        notes.append(Note(kind="rewrite", node=place(last), words=f"written out with {node.op_type}, as one {one}"))
        new = Nodes.of(model.graph, last.name or one)
        y = new.op(f"com.microsoft.{one}", x)
        new.put_before(last)
        take_over(last.outputs[0], y)
    if notes:
        model.graph.opset_imports.setdefault("com.microsoft", 1)
        RemoveUnusedNodesPass()(model)
    return notes


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
