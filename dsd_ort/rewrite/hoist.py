"""What Ifs and Scans would compute anew or hand around stands in front of them."""

from __future__ import annotations

import onnx_ir as ir

from dsd_ort.rewrite.bodies import links
from dsd_ort.rewrite.branches import to_constants
from dsd_ort.rewrite.operators import Does, facts, key
from dsd_ort.rewrite.parts import bodies


def hoist(graph: ir.Graph) -> None:
    """Moves constants there, in place, and out of a Scan what is the same at each step; but for what a body gives."""
    for node in list(graph):
        for body in bodies(node) if links(node) is not None else ():
            to_constants(body)
            hoist(body)
            for inner in list(body):
                fixed = key(inner) == "Constant" or (key(node) == "Scan" and _is_fixed(inner, body))
                if fixed and not any(value.is_graph_output() for value in inner.outputs):
                    body.remove(inner)
                    graph.insert_before(node, inner)


def _is_fixed(node: ir.Node, body: ir.Graph) -> bool:
    inside = any(value is not None and value.graph is body for value in node.inputs)
    return not (inside or bodies(node) or Does.RANDOM in facts(node).does)
