"""A Loop whose number of steps is no matter of data becomes a Scan over 0, 1, …, M - 1 (:mod:`dsd_ort.rewrite.loops`).

What it carries has to keep its shape for that: a Scan's states do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.legalize.expand import note
from dsd_ort.notes import Note
from dsd_ort.rewrite.bodies import Scan
from dsd_ort.rewrite.inside import enter, infer_all
from dsd_ort.rewrite.loops import why_no_scan
from dsd_ort.rewrite.names import make_unique
from dsd_ort.rewrite.nodes import Nodes, constant_value
from dsd_ort.rewrite.operators import key
from dsd_ort.rewrite.parts import bodies
from dsd_ort.rewrite.path import Path
from dsd_ort.rewrite.site import Site, apply

_FIX = "export the model by tracing, with constant folding, so that no loop is left"


def to_scans(model: ir.Model, trainable: Sequence[ir.Value]) -> tuple[list[Note], dict[ir.Node, UnsupportedError]]:
    """Rewrites the Loops between *trainable* and the outputs, in place; the notes, and why others stay.

    Loops inside of Loops are reached when these are Scans.
    """
    notes: list[Note] = []
    refused: dict[ir.Node, UnsupportedError] = {}
    while True:
        path = Path(model.graph, trainable, model.graph.outputs)
        found = [node for node in path.nodes_within() if key(node) == "Loop" and node not in refused]
        for node in found:
            site = Site(node, path)
            try:
                apply(loop, site)
                notes.append(note(node, loop))
            except UnsupportedError as error:
                refused[node] = error
        if not found:
            return notes, refused
        make_unique(model)
        ShapeInferencePass(check_type=False, strict_mode=False)(model)


def loop(site: Site) -> Sequence[ir.Value]:
    """Scan over the numbers of the steps"""
    node = site.node
    if (why := why_no_scan(node)) is not None:
        raise site.refusal(why, _FIX)
    states = [site.input(i) for i in range(2, len(node.inputs))]
    body = bodies(node)[0].clone(allow_outer_scope_values=True)
    number, going_on, *carried = body.inputs
    new = Nodes(site.name)
    going_on.replace_all_uses_with(new.constant(np.asarray(True)), replace_graph_outputs=True)
    new.put_first(body)
    body.inputs[:], body.outputs[:] = [*carried, number], body.outputs[1:]
    numbers = site.Range(0, site.Reshape(site.input(0), []), 1)
    if number.shape is not None and len(number.shape) == 1:
        numbers = site.Unsqueeze(numbers, [1])
    found = site.several("Scan", len(node.outputs), *states, numbers, body=body, num_scan_inputs=1)
    _refuse_new_shapes(site, site.nodes[-1])
    return found


def _refuse_new_shapes(site: Site, node: ir.Node) -> None:
    """Of what a Loop carries ONNX says no shape, as it may change; here it must be what it was at first."""
    enter(node)
    for body in bodies(node):
        for value in [output for inner in body.all_nodes() for output in inner.outputs]:
            value.shape = None  # what was noted may be of the first step
        infer_all(body, constant_value, site.opset)
    for state in Scan(node).states:
        before, after = state.first.shape, state.after.shape
        if before is None or after is None:
            continue
        differs = any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(before, after, strict=False))
        if differs or len(before) != len(after):
            raise site.refusal(f"carries {state.first.name!r}, whose shape changes from {before} to {after}", _FIX)
