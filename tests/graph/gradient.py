"""Numeric gradients: what a builder makes of a legalized model, against the model as it was.

The loss is L = Σ R·Y over all entries of all outputs, R fixed normal numbers.  For each trainable input w and some
directions d, ⟨∂L/∂w, d⟩ in float32 is compared with the central difference (L(w + εd) - L(w - εd)) / 2ε, which ONNX's
reference evaluator computes from the *original* model in float64; their difference is told in units of ‖∂L/∂w‖·‖d‖.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import erf
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops import op_grid_sample

from dsd_ort.graph.differentiate import StepGraph, differentiate
from dsd_ort.proof.control import Loop, Scan
from dsd_ort.proof.recurrence import GRU, LSTM, RNN
from dsd_ort.recipe import BuilderName
from tests.session import opened

Arrays = dict[str, np.ndarray]

SIZES = {"N": 2, "N2": 2, "ONE": 1, "T": 3, "K": 4, "H": 6, "W": 5}
"""What symbolic dimensions are in tests."""
EPSILON, DIRECTIONS = 1e-5, 3


def model(text: str, opset: int = 18) -> onnx.ModelProto:
    """The model of a graph in ONNX text: ``(float[N, 3] x) => (float[N, 3] y) { y = Relu(x) }``."""
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]> g {text}')


def random_inputs(proto: onnx.ModelProto, given: Mapping[str, Any] | None = None) -> Arrays:
    """Normal numbers, labels 0 and 1 and coin tosses for the inputs that are not *given*."""
    random = np.random.default_rng(0)
    arrays = {}
    for value in proto.graph.input:
        tensor = value.type.tensor_type
        shape = [d.dim_value or SIZES[d.dim_param] for d in tensor.shape.dim]
        numbers = random.standard_normal(shape)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        arrays[value.name] = np.asarray(numbers if dtype == np.float32 else numbers > 0, dtype)
    return arrays | {name: np.asarray(value, arrays[name].dtype) for name, value in (given or {}).items()}


class Step(NamedTuple):
    """One forward and backward pass: all outputs of the model, and ∂L/∂w."""

    outputs: Arrays
    gradients: Arrays


def step_graph(
    legal: ir.Model, trainable: Sequence[str], weights: Mapping[str, np.ndarray], builder: BuilderName = "own"
) -> StepGraph:
    """Differentiates L = Σ R·Y with *builder*; *weights* are the R of the outputs that L reads."""
    model = ir.from_proto(_with_loss(ir.to_proto(legal), weights))
    return differentiate(model, list(trainable), loss="L", builder=builder)


def step(
    legal: ir.Model,
    trainable: Sequence[str],
    inputs: Arrays,
    weights: Mapping[str, np.ndarray],
    builder: BuilderName = "own",
) -> Step:
    """Runs :func:`step_graph`."""
    made = step_graph(legal, trainable, weights, builder)
    session = opened(made.model)
    known = {value.name for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    results = dict(zip(names, session.run(names, {k: v for k, v in inputs.items() if k in known}), strict=True))
    return Step(results, {name: results[gradient] for name, gradient in made.gradients.items()})


def _with_loss(proto: onnx.ModelProto, weights: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    graph = proto.graph
    terms = []
    for name, weight in weights.items():
        graph.initializer.append(numpy_helper.from_array(weight.astype(np.float32), f"{name}/R"))
        # Of a fixed shape, as the builder takes a symbolic length for equal to a fixed one, or for broadcast.
        shape = numpy_helper.from_array(np.asarray(weight.shape, np.int64), f"{name}/shape")
        graph.initializer.append(shape)
        graph.node.append(onnx.helper.make_node("Reshape", [name, shape.name], [f"{name}/Y"], f"{name}/Y"))
        graph.node.append(onnx.helper.make_node("Mul", [f"{name}/Y", f"{name}/R"], [f"{name}/RY"], f"{name}/RY"))
        graph.node.append(onnx.helper.make_node("ReduceSum", [f"{name}/RY"], [f"{name}/L"], f"{name}/L", keepdims=0))
        terms.append(f"{name}/L")
    for i, term in enumerate(terms[1:]):
        graph.node.append(onnx.helper.make_node("Add", [terms[0], term], [f"L/{i}"], f"L/{i}"))
        terms[0] = f"L/{i}"
    graph.node.append(onnx.helper.make_node("Identity", [terms[0]], ["L"], "L"))
    graph.output.append(onnx.helper.make_tensor_value_info("L", onnx.TensorProto.FLOAT, []))
    return proto


def quiet() -> Any:
    """Session options: errors only, one thread."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return options


class Exact:
    """*proto* in float64, by ONNX's reference evaluator: ``exact(inputs)`` gives its outputs."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        double = onnx.ModelProto.FromString(proto.SerializeToString())
        _to_double(double.graph)
        self.names = [value.name for value in proto.graph.output]
        self._evaluator = ReferenceEvaluator(double, new_ops=NEW_OPERATORS)

    def __call__(self, inputs: Arrays) -> Arrays:
        double = {k: v.astype(np.float64) if v.dtype == np.float32 else v for k, v in inputs.items()}
        return dict(zip(self.names, self._evaluator.run(self.names, double), strict=True))


class Erf(OpRun):
    """In double precision, which the reference evaluator's own is not."""

    def _run(self, x: np.ndarray) -> tuple[np.ndarray]:
        return (np.vectorize(erf, otypes=[np.float64])(x),)


class GridSample(op_grid_sample.GridSample):
    """In double precision, which the reference evaluator's own coordinates are not; by its older modes too."""

    def _gs_denormalize_coordinates(self, n: np.ndarray, dims: Sequence[int], align_corners: bool) -> np.ndarray:
        return np.array([self._gs_denormalize(v, dim, align_corners) for v, dim in zip(n, dims, strict=False)])

    def _run(self, x: np.ndarray, grid: np.ndarray, **attributes: Any) -> tuple[np.ndarray]:
        mode = attributes.pop("mode", None) or "linear"
        return super()._run(x, grid, mode={"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode), **attributes)


NEW_OPERATORS: list[type[OpRun]] = [Erf, GridSample, GRU, Loop, LSTM, RNN, Scan]
"""In double precision and complete, where the reference evaluator's own are not."""


def _to_double(graph: onnx.GraphProto) -> None:
    float32, float64 = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == float32:
            value.type.tensor_type.elem_type = float64
    constants = [a.t for node in graph.node for a in node.attribute if a.HasField("t")]
    for tensor in (*graph.initializer, *constants):
        if tensor.data_type == float32:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for attribute in (a for node in graph.node for a in node.attribute):
        if attribute.HasField("g"):
            _to_double(attribute.g)
        if attribute.name == "to" and attribute.i == float32:
            attribute.i = float64
        if attribute.name in ("value_float", "value_floats"):
            value = attribute.f if attribute.name == "value_float" else list(attribute.floats)
            attribute.CopyFrom(onnx.helper.make_attribute("value", numpy_helper.from_array(np.asarray(value))))


def loss_weights(outputs: Arrays) -> Arrays:
    """R, of the outputs' shapes."""
    random = np.random.default_rng(1)
    return {name: random.standard_normal(y.shape).astype(np.float32) for name, y in outputs.items()}


def disagreement(
    exact: Exact, inputs: Arrays, weights: Arrays, gradients: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """The greatest |⟨gradient, d⟩ - central difference| / (‖gradient‖·‖d‖), per trainable input."""

    def loss(name: str, shift: np.ndarray) -> float:
        outputs = exact({**inputs, name: inputs[name].astype(np.float64) + shift})
        return float(sum((weights[y] * outputs[y]).sum() for y in weights))

    random = np.random.default_rng(2)
    worst = {}
    for name, gradient in gradients.items():
        assert gradient.shape == inputs[name].shape, f"the gradient of {name} has the shape {gradient.shape}"
        errors = []
        for _ in range(DIRECTIONS):
            d = random.standard_normal(gradient.shape)
            slope = (loss(name, EPSILON * d) - loss(name, -EPSILON * d)) / (2 * EPSILON)
            scale = float(np.linalg.norm(gradient) * np.linalg.norm(d))
            errors.append(abs(float((gradient * d).sum()) - slope) / (scale or 1.0))
        worst[name] = max(errors)
    return worst
