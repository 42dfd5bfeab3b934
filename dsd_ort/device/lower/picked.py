"""Queries, keys and values are often picked from one tensor, a Gather each; their gradients are put side by side again.

Each GatherGrad fills a tensor with zeros and adds its part, and a Sum adds the tensors.  Where the parts are all there
are, each picked once, the sum is their Concat.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import onnx_ir as ir

from dsd_ort.rewrite.nodes import constant_value
from dsd_ort.rewrite.shapes import dims_of
from dsd_ort.rewrite.site import Site


def put_together(site: Site) -> ir.Value | None:
    """Σ GatherGrad(shape of X, i, dYᵢ) along an axis of X: [dY₀, dY₁, …], where i goes over the whole axis."""
    parts = [part for value in site.node.inputs if (part := _picked(value)) is not None]
    if len(parts) < max(2, len(site.node.inputs)):
        return None
    found = {part.where: part.dy for part in parts}
    axis, length, rank = parts[0].axis, parts[0].length, parts[0].rank
    if any(part.axis != axis for part in parts) or length != len(parts) or len(found) < length:
        return None
    pieces = [found[where] for where in range(length)]
    whole = [piece if site.rank(piece) == rank else site.Unsqueeze(piece, [axis]) for piece in pieces]
    return site.Concat(*whole, axis=axis)


class _Part(NamedTuple):
    """What a GatherGrad adds, and where: in one place along an axis of a tensor of *rank*, which is *length* long."""

    where: int
    axis: int
    length: int
    rank: int
    dy: ir.Value


def _picked(value: ir.Value | None) -> _Part | None:
    """What the GatherGrad that gives *value* does, if that is one place; None for anything else."""
    node = None if value is None else value.producer()
    if node is None or node.op_type != "GatherGrad":
        return None
    shape, indices, dy = node.inputs
    dims, index = _content(shape), constant_value(indices)
    if dy is None or dims_of(dy) is None or index is None or index.size != 1 or not dims:
        return None
    axis = node.attributes.get_int("axis", 0) % len(dims)
    length = dims[axis]
    return _Part(int(index.reshape(())) % length, axis, length, len(dims), dy) if isinstance(length, int) else None


def _content(shape: ir.Value | None) -> Sequence[int | str | None] | None:
    """The sizes that *shape* holds, as far as they are known: a constant, or what Shape says of a tensor."""
    if (fixed := constant_value(shape)) is not None:
        sizes: list[int | str | None] = fixed.tolist()
        return sizes
    maker = None if shape is None else shape.producer()
    whole = maker is not None and maker.op_type == "Shape" and not maker.attributes and maker.inputs[0] is not None
    return dims_of(maker.inputs[0]) if whole and maker and maker.inputs[0] else None
