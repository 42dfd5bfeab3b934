"""What ONNX's version converter gets wrong, refuses or obscures in models of old opsets."""

from __future__ import annotations

import onnx
import onnx.version_converter
import onnx_ir as ir

from dsd_ort.rewrite.names import Names, label
from dsd_ort.rewrite.nodes import Nodes, named
from dsd_ort.rewrite.site import Site

_BINARY = {"Add", "And", "Div", "Equal", "Gemm", "Greater", "Less", "Mul", "Or", "PRelu", "Pow", "Sub", "Xor"}


def to_7(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """*proto*, of an *opset* older than 7, in opset 7; the converter takes this step with fixed lengths only.

    Until then ``axis`` said where the second operand's axes stand among the first's; now they stand at the end.
    """
    if opset < 6:
        proto = onnx.version_converter.convert_version(proto, 6)
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto))
    names = Names(model.graph)
    for node in list(model.graph.all_nodes()):
        if node.domain != "":
            continue
        if node.op_type in ("BatchNormalization", "Dropout"):
            node.attributes.pop("is_test", None)
        if node.op_type not in _BINARY:
            continue
        node.attributes.pop("broadcast", None)
        axis = node.attributes.pop("axis", None)
        x, y = node.inputs[:2]
        if axis is None or x is None or y is None or x.shape is None or y.shape is None:
            continue
        behind = len(x.shape) - axis.as_int() % len(x.shape) - len(y.shape)
        if behind > 0:
            new = Nodes(label(node), opset=7, names=names)
            node.replace_input_with(1, new.Unsqueeze(y, axes=range(len(y.shape), len(y.shape) + behind)))
            new.put_before(node)
    model.opset_imports[""] = 7
    return ir.to_proto(model)


def hardmax(site: Site) -> ir.Value:
    """Hardmax(x) → Reshape(Hardmax(Flatten(x)), Shape(x)): before opset 13 it looks at all axes from its own on.

    The converter, which does this for Softmax, forgets it.
    """
    x = site.input(0)
    flat = site.Flatten(x, axis=site.node.attributes.get_int("axis", 1))
    return site.Reshape(site.Hardmax(flat, axis=1), site.Shape(x))


def softmax(site: Site) -> ir.Value | None:
    """Reshape(Softmax(Flatten(x)), Shape(x)) → Softmax(x), where behind its axis x has only axes of length 1.

    The converter makes the former of a Softmax older than opset 13, which normalises over all axes from its own on.
    A loss has to find the logits in front of it.
    """
    old, shape = _producer(site.node, "Reshape", 0), _producer(site.node, "Reshape", 1)
    flat = _producer(old, "Softmax", 0) or _producer(old, "LogSoftmax", 0)
    x = flat.inputs[0] if flat is not None and flat.op_type == "Flatten" else None
    if x is None or x.shape is None or shape is None or shape.op_type != "Shape" or shape.inputs[0] is not x:
        return None
    assert old is not None and flat is not None
    axis = flat.attributes.get_int("axis", 1)
    return named(site.op(old.op_type, x, axis=axis), old.name) if all(d == 1 for d in x.shape[axis:][1:]) else None


def _producer(node: ir.Node | None, op_type: str, index: int) -> ir.Node | None:
    """What computes input *index* of *node*, if that is an *op_type*."""
    if node is None or node.domain != "" or node.op_type != op_type or index >= len(node.inputs):
        return None
    value = node.inputs[index]
    return None if value is None else value.producer()
