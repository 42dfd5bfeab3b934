"""A prepared graph for one shape of batch: all sizes known, no arithmetic on shapes left.

ONNX Runtime keeps shapes in the CPU's memory and computes with them there, amid a graph that runs on another device.
Where a session is opened for each shape of batch (on CUDA, whose convolutions are searched and whose graphs are
captured for one) nothing of that is needed: the shape of every value is a constant, and so is all that follows from
shapes.  What depends on data, as lengths of sequences do, stays.

Requires a graph as a run folder holds it, or masked.  Ensures the same inputs, outputs and numbers for batches of these
shapes.  An If that sizes decide gives way to its branch.  Bodies are treated the same way, but for those of loops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from dsd_ort.device.portable import broadcast, replace
from dsd_ort.errors import DataError
from dsd_ort.rewrite import shapes as shape_rules
from dsd_ort.rewrite.fold import Folder
from dsd_ort.rewrite.names import make_unique
from dsd_ort.rewrite.nodes import constant_value
from dsd_ort.rewrite.parts import all_values
from dsd_ort.rewrite.shapes import dims_of, sizes_of

Sizes = Mapping[str, int]
"""What the symbolic dimensions are."""


def specialize(model: ir.Model, shapes: Mapping[str, Sequence[int]]) -> None:
    """Does what the module says, in place.

    Args:
        model: is changed.
        shapes: of graph inputs; those that have none here must have fixed shapes already.

    Raises:
        DataError: the shapes contradict the graph's inputs, or each other in a dimension of one name.
    """
    model.graph.sort()
    sizes = _sizes(model.graph, shapes)
    for value in all_values(model.graph):
        if value.shape is not None:
            dims = [dim if isinstance(dim, int) else sizes.get(dim.value or "", dim) for dim in value.shape]
            value.shape = ir.Shape(dims)
    for value in model.graph.inputs:
        if value.name is not None and value.name in shapes:
            value.shape = ir.Shape([int(n) for n in shapes[value.name]])
    of_broadcasts = [node for node in model.graph.all_nodes() if node.op_type == "BroadcastGradientArgs"]
    for node in of_broadcasts:
        replace(node, broadcast.axes)
    if of_broadcasts:
        make_unique(model)
    while _specialize(model.graph, model.opset_imports.get("", 18)):
        make_unique(model)
    RemoveUnusedNodesPass()(model)


def _sizes(graph: ir.Graph, shapes: Mapping[str, Sequence[int]]) -> Sizes:
    """The sizes that the names of dimensions stand for."""
    sizes: dict[str, int] = {}
    for value in graph.inputs:
        given = None if value.name is None else shapes.get(value.name)
        dims = dims_of(value)
        if given is None or dims is None:
            continue
        known = [
            sizes.setdefault(dim, int(n)) if isinstance(dim, str) else dim for dim, n in zip(dims, given, strict=False)
        ]
        if len(dims) != len(given) or any(k is not None and k != n for k, n in zip(known, given, strict=True)):
            raise DataError(
                f"the shape {list(given)} is not one of [{', '.join(map(str, dims))}]"
                + "".join(f", {name} = {size}" for name, size in sizes.items() if name in dims),
                where=f"the array {value.name!r}",
                fix="give all arrays of a batch as many examples, and steps where they share them",
            )
    return sizes


def _specialize(graph: ir.Graph, opset: int) -> bool:
    """Whether sizes decided on branches, so that more may be known now."""

    def infer(node: ir.Node, folder: Folder) -> None:
        shape_rules.infer(node, lambda value: _content(value, folder), opset)

    folder = Folder(graph, opset, infer=infer)
    folder.replace_fixed()
    for inner in (graph, *graph.subgraphs()):
        for node in list(inner):
            _pass_through(node)
    return folder.take_branches()


def _content(value: ir.Value | None, folder: Folder) -> np.ndarray | None:
    entries = folder.entries(value)
    return entries.values if entries is not None and entries.complete else None


def _pass_through(node: ir.Node) -> None:
    """Takes away what now does nothing: a sum over no axes; a Reshape or Expand to the shape that is there already."""
    if node.domain or not node.inputs or (x := node.inputs[0]) is None:
        return
    y = node.outputs[0]
    if node.op_type == "ReduceSum":
        axes = constant_value(node.inputs[1]) if len(node.inputs) > 1 else None
        nothing = axes is not None and axes.size == 0 and node.attributes.get_int("noop_with_empty_axes", 0) == 1
    else:
        nothing = node.op_type in ("Reshape", "Expand") and sizes_of(x) is not None and sizes_of(x) == sizes_of(y)
    if nothing and not y.is_graph_output():
        y.replace_all_uses_with(x)
