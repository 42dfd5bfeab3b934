"""Batch norm without running statistics: it normalises by the batch in inference too, and so in training.

Exporters write it as BatchNormalization whose statistics no training moves: computed from what it normalises, or, in
training mode, constants of which only the running outputs would know, means of 0 and variances of 1.  In a training
copy it is what it computes, per channel (axis 1), and the gradient goes through the statistics::

    y = (x - μ) · scale / √(σ² + ε) + bias          μ = mean x          σ² = mean (x - μ)²

where the file computes μ and σ² itself, out of training mode, they are its own.  The file that ships keeps its node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from dsd_ort.model.source import Source
from dsd_ort.notes import Note
from dsd_ort.rewrite.flow import sources
from dsd_ort.rewrite.names import place
from dsd_ort.rewrite.nodes import Nodes, constant_value

Content: TypeAlias = "Callable[[ir.Value], npt.NDArray[Any] | None]"
"""What a value holds, where the file stores it."""

_FOLLOWING = ("running", "moving")
"""What exporters call statistics that follow the batches: these may be new, and are then 0 and 1 too."""
_AXES_ARE_INPUT = 18
"""The first opset whose ReduceMean reads its axes."""


def is_without(node: ir.Node, content: Content) -> bool:
    """Whether *node* is a batch norm without running statistics, whose running outputs nothing reads."""
    if node.op_type != "BatchNormalization" or node.domain or len(node.inputs) < 5:
        return False
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        return False
    x, mean, variance = node.inputs[0], node.inputs[3], node.inputs[4]
    if x is None or mean is None or variance is None:
        return False
    held = [content(_stored(mean)), content(_stored(variance))]
    if not in_training_mode(node):
        return all(array is None for array in held) and _reaches(mean, x)
    if any(array is None for array in held):
        return all(_stored(value).producer() is not None for value in (mean, variance))
    named = any(word in str(value.name).lower() for value in (mean, variance) for word in _FOLLOWING)
    return not named and all(bool(np.all(array == i)) for i, array in enumerate(held))


def in_training_mode(node: ir.Node) -> bool:
    """Whether the batch norm *node* normalises by the batch, whatever its statistics."""
    return len(node.outputs) > 1 or bool(node.attributes.get_int("training_mode", 0))


def write_out(model: ir.Model, content: Content) -> None:
    """Puts what they compute into the place of *model*'s batch norms without running statistics, in place."""
    nodes = [node for node in model.graph.all_nodes() if is_without(node, content)]
    if any(node.inputs[0] is not None and node.inputs[0].shape is None for node in nodes):
        ShapeInferencePass(check_type=False, strict_mode=False)(model)
    for node in nodes:
        new = Nodes.of(model.graph, node.outputs[0].name or "batch_norm")
        y = _normalised(new, node)
        if y is not None and node.graph is not None:
            new.put_before(node)
            ir.convenience.replace_nodes_and_values(node.graph, node, [node], [], node.outputs[:1], [y])


def content_of(source: Source) -> Content:
    """What the values of a model of *source* hold that it stores, also where they are inputs of a training copy."""
    names = {name: p.name for p in source.statistics for name in (p.name, *p.aliases)}

    def content(value: ir.Value) -> npt.NDArray[Any] | None:
        name = names.get(str(value.name))
        return constant_value(value) if name is None else source.value(name)

    return content


def places(source: Source) -> list[str]:
    """Which batch norms of *source* have none, and normalise data: a kernel that one standardises is no batch."""
    graph, content = source.model.graph, content_of(source)
    found = (node for node in graph.all_nodes() if is_without(node, content))
    return [place(node) for node in found if _is_of_data(node.inputs[0], graph)]


def _is_of_data(value: ir.Value | None, graph: ir.Graph) -> bool:
    """Whether an input that data feeds reaches *value*."""
    inputs = {x for x in graph.inputs if x.name not in graph.initializers}
    return value is not None and not inputs.isdisjoint(sources([value]))


def notes(source: Source) -> tuple[Note, ...]:
    """What people should know of them."""
    words = "has no running statistics: it normalises by the batch, in training, in evaluation and as it ships"
    return tuple(Note(kind="file", words=f"{name} {words}") for name in places(source))


def _normalised(new: Nodes, node: ir.Node) -> ir.Value | None:
    """The y of *node*; None where the rank of what it reads is not known."""
    x, scale, bias, mean, variance = node.inputs[:5]
    assert x is not None
    if x.shape is None:
        return None
    axes = [axis for axis in range(len(x.shape)) if axis != 1]
    by_channel = [1, -1, *[1] * (len(x.shape) - 2)]

    def average(value: ir.Value) -> ir.Value:
        if new.opset < _AXES_ARE_INPUT:
            return new.ReduceMean(value, axes=axes, keepdims=1)
        return new.ReduceMean(value, axes, keepdims=1)

    def spread(value: ir.Value | None) -> ir.Value:
        return new.Reshape(value, by_channel)

    own = not in_training_mode(node)
    centred = new.Sub(x, spread(mean) if own else average(x))
    of_batch = spread(variance) if own else average(new.Mul(centred, centred))
    epsilon = new.constant(_like(node.attributes.get_float("epsilon", 1e-5), x.dtype))
    factor = new.Div(spread(scale), new.Sqrt(new.Add(of_batch, epsilon)))
    return new.Add(new.Mul(centred, factor), spread(bias))


def _like(number: float, dtype: ir.DataType | None) -> ir.TensorProtocol:
    """*number* as a scalar of the type *dtype*."""
    return ir.tensor(number, dtype=dtype or ir.DataType.FLOAT)


def _stored(value: ir.Value) -> ir.Value:
    """*value*, or what it is in another type."""
    node = value.producer()
    before = node.inputs[0] if node is not None and node.op_type in ("Cast", "Identity") else None
    return value if before is None else _stored(before)


def _reaches(value: ir.Value, x: ir.Value) -> bool:
    """Whether *value* is computed from *x*, whatever its type there."""
    wanted, seen, stack = _stored(x), {value}, [value]
    while stack:
        if (node := stack.pop().producer()) is not None:
            new = {other for other in node.inputs if other is not None} - seen
            seen |= new
            stack.extend(new)
    return wanted in seen
