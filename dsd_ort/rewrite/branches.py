"""If: a branch in the place of its node, or both with a Where behind them."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from dsd_ort.rewrite.nodes import Nodes, named, take_over


def branch(node: ir.Node, taken: bool) -> ir.Graph:
    """What the If *node* computes where its condition is *taken*."""
    return node.attributes["then_branch" if taken else "else_branch"].as_graph()


def put_in_front(node: ir.Node, inner: ir.Graph) -> Sequence[ir.Value]:
    """Moves the nodes and initializers of *inner* into the graph of *node*, in front of it; the values it gives.

    Names may then occur twice.
    """
    outputs, nodes, stored = list(inner.outputs), list(inner), list(inner.initializers.values())
    inner.outputs.clear()
    inner.initializers.clear()
    inner.remove(nodes)
    new = Nodes()
    for value in stored:
        assert value.const_value is not None
        constant = named(new.constant(value.const_value), value.name)
        value.replace_all_uses_with(constant)
        outputs = [constant if output is value else output for output in outputs]
    new.put_before(node)
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


def flatten(graph: ir.Graph) -> None:
    """Every If becomes its two branches and, for each output, Where(condition, then, else).

    To look for weights only: the result computes both branches and may have names twice.
    """
    for node in list(graph):
        if node.op_type != "If" or node.domain:
            continue
        for taken in (True, False):
            flatten(branch(node, taken))
        condition = node.inputs[0]
        both = [put_in_front(node, branch(node, taken)) for taken in (True, False)]
        new = Nodes()
        for old, then, other in zip(node.outputs, *both, strict=True):
            merged = named(new.Where(condition, then, other), node.name)
            merged.name = old.name
            old.replace_all_uses_with(merged, replace_graph_outputs=True)
        new.put_before(node)
        graph.remove(node, safe=True)
