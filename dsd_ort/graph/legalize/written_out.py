"""What exporters write out in several operators and ONNX Runtime has as one: GELU by Erf.

Exporters of opsets before 20 have no other way.  One operator has one number to keep for its gradient, what it reads,
where the five have four.  ONNX Runtime's inference puts the same operator in their place.
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


def as_one(model: ir.Model) -> list[Note]:
    """Puts one operator in the place of what is written out in the graph of *model*; a note for each."""
    notes = []
    for erf in [node for node in model.graph if node.op_type == "Erf" and not node.domain]:
        found = _gelu(erf)
        if found is None:
            continue
        x, last = found
        notes.append(Note(kind="rewrite", node=place(last), words="x·Φ(x), written out with Erf, as one Gelu"))
        new = Nodes.of(model.graph, last.name or "Gelu")
        y = new.op("com.microsoft.Gelu", x)
        new.put_before(last)
        take_over(last.outputs[0], y)
    if notes:
        model.graph.opset_imports.setdefault("com.microsoft", 1)
        RemoveUnusedNodesPass()(model)
    return notes


def _gelu(erf: ir.Node) -> tuple[ir.Value, ir.Node] | None:
    """The x of x · ½ · (1 + erf(x/√2)), factors in any order, and the node that gives it."""
    scaled = None if erf.inputs[0] is None else erf.inputs[0].producer()
    x = None if scaled is None else _scaled(scaled, math.sqrt(0.5))
    added = _only_reader(erf.outputs[0])
    if x is None or x.dtype != ir.DataType.FLOAT or added is None or not _is(_other(added, erf.outputs[0], "Add"), 1.0):
        return None
    left, last = {"x", "half"}, added
    while left:
        value = last.outputs[0]
        reader = _only_reader(value)
        other = None if reader is None else _other(reader, value, "Mul")
        if reader is None or other is None:
            return None
        maker = other.producer()
        if other is x and "x" in left:
            left -= {"x"}
        elif _is(other, 0.5) and "half" in left:
            left -= {"half"}
        elif maker is not None and _scaled(maker, 0.5) is x and left == {"x", "half"}:
            left = set()
        else:
            return None
        last = reader
    return x, last


def _only_reader(value: ir.Value) -> ir.Node | None:
    readers = [use.node for use in value.uses()]
    return readers[0] if len(readers) == 1 and not value.is_graph_output() else None


def _other(node: ir.Node, value: ir.Value, op_type: str) -> ir.Value | None:
    """What *node*, an *op_type*, reads beside *value*."""
    if node.op_type != op_type or node.domain or len(node.inputs) != 2:
        return None
    return node.inputs[1] if node.inputs[0] is value else node.inputs[0]


def _scaled(node: ir.Node, factor: float) -> ir.Value | None:
    """What *node* multiplies by *factor*, or divides by its inverse."""
    if node.domain or len(node.inputs) != 2:
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
