"""Where the batch stands in a value: its mark, and where that goes behind a node, by lengths or by inference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import onnx
import onnx_ir as ir

from dsd_ort.rewrite.nodes import constant_value
from dsd_ort.rewrite.shapes import by_schema, dims_of

BATCH = "batch"
"""What the dimension is called from now on."""


class Mark(NamedTuple):
    """Where the batch stands: in the axis of length ``before * k * after``."""

    axis: int
    before: int = 1
    after: int = 1


def inferred(node: ir.Node, marks: Mapping[ir.Value, Mark], opset: int) -> dict[ir.Value, Mark]:
    """The marks of the outputs of *node*, by ONNX's inference of the name of a dimension."""
    types = [None if value is None else _type_of(value, marks.get(value)) for value in node.inputs]
    found = {}
    for output, proto in zip(node.outputs, by_schema(node, types, constant_value, opset), strict=True):
        for axis, size in enumerate(proto.tensor_type.shape.dim if proto is not None else ()):
            if size.dim_param.startswith(f"{BATCH}:"):
                _, before, after = size.dim_param.split(":")
                found[output] = Mark(axis, int(before), int(after))
    return found


def _type_of(value: ir.Value, mark: Mark | None) -> onnx.TypeProto:
    """The type of *value*, with the mark as the name of a dimension."""
    proto, dims = onnx.TypeProto(), dims_of(value)
    proto.tensor_type.elem_type = int(value.dtype or 0)
    for axis, size in enumerate(dims or ()):
        if mark is not None and axis == mark.axis:
            proto.tensor_type.shape.dim.add(dim_param=f"{BATCH}:{mark.before}:{mark.after}")
        else:
            proto.tensor_type.shape.dim.add(dim_value=size if isinstance(size, int) else None)
    if dims == ():
        proto.tensor_type.shape.SetInParent()
    return proto


def reshaped(mark: Mark, shape: Sequence[int], other: Sequence[int], k: int) -> Mark | None:
    """Where the batch stands after a Reshape from *shape* to *other*, both with the batch size k.

    In memory, in front of the batch stand before · (the lengths of the axes in front) parts.  They have to be made by
    whole axes of *other* and a factor of the next one.
    """
    front = math.prod(shape[: mark.axis]) * mark.before
    found = []
    for axis, size in enumerate(other):
        whole = math.prod(other[:axis])
        if whole and front % whole == 0 and size % (front // whole * k) == 0:
            before = front // whole
            found.append(Mark(axis, before, size // (before * k)))

    def rank(new: Mark) -> tuple[bool, ...]:
        exact = new.before == new.after == 1
        behind = tuple(other[new.axis + 1 :]) == tuple(shape[mark.axis + 1 :])  # [T, k, C] → [T·k, C]
        left = new.after == 1 and behind
        features = new.axis == len(other) - 1
        return not (exact and new.axis == mark.axis), not exact, new != mark, features, not left, new.before != 1

    return min(found, key=rank) if found else None
