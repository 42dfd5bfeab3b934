"""Operators that move, repeat or cut off entries: the gradient goes the same way back."""

from __future__ import annotations

from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dsd_ort.graph.differentiate.adjoint import Adjoint, Gradients, known, length
from dsd_ort.rewrite.nodes import constant_value
from dsd_ort.rewrite.shapes import dims_of

LONGEST = 2**31 - 1
"""No axis is longer; an end that is so far in front stands for all of it."""


def reshape(at: Adjoint) -> Gradients:
    """Y has the entries of X in another shape: dX = dY in X's."""
    return at.reshaped(at.dy, at.x)


def squeeze(at: Adjoint) -> Gradients:
    """Y = X without axes of length 1: dX = dY with them."""
    axes = at.optional(1)
    return at.reshaped(at.dy, at.x) if axes is None else at.Unsqueeze(at.dy, axes)


def unsqueeze(at: Adjoint) -> Gradients:
    """Y = X with more axes of length 1: dX = dY without them."""
    return at.Squeeze(at.dy, at.input(1))


def transpose(at: Adjoint) -> Gradients:
    """Y = X with its axes in the order p: dX = dY with its axes in the order p⁻¹."""
    perm = at.node.attributes.get_ints("perm", None)
    if perm is None:
        return at.Transpose(at.dy)
    return at.Transpose(at.dy, perm=[int(axis) for axis in np.argsort(perm)])


def expand(at: Adjoint) -> Gradients:
    """Y = X repeated along axes: dX is the sum of dY over them."""
    return at.summed(at.dy, at.x)


def tile(at: Adjoint) -> Gradients:
    """Y = X, r times along each axis: dX is the sum over the copies, dY as [r, length] for each axis."""
    copies, sizes = constant_value(at.input(1)), dims_of(at.x)
    pairs: list[int] | ir.Value
    if copies is not None and sizes is not None and (lengths := known(sizes)) is not None:
        pairs = np.stack([copies, lengths], axis=1).ravel().tolist()
    else:
        columns = [at.Unsqueeze(value, [1]) for value in (at.input(1), at.Shape(at.x))]
        pairs = at.Reshape(at.Concat(*columns, axis=1), [-1])
    return at.ReduceSum(at.Reshape(at.dy, pairs), list(range(0, 2 * at.rank(at.x), 2)), keepdims=0)


def trilu(at: Adjoint) -> Gradients:
    """Y = X above or below a diagonal, else 0: so is dX of dY."""
    return at.Trilu(at.dy, at.optional(1), **at.attributes())


def concat(at: Adjoint) -> Gradients:
    """Y = A, B, … one behind the other: dA, dB, … are the parts of dY."""
    axis, parts = at.node.attributes["axis"].as_int(), at.operands
    lengths = known([length(part, axis) for part in parts])
    carrying = [i for i in range(len(parts)) if at.carries(i)]
    if lengths is not None and len(carrying) == 1:
        begin, end = list(pairwise(accumulate(lengths, initial=0)))[carrying[0]]
        return [at.Slice(at.dy, [begin], [end], [axis]) if i in carrying else None for i in range(len(parts))]
    split = lengths or at.Concat(*(at.Gather(at.Shape(part), [axis]) for part in parts), axis=0)
    return list(at.several("Split", len(parts), at.dy, split, axis=axis))


def split(at: Adjoint) -> Gradients:
    """Y₀, Y₁, … are the parts of X: dX = dY₀, dY₁, … one behind the other, 0 where none arrives."""
    pairs = zip(at.gradients, at.node.outputs, strict=True)
    parts = [at.zeros(y) if d is None else d for d, y in pairs]
    return at.Concat(*parts, axis=at.node.attributes.get_int("axis", 0))


def slice_(at: Adjoint) -> Gradients:
    """Y = X[begin:end:step, …]: dX is dY at these places, else 0; and where Y is X in reverse, dX is dY in reverse."""
    steps = constant_value(at.optional(4))
    if _reverses(at, steps):
        return at.Slice(at.dy, *at.node.inputs[1:])
    if at.optional(4) is not None and (steps is None or bool((steps < 0).any())):
        return _backwards(at)
    return at.microsoft("SliceGrad", at.dy, at.shape_of(at.x), *at.node.inputs[1:])


def _reverses(at: Adjoint, steps: npt.NDArray[np.int64] | None) -> bool:
    """Does it take all of X, from the last entry to the first?"""
    begin, end = (constant_value(at.optional(i)) for i in (1, 2))
    if begin is None or end is None or steps is None:
        return False
    return bool((steps == -1).all() and (begin == -1).all() and (end <= -LONGEST).all())


def _backwards(at: Adjoint) -> ir.Value:
    """By the places in X that Y is taken from: what the operator takes of 0, 1, 2, … in X's shape."""
    shape = at.shape_of(at.x)
    places = at.Slice(at.Reshape(at.Range(0, at.Size(at.x), 1), shape), *at.node.inputs[1:])
    zeros, flat = at.Reshape(at.zeros(at.x), [-1]), [at.Reshape(value, [-1]) for value in (places, at.dy)]
    return at.Reshape(at.ScatterElements(zeros, *flat), shape)


def pad(at: Adjoint) -> Gradients:
    """Y = X with constants around it: dX = dY without them, which is a padding by negative widths."""
    mode = at.node.attributes.get_string("mode", "constant")
    if mode != "constant":
        raise at.refusal(f"has no gradient in the mode {mode!r}", "legalize the graph first")
    widths = constant_value(at.input(1))
    return at.Pad(at.dy, at.Neg(at.input(1)) if widths is None else -widths, None, at.optional(3))
