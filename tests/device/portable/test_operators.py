"""Each rule against the training build's own kernel: the same outputs, by operators that every ONNX Runtime has."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from dsd_ort.device.portable import RULES, expand, is_portable
from dsd_ort.device.specialize import specialize
from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.differentiate import differentiate
from dsd_ort.graph.legalize import legalize
from tests.graph.gradient import _with_loss as with_loss
from tests.graph.gradient import loss_weights, model, random_inputs
from tests.graph.legalize.cases import CASES, Case
from tests.session import opened

TOLERANCE = 2e-6  # of the norm: float32 sums in another order

BATCH_NORM = """(float[N, 3, H, W] dy, float[N, 3, H, W] x, float[3] s, float[3] m, float[3] r)
  => (float[N, 3, H, W] dx, float[3] ds, float[3] db)
  { dx, ds, db = com.microsoft.BatchNormalizationGrad <epsilon = 1e-5> (dy, x, s, m, r) }"""
LABELS = {"label": [[0, 1, 2], [2, -1, 0], [1, 1, -1], [0, 0, 2]]}
NONE = {"label": [[-1] * 3] * 4}
VALID = {"label": [[0, 1, 2], [2, 0, 0], [1, 1, 2], [0, 0, 2]]}


def elementwise(operator: str, attributes: str = "") -> str:
    return (
        f"(float[N, 7] dy, float[N, 7] v) => (float[N, 7] dx) {{ dx = com.microsoft.{operator}{attributes} (dy, v) }}"
    )


def convolution(attributes: str, x: str, w: str, dy: str) -> str:
    outputs = f"(float[{x}] dx, float[{w}] dw, float[{dy.split(', ')[1]}] db)"
    return f"""(float[{dy}] dy, float[{x}] x, float[{w}] w) => {outputs}
      {{ dx, dw, db = com.microsoft.ConvGrad <{attributes}> (dy, x, w) }}"""


def cross_entropy(attributes: str, weight: str = "", dy: str = "float dy") -> str:
    extra, argument = (", float[3] weight", ", weight") if weight else ("", "")
    return f"""({dy}, float[4, 3, T] lp, int64[4, T] label{extra}) => (float[4, 3, T] dx)
      {{ dx = com.microsoft.SoftmaxCrossEntropyLossGrad <{attributes}> (dy, lp, label{argument}) }}"""


def cross_entropy_loss(attributes: str, weight: str = "") -> str:
    extra, argument = (", float[3] weight", ", weight") if weight else ("", "")
    return f"""(float[4, 3, T] x, int64[4, T] label{extra}) => (float loss, float[4, 3, T] lp)
      {{ loss, lp = SoftmaxCrossEntropyLoss <{attributes}> (x, label{argument}) }}"""


def max_pool(attributes: str, y: str) -> str:
    return f"""(float[N, 2, 6, 6] x, float[N, 2, {y}] dy) => (float[N, 2, 6, 6] dx)
      {{ y, i = MaxPool <{attributes}> (x)  dx = MaxPoolGrad <{attributes}> (dy, i) }}"""


TEXTS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "MaxPoolGrad": [
        (max_pool("kernel_shape = [2, 2], strides = [2, 2]", "3, 3"), {}),
        (max_pool("kernel_shape = [3, 3], strides = [1, 1], pads = [1, 1, 1, 1]", "6, 6"), {}),
    ],
    "com.microsoft.BatchNormInternal": [
        (
            """(float[N, 3, H, W] x, float[3] s, float[3] b, float[3] m, float[3] v)
  => (float[N, 3, H, W] y, float[3] rm, float[3] rv, float[3] sm, float[3] si)
  { y, rm, rv, sm, si = com.microsoft.BatchNormInternal <training_mode = 1, momentum = 0.8> (x, s, b, m, v) }""",
            {"v": [1, 0.5, 2]},
        )
    ],
    "com.microsoft.BatchNormalizationGrad": [(BATCH_NORM, {}), (BATCH_NORM.replace(", H, W]", ", T]"), {})],
    "com.microsoft.BiasGeluGrad_dX": [
        (
            """(float[N, 7] dy, float[N, 7] x, float[7] b) => (float[N, 7] dx)
  { dx = com.microsoft.BiasGeluGrad_dX (dy, x, b) }""",
            {},
        )
    ],
    "com.microsoft.BroadcastGradientArgs": [
        (
            f"""(float[N, 3] dy) => (float[] x, float[] y)
  <int64[{a.count(",") + 1}] a = {{{a}}}, int64[2] b = {{2, 3}}>
  {{ p, q = com.microsoft.BroadcastGradientArgs (a, b)
    x = ReduceSum <noop_with_empty_axes = 1> (dy, p)  y = ReduceSum <noop_with_empty_axes = 1> (dy, q) }}""",
            {},
        )
        for a in ("3", "1", "2, 3", "1, 3", "2, 1", "1, 1")
    ],
    "com.microsoft.ConvGrad": [
        (convolution("group = 1", "N, 3, 6, 5", "4, 3, 3, 2", "N, 4, 4, 4"), {}),
        (convolution("strides = [2, 2], pads = [1, 0, 1, 1]", "N, 3, 6, 5", "4, 3, 3, 2", "N, 4, 3, 3"), {}),
        (convolution("strides = [2, 3]", "N, 3, 6, 5", "4, 3, 1, 1", "N, 4, 3, 2"), {}),
        (convolution("strides = [2, 2], pads = [1, 1, 1, 1]", "N, 3, H, W", "4, 3, 3, 3", "N, 4, T, T"), {}),
        (convolution("group = 2, dilations = [2, 1]", "N, 4, 6, 5", "6, 2, 2, 3", "N, 6, 4, 3"), {}),
        (convolution("group = 4", "N, 4, 6, 5", "4, 1, 2, 3", "N, 4, 5, 3"), {}),
        (convolution("pads = [2, 0, 1, 3], dilations = [1, 2]", "N, 4, 19, 9", "5, 4, 3, 3", "N, 5, 20, 8"), {}),
        (convolution("strides = [2, 1], pads = [3, 2, 3, 2]", "N, 3, 10, 8", "4, 3, 7, 5", "N, 4, 5, 8"), {}),
        (convolution("dilations = [1, 2]", "N, 2, H, 10", "4, 2, 4, 2", "N, 4, T, 8"), {}),
        (convolution("pads = [2, 1]", "N, 3, 6", "4, 3, 4", "N, 4, 6"), {}),
        (convolution("strides = [1, 2, 1]", "N, 2, 3, 4, 3", "4, 2, 2, 2, 2", "N, 4, 2, 2, 2"), {}),
    ],
    "com.microsoft.DivGrad": [
        (
            f"""(float[N, 3] dy, float[{a}] a, float[{b}] b) => (float[{a}] da, float[{b}] db)
  {{ da, db = com.microsoft.DivGrad (dy, a, b) }}""",
            {},
        )
        for a, b in (("N, 3", "N, 3"), ("3", "N, 1"), ("N, 1", "3"))
    ],
    "com.microsoft.DropoutGrad": [
        (
            """(float[N, 7] dy, bool[N, 7] mask) => (float[N, 7] dx) <float ratio = {0.3}, bool training = {1}>
  { dx = com.microsoft.DropoutGrad (dy, mask, ratio, training) }""",
            {},
        )
    ],
    "com.microsoft.FastGeluGrad": [(elementwise("FastGeluGrad"), {})],
    "com.microsoft.GatherElementsGrad": [
        (
            """(float[2, 3, 2] dy, int64[2, 3, 2] i) => (float[2, 3, 4] dx) <int64[3] shape = {2, 3, 4}>
  { dx = com.microsoft.GatherElementsGrad <axis = 2> (dy, shape, i) }""",
            {"i": np.tile([1, 1, 3, 0], 3).reshape(2, 3, 2)},
        )
    ],
    "com.microsoft.GatherGrad": [
        (
            f"""(float[{dy}] dy, int64[2, 2] i) => (float[4, 3, 4] dx) <int64[3] shape = {{4, 3, 4}}>
  {{ dx = com.microsoft.GatherGrad <axis = {axis}> (shape, i, dy) }}""",
            {"i": [[0, 2], [2, 1]]},
        )
        for axis, dy in ((0, "2, 2, 3, 4"), (1, "4, 2, 2, 4"), (2, "4, 3, 2, 2"))
    ],
    "com.microsoft.GatherNDGrad": [
        (
            f"""(float[{dy}] dy, int64[2, 3, {k}] i) => (float[2, 3, 4] dx) <int64[3] shape = {{2, 3, 4}}>
  {{ dx = com.microsoft.GatherNDGrad <batch_dims = {batch}> (shape, i, dy) }}""",
            {"i": np.arange(6 * k).reshape(2, 3, k) % 2},
        )
        for batch, k, dy in ((0, 1, "2, 3, 3, 4"), (0, 2, "2, 3, 4"), (1, 1, "2, 3, 4"), (1, 2, "2, 3"))
    ],
    "com.microsoft.GeluGrad": [(elementwise("GeluGrad"), {})],
    "com.microsoft.LayerNormalizationGrad": [
        (
            """(float[N, 3, 7] dy, float[N, 3, 7] x, float[7] s, float[N, 3, 1] m, float[N, 3, 1] r)
  => (float[N, 3, 7] dx, float[7] ds, float[7] db)
  { dx, ds, db = com.microsoft.LayerNormalizationGrad <axis = -1> (dy, x, s, m, r) }""",
            {},
        )
    ],
    "com.microsoft.LeakyReluGrad": [(elementwise("LeakyReluGrad", " <alpha = 0.2>"), {})],
    "com.microsoft.LogSoftmaxGrad_13": [
        (elementwise("LogSoftmaxGrad_13", f" <axis = {axis}>"), {}) for axis in (0, 1, -1)
    ],
    "com.microsoft.QuickGeluGrad": [(elementwise("QuickGeluGrad", " <alpha = 1.5>"), {})],
    "com.microsoft.ReluGrad": [(elementwise("ReluGrad"), {})],
    "com.microsoft.Scale": [
        (
            f"""(float[{x}] x, float{s} s) => (float[{x}] y)
  {{ y = com.microsoft.Scale <scale_down = {down}> (x, s) }}""",
            {},
        )
        for x, s, down in (("N, 7", "[1]", 1), ("N, 7", "", 0))
    ],
    "com.microsoft.SigmoidGrad": [(elementwise("SigmoidGrad"), {})],
    "com.microsoft.SliceGrad": [
        (
            f"""(float[{dy}] dy) => (float[4, 3, 6] dx)
  <int64[3] shape = {{4, 3, 6}}, int64[1] a = {{{a}}}, int64[1] b = {{{b}}},
   int64[1] axis = {{{axis}}}, int64[1] c = {{{c}}}>
  {{ dx = com.microsoft.SliceGrad (dy, shape, a, b, axis, c) }}""",
            {},
        )
        for dy, a, b, axis, c in (
            ("2, 3, 6", 1, 3, 0, 1),
            ("4, 3, 2", 4, 100, -1, 1),
            ("4, 3, 2", -3, -1, 2, 1),
            ("4, 3, 3", 0, 6, 2, 2),
        )
    ],
    "SoftmaxCrossEntropyLoss": [
        (cross_entropy_loss('reduction = "mean"'), VALID),
        (cross_entropy_loss('reduction = "mean", ignore_index = -1'), LABELS),
        (cross_entropy_loss('reduction = "mean", ignore_index = -1'), NONE),
        (cross_entropy_loss('reduction = "mean", ignore_index = -1', weight="yes"), LABELS),
        (cross_entropy_loss('reduction = "mean", ignore_index = -1', weight="yes"), NONE),
        (cross_entropy_loss('reduction = "sum", ignore_index = -1'), NONE),
    ],
    "com.microsoft.SoftmaxCrossEntropyLossGrad": [
        (cross_entropy('reduction = "mean", ignore_index = -1'), NONE),
        (cross_entropy('reduction = "mean"'), VALID),
        (cross_entropy('reduction = "mean", ignore_index = -1'), LABELS),
        (cross_entropy('reduction = "mean", ignore_index = -1', weight="yes"), LABELS),
        (cross_entropy('reduction = "sum", ignore_index = -1'), LABELS),
        (cross_entropy('reduction = "sum"', weight="yes"), VALID),
        (cross_entropy('reduction = "none"', dy="float[4, T] dy"), VALID),
    ],
    "com.microsoft.SoftmaxGrad_13": [(elementwise("SoftmaxGrad_13", f" <axis = {axis}>"), {}) for axis in (0, 1, -1)],
    "com.microsoft.TanhGrad": [(elementwise("TanhGrad"), {})],
}
NODES = [(text, given) for texts in TEXTS.values() for text, given in texts]


def outputs(model: ir.Model, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = opened(model)
    names = [value.name for value in session.get_outputs()]
    known = {value.name for value in session.get_inputs()}
    return dict(zip(names, session.run(names, {k: v for k, v in inputs.items() if k in known}), strict=True))


def assert_portable_and_equal(
    graph: ir.Model, inputs: dict[str, np.ndarray], device: str = "cpu", *, deterministic: bool = False
) -> None:
    portable = graph.clone()
    if device == "cuda":
        specialize(portable, {name: array.shape for name, array in inputs.items()})
    expand(portable, device, deterministic=deterministic)
    assert all(is_portable(node) for node in portable.graph)
    expected, got = outputs(graph, inputs), outputs(portable, inputs)
    assert list(got) == list(expected)
    for name, value in expected.items():
        assert got[name].shape == value.shape, name
        assert np.linalg.norm(got[name] - value) <= TOLERANCE * np.linalg.norm(value), name


def test_every_rule_is_compared_with_its_kernel() -> None:
    assert set(TEXTS) == set(RULES)


@pytest.mark.training_build
@pytest.mark.parametrize(("text", "given"), NODES, ids=[" ".join(text.partition("{ ")[2].split()) for text, _ in NODES])
def test_a_rule_computes_what_the_kernel_computes(text: str, given: dict[str, Any]) -> None:
    proto = model(text)
    assert_portable_and_equal(ir.from_proto(proto), random_inputs(proto, given))


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize(("text", "given"), NODES, ids=[" ".join(text.partition("{ ")[2].split()) for text, _ in NODES])
def test_so_do_the_forms_for_cuda(text: str, given: dict[str, Any], deterministic: bool) -> None:
    proto = model(text)
    assert_portable_and_equal(ir.from_proto(proto), random_inputs(proto, given), "cuda", deterministic=deterministic)


@pytest.mark.training_build
@pytest.mark.parametrize("case", [case for case in CASES if case.runs], ids=str)
def test_the_gradients_of_every_operator_are_the_same_in_portable_form(case: Case) -> None:
    proto = case.proto
    inputs, wanted = random_inputs(proto, case.given), [value.name for value in proto.graph.output]
    statistics = {name for node in proto.graph.node if node.op_type == "BatchNormalization" for name in node.input[3:]}
    trained = [n for n, v in inputs.items() if v.dtype == np.float32 and n not in {*statistics, *case.untrained}]
    legal = legalize(ir.from_proto(proto), trained, outputs=wanted).model
    weights = loss_weights({name: value for name, value in outputs(legal, inputs).items() if name in wanted})
    graph = differentiate(ir.from_proto(with_loss(ir.to_proto(legal), weights)), trained, loss="L").model
    if not all(is_portable(node) for node in graph.graph):
        assert_portable_and_equal(graph, inputs)


def test_an_operator_without_a_rule_is_refused_by_name() -> None:
    name = "com.microsoft.SoftmaxCrossEntropyLossInternal"
    graph = ir.from_proto(model(f"(float[N, 3] x, int64[N] t) => (float y) {{ [there] y = {name} (x, t) }}"))
    with pytest.raises(UnsupportedError, match=f"{re.escape(name)} runs only in .* training build") as caught:
        expand(graph)
    assert caught.value.where == "SoftmaxCrossEntropyLossInternal 'there'"


def test_operators_that_it_does_not_know_are_for_the_runtime_to_judge() -> None:
    """What ONNX Runtime's optimizers leave in a file, off the gradient path, every build has."""
    graph = ir.from_proto(model("(float[2, 2] x) => (float[2, 2] y) { y = com.microsoft.Inverse (x) }"))
    expand(graph)
    assert [node.op_type for node in graph.graph] == ["Inverse"]


def test_gradients_that_nobody_reads_are_not_computed() -> None:
    graph = ir.from_proto(
        model(
            """(float[N, 4, 4, 4] dy, float[N, 3, 6, 5] x, float[4, 3, 3, 2] w) => (float[4, 3, 3, 2] dw)
  { , dw = com.microsoft.ConvGrad (dy, x, w) }""".replace("{ ,", "{ dx,")
        )
    )
    expand(graph)
    assert "ConvTranspose" not in {node.op_type for node in graph.graph}


@pytest.mark.parametrize("unknown", ["dy", "x"])
def test_a_convolution_inside_of_a_branch_has_as_many_axes_as_its_kernel(unknown: str) -> None:
    """What a branch gives is of no known rank: silero-vad's gradients could not be had on stock ONNX Runtime."""
    shapes = {"dy": "float[N, 4, 4, 4] dy", "x": "float[N, 3, 6, 5] x"}
    shapes[unknown] = f"float[] {unknown}"
    outputs = "(float[N, 3, 6, 5] dx, float[4, 3, 3, 2] dw, float[4] db)"
    nodes = "dx, dw, db = com.microsoft.ConvGrad (dy, x, w)"
    graph = ir.from_proto(model(f"({shapes['dy']}, {shapes['x']}, float[4, 3, 3, 2] w) => {outputs} {{ {nodes} }}"))
    expand(graph)
    assert "ConvGrad" not in {node.op_type for node in graph.graph}


def test_domains_that_nothing_is_from_are_dropped() -> None:
    graph = ir.from_proto(model(elementwise("ReluGrad")))
    graph.opset_imports["org.pytorch.aten"] = 1
    expand(graph)
    assert dict(graph.opset_imports) == {"": 18}
