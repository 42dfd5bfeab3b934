"""One thing, one name: free ones for what is new, unique ones for a whole model, and what messages call a node."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass
from onnx_ir.passes.common.naming import SimpleNameGenerator

from dsd_ort.rewrite.parts import all_values

GRADIENT = "/grad"
"""What the names of nodes of the backward pass have behind that of the forward node or value that they are of."""


class Names:
    """The names of nodes and values of *graph*, its subgraphs included, and new ones."""

    def __init__(self, graph: ir.Graph) -> None:
        self.values = {value.name for value in all_values(graph)}
        self.nodes = {node.name for node in graph.all_nodes()}
        self._next: dict[str, int] = {}

    def free(self, name: str) -> str:
        """*name*, with a number behind it if a node or value has it; taken from now on."""
        number, free = self._next.get(name, 0), name
        while free in self.values or free in self.nodes:
            number += 1
            free = f"{name}_{number}"
        self._next[name] = number
        self.values.add(free)
        return free


class _Labels(SimpleNameGenerator):
    def generate_node_name(self, node: ir.Node) -> str:
        return label(node)


def make_unique(model: ir.Model) -> None:
    """Gives every node and value a name of its own; inputs and outputs keep theirs.

    Outputs that are absent beside others stay so: what has a name is computed.
    """
    absent = [value for node in model.graph.all_nodes() for value in node.outputs if _is_absent(value, node)]
    NameFixPass(_Labels())(model)
    for value in absent:
        value.name = ""


def _is_absent(value: ir.Value, node: ir.Node) -> bool:
    named = any(other.name for other in node.outputs)
    return value.name == "" and named and not value.uses() and not value.is_graph_output()


def label(node: ir.Node) -> str:
    """The name of *node*, or its first output's where it has none."""
    return node.name or node.outputs[0].name or node.op_type


def place(node: ir.Node) -> str:
    """*node* as messages call it: operator and name."""
    return f"{node.op_type} {label(node)!r}"


def is_of_gradient(node: ir.Node) -> bool:
    """Is *node* one of the backward pass?"""
    return GRADIENT in label(node)
