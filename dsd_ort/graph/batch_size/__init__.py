"""A batch size that the file fixes becomes any batch size.

The first axis of every input is k, the same for all.  Along the graph, a *mark* says where the batch stands in a value:
its axis has the length before · k · after (as in [k, T, C] → [k·T, C], where after = T).  Most operators carry the mark
as ONNX's shape inference carries the name of a dimension.  Where a constant holds the batch size it is written anew:

- Reshape: the entry of the axis that the batch is in becomes -1;
- Expand, Resize, Slice, Tile: that axis keeps its length;
- a constant that meets the batch (Concat, the initial state of a recurrent layer, an operand of that length) is
  repeated for the batch, or stands once for all of it; it has to be the same for each example.

Where the batch would be mixed or lost (Gather or Squeeze of its axis, a sum over it) the node is refused.  By length
alone, a Reshape may leave open where the batch goes; the common reading is taken, so the result has to be compared with
the model (:mod:`dsd_ort.graph.adapt` does it).

:mod:`.marks` says where the batch stands behind a node, :mod:`.rules` what becomes of the node, :mod:`.operands` what
becomes of a value without the batch that meets it there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, ShapeInferencePass

from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.batch_size.marks import BATCH, Mark
from dsd_ort.graph.batch_size.rules import rule_of
from dsd_ort.graph.batch_size.site import Batch, Site, fix
from dsd_ort.rewrite.parts import bodies, values

__all__ = ["fix", "fixed_batch", "free"]

_NO_DATA = {"Shape", "Size"}


def fixed_batch(inputs: Sequence[ir.Value]) -> int | None:
    """The length of the first axis of all *inputs*, if it is fixed and the same for all."""
    sizes = {value.shape[0] for value in inputs if value.shape is not None and value.shape.rank()}
    size = sizes.pop() if len(sizes) == 1 else None
    return size if isinstance(size, int) and size > 0 else None


def free(model: ir.Model, inputs: Sequence[ir.Value], k: int) -> dict[str, int]:
    """Makes the first axis of *inputs*, of length *k*, symbolic, in place.  The axis of the batch in each output.

    Requires that what constants alone fix is folded.

    Raises:
        UnsupportedError: a node that needs this batch size.
    """
    ShapeInferencePass(check_type=False, strict_mode=False)(model)
    batch = Batch(model.graph, inputs, k)
    for node in list(model.graph):
        if node.op_type not in _NO_DATA and not batch.marks.keys().isdisjoint(node.inputs):
            _pass(Site(node, batch))
    axes = {}
    for output in model.graph.outputs:
        mark = batch.marks.get(output)
        if mark is None or mark != Mark(mark.axis):
            what = f"the batch size is fixed at {k}: no axis of an output is the batch"
            raise UnsupportedError(what, where=f"output {output.name!r}", fix=fix(k))
        axes[str(output.name)] = mark.axis
    _set_shapes(model.graph, dict.fromkeys(map(_name, inputs), 0) | axes)
    RemoveUnusedNodesPass()(model)  # an Expand that nothing reads would still be run, and fail
    ShapeInferencePass(check_type=False, strict_mode=False)(model)
    return axes


def _name(value: ir.Value) -> str:
    return str(value.name)


def _pass(site: Site) -> None:
    """The batch passes the node of *site*, as its rule says."""
    if bodies(site.node):
        raise site.refusal("it computes with a subgraph")
    rule_of(site.node)(site)
    if site.marks.keys().isdisjoint(site.node.outputs):
        raise site.refusal("it mixes or picks examples of the batch")
    site.put_before(site.node)


def _set_shapes(graph: ir.Graph, axes: Mapping[str, int]) -> None:
    """The new shapes of inputs and outputs, by the axis of the batch in them; those between them, which held the batch
    size, are to be inferred.
    """
    for value in values(graph):
        if _name(value) in axes:
            axis = axes[_name(value)]
            value.shape = ir.Shape([BATCH if i == axis else size for i, size in enumerate(value.shape or ())])
        elif (maker := value.producer()) is not None and maker.op_type != "Constant":
            value.shape = None
