"""Convolution, by the operator that ONNX Runtime's training build has for its gradients."""

from __future__ import annotations

from dsd_ort.graph.differentiate.adjoint import MICROSOFT, Adjoint, Gradients


def conv(at: Adjoint) -> Gradients:
    """Y = X ∗ W + b: dX = dY spread out by W, dW = X ∗ dY, db = Σ dY over all but the channels.

    ConvGrad computes those of its outputs that have a name.
    """
    _refuse_same(at)
    outputs = at.several(f"{MICROSOFT}.ConvGrad", len(at.node.inputs), at.dy, at.x, at.input(1), **at.attributes())
    for i, output in enumerate(outputs):
        output.name = output.name if at.carries(i) else ""
    return outputs


def _refuse_same(at: Adjoint) -> None:
    mode = at.node.attributes.get_string("auto_pad", "NOTSET")
    if mode.startswith("SAME"):
        raise at.refusal(f"has no gradient with auto_pad = {mode}", "legalize the graph first")
