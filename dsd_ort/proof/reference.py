"""The loss of the source as a function of its weights, by something that did not differentiate it.

The best reference that can run the model is taken:

- ``float64, ONNX Runtime``: the evaluate graph in double precision, where all kernels exist;
- ``float64, ONNX reference``: ONNX's own evaluator, operator by operator in NumPy;
- ``float32, ONNX Runtime``: the evaluate graph as it is, of which a difference quotient is known to a few digits only.

A float64 reference counts only if its loss at the source's weights is that of ONNX Runtime in float32.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx
import onnx.inliner
import onnx.numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops import op_conv

from dsd_ort import runtime

Arrays = Mapping[str, npt.NDArray[Any]]

AGREEMENT = 1e-3
"""Relative difference of the losses up to which a float64 reference is that of the same model."""


class Reference(Protocol):
    """``reference(inputs)`` is the loss for all inputs of the evaluate graph: data, labels, weights."""

    name: str
    exact: bool
    """Whether it computes in float64."""
    seconds: float
    """Of one evaluation."""

    def __call__(self, inputs: Arrays) -> float: ...


class TooSlow(Exception):  # noqa: N818 - it is no error
    """One evaluation takes longer than it may."""


class InRuntime:
    """The graph in ONNX Runtime, in float32 or, *double*, in float64."""

    def __init__(self, graph: onnx.ModelProto, loss: str, *, double: bool, threads: int = 0) -> None:
        self.exact, self.seconds, self.loss = double, 0.0, loss
        self.name = f"float{64 if double else 32}, ONNX Runtime"
        options = runtime.session_options(threads)
        self.session = runtime.session(in_double(graph) if double else graph, options, where="the evaluate graph")
        self.inputs = {value.name: _FLOATS.get(value.type) for value in self.session.get_inputs()}

    def __call__(self, inputs: Arrays) -> float:
        began = time.monotonic()
        feeds = {k: np.asarray(v, self.inputs[k]) for k, v in inputs.items() if k in self.inputs}
        value = float(self.session.run([self.loss], feeds)[0])
        self.seconds = time.monotonic() - began
        return value


class InNumPy:
    """The graph in ONNX's reference evaluator, in float64.

    Args:
        graph: the evaluate graph.
        loss: its output.
        training: batch norm by the statistics of the batch.
        limit: seconds that an evaluation may take; :class:`TooSlow` is raised behind it.
    """

    exact = True
    name = "float64, ONNX reference"

    def __init__(self, graph: onnx.ModelProto, loss: str, *, training: bool = False, limit: float = math.inf) -> None:
        self.loss, self.seconds, self.limit, self.deadline = loss, 0.0, limit, math.inf
        operators: list[type[OpRun]] = [Conv, Erf, GlobalMaxPool, *([BatchNormalization] if training else [])]
        self.evaluator = ReferenceEvaluator(in_double(graph), new_ops=operators)
        self.inputs = set(self.evaluator.input_names)
        for node in self.evaluator.rt_nodes_:
            node.run = self._timed(node.run)

    def _timed(self, run: Any) -> Any:
        def timed(*inputs: Any, **context: Any) -> Any:
            if time.monotonic() > self.deadline:
                raise TooSlow
            return run(*inputs, **context)

        return timed

    def __call__(self, inputs: Arrays) -> float:
        began = time.monotonic()
        self.deadline = began + self.limit
        feeds: Any = {k: _in_double(v) for k, v in inputs.items() if k in self.inputs}
        with np.errstate(all="ignore"):
            (loss,) = self.evaluator.run([self.loss], feeds)
        value = float(loss)
        self.seconds = time.monotonic() - began
        return value


class Conv(op_conv.Conv):
    """The reference evaluator's own is general and slow: this is the usual case as matrix products."""

    op_domain = ""

    def _run(self, x: Any, weight: Any, bias: Any = None, **attributes: Any) -> tuple[Any]:  # type: ignore[override]
        axes = x.ndim - 2
        group, strides = attributes.get("group") or 1, attributes.get("strides") or [1] * axes
        dilations, pads = attributes.get("dilations") or [1] * axes, attributes.get("pads") or [0] * 2 * axes
        if attributes.get("auto_pad") not in (None, "NOTSET") or min(pads) < 0:
            found: tuple[Any] = super()._run(x, weight, bias, **attributes)  # type: ignore[no-untyped-call]
            return found
        x = np.pad(x, [(0, 0), (0, 0), *zip(pads[:axes], pads[axes:], strict=True)])
        reach = [d * (k - 1) + 1 for d, k in zip(dilations, weight.shape[2:], strict=True)]
        windows = np.lib.stride_tricks.sliding_window_view(x, reach, axis=(*range(2, x.ndim),))
        steps = [slice(None, None, step) for step in (*strides, *dilations)]
        windows = windows[tuple([slice(None), slice(None), *steps])]  # noqa: C409 - 3.10 has no star in an index
        per, made = x.shape[1] // group, weight.shape[0] // group
        kernel = tuple(range(2 + axes, 2 + 2 * axes))
        if per == made == 1:  # each channel for itself
            y = np.einsum(
                windows, [0, 1, *range(2, 2 + 2 * axes)], weight[:, 0], [1, *kernel], [0, 1, *range(2, 2 + axes)]
            )
        else:
            parts = [
                np.tensordot(
                    windows[:, g * per : (g + 1) * per],
                    weight[g * made : (g + 1) * made],
                    axes=((1, *kernel), (1, *range(2, 2 + axes))),
                )
                for g in range(group)
            ]
            y = np.moveaxis(np.concatenate(parts, axis=-1), -1, 1)
        return (y if bias is None else y + bias.reshape(-1, *[1] * axes),)


class Erf(OpRun):
    """In double precision, which the reference evaluator's own is not."""

    op_domain = ""

    def _run(self, x: npt.NDArray[Any]) -> tuple[npt.NDArray[Any]]:
        return (np.frompyfunc(math.erf, 1, 1)(x).astype(x.dtype),)


class GlobalMaxPool(OpRun):
    """The reference evaluator's own loses an axis of what has three."""

    op_domain = ""

    def _run(self, x: npt.NDArray[Any]) -> tuple[npt.NDArray[Any]]:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class BatchNormalization(OpRun):
    """As a training step computes it: by mean and biased variance of the batch."""

    op_domain = ""

    def _run(self, x: Any, scale: Any, bias: Any, mean: Any, variance: Any, **attributes: Any) -> tuple[Any]:
        epsilon = attributes.get("epsilon") or 1e-5
        axes = (0, *range(2, x.ndim))
        shape = (1, -1) + (1,) * (x.ndim - 2)
        centred = x - x.mean(axis=axes, keepdims=True)
        deviation = np.sqrt(x.var(axis=axes, keepdims=True) + epsilon)
        return (scale.reshape(shape) * centred / deviation + bias.reshape(shape),)


def best(
    graph: onnx.ModelProto, loss: str, inputs: Arrays, expected: float, *, limit: float, training: bool, threads: int
) -> tuple[Reference | None, str]:
    """The best reference whose loss for *inputs* is *expected*, and why no better one was taken.

    None where nothing in float64 can be had and *training* is asked for: no graph in plain inference computes it.
    """
    why = []
    if not training:
        with contextlib.suppress(Exception):  # a kernel is missing, as most often
            native = InRuntime(graph, loss, double=True, threads=threads)
            if _agree(native(inputs), expected):
                return native, ""
    try:
        found = InNumPy(graph, loss, training=training, limit=limit)
        value = found(inputs)
        found.limit = math.inf
        if _agree(value, expected):
            return found, ""
        why.append(f"ONNX's reference evaluator computes another loss ({value:.6g})")
    except TooSlow:
        why.append(f"one evaluation in float64 takes more than {limit:.0f} s")
    except MemoryError:
        why.append("memory does not suffice for float64")
    except Exception as error:
        text = " ".join(str(error).split())
        why.append(f"ONNX's reference evaluator cannot run the model ({text[:120]})")
    if training:
        return None, "; ".join(why)
    plain = InRuntime(graph, loss, double=False, threads=threads)
    plain(inputs)
    return plain, "; ".join(why)


def _agree(value: float, expected: float) -> bool:
    return abs(value - expected) <= AGREEMENT * max(abs(expected), 1e-6)


_FLOATS = {"tensor(float16)": np.float16, "tensor(float)": np.float32, "tensor(double)": np.float64}
_NARROW = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}


def _in_double(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def in_double(graph: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of *graph* that computes in float64 everywhere; a cross-entropy becomes elementary operators."""
    double: onnx.ModelProto = onnx.ModelProto.FromString(graph.SerializeToString())
    losses = [("", "SoftmaxCrossEntropyLoss"), ("", "NegativeLogLikelihoodLoss")]
    if any((node.domain, node.op_type) in losses for node in double.graph.node):
        double = onnx.shape_inference.infer_shapes(double)
        double = onnx.inliner.inline_selected_functions(double, losses[:1], inline_schema_functions=True)
        double = onnx.shape_inference.infer_shapes(double)
        double = onnx.inliner.inline_selected_functions(double, losses[1:], inline_schema_functions=True)
    _to_double(double.graph)
    return double


def _to_double(graph: onnx.GraphProto) -> None:
    float64 = onnx.TensorProto.DOUBLE
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in _NARROW:
            value.type.tensor_type.elem_type = float64
    for tensor in graph.initializer:
        _tensor_to_double(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _tensor_to_double(attribute.t)
            if attribute.HasField("g"):
                _to_double(attribute.g)
            for inner in attribute.graphs:
                _to_double(inner)
            if attribute.name in ("to", "dtype") and attribute.i in _NARROW:
                attribute.i = float64
            elif attribute.name in ("value_float", "value_floats") and node.op_type == "Constant":
                numbers = attribute.f if attribute.name == "value_float" else list(attribute.floats)
                tensor = onnx.numpy_helper.from_array(np.asarray(numbers, np.float64))
                attribute.CopyFrom(onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSOR, t=tensor))
        if node.op_type == "ConstantOfShape" and not node.attribute:
            zero = onnx.numpy_helper.from_array(np.zeros(1))
            node.attribute.append(onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSOR, t=zero))


def _tensor_to_double(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in _NARROW:
        tensor.CopyFrom(
            onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float64), tensor.name)
        )
