"""A graph's value as the expression that computes it, for golden tests: ``Add(Relu(x), Mul(s, Clip(x, _, 0)))``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir


def expression(value: ir.Value | None, known: Mapping[ir.Value, str] | None = None) -> str:
    """*value* in terms of the graph's inputs, or of *known* values.

    Constants stand as numbers, large ones as their shape; a second output of the node carries ``.1``, and so on;
    attributes stand behind the inputs.
    """
    if value is None:
        return "_"
    if known and value in known:
        return known[value]
    constant = ir.convenience.get_const_tensor(value)
    if constant is not None:
        return _numbers(constant.numpy())
    node = value.producer()
    if node is None:
        return str(value.name)
    if settles_number(node):
        return expression(node.inputs[0], known)
    arguments = [expression(v, known) for v in node.inputs]
    arguments += [f"{name}={_attribute(a)}" for name, a in sorted(node.attributes.items())]
    output = f".{value.index()}" if value.index() else ""
    return f"{operator_of(node)}({', '.join(arguments)}){output}"


def settles_number(node: ir.Node) -> bool:
    """Whether *node* is a Reshape that legalize puts behind every single number (``names.settle_numbers``)."""
    return bool(node.inputs) and node.inputs[0] is not None and (node.inputs[0].name or "").endswith("/number")


def hides_shape(node: ir.Node) -> bool:
    """Whether *node* is a Reshape of a value to its own shape, written so that nobody infers it."""
    shape = node.inputs[1].producer() if node.op_type == "Reshape" and node.inputs[1] is not None else None
    return shape is not None and shape.op_type == "Compress"


def operator_of(node: ir.Node) -> str:
    """The operator's name, without the digest of one of our own."""
    return node.op_type.rpartition("_")[0] if node.domain == "dsd_ort" else node.op_type


def _numbers(array: np.ndarray) -> str:
    if array.size > 8:
        return f"{array.dtype}{list(array.shape)}"
    if array.ndim == 0:
        return f"{array.item():.4g}" if array.dtype.kind == "f" else str(array.item())
    return "[" + " ".join(_numbers(row) for row in array) + "]"


def _attribute(attribute: ir.Attr) -> str:
    value = attribute.value
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, ir.TensorProtocol):
        return _numbers(value.numpy())
    if isinstance(value, tuple | list):
        return "[" + " ".join(map(str, value)) + "]"
    return str(value)
