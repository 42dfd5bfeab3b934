"""One thing, one name."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass
from onnx_ir.passes.common.naming import SimpleNameGenerator

from dsd_ort.rewrite.site import label


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
