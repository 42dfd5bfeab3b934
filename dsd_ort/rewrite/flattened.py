"""A graph without bodies, to look for weights in: it computes nothing that makes sense.

Every If becomes its two branches and, for each output, Where(condition, then, else).  Scans, and Loops that can become
Scans, become one step, whose sequences are there as a whole; a state is Max(what it is at first, an input of its own),
as it depends on the steps before.
"""

from __future__ import annotations

import onnx_ir as ir

from dsd_ort.rewrite.bodies import links
from dsd_ort.rewrite.branches import put_in_front
from dsd_ort.rewrite.loops import why_no_scan
from dsd_ort.rewrite.nodes import Nodes, named
from dsd_ort.rewrite.operators import key
from dsd_ort.rewrite.parts import bodies


def flatten(graph: ir.Graph) -> None:
    """Does that to *graph*, in place; names may occur twice then."""
    _flatten(graph, graph)


def _flatten(graph: ir.Graph, main: ir.Graph) -> None:
    for node in list(graph):
        if not (links(node) or (key(node) == "Loop" and why_no_scan(node) is None)):
            continue
        for body in bodies(node):
            _flatten(body, main)
        values = _both(node) if key(node) == "If" else _one_step(node, main)
        for old, new in zip(node.outputs, values, strict=True):
            old.replace_all_uses_with(new, replace_graph_outputs=True)
        graph.remove(node, safe=True)


def _both(node: ir.Node) -> list[ir.Value]:
    branches = {name: put_in_front(node, attribute.as_graph()) for name, attribute in node.attributes.items()}
    new, condition = Nodes(), node.inputs[0]
    pairs = list(zip(branches["then_branch"], branches["else_branch"], strict=True))
    values = [named(new.Where(condition, *pair), node.name) for pair in pairs]
    for value, output in zip(values, node.outputs, strict=True):
        value.name = output.name
    new.put_before(node)
    return values


def _one_step(node: ir.Node, main: ir.Graph) -> list[ir.Value]:
    (body,) = bodies(node)
    for i, output in enumerate(body.outputs):
        if output.producer() is None:  # what comes in goes out
            own = Nodes(str(output.name))
            body.outputs[i] = own.Identity(output)
            own.append_to(body)
    new, skipped = Nodes(), 2 if key(node) == "Loop" else 0  # the number of the step, and the condition
    states = len(node.inputs) - node.attributes.get_int("num_scan_inputs", 0)
    for i, (outer, inner) in enumerate(zip(node.inputs, body.inputs, strict=True)):
        value = outer
        if i < states:
            value = ir.Value(name=f"{node.name}/{inner.name}/before", type=inner.type)
            main.inputs.append(value)
            value = value if i < skipped or outer is None else named(new.Max(outer, value), f"{value.name}/Max")
        assert value is not None
        inner.replace_all_uses_with(value, replace_graph_outputs=True)
    new.put_before(node)
    return list(put_in_front(node, body))[skipped // 2 :]
