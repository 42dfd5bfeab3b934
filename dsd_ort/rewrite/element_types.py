"""The element type of every value of a graph, those that rewrites and the gradient builder left out included.

Requires a graph in the order of computation, whose inputs have types.  Types that are there are believed; the others
follow from the operator: what it always gives (:data:`ALWAYS`), or the type of one of its inputs, the first if
:data:`LIKE` does not say another.
"""

from __future__ import annotations

import onnx_ir as ir

_BOOL = "And Equal Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Not Or Xor"
_INT64 = "ArgMax ArgMin NonZero Shape Size com.microsoft.BroadcastGradientArgs"
ALWAYS = dict.fromkeys(_BOOL.split(), ir.DataType.BOOL) | dict.fromkeys(_INT64.split(), ir.DataType.INT64)
"""Operator → the type of all its outputs."""

SECOND = {"Dropout": ir.DataType.BOOL, "MaxPool": ir.DataType.INT64, "TopK": ir.DataType.INT64}
"""Operator → the type of its second output, where that is not the first one's."""

LIKE = {
    "CastLike": 1,
    "OneHot": 2,
    "Where": 1,
    "com.microsoft.GatherGrad": 2,
    "com.microsoft.GatherNDGrad": 2,
}
"""Operator → the input whose type its outputs have."""


def key(node: ir.Node) -> str:
    """The operator of *node*, with the domain in front if it is not ONNX's own."""
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type


def infer(graph: ir.Graph) -> None:
    """Fills in the types that values of *graph* and its subgraphs have not, in place."""
    for node in graph:
        bodies = [attribute.as_graph() for attribute in node.attributes.values() if _is_graph(attribute)]
        for body in bodies:
            for inner, outer in zip(body.inputs, node.inputs, strict=False):
                _settle(inner, None if outer is None else outer.dtype)
            infer(body)
        for i, output in enumerate(node.outputs):
            _settle(output, bodies[0].outputs[i].dtype if bodies else _result(node, i))


def _result(node: ir.Node, index: int) -> ir.DataType | None:
    op_type = key(node)
    if index == 1 and op_type in SECOND:
        return SECOND[op_type]
    if op_type == "Cast":
        return ir.DataType(node.attributes.get_int("to", 0))
    if op_type in {"Constant", "ConstantOfShape"}:
        return _content(node)
    if op_type in ALWAYS:
        return ALWAYS[op_type]
    like = LIKE.get(op_type, 0)
    value = node.inputs[like] if like < len(node.inputs) else None
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


def _is_graph(attribute: ir.Attr) -> bool:
    return attribute.type == ir.AttributeType.GRAPH
