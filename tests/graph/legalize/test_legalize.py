"""Whole graphs: a transformer's encoder layer and a small CNN as exporters write them, and what legalize reports."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from dsd_ort.graph.legalize import legalize
from dsd_ort.graph.logits import Logits
from dsd_ort.rewrite.names import make_unique
from tests.graph.gradient import Exact, disagreement, loss_weights, model, random_inputs, step

TOLERANCE = 2e-6

ENCODER = """(int64[N, 3] tokens, bool[N, 1, 1, 3] padding, float[4, 8] table, float[1, 3, 8] position,
  float[8, 24] qkv, float[24] qkv_bias, float[8, 8] out, float[8] g1, float[8] b1,
  float[8, 16] up, float[16] up_bias, float[16, 8] down, float[8] g2, float[8] b2, float[8, 5] head)
=> (float[N, 5] y)
<int64[4] heads = {0, 0, 2, 4}, int64[3] joined = {0, 0, 8}, int64[3] thirds = {8, 8, 8}, float never = {-1e9},
 float scale = {0.5}, float two = {2}, float epsilon = {1e-5}, int64[1] last = {-1}, int64[1] steps = {1},
 float root2 = {1.4142135}, float one = {1}, float half = {0.5}>
{
  e = Gather (table, tokens)
  x = Add (e, position)
  p = MatMul (x, qkv)
  pb = Add (p, qkv_bias)
  q, k, v = Split <axis = 2> (pb, thirds)
  qh = Reshape (q, heads)  kh = Reshape (k, heads)  vh = Reshape (v, heads)
  qt = Transpose <perm = [0, 2, 1, 3]> (qh)
  kt = Transpose <perm = [0, 2, 3, 1]> (kh)
  vt = Transpose <perm = [0, 2, 1, 3]> (vh)
  s = MatMul (qt, kt)
  ss = Mul (s, scale)
  sm = Where (padding, never, ss)
  a = Softmax <axis = -1> (sm)
  c = MatMul (a, vt)
  ct = Transpose <perm = [0, 2, 1, 3]> (c)
  cj = Reshape (ct, joined)
  o = MatMul (cj, out)
  r1 = Add (x, o)
  [ln1] n1 = LayerNormalization <axis = -1> (r1, g1, b1)
  u = MatMul (n1, up)
  ub = Add (u, up_bias)
  ud = Div (ub, root2)  ue = Erf (ud)  uo = Add (ue, one)  um = Mul (ub, uo)  gelu = Mul (um, half)
  d = MatMul (gelu, down)
  r2 = Add (n1, d)
  m = ReduceMean <axes = [-1]> (r2)
  dv = Sub (r2, m)  sq = Pow (dv, two)  va = ReduceMean <axes = [-1]> (sq)
  ve = Add (va, epsilon)  sd = Sqrt (ve)  n2 = Div (dv, sd)  w = Mul (n2, g2)  n = Add (w, b2)
  pooled = ReduceMean <axes = [1], keepdims = 0> (n)
  logits = MatMul (pooled, head)
  y = Softmax <axis = 1> (logits)
}"""


@pytest.mark.parametrize("trainable", ["all", "one projection", "all but norms"])
def test_the_gradients_of_an_encoder_layer_are_right(trainable: str) -> None:
    proto = model(ENCODER, 17)
    inputs = random_inputs(proto, {"tokens": [[0, 3, 1], [2, 2, 0]], "padding": [[[[0, 0, 1]]], [[[0, 1, 0]]]]})
    weights = {
        "all": [name for name, value in inputs.items() if value.dtype == np.float32],
        "one projection": ["qkv"],
        "all but norms": ["table", "position", "qkv", "qkv_bias", "out", "up", "up_bias", "down", "head"],
    }[trainable]
    exact = Exact(proto)
    y = exact(inputs)
    legal = legalize(ir.from_proto(proto), weights, outputs=["y"])
    done = step(legal.model, weights, inputs, loss_weights(y))
    np.testing.assert_allclose(done.outputs["y"], y["y"], rtol=0, atol=TOLERANCE)
    assert max(disagreement(exact, inputs, loss_weights(y), done.gradients).values()) < TOLERANCE
    norm = "written out with Sqrt, as one LayerNormalization"
    assert [note.words for note in legal.notes] == ["written out with Erf, as one Gelu", norm]
    assert legal.logits == {"y": Logits("logits", "softmax", 1, 2)}


CNN = """(float[N, 2, 9, 9] x, float[4, 2, 3, 3] w1, float[4] s, float[4] b, float[4] m, float[4] v,
  float[4, 1, 3, 3] w2, float[3, 8, 1, 1] w3, float[3] b3, float[27, 5] f, float[5] fb) => (float[N, 5] y)
{
  c1 = Conv <auto_pad = "SAME_LOWER", strides = [2, 2]> (x, w1)
  n1 = BatchNormalization (c1, s, b, m, v)
  r1 = HardSwish (n1)
  c2 = Conv <group = 4, pads = [1, 1, 1, 1]> (r1, w2)
  p2 = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (c2)
  j = Concat <axis = 1> (r1, p2)
  c3 = Conv (j, w3, b3)
  p3 = MaxPool <kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1> (c3)
  q = Flatten (p3)
  t = Gemm (q, f, fb)
  y = LogSoftmax (t)
}"""


def test_the_gradients_of_a_cnn_are_right() -> None:
    proto = model(CNN)
    inputs = random_inputs(proto, {"v": [1, 0.5, 2, 0.1]})
    weights = [name for name in inputs if name not in ("m", "v")]
    exact = Exact(proto)
    y = exact(inputs)
    legal = legalize(ir.from_proto(proto), weights, outputs=["y"], batch_norm="frozen")
    done = step(legal.model, weights, inputs, loss_weights(y))
    np.testing.assert_allclose(done.outputs["y"], y["y"], rtol=0, atol=TOLERANCE * np.abs(y["y"]).max())
    assert max(disagreement(exact, inputs, loss_weights(y), done.gradients).values()) < TOLERANCE
    assert legal.logits == {"y": Logits("t", "log-softmax", 1, 2)}
    assert [note.node for note in legal.notes] == [
        "Conv 'c1'",
        "BatchNormalization 'n1'",
        "HardSwish 'r1'",
        "AveragePool 'p2'",
    ]


def test_a_rule_knows_the_path_behind_nodes_that_others_have_rewritten() -> None:
    # The gradient of Where is wrong where h is broadcast, unless its rule still finds h on the path.
    proto = model(
        "(float[7] x, float[N, 7] z, bool[N, 7] c) => (float[N, 7] y) { h = HardSwish (x) y = Where (c, h, z) }"
    )
    inputs = random_inputs(proto)
    exact = Exact(proto)
    weights = loss_weights(exact(inputs))
    legal = legalize(ir.from_proto(proto), ["x"], outputs=["y"])
    done = step(legal.model, ["x"], inputs, weights)
    assert disagreement(exact, inputs, weights, done.gradients)["x"] < TOLERANCE


def test_other_outputs_and_what_only_they_need_are_removed() -> None:
    proto = model(
        "(float[N, 3] x) => (float[N, 3] y, float[N, 3] z) { h = Relu (x) y = Exp (h) d = Det (h) z = Mul (h, d) }"
    )
    legal = legalize(ir.from_proto(proto), ["x"], outputs=["y"])
    assert [node.op_type for node in legal.model.graph] == ["Relu", "Exp"]
    assert [value.name for value in legal.model.graph.outputs] == ["y"]


def test_several_outputs_are_differentiated_together() -> None:
    proto = model(
        "(float[N, 3] x) => (float[N, 3] y, float[N] z) <int64[1] a = {1}>"
        "{ y = Exp (x) z = ReduceMax <keepdims = 0> (y, a) }"
    )
    inputs = random_inputs(proto)
    exact = Exact(proto)
    weights = loss_weights(exact(inputs))
    legal = legalize(ir.from_proto(proto), ["x"], outputs=["y", "z"])
    done = step(legal.model, ["x"], inputs, weights)
    assert disagreement(exact, inputs, weights, done.gradients)["x"] < TOLERANCE


def test_the_model_is_changed_in_place_and_input_names_stay() -> None:
    original = ir.from_proto(model(CNN))
    inputs = [value.name for value in original.graph.inputs]
    legal = legalize(original, ["w1"], outputs=["y"])
    assert legal.model is original
    assert [value.name for value in legal.model.graph.inputs] == inputs


def test_nodes_and_values_have_names_of_their_own() -> None:
    body = "[n] h = HardSwish (x) [n] i = HardSwish (h) y = HardSwish (i)"
    graph = legalize(
        ir.from_proto(model(f"(float[N] x) => (float[N] y) {{ {body} }}")), ["x"], outputs=["y"]
    ).model.graph
    nodes = [node.name for node in graph]
    values = [value.name for node in graph for value in node.outputs]
    assert len(set(nodes)) == len(nodes) > 0
    assert len(set(values)) == len(values)


def test_absent_outputs_stay_absent_when_names_are_given() -> None:
    text = """(float[N, 4, 5, 5] dy, float[N, 3, 5, 5] x, float[4, 3, 3, 3] w) => (float[4, 3, 3, 3] dw)
      { dx, dw = com.microsoft.ConvGrad <pads = [1, 1, 1, 1]> (dy, x, w) }"""
    graph = ir.from_proto(model(text))
    (node,) = graph.graph
    node.outputs[0].name = ""
    make_unique(graph)
    assert [output.name for output in node.outputs] == ["", "dw"]
