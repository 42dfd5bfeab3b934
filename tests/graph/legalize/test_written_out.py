"""What exporters write out is one operator, and what only looks like it is none; the numbers stay."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from dsd_ort import runtime
from dsd_ort.device import portable
from dsd_ort.graph.legalize import legalize
from tests.graph.gradient import Exact, disagreement, loss_weights, model, random_inputs, step
from tests.graph.legalize.test_table import run

NUMBERS = (
    "float r = {1.4142135}, float c = {0.70710677}, float one = {1}, float half = {0.5}, float two = {2}, "
    "float three = {3}, float k = {0.044715}, float s = {0.7978846}"
)
WAYS = {
    "PyTorch's": "d = Div (x, r) e = Erf (d) a = Add (e, one) m = Mul (x, a) y = Mul (m, half)",
    "by a factor": "d = Mul (c, x) e = Erf (d) a = Add (one, e) m = Mul (a, half) y = Mul (m, x)",
    "half of x first": "h = Mul (half, x) d = Div (x, r) e = Erf (d) a = Add (e, one) y = Mul (h, a)",
    "of something": "z = Sin (x) d = Div (z, r) e = Erf (d) a = Add (e, one) m = Mul (z, a) y = Mul (m, half)",
    "twice": "d = Div (x, r) e = Erf (d) a = Add (e, one) m = Mul (x, a) g = Mul (m, half) "
    "f = Div (g, r) i = Erf (f) b = Add (i, one) n = Mul (g, b) y = Mul (n, half)",
    "by tanh": "p = Pow (x, three) q = Mul (k, p) u = Add (x, q) v = Mul (u, s) t = Tanh (v) a = Add (t, one) "
    "h = Mul (half, x) y = Mul (h, a)",
    "by tanh and products": "p = Mul (x, x) c3 = Mul (p, x) q = Mul (c3, k) u = Add (q, x) v = Mul (s, u) t = Tanh (v) "
    "a = Add (one, t) m = Mul (x, a) y = Mul (m, half)",
    "by tanh and a square": "p = Pow (x, two) c3 = Mul (x, p) q = Mul (c3, k) u = Add (x, q) v = Mul (s, u) "
    "t = Tanh (v) a = Add (t, one) m = Mul (a, half) y = Mul (m, x)",
}
OTHERS = {
    "another width": "d = Mul (half, x) e = Erf (d) a = Add (e, one) m = Mul (x, a) y = Mul (m, half)",
    "half twice": "d = Div (x, r) e = Erf (d) a = Add (e, one) m = Mul (half, a) y = Mul (m, half)",
    "x twice": "d = Div (x, r) e = Erf (d) a = Add (e, one) m = Mul (x, a) y = Mul (m, x)",
    "a sum that is read": "d = Div (x, r) e = Erf (d) a = Add (e, one) m = Mul (x, a) n = Mul (m, half) y = Add (n, a)",
    "another one": "d = Div (x, r) e = Erf (d) a = Add (e, half) m = Mul (x, a) y = Mul (m, half)",
    "tanh of a square": "p = Pow (x, two) q = Mul (k, p) u = Add (x, q) v = Mul (u, s) t = Tanh (v) a = Add (t, one) "
    "h = Mul (half, x) y = Mul (h, a)",
    "tanh of two": "z = Sin (x) p = Pow (z, three) q = Mul (k, p) u = Add (x, q) v = Mul (u, s) t = Tanh (v) "
    "a = Add (t, one) h = Mul (half, x) y = Mul (h, a)",
    "no product": "d = Div (x, r) e = Erf (d) y = Add (e, one)",
}


def proto_of(text: str) -> object:
    return model(f"(float[N, 7] x) => (float[] y) <{NUMBERS}> {{ {text} }}", 17)


@pytest.mark.parametrize("text", WAYS.values(), ids=WAYS)
def test_it_is_one_operator_with_the_same_gradient(text: str) -> None:
    proto = proto_of(text)
    legal = legalize(ir.from_proto(proto), ["x"], outputs=["y"])
    count, one = (text.count("Erf"), "Gelu") if "Erf" in text else (1, "FastGelu")
    kinds = [node.op_type for node in legal.model.graph]
    assert kinds.count(one) == count and not {"Erf", "Tanh"} & set(kinds)
    assert sum(f"as one {one}" in note.words for note in legal.notes) == count
    inputs = random_inputs(proto)
    exact = Exact(proto)
    y = exact(inputs)["y"]
    weights = loss_weights({"y": y})
    done = step(legal.model, ["x"], inputs, weights)
    assert np.abs(done.outputs["y"] - y).max() <= 1e-6 * np.abs(y).max()
    assert max(disagreement(exact, inputs, weights, done.gradients).values()) <= 1e-6


@pytest.mark.parametrize("text", OTHERS.values(), ids=OTHERS)
def test_what_only_looks_like_it_stays(text: str) -> None:
    legal = legalize(ir.from_proto(proto_of(text)), ["x"], outputs=["y"])
    kinds = [node.op_type for node in legal.model.graph]
    assert kinds.count("Erf") + kinds.count("Tanh") == 1 and not {"Gelu", "FastGelu"} & set(kinds)


LAYER_NORM = (
    "m = ReduceMean <axes = [-1]> (x) d = Sub (x, m) p = Pow (d, two) v = ReduceMean <axes = [-1]> (p) "
    "a = Add (v, tiny) s = Sqrt (a) n = Div (d, s) k = Mul (n, g) y = Add (k, b)"
)
NORMS = {
    "PyTorch's": LAYER_NORM,
    "a product, the last axis from the front": LAYER_NORM.replace("Pow (d, two)", "Mul (d, d)").replace("[-1]", "[2]"),
    "two differences, the other way round": LAYER_NORM.replace("Pow (d, two)", "Pow (e, two)")
    .replace("d = Sub (x, m)", "d = Sub (x, m) e = Sub (x, m)")
    .replace("Mul (n, g)", "Mul (g, n)")
    .replace("Add (k, b)", "Add (b, k)"),
}
NO_NORMS = {
    "another axis": LAYER_NORM.replace("[-1]", "[1]"),
    "no mean": LAYER_NORM.replace("Sub (x, m)", "Sub (x, g)"),
    "the mean of something": LAYER_NORM.replace(
        "ReduceMean <axes = [-1]> (x) d", "ReduceMean <axes = [-1]> (w) d"
    ).replace("m = ", "w = Sin (x) m = "),
    "a cube": LAYER_NORM.replace("Pow (d, two)", "Pow (d, three)"),
    "another quotient": LAYER_NORM.replace("Div (d, s)", "Div (s, d)"),
    "no scale": LAYER_NORM.replace("Mul (n, g)", "Mul (n, half)"),
}


def norm_of(text: str) -> object:
    numbers = "float two = {2}, float three = {3}, float half = {0.5}, float tiny = {0.001}"
    return model(f"(float[N, 3, 5] x, float[5] g, float[5] b) => (float[] y) <{numbers}> {{ {text} }}", 17)


@pytest.mark.parametrize("text", NORMS.values(), ids=NORMS)
def test_a_layer_norm_is_one_operator_with_the_same_gradients(text: str) -> None:
    proto = norm_of(text)
    legal = legalize(ir.from_proto(proto), ["x", "g", "b"], outputs=["y"])
    assert [node.op_type for node in legal.model.graph] == ["LayerNormalization"]
    assert [note.words for note in legal.notes] == ["written out with Sqrt, as one LayerNormalization"]
    inputs, exact = random_inputs(proto), Exact(proto)
    y = exact(inputs)["y"]
    weights = loss_weights({"y": y})
    done = step(legal.model, ["x", "g", "b"], inputs, weights)
    assert np.abs(done.outputs["y"] - y).max() <= 1e-6 * np.abs(y).max()
    assert max(disagreement(exact, inputs, weights, done.gradients).values()) <= 2e-6


@pytest.mark.parametrize("text", NO_NORMS.values(), ids=NO_NORMS)
def test_what_only_looks_like_a_layer_norm_stays(text: str) -> None:
    legal = legalize(ir.from_proto(norm_of(text)), ["x"], outputs=["y"]).model
    assert not any(node.op_type == "LayerNormalization" for node in legal.graph)


def test_an_output_within_it_stays() -> None:
    text = "d = Div (x, r) e = Erf (d) a = Add (e, one) m = Mul (x, a) y = Mul (m, half)"
    proto = model(f"(float[N, 7] x) => (float[] y, float[] m) <{NUMBERS}> {{ {text} }}", 17)
    legal = legalize(ir.from_proto(proto), ["x"], outputs=["y"], kept=["m"]).model
    if not runtime.trains():
        portable.expand(legal)
    x = np.linspace(-4, 4, 21, dtype=np.float32).reshape(3, 7)
    np.testing.assert_allclose(run(ir.to_proto(legal), {"x": x}), run(proto, {"x": x}), rtol=1e-6, atol=1e-6)
