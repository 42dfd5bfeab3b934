"""Logits: the values in front of the activations that exported models end in.

softmax, log-softmax and sigmoid have no parameters, and the losses on logits contain them; so a loss attaches in front
of them, and the model keeps them.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from dsd_ort.rewrite.operators import Does, facts

_ACTIVATIONS = {"Softmax": "softmax", "LogSoftmax": "log-softmax", "Sigmoid": "sigmoid"}


@dataclass(frozen=True)
class Logits:
    """The name of the value that a loss on logits reads, and what the model does to it on the way to its output."""

    value: str
    activation: str | None = None
    """``"softmax"``, ``"log-softmax"``, ``"sigmoid"``, or None."""
    axis: int | None = None
    """What softmax and log-softmax are over, from 0."""
    rank: int | None = None
    """The number of axes, where that is known."""


def peel(model: ir.Model, output: str) -> Logits:
    """Follows *output* back through Identity, Casts of floats to floats, and one activation.

    The activation is Softmax or LogSoftmax, over an axis that is known from the front, or Sigmoid.
    """
    end = value_of(model.graph, output)
    value = _through_identities(end)
    node = value.producer()
    if node is None or node.domain not in ("", "ai.onnx") or node.op_type not in _ACTIVATIONS:
        return Logits(output)
    before = node.inputs[0]
    assert before is not None and before.name, "activations have an input"
    name, activation = str(_through_identities(before).name), _ACTIVATIONS[node.op_type]
    if activation == "sigmoid":
        return Logits(name, activation)
    shape, axis = shape_of(model, before, value) or end.shape, node.attributes.get_int("axis", -1)
    if axis < 0 and shape is None:
        return Logits(output)
    rank = None if shape is None else shape.rank()
    return Logits(name, activation, axis + (rank or 0) if axis < 0 else axis, rank)


def activation_behind(value: ir.Value) -> ir.Node | None:
    """The Softmax, LogSoftmax or Sigmoid that *value* is made of by nothing but moving numbers about, if it is."""
    node = value.producer()
    while node is not None and node.op_type not in _ACTIVATIONS and facts(node).does & (Does.MOVES | Does.PASSES):
        before = node.inputs[0]
        node = None if before is None else before.producer()
    return node if node is not None and node.domain in ("", "ai.onnx") and node.op_type in _ACTIVATIONS else None


def value_of(graph: ir.Graph, name: str) -> ir.Value:
    """The value called *name* in the main graph."""
    return ir.convenience.create_value_mapping(graph, include_subgraphs=False)[name]


def shape_of(model: ir.Model, value: ir.Value, same: ir.Value) -> ir.Shape | None:
    """What is known of the shape of *value*, which *same* has too; inferred where nobody has done so."""

    def known() -> ir.Shape | None:
        if value.shape is None or same.shape is None:
            return value.shape or same.shape
        return ir.Shape([a if isinstance(a, int) else b for a, b in zip(value.shape, same.shape, strict=True)])

    shape = known()
    if shape is None or value.dtype is None:
        ShapeInferencePass(check_type=False, strict_mode=False)(model)
        shape = known()
    return shape


def _through_identities(value: ir.Value) -> ir.Value:
    node = value.producer()
    while node is not None and node.op_type in ("Identity", "Cast") and node.inputs[0] is not None:
        before = node.inputs[0]
        if node.op_type == "Cast" and not (_is_floating(value) and _is_floating(before)):
            break
        value, node = before, before.producer()
    return value


def _is_floating(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()
