"""The loss of the source as a function of its weights, by something that did not differentiate it.

The best reference that can run the model is taken:

- ``float64, ONNX reference``: ONNX's own evaluator, operator by operator in NumPy, which knows slopes too;
- ``float64, ONNX Runtime``: the evaluate graph in double precision, where all kernels exist;
- ``float32, ONNX Runtime``: the evaluate graph as it is, of which a difference quotient is known to a few digits only.

A float64 reference counts only if its loss at the source's weights is that of ONNX Runtime in float32; and that of the
training step in float64, unless that one is further from what runs.
"""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx
import onnx.inliner
import onnx.numpy_helper
import onnx_ir as ir

from dsd_ort import runtime
from dsd_ort.proof import operators
from dsd_ort.proof.evaluator import Evaluator, TooSlow
from dsd_ort.rewrite.operators import key

Arrays = Mapping[str, npt.NDArray[Any]]
Direction = Mapping[str, tuple[float, npt.NDArray[np.int8]]]
"""Tensor → a step, and its signs."""

AGREEMENT = 1e-3
"""Relative difference of the losses up to which a float64 reference is that of the same model."""
WIDE_AGREEMENT = 1e-5
"""Of two losses in float64."""


TINY = 1e-60
"""The ε of a complex step: its square is no number beside 1."""
SLOPES_SLOWDOWN = 3
"""Of an evaluation on complex numbers."""
NATIVE_SLOWDOWN = 4
"""Of ONNX Runtime in float64, which cannot be stopped: it is not tried where it would take too long."""
NATIVE_LARGEST = 100_000_000
"""Weights in float64, beside those in float32, that memory is taken for."""


class Reference(Protocol):
    """``reference(inputs)`` is the loss for all inputs of the evaluate graph: data, labels, weights."""

    name: str
    exact: bool
    """Whether it computes in float64."""
    seconds: float
    """Of one evaluation."""
    seconds_of_slope: float
    analytic: bool
    """Whether it knows slopes."""

    def __call__(self, inputs: Arrays) -> float: ...

    def slope(self, inputs: Arrays, direction: Direction) -> float | None:
        """The derivative along *direction* to the last digits, or None."""


class InRuntime:
    """The graph in ONNX Runtime, in float32 or, *double*, in float64."""

    analytic, seconds_of_slope = False, 0.0

    def __init__(
        self,
        graph: onnx.ModelProto,
        loss: str,
        *,
        double: bool,
        threads: int = 0,
        still: Collection[str] = (),
    ) -> None:
        self.exact, self.seconds, self.loss = double, 0.0, loss
        self.name = f"float{64 if double else 32}, ONNX Runtime"
        options = runtime.session_options(threads)
        self.session = runtime.session(
            in_double(graph, still) if double else graph, options, where="the evaluate graph"
        )
        self.inputs = {value.name: _FLOATS.get(value.type) for value in self.session.get_inputs()}

    def __call__(self, inputs: Arrays) -> float:
        began = time.monotonic()
        feeds = {k: np.asarray(v, self.inputs[k]) for k, v in inputs.items() if k in self.inputs}
        value = float(self.session.run([self.loss], feeds)[0])
        self.seconds = time.monotonic() - began
        return value

    def slope(self, inputs: Arrays, direction: Direction) -> None:
        """Not known."""


class InNumPy:
    """The graph in ONNX's reference evaluator, in float64.

    Args:
        graph: the evaluate graph.
        loss: its output.
        training: batch norm by the statistics of the batch.
        limit: seconds that the first evaluation may take; :class:`TooSlow` is raised behind it.  Later ones may be on a
            busier machine, which is no reason to give up.
        still: see :func:`best`.
    """

    exact = True
    name = "float64, ONNX reference"

    def __init__(
        self,
        graph: onnx.ModelProto,
        loss: str,
        *,
        training: bool = False,
        limit: float = math.inf,
        still: Collection[str] = (),
    ) -> None:
        self.seconds, self.seconds_of_slope, self.limit = 0.0, 0.0, limit
        own = operators.ALWAYS + ((operators.BatchNormalization,) if training else ())
        self.evaluator = Evaluator(in_double(graph, still), [loss], own)
        self.analytic = True
        """Whether :meth:`slope` is to be had, as far as is known."""

    def __call__(self, inputs: Arrays) -> float:
        began = time.monotonic()
        (loss,) = self.evaluator(inputs, limit=math.inf if self.seconds else self.limit)
        self.seconds = time.monotonic() - began
        return float(loss)

    def slope(self, inputs: Arrays, direction: Direction) -> float | None:
        """The derivative of the loss along *direction*, or None where an operator does not say."""
        if not self.analytic:
            return None
        began = time.monotonic()
        moved = {name: partial(_moved, inputs[name], *along) for name, along in direction.items()}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # as where an imaginary part is thrown away
                (loss,) = self.evaluator({**inputs, **moved}, limit=SLOPES_SLOWDOWN * self.limit)
        except Exception:  # whatever NumPy raises of complex numbers
            self.analytic = False
            return None
        self.seconds_of_slope = time.monotonic() - began
        slope = float(np.imag(loss)) / TINY
        return slope if math.isfinite(slope) else None


def _moved(value: npt.NDArray[Any], scale: float, signs: npt.NDArray[np.int8]) -> npt.NDArray[np.complex128]:
    return np.asarray(value + 1j * (TINY * scale) * signs)


def best(
    graph: onnx.ModelProto,
    loss: str,
    inputs: Arrays,
    expected: float,
    *,
    limit: float,
    training: bool,
    threads: int,
    wide: float | None = None,
    forward: float = 0.0,
    still: Collection[str] = (),
) -> tuple[Reference | None, str]:
    """The best reference whose loss for *inputs* is *expected*, and why no better one was taken.

    None where nothing in float64 can be had and *training* is asked for: no graph in plain inference computes it.

    Args:
        graph: the evaluate graph.
        loss: its output.
        inputs: all of its inputs.
        expected: the loss that they give.
        limit: seconds that an evaluation in float64 may take.
        training: batch norm by the statistics of the batch.
        threads: of ONNX Runtime.
        wide: the loss of the training step in float64, if that is known.
        forward: seconds of an evaluation in float32, if that is known.
        still: inputs that are always the same; tables among them stay in float32, and what is looked up is cast.
    """
    why = []
    tables = looked_up(graph, still)
    try:
        found = InNumPy(graph, loss, training=training, limit=limit, still=tables)
        value = found(inputs)
        if _agree(value, expected) and not _is_another(value, expected, wide):
            return found, ""
        why.append(f"ONNX's reference evaluator computes another loss ({value:.6g})")
    except TooSlow:
        why.append(f"one evaluation in float64 takes more than {limit:.2g} s (give more --seconds, or --thorough)")
    except MemoryError:
        why.append("memory does not suffice for float64")
    except Exception as error:
        text = " ".join(str(error).split())
        why.append(f"ONNX's reference evaluator cannot run the model ({text[:120]})")
    if training:
        return None, "; ".join(why)
    held = sum(array.size for name, array in inputs.items() if name not in tables)
    if NATIVE_SLOWDOWN * forward < limit and held < NATIVE_LARGEST:
        with contextlib.suppress(Exception):  # a kernel is missing, as most often
            native = InRuntime(graph, loss, double=True, threads=threads, still=tables)
            if _agree(native(inputs), expected):
                return native, ""
    plain = InRuntime(graph, loss, double=False, threads=threads)
    plain(inputs)
    return plain, "; ".join(why)


def _agree(value: float, expected: float, allowed: float = AGREEMENT) -> bool:
    return abs(value - expected) <= allowed * max(abs(expected), 1e-6)


def _is_another(value: float, expected: float, wide: float | None) -> bool:
    """Whether *value* is the loss of another model than the step's, *wide*, which is the one that runs."""
    return wide is not None and not _agree(value, wide, WIDE_AGREEMENT) and abs(wide - expected) < abs(value - expected)


_INLINED = [
    [("", "SoftmaxCrossEntropyLoss"), ("", "Gelu"), ("", "GroupNormalization"), ("", "MeanVarianceNormalization")],
    [("", "NegativeLogLikelihoodLoss")],
]
"""What becomes elementary operators: the evaluator's own versions are in float32, or do not know complex numbers."""
_FLOATS = {"tensor(float16)": np.float16, "tensor(float)": np.float32, "tensor(double)": np.float64}
_NARROW = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}


def looked_up(graph: onnx.ModelProto, names: Collection[str]) -> set[str]:
    """Those inputs of *names* in float32 that nothing but Gathers of the main graph read, as tables."""
    main = ir.from_proto(graph).graph
    found = (v for v in main.inputs if v.name in names and v.dtype == ir.DataType.FLOAT and not v.is_graph_output())
    return {
        str(value.name)
        for value in found
        if value.uses()
        and all(key(use.node) == "Gather" and use.idx == 0 and use.node.graph is main for use in value.uses())
    }


def in_double(graph: onnx.ModelProto, tables: Collection[str] = ()) -> onnx.ModelProto:
    """A copy of *graph* that computes in float64 everywhere; a cross-entropy becomes elementary operators.

    *tables*, see :func:`looked_up`, stay in float32, and what is looked up in them is cast: the same, and smaller.
    """
    double: onnx.ModelProto = onnx.ModelProto.FromString(graph.SerializeToString())
    for wanted in _INLINED:
        if any(("", node.op_type) in wanted and node.domain in ("", "ai.onnx") for node in double.graph.node):
            double = onnx.shape_inference.infer_shapes(double)
            double = onnx.inliner.inline_selected_functions(double, wanted, inline_schema_functions=True)
    _to_double(double.graph)
    for value in (value for value in double.graph.input if value.name in tables):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    nodes = list(double.graph.node)
    del double.graph.node[:]
    for node in nodes:
        double.graph.node.append(node)
        if node.op_type == "Gather" and node.input[0] in tables:
            row, wide = f"{node.output[0]}/row", onnx.AttributeProto(name="to", type=onnx.AttributeProto.INT)
            wide.i = onnx.TensorProto.DOUBLE
            cast = onnx.NodeProto(op_type="Cast", input=[row], output=node.output[:1], attribute=[wide])
            double.graph.node[-1].output[0] = row
            double.graph.node.append(cast)
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
