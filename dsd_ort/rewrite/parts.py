"""What there is in a graph: the graphs inside a node, what a node reads, and the values that a graph defines."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir


def bodies(node: ir.Node) -> list[ir.Graph]:
    """The graphs inside *node*: the branches of If, the body of Loop or Scan."""
    found: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            found.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            found.extend(attribute.as_graphs())
    return found


def inner_nodes(node: ir.Node) -> Iterator[ir.Node]:
    """The nodes of its bodies, and of bodies in these; they read values of the graph around them too."""
    return (inner for body in bodies(node) for inner in body.all_nodes())


def reads(node: ir.Node) -> list[ir.Value]:
    """The values that *node* and its bodies read."""
    return [value for reader in (node, *inner_nodes(node)) for value in reader.inputs if value is not None]


def values(graph: ir.Graph) -> Iterator[ir.Value]:
    """The values that *graph* defines: its inputs, what it stores, what its nodes give."""
    yield from graph.inputs
    yield from (value for value in graph.initializers.values() if not value.is_graph_input())
    for node in graph:
        yield from node.outputs


def all_values(graph: ir.Graph) -> Iterator[ir.Value]:
    """The values that *graph* and the graphs inside it define."""
    return (value for each in (graph, *graph.subgraphs()) for value in values(each))
