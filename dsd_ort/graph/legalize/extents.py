"""What the entries of a computed shape are: exporters put shapes together, from lengths of other values and numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import onnx_ir as ir

from dsd_ort.rewrite.nodes import constant_value

Extent: TypeAlias = "int | tuple[ir.Value, int] | None"
"""A length: a number, or a value and the axis of it that is so long; None where nothing is known."""


def entry(value: ir.Value | None, i: int) -> Extent:
    """Entry *i* of the vector *value*; a scalar counts as a vector of one."""
    known = constant_value(value)
    if known is not None:
        return int(known.ravel()[i])
    node = None if value is None else value.producer()
    return _ENTRY[node.op_type](node, i) if node is not None and node.op_type in _ENTRY else None


def _of_shape(node: ir.Node, i: int) -> Extent:
    source = node.inputs[0]
    if source is None or source.shape is None:
        return None
    return source, range(source.shape.rank())[node.attributes.get_int("start", 0) :][i]


def _of_the_same(node: ir.Node, i: int) -> Extent:
    return entry(node.inputs[0], i)


def _of_gather(node: ir.Node, i: int) -> Extent:
    places = constant_value(node.inputs[1])
    return None if places is None else entry(node.inputs[0], int(places.ravel()[i]))


def _of_slice(node: ir.Node, i: int) -> Extent:
    start, step = constant_value(node.inputs[1]), constant_value(node.inputs[4]) if len(node.inputs) > 4 else [1]
    plain = start is not None and start[0] >= 0 and step is not None and step[0] == 1
    return entry(node.inputs[0], int(start[0]) + i) if start is not None and plain else None


def _of_concat(node: ir.Node, i: int) -> Extent:
    for part in node.inputs:
        size = part.shape[0] if part is not None and part.shape is not None and part.shape.rank() else None
        if not isinstance(size, int) or i < 0:
            return None
        if i < size:
            return entry(part, i)
        i -= size
    return None


_ENTRY: dict[str, Callable[[ir.Node, int], Extent]] = {
    "Cast": _of_the_same,
    "Concat": _of_concat,
    "Gather": _of_gather,
    "Identity": _of_the_same,
    "Reshape": _of_the_same,
    "Shape": _of_shape,
    "Slice": _of_slice,
    "Squeeze": _of_the_same,
    "Unsqueeze": _of_the_same,
}
