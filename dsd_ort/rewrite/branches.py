"""If: a branch in the place of its node, or both with a Where behind them."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from dsd_ort.rewrite.inside import leave
from dsd_ort.rewrite.nodes import Nodes, named, take_over
from dsd_ort.rewrite.parts import bodies


def branch(node: ir.Node, taken: bool) -> ir.Graph:
    """What the If *node* computes where its condition is *taken*."""
    return node.attributes["then_branch" if taken else "else_branch"].as_graph()


def to_constants(body: ir.Graph) -> None:
    """Constant nodes take the place of the initializers of *body*."""
    new = Nodes()
    for value in list(body.initializers.values()):
        assert value.const_value is not None
        constant = named(new.constant(value.const_value), value.name)
        value.replace_all_uses_with(constant, replace_graph_outputs=True)
    body.initializers.clear()
    new.put_first(body)


def put_in_front(node: ir.Node, inner: ir.Graph) -> Sequence[ir.Value]:
    """Moves the nodes and initializers of *inner* into the graph of *node*, in front of it; the values it gives.

    Names may then occur twice.
    """
    to_constants(inner)
    outputs, nodes = list(inner.outputs), list(inner)
    inner.outputs.clear()
    inner.remove(nodes)
    assert isinstance(node.graph, ir.Graph)
    node.graph.insert_before(node, nodes)
    return outputs


def inline(node: ir.Node, taken: bool) -> None:
    """One branch of the If *node* takes its place."""
    assert isinstance(node.graph, ir.Graph)
    for old, new in zip(node.outputs, put_in_front(node, branch(node, taken)), strict=True):
        if not old.is_graph_output():
            old.replace_all_uses_with(new)
            continue
        copy = Nodes()
        output = named(copy.Identity(new), old.name)
        copy.put_before(node)
        take_over(old, output, None)
    node.graph.remove(node, safe=True)


def put_out(node: ir.Node, values: Sequence[ir.Value], name: str) -> ir.Value:
    """A new output *name* of the If *node*: one of *values* for each branch, made there."""
    for body, value in zip(bodies(node), values, strict=True):
        body.outputs.append(value)
    node.resize_outputs(len(node.outputs) + 1)
    node.outputs[-1].name = name
    leave(node)
    return node.outputs[-1]
