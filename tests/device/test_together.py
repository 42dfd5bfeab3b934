"""Many short vectors that are computed alike are computed at once, to the same bits."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from dsd_ort.device.lower import lower
from dsd_ort.device.lower.together import compute_together
from tests.device.test_lower import model_of, operators, run

FOLLOW = """
    k = Constant<value_float=0.9>() r = Constant<value_float=0.1>() e = Constant<value_float=0.001>()
    g = Constant<value_float=2.0>()
    n1 = Size(x) n2 = Size(z) f1 = Cast<to=1>(n1) f2 = Cast<to=1>(n2)
    a1 = Mul(m1, k) q1 = Mul(s1, s1) v1 = Reciprocal(q1) u1 = Sub(v1, {e1}) t1 = Relu(u1) w1 = Mul(t1, f1)
    b1 = Mul(w1, r) y1 = Add(a1, b1)
    a2 = Mul(m2, k) q2 = Mul(s2, s2) v2 = Reciprocal(q2) u2 = Sub(v2, {e2}) t2 = Relu(u2) w2 = Mul(t2, f2)
    b2 = Mul(w2, r) y2 = Add(a2, b2) """
INPUTS = "float[N, 3] x, float[N, 5] z, float[3] m1, float[5] m2, float[3] s1, float[5] s2"


def feeds() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"x": (4, 3), "z": (4, 5), "m1": (3,), "m2": (5,), "s1": (3,), "s2": (5,)}
    return {name: rng.uniform(0.5, 30, shape).astype(np.float32) for name, shape in shapes.items()}


def same_bits(text: str) -> tuple[int, ir.Model]:
    expected, model = run(model_of(text), feeds()), model_of(text)
    for node in model.graph:  # as the shapes of a prepared graph are known
        for value in node.outputs:
            if value.name[-1] in "12" and value.shape is None:
                sizes = [] if value.name[0] in "nf" else [3 if value.name[-1] == "1" else 5]
                kind = ir.DataType.INT64 if value.name[0] == "n" else ir.DataType.FLOAT
                value.shape, value.type = ir.Shape(sizes), ir.TensorType(kind)
    count = compute_together(model)
    got = run(model, feeds())
    assert list(got) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)
    return count, model


@pytest.mark.parametrize("second", ["e", "g"])
def test_what_is_computed_alike_is_computed_once(second: str) -> None:
    """Also where a number is another one for each."""
    text = FOLLOW.format(e1="e", e2=second)
    count, model = same_bits(f"agraph ({INPUTS}) => (float[3] y1, float[5] y2) {{ {text} }}")
    assert count == 2
    used = operators(model)
    assert used.count("Reciprocal") == used.count("Split") == 1


DIFFERENT = {
    "another operator": "t2 = Relu(u2)|t2 = Abs(u2)",
    "another attribute": "t2 = Relu(u2)|t2 = Elu<alpha=0.5>(u2)",
    "a vector for a number": "w2 = Mul(t2, f2)|w2 = Mul(t2, m2)",
    "an output that is read": "b2 = Mul(w2, r) y2 = Add(a2, b2)|b2 = Mul(w2, r) y2 = Add(a2, b2) y3 = Abs(y2)",
}


@pytest.mark.parametrize("change", DIFFERENT.values(), ids=DIFFERENT.keys())
def test_what_is_computed_otherwise_stays_apart(change: str) -> None:
    before, after = change.split("|")
    text = FOLLOW.format(e1="e", e2="e").replace(before, after)
    third = ", float[5] y3" if "y3" in after else ""
    count, _ = same_bits(f"agraph ({INPUTS}) => (float[3] y1, float[5] y2{third}) {{ {text} }}")
    assert count == 0


def test_a_vector_of_one_beside_longer_ones_stays_apart() -> None:
    text = """agraph (float[3] m1, float[5] m2, float[1] s) => (float[3] y1, float[5] y2)
        { a1 = Mul(m1, s) b1 = Abs(a1) y1 = Add(b1, m1)  a2 = Mul(m2, s) b2 = Abs(a2) y2 = Add(b2, m2) }"""
    model = model_of(text)
    for node in model.graph:
        (value,) = node.outputs
        value.shape = ir.Shape([3 if value.name.endswith("1") else 5])
    assert compute_together(model) == 0


def test_cuda_keeps_them_apart() -> None:
    text = f"agraph ({INPUTS}) => (float[3] y1, float[5] y2) {{ {FOLLOW.format(e1='e', e2='e')} }}"
    model = model_of(text)
    before = operators(model)
    assert lower(model, "cuda") == ()
    assert operators(model) == before
