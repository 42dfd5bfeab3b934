"""The squared norms of what meets a weight: outputs that are added to the graph that is measured.

For a weight with I inputs that meets ``x [N, …, I]`` (an image's channels are axis 1)::

    Σ x²  over all axes but that of its inputs:  f32[I]

so their sum over batches is ‖x_j‖² of each input j, which Wanda takes the root of (Sun et al. 2024).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import onnx_ir as ir

from dsd_ort.errors import RecipeError
from dsd_ort.graph.manifest import Slice
from dsd_ort.model.products import HANDS_ON, Product, product
from dsd_ort.rewrite.nodes import Nodes, named

PREFIX = "dsd_ort.input"
"""What the names of new values begin with."""


def attach(model: ir.Model, weights: Sequence[Slice]) -> dict[str, str]:
    """Adds the outputs to *model*, whose inputs are its weights; weight → output.

    Raises:
        RecipeError: what a weight meets is not known.
    """
    graph, new, found = model.graph, Nodes.of(model.graph, PREFIX), {}
    known = {value.name: value for value in graph.inputs}
    for weight in weights:
        sums = list(_met(new, graph, known[weight.name], weight)) if weight.name in known else []
        total = _total(new, sums)
        if total is None:
            raise RecipeError(
                f"prune.criterion = 'wanda' does not know the input that {weight.name!r} meets",
                where=weight.layer,
                fix=f'exclude it, as prune.exclude = ["{weight.name}"], or take the criterion "magnitude"',
            )
        output = named(new.Identity(total), f"{PREFIX}/{weight.name}")
        output.type = ir.TensorType(ir.DataType.FLOAT)
        graph.outputs.append(output)
        found[weight.name] = output.name or ""
    new.append_to(graph)
    return found


def _met(new: Nodes, graph: ir.Graph, value: ir.Value, weight: Slice) -> Iterator[ir.Value | None]:
    """The sums of all that meets *value*, which is *weight* or handed on from it; None where that is not known."""
    for node, slot in tuple(value.uses()):
        if node.graph is graph and node.op_type in HANDS_ON:
            yield from _met(new, graph, node.outputs[0], weight)
            continue
        factor = product(node, slot) if node.graph is graph else None
        met = None if factor is None or factor.data is None else node.inputs[factor.data]
        yield None if factor is None or met is None else _sum(new, met, factor, weight)


def _sum(new: Nodes, met: ir.Value, factor: Product, weight: Slice) -> ir.Value:
    assert not isinstance(weight.axes, msgspec.UnsetType), "patterns.refuse_misfits was not asked"
    inputs = weight.shape[weight.axes[1]] * factor.groups
    shape, axes = ([-1, inputs], [0]) if factor.leading is None else ([factor.leading, inputs, -1], [0, 2])
    x = new.Reshape(new.Cast(met, to=ir.DataType.FLOAT.value), shape)
    if new.opset < 18:
        return new.ReduceSumSquare(x, axes=axes, keepdims=0)
    return new.ReduceSumSquare(x, axes, keepdims=0)


def _total(new: Nodes, sums: Sequence[ir.Value | None]) -> ir.Value | None:
    total, *others = sums or [None]
    for other in others:
        total = None if total is None or other is None else new.Add(total, other)
    return total
