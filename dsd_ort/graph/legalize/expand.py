"""Operators of ONNX Runtime's own and quantised pairs become default-domain operators, before the path is known.

What they hide decides where gradients go: a QuantizeLinear ends in whole numbers, a fused operator's outputs have
types and shapes that ONNX cannot infer.  A rule may have to know shapes behind another such node, so expanding and
inferring take turns.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, ShapeInferencePass

from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.legalize.rules.quantization import FIX
from dsd_ort.graph.legalize.table import FUSED
from dsd_ort.notes import Note
from dsd_ort.rewrite import autograd
from dsd_ort.rewrite.autograd import Operator
from dsd_ort.rewrite.flow import live
from dsd_ort.rewrite.names import make_unique, place
from dsd_ort.rewrite.nodes import constant_value
from dsd_ort.rewrite.operators import Does, facts, key
from dsd_ort.rewrite.parts import inner_nodes
from dsd_ort.rewrite.path import Path
from dsd_ort.rewrite.site import Rule, Site, apply

_BLOCKED = "com.microsoft.nchwc"


def refuse_stored_forms(graph: ir.Graph) -> None:
    """Refuses a model whose weights are stored in a form in which they cannot be trained, wherever they stand.

    Raises:
        UnsupportedError: weights are quantised, or blocked for one kind of CPU.
    """
    for node in graph.all_nodes():
        operator = key(node)
        if node.domain == _BLOCKED:
            raise UnsupportedError(
                f"the operator {operator} holds its weights in the order of one kind of CPU: ONNX Runtime saved the "
                "model at its highest optimization level",
                where=place(node),
                fix="save it with ORT_ENABLE_EXTENDED, or train the model that was optimized",
            )
        if Does.QUANTISED in facts(node).does or operator.startswith("com.microsoft.QLinear"):
            what = f"the operator {operator} computes with quantised numbers, through which no gradient passes"
            raise UnsupportedError(what, where=place(node), fix=FIX)
        if node.op_type == "DequantizeLinear" and constant_value(node.inputs[0]) is not None:
            name = node.inputs[0].name if node.inputs[0] is not None else None
            raise UnsupportedError(f"the weight {name!r} exists in quantised form only", where=place(node), fix=FIX)


class Expanded(NamedTuple):
    notes: list[Note]
    """What was rewritten, one a node."""
    operators: dict[str, Operator]
    """Key → an operator with a backward of its own that the model now calls."""
    refused: dict[ir.Node, UnsupportedError]
    """Nodes that a rule could not expand, still there; an error only where a gradient has to pass."""


def expand(model: ir.Model) -> Expanded:
    """Applies the rules of :data:`~dsd_ort.graph.legalize.table.FUSED` in *model*, in place."""
    done = Expanded([], {}, {})
    while True:
        before = len(done.notes)
        done.refused.clear()
        path = Path(model.graph, [], [])
        for node in list(model.graph.all_nodes()):
            if (rule := FUSED.get(key(node))) is None:
                continue
            site = Site(node, path)
            try:
                if apply(rule, site):
                    done.notes.append(note(node, rule))
                    done.operators.update({f"{autograd.DOMAIN}.{name}": made for name, made in site.operators.items()})
            except UnsupportedError as error:
                done.refused[node] = error
        if len(done.notes) == before:
            return done
        autograd.add(model, done.operators)
        make_unique(model)
        RemoveUnusedNodesPass()(model)
        ShapeInferencePass(check_type=False, strict_mode=False)(model)
        if not done.refused:
            return done


def note(node: ir.Node, rule: Rule) -> Note:
    """What users read of a node that was rewritten: the node, and the first line of the rule's docstring."""
    words = (inspect.getdoc(rule) or "rewritten").partition("\n")[0].replace("``", "")
    return Note(kind="rewrite", node=place(node), words=words)


def unpaired(
    path: Path, outputs: Iterable[ir.Value], refused: Mapping[ir.Node, UnsupportedError]
) -> list[UnsupportedError]:
    """Why no gradient passes a QuantizeLinear that is left on the way from a trainable input to one of *outputs*."""
    errors = []
    for node in (node for outer in live(path.graph, outputs) for node in (outer, *inner_nodes(outer))):
        if node.op_type != "QuantizeLinear" or not path.reads_active(node):
            continue
        known = [refused[use.node] for use in node.outputs[0].uses() if use.node in refused]
        what = f"the operator {key(node)} ends in quantised numbers, through which no gradient passes"
        errors += known or [UnsupportedError(what, where=place(node), fix=FIX)]
    return errors
