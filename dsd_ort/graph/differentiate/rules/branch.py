"""If: the gradient goes back through the branch that was taken."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dsd_ort.graph.differentiate.adjoint import Adjoint, Gradients, settle
from dsd_ort.graph.differentiate.kept import exchange, kept, needed
from dsd_ort.rewrite.branches import put_out
from dsd_ort.rewrite.nodes import Nodes
from dsd_ort.rewrite.parts import bodies
from dsd_ort.rewrite.path import Path


def if_(at: Adjoint) -> Gradients:
    """Y = A(Z) where C, else B(Z): dZ = dY·∂A/∂Z where C, else dY·∂B/∂Z, an If again.

    What the way back reads of one branch is an output more; the other one gives an empty tensor in its place.
    """
    read = at.carried_in
    ways = [_Way(at, path, read) for path in at.path.inside(at.node)]
    reached = [i for i in range(len(read)) if any(way.back.gradients[i] is not None for way in ways)]
    # The attributes are in the order of the forward node's, whichever that is.
    branches = {name: way.graph(reached) for name, way in zip(at.node.attributes, ways, strict=True)}
    found = at.several("If", len(reached), at.input(0), **branches)
    of = dict(zip([read[i] for i in reached], found, strict=True))
    return [None, *(of.get(value) for value in at.around)]


class _Way:
    """The way back through one branch, to the gradients of *read*."""

    def __init__(self, at: Adjoint, path: Path, read: Sequence[ir.Value]) -> None:
        self.at, self.body, self.read, self.front = at, path.graph, read, at.beside()
        pairs = zip(self.body.outputs, at.node.outputs, at.gradients, strict=True)
        arriving = [(y, None if d is None else self.arriving(d, y, outer)) for y, outer, d in pairs]
        self.back = at.walk(path, arriving, read)

    def arriving(self, d: ir.Value, y: ir.Value, outer: ir.Value) -> ir.Value:
        """The gradient of *y*, an output of the branch that is *outer* outside.

        Where branches give outputs of different ranks, no more is known of *d* than which branch was taken.
        """
        if outer.shape is None:
            return settle(self.front.Reshape(d, self.front.shape_of(y)), y)
        return _same(self.front, d, y)

    def graph(self, reached: Sequence[int]) -> ir.Graph:
        """The branch that gives those gradients, or zeros of the shape of what they would be of."""
        end, again = self.at.beside(), self.at.beside()
        outputs = [end.leaving(self.back.gradients[i], self.read[i]) for i in reached]
        nodes = needed([*self.front.nodes, *self.back.nodes, *end.nodes], outputs)
        exchange(nodes, {v: _same(again, _put_out(self.at, self.body, v), v) for v in kept(self.body, nodes)})
        return ir.Graph([], outputs, nodes=[*again.nodes, *nodes], name=f"{self.at.name}/{self.body.name}")


def _same(new: Adjoint, outer: ir.Value, value: ir.Value) -> ir.Value:
    """*outer* where its branch was taken: it has the shape of *value* there."""
    same = new.Identity(outer)
    same.shape, same.type = value.shape, value.type
    return same


def _put_out(at: Adjoint, body: ir.Graph, value: ir.Value) -> ir.Value:
    """The output of the forward If that *value* of the branch *body* is, a new one if there is none."""
    if value in body.outputs:
        return at.node.outputs[body.outputs.index(value)]
    values = [value if branch is body else _nothing(at, branch, value) for branch in bodies(at.node)]
    return put_out(at.node, values, at.constants.names.free(f"{value.name}/kept"))


def _nothing(at: Adjoint, branch: ir.Graph, like: ir.Value) -> ir.Value:
    """A constant without entries, of the type and rank of *like*; a single number is 0."""
    assert like.dtype is not None, f"{like.name} has no type"
    empty = np.zeros([0] * (1 if like.shape is None else len(like.shape)), like.dtype.numpy())
    new = Nodes(at.name, names=at.names)
    value = new.constant(empty)
    new.append_to(branch)
    return value
