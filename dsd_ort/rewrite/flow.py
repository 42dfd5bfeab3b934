"""How values depend on each other along a graph."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable

import onnx_ir as ir

from dsd_ort.rewrite.operators import Does, facts
from dsd_ort.rewrite.parts import inner_nodes, reads


def live(graph: ir.Graph, outputs: Iterable[ir.Value] | None = None) -> list[ir.Node]:
    """The nodes that one of *outputs* depends on, by default of all of the graph's, in graph order."""
    needed: set[ir.Value | None] = set(graph.outputs if outputs is None else outputs)
    live = []
    for node in reversed(graph):
        if not needed.isdisjoint(node.outputs):
            live.append(node)
            needed.update(reads(node))
    return live[::-1]


def sources(outputs: Iterable[ir.Value]) -> set[ir.Value]:
    """The values that *outputs* are computed from and no node gives."""
    stack = list(outputs)
    seen = set(stack)
    while stack:
        if (node := stack.pop().producer()) is not None:
            new = set(reads(node)) - seen
            seen |= new
            stack.extend(new)
    return {value for value in seen if value.producer() is None}


def cut_to(model: ir.Model, outputs: Collection[str]) -> ir.Model:
    """*model*, changed: the *outputs*, and the nodes that they are computed from; all inputs stay.

    onnx-ir's own pass leaves what only the body of a removed node reads, such as that of the Scan in a ctc.
    """
    graph = model.graph
    graph.outputs[:] = [value for value in graph.outputs if value.name in outputs]
    kept = set(live(graph))
    removed = [node for node in graph if node not in kept]
    graph.remove(removed)
    for node in [inner for outer in removed for inner in (outer, *inner_nodes(outer))]:  # they are no uses any more
        for i in range(len(node.inputs)):
            node.replace_input_with(i, None)
    return model


def varying(graph: ir.Graph, nodes: list[ir.Node], stored: Container[str | None]) -> set[ir.Value]:
    """The values that are not constant: they depend on an input of the model that is not *stored*, or on chance."""
    found = {value for value in graph.inputs if value.name not in stored}
    for node in nodes:
        data = node.inputs[:1] if Does.LAYOUT in facts(node).does else node.inputs
        fixed = node.op_type == "Constant" or (
            any(value is not None for value in data)
            and found.isdisjoint(data)
            and Does.RANDOM not in facts(node).does
            and not any(True for _ in inner_nodes(node))
        )
        if not fixed:
            found.update(node.outputs)
    return found


def behind(nodes: list[ir.Node], marked: set[ir.Node]) -> set[ir.Value]:
    """The values that depend on a marked node."""
    found: set[ir.Value] = set()
    for node in nodes:
        if node in marked or not found.isdisjoint(node.inputs):
            found.update(node.outputs)
    return found


def ahead(nodes: list[ir.Node], marked: set[ir.Node]) -> set[ir.Value | None]:
    """The values that a marked node depends on."""
    found: set[ir.Value | None] = set()
    for node in reversed(nodes):
        if node in marked or not found.isdisjoint(node.outputs):
            found.update(node.inputs)
    return found
