"""Max pooling."""

from __future__ import annotations

from dsd_ort.graph.differentiate.adjoint import Adjoint, Gradients, known
from dsd_ort.rewrite.shapes import dims_of


def max_pool(at: Adjoint) -> Gradients:
    """Y = X at the index of each window's maximum in all of X: dX is dY added up there."""
    if at.node.attributes.get_int("storage_order", 0):
        raise at.refusal("has no gradient with indices along columns", "legalize the graph first")
    index, sizes = at.output(1), dims_of(at.x)
    whole = not at.path.is_inside  # MaxPoolGrad belongs to the MaxPool in front of it, which is in another body there
    if whole and sizes is not None and known(sizes[1:]) is not None:  # which it reads from the graph
        return at.op("MaxPoolGrad", at.dy, index, **at.attributes("ceil_mode", "dilations"))
    flat_dy, flat_index, count = at.Reshape(at.dy, [-1]), at.Reshape(index, [-1]), at.Reshape(at.Size(at.x), [1])
    return at.reshaped(at.microsoft("GatherElementsGrad", flat_dy, count, flat_index, axis=0), at.x)
