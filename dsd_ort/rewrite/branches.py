"""If: a branch in the place of its node, or both with a Where behind them."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir


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
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    for value in stored:
        assert value.name and value.const_value is not None
        constant = ir.node("Constant", [], {"value": value.const_value}, name=value.name)
        (new,) = constant.outputs
        new.name, new.type, new.shape = value.name, value.type, value.shape
        value.replace_all_uses_with(new)
        outputs = [new if output is value else output for output in outputs]
        graph.insert_before(node, constant)
    graph.insert_before(node, nodes)
    return outputs


def inline(node: ir.Node, taken: bool) -> None:
    """One branch of the If *node* takes its place."""
    assert isinstance(node.graph, ir.Graph)
    for old, new in zip(node.outputs, put_in_front(node, branch(node, taken)), strict=True):
        if not old.is_graph_output():
            old.replace_all_uses_with(new)
            continue
        copy = ir.node("Identity", [new], name=old.name)  # an output keeps its name
        (output,) = copy.outputs
        output.type, output.shape = old.type, old.shape
        node.graph.insert_before(node, copy)
        old.replace_all_uses_with(output, replace_graph_outputs=True)
        output.name, old.name = old.name, None
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
        for old, then, other in zip(node.outputs, *both, strict=True):
            merged = ir.node("Where", [condition, then, other], name=node.name)
            merged.outputs[0].name = old.name
            graph.insert_before(node, merged)
            old.replace_all_uses_with(merged.outputs[0], replace_graph_outputs=True)
        graph.remove(node, safe=True)
