"""A graph for one shape of batch: what follows from shapes is constant, and nothing else changes."""

from __future__ import annotations

import numpy as np
import onnx.defs
import onnx_ir as ir
import pytest

from dsd_ort.device import portable
from dsd_ort.device.specialize import specialize
from dsd_ort.errors import DataError
from dsd_ort.rewrite import shapes
from tests.device.portable.test_operators import NODES, TEXTS, outputs
from tests.graph.gradient import model, random_inputs


def specialized(text: str, given: dict[str, list[int]]) -> ir.Model:
    graph = ir.from_proto(model(text))
    specialize(graph, given)
    return graph


def operators(graph: ir.Model) -> list[str]:
    return [node.op_type for node in graph.graph if node.op_type != "Constant"]


def dims(graph: ir.Model, name: str) -> list[object]:
    (value,) = [value for node in graph.graph.all_nodes() for value in node.outputs if value.name == name]
    assert value.shape is not None
    return list(value.shape)


def test_arithmetic_on_shapes_becomes_constant() -> None:
    text = """(float[N, T] x) => (float[M, K] y)
      { one = Constant <value_ints = [1]> ()  rest = Constant <value_ints = [-1]> ()
        first = Constant <value_int = 0> ()
        s = Shape (x)  n = Gather (s, first)  m = Reshape (n, one)  c = Concat <axis = 0> (m, one, rest)
        z = Relu (x)  w = Reshape (z, c)  y = Squeeze (w, one) }"""
    graph = specialized(text, {"x": [3, 4]})
    assert operators(graph) == ["Relu", "Reshape", "Squeeze"]
    assert dims(graph, "w") == [3, 1, 4]
    x = np.random.default_rng(0).standard_normal((3, 4)).astype("f")
    np.testing.assert_array_equal(outputs(graph, {"x": x})["y"], np.maximum(x, 0))


def test_what_depends_on_data_stays() -> None:
    text = """(float[N, T] x, int64[N] l) => (float[N, T] y)
      { start = Constant <value_int = 0> ()  one = Constant <value_int = 1> ()  axis = Constant <value_ints = [1]> ()
        s = Shape <start = 1, end = 2> (x)  t = Squeeze (s)  steps = Range (start, t, one)
        m = Unsqueeze (l, axis)  inside = Less (steps, m)  zero = Constant <value_float = 0.0> ()
        y = Where (inside, x, zero) }"""
    graph = specialized(text, {"x": [2, 3], "l": [2]})
    assert operators(graph) == ["Unsqueeze", "Less", "Where"]
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(outputs(graph, {"x": x, "l": np.array([1, 3])})["y"], [[1, 0, 0], [1, 1, 1]])


@pytest.mark.parametrize(("noop", "left"), [(1, ["Neg"]), (0, ["ReduceSum", "Neg"])])
def test_a_sum_over_no_axes_is_nothing_only_where_it_says_so(noop: int, left: list[str]) -> None:
    text = f"""(float[N, 3] dy) => (float z)
      {{ a = Shape (dy)  p, q = com.microsoft.BroadcastGradientArgs (a, a)
        s = ReduceSum <noop_with_empty_axes = {noop}, keepdims = 1> (dy, p)  z = Neg (s) }}"""
    graph = ir.from_proto(model(text))
    graph.graph.outputs[0].shape = None
    dy = {"dy": np.arange(6, dtype=np.float32).reshape(2, 3)}
    expected = outputs(graph, dy)["z"]
    specialize(graph, {"dy": [2, 3]})
    assert operators(graph) == left
    np.testing.assert_array_equal(outputs(graph, dy)["z"], expected)


def test_a_sum_over_broadcast_axes_has_them_as_a_constant() -> None:
    text = """(float[N, 3] dy, float[1, 3] b) => (float[1, 3] db)
      { s = Shape (dy)  t = Shape (b)  p, q = com.microsoft.BroadcastGradientArgs (s, t)
        u = ReduceSum <noop_with_empty_axes = 1> (dy, q)  db = Reshape (u, t) }"""
    graph = specialized(text, {"dy": [4, 3]})
    assert operators(graph) == ["ReduceSum", "Reshape"]
    (axes,) = [node.inputs[1] for node in graph.graph if node.op_type == "ReduceSum"]
    assert axes is not None and ir.convenience.get_const_tensor(axes).numpy().tolist() == [0]


def test_bodies_of_scans_are_for_these_shapes_too() -> None:
    text = """(float[N, 3] s, float[T, N, 3] x) => (float[N, 3] e, float[T, N, 3] y)
      { e, y = Scan <num_scan_inputs = 1, body = step
          (float[A, B] h, float[A, B] xt) => (float[A, B] h1, float[A, B] yt) { d = Shape (h)
            z = ConstantOfShape (d)  m = Max (xt, z)  h1 = Add (h, m)  yt = Identity (h1) }> (s, x) }"""
    graph = ir.from_proto(model(text))
    inputs = {"s": np.ones((2, 3), np.float32), "x": np.random.default_rng(0).standard_normal((5, 2, 3)).astype("f")}
    expected = outputs(graph, inputs)
    specialize(graph, {name: array.shape for name, array in inputs.items()})
    assert {"Shape", "ConstantOfShape"}.isdisjoint(node.op_type for node in graph.graph.all_nodes())
    assert (dims(graph, "m"), dims(graph, "e"), dims(graph, "y")) == ([2, 3], [2, 3], [5, 2, 3])
    got = outputs(graph, inputs)
    assert all(np.array_equal(got[name], value) for name, value in expected.items())


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"x": [4, 3, 8], "y": [5, 3]}, r"the shape \[5, 3\] is not one of \[N, 3\], N = 4"),
        ({"x": [4, 2, 8]}, r"the shape \[4, 2, 8\] is not one of \[N, 3, T\]"),
        ({"x": [4, 3]}, r"the shape \[4, 3\] is not one of \[N, 3, T\]"),
    ],
)
def test_shapes_that_contradict_are_refused(given: dict[str, list[int]], what: str) -> None:
    with pytest.raises(DataError, match=what) as caught:
        specialized("(float[N, 3, T] x, float[N, 3] y) => (float[N, 3] z) { z = Neg (y) }", given)
    assert caught.value.where == f"the array {list(given)[-1]!r}"


def test_every_training_operator_has_a_shape_rule() -> None:
    of_training = {name for name in portable.RULES if not onnx.defs.has(name)}
    assert of_training - set(shapes.RULES) == {"com.microsoft.BroadcastGradientArgs"}  # which gives axes


@pytest.mark.parametrize(("text", "given"), [node for node in NODES if node not in TEXTS["com.microsoft.DivGrad"][1:]])
def test_shapes_behind_training_operators_are_those_that_they_have(text: str, given: dict[str, object]) -> None:
    proto = model(text)
    inputs = random_inputs(proto, given)
    graph = ir.from_proto(proto)
    found = outputs(graph, inputs)
    for value in graph.graph.outputs:
        value.shape = None
    specialize(graph, {name: array.shape for name, array in inputs.items()})
    assert {value.name: list(value.shape or [None]) for value in graph.graph.outputs} == {
        name: list(array.shape) or [None] for name, array in found.items()
    }
