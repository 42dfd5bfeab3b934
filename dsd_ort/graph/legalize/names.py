"""One thing, one name.

ONNX Runtime's builder calls the gradient of v ``v_grad`` and defines it once a node that it differentiates, except that
it sums those of a value that carries gradient.  So it defines one name twice, and fails, where

- a node reads the same trainable input twice, as in Mul(w, w);
- two nodes whose gradient has an output for every input share an input that carries no gradient.

An Identity in front gives each its own name.
"""

from __future__ import annotations

from collections.abc import Set

import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass
from onnx_ir.passes.common.naming import SimpleNameGenerator

from dsd_ort.graph.legalize.path import Path
from dsd_ort.graph.legalize.site import label
from dsd_ort.graph.legalize.table import NATIVE, key

_GRADIENT_OF_ALL_INPUTS = {"Concat", "LayerNormalization", "com.microsoft.BatchNormInternal"}


class _Labels(SimpleNameGenerator):
    def generate_node_name(self, node: ir.Node) -> str:
        return label(node)


def make_unique(model: ir.Model) -> None:
    """Gives every node and value a name of its own; inputs and outputs keep theirs."""
    NameFixPass(_Labels())(model)


def separate(path: Path, trainable: Set[ir.Value]) -> None:
    """Inserts those Identities, in place."""
    for node in path.nodes():
        all_inputs = NATIVE[key(node)] if key(node) in _GRADIENT_OF_ALL_INPUTS else ()
        for i, value in enumerate(node.inputs):
            if value is None:
                continue
            repeated = value in trainable and value in node.inputs[:i]
            shared = i in all_inputs and not path.carries(value) and len(value.uses()) > 1
            if repeated or shared:
                node.replace_input_with(i, _copy(node, value))


def _copy(node: ir.Node, value: ir.Value) -> ir.Value:
    name = f"{value.name}/Identity"
    identity = ir.node("Identity", [value], name=name)
    (copy,) = identity.outputs
    copy.name, copy.shape, copy.type = name, value.shape, value.type
    assert node.graph is not None
    node.graph.insert_before(node, identity)
    return copy
