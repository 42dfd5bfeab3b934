"""Gradients of an ONNX graph, as an ONNX graph: for those who want just that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
import onnx_ir as ir

from dsd_ort import runtime
from dsd_ort.device import portable
from dsd_ort.errors import ModelError
from dsd_ort.graph.gradients import with_gradients
from dsd_ort.model.source import outline


def differentiate(
    model: str | Path | onnx.ModelProto,
    wrt: str | Sequence[str],
    of: str | None = None,
    *,
    training: bool = False,
    training_operators: bool = False,
) -> onnx.ModelProto:
    """The model with gradients: its outputs, then ∂*of*/∂x for each x of *wrt*, in this order, as ``x_grad``.

    ::

        model = dsd_ort.differentiate("model.onnx", ["image", "fc.weight"], of="loss")
        session = onnxruntime.InferenceSession(model.SerializeToString())
        slope, step = session.run(["image_grad", "fc.weight_grad"], {"image": image, "label": label})

    A gradient has the shape of what it is the gradient by.  Where ``x_grad`` is taken, it is ``x_grad_1``.  What the
    model computes is what it did, in opset 18, and floating-point types other than float32 are computed in float32.

    Args:
        model: a file, or the model itself, which stays as it is.
        wrt: names of inputs and initializers of a floating-point type.  An initializer is an input of the result too,
            with its value as default: a session that is fed another has the gradient there.
        of: the name of an output, by default the only one.  If it is more than one number, the result has an input
            ``OF_grad`` of its shape, dy: the gradients are those of Σ y·dy, what arrives where dy arrives at y.
        training: batch norm normalises by the batch and dropout drops; behind the gradients the outputs have the new
            value of each running statistic s, ``s_next``.  Otherwise both are as in inference, whatever the file says.
        training_operators: with operators that ONNX Runtime's training build has faster kernels for (ConvGrad, …).
            Otherwise any ONNX Runtime from 1.20 on has all that there are.

    Raises:
        ModelError: the file cannot be read, or has no such input, initializer or output.
        UnsupportedError: an operator on the way has no derivative, or none that is known here; or nothing of *wrt*
            reaches *of*.  ``.causes`` has all reasons.
    """
    runtime.require_runtime()
    names = [wrt] if isinstance(wrt, str) else list(dict.fromkeys(wrt))
    made = with_gradients(_read(model), names, of, training=training)
    if not training_operators:
        portable.expand(made)
    return ir.to_proto(made)


def _read(model: str | Path | onnx.ModelProto) -> ir.Model:
    """The model with all of its weights in memory."""
    if isinstance(model, onnx.ModelProto):
        return ir.from_proto(model).clone()
    outline(model)  # has the messages
    try:
        return ir.from_proto(onnx.load(model))
    except Exception as error:  # of many kinds: what a file of external data may be is not for us to say
        raise ModelError(
            f"the file's external data cannot be read: {error}", where=str(model), fix="copy or export the file again"
        ) from error
