"""The element type of every value of a graph, those that rewrites and differentiation left out included.

Requires a graph in the order of computation, whose inputs have types.  Types that are there are believed; the others
follow from the operator (:mod:`dsd_ort.rewrite.operators`): what it always gives, or the type of one of its inputs.
"""

from __future__ import annotations

import onnx_ir as ir

from dsd_ort.rewrite.operators import facts, key
from dsd_ort.rewrite.parts import bodies


def infer(graph: ir.Graph) -> None:
    """Fills in the types that values of *graph* and its subgraphs have not, in place."""
    for node in graph:
        inside = bodies(node)
        for body in inside:
            for inner, outer in zip(body.inputs, node.inputs, strict=False):
                _settle(inner, None if outer is None else outer.dtype)
            infer(body)
        for i, output in enumerate(node.outputs):
            _settle(output, inside[0].outputs[i].dtype if inside else result(node, i))


def result(node: ir.Node, index: int) -> ir.DataType | None:
    """The type of output *index* of *node*, which has no graph inside; None where what it reads has none."""
    known = facts(node)
    if index == 1 and known.second is not None:
        return known.second
    if key(node) == "Cast":
        return ir.DataType(node.attributes.get_int("to", 0))
    if key(node) in ("Constant", "ConstantOfShape"):
        return _content(node)
    if known.gives is not None:
        return known.gives
    value = node.inputs[known.like] if known.like < len(node.inputs) else None
    return None if value is None else value.dtype


def _content(node: ir.Node) -> ir.DataType | None:
    if node.op_type == "Constant":
        tensor = ir.convenience.get_const_tensor(node.outputs[0])
        return None if tensor is None else tensor.dtype
    attribute = node.attributes.get("value")
    return ir.DataType.FLOAT if attribute is None else attribute.as_tensor().dtype


def _settle(value: ir.Value, dtype: ir.DataType | None) -> None:
    if value.dtype is None and dtype is not None:
        value.type = ir.TensorType(dtype)
