"""Forms for what a kernel computes number by number: the oracle is the formula in float64."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

from dsd_ort.device.lower import lower
from tests.device.test_lower import gradients, model_of, normal, operators, run
from tests.session import TRAINING_BUILD

Array = np.ndarray
EXACT, CLOSE = 0.0, 1e-6
PHI = np.vectorize(lambda x: (1 + math.erf(x / math.sqrt(2))) / 2)


def lowered(
    text: str, opset: int = 18, name: str = ""
) -> tuple[list[str], Callable[[dict[str, Array]], dict[str, Array]]]:
    """The forms that were taken, and what the graph then computes; *name* is that of its last node."""
    model = model_of(text)
    model.opset_imports[""] = opset
    model.graph.node(-1).name = name
    notes = lower(model, block=1)
    return list(notes), lambda feeds: run(model, feeds)


@pytest.mark.parametrize(("alpha", "taken"), [(0.1, True), (0.0, True), (1.0, True), (1.5, False), (-0.2, False)])
def test_a_leaky_relu_and_its_gradient(alpha: float, taken: bool) -> None:
    x, dy = normal(40, 5), normal(5, 40).reshape(40, 5)
    x[0] = [0, -0.0, 1e-38, -1e-30, 3]
    attributes = f"<alpha={alpha:.1f}>"
    notes, compute = lowered(
        f"agraph (float[N, 5] x, float[N, 5] dy) => (float[N, 5] y, float[N, 5] dx)"
        f"{{ y = LeakyRelu{attributes}(x) dx = com.microsoft.LeakyReluGrad{attributes}(dy, x) }}"
    )
    assert len(notes) == (0 if not taken else 1 if alpha == 0 else 2)  # 0 · ∞ is no 0
    if not (taken or TRAINING_BUILD):
        return
    found, factor = compute({"x": x, "dy": dy}), np.float32(f"{alpha:.1f}")
    np.testing.assert_array_equal(found["y"], np.where(x > 0, x, x * factor))
    np.testing.assert_array_equal(found["dx"], np.where(x > 0, dy, dy * factor))


def test_a_leaky_relu_behind_a_convolution_stays_for_it_to_take_over() -> None:
    notes, _ = lowered(
        "agraph (float[N, 2, 5] x, float[3, 2, 3] w) => (float[N, 3, 3] y) { c = Conv(x, w) y = LeakyRelu(c) }"
    )
    assert notes == []


def test_both_gradients_of_prelu() -> None:
    text = """agraph (float[N, 4] x, float[4] s, float[4, 3] w) => (float loss)
        { y = PRelu(x, s) p = MatMul(y, w) loss = ReduceSum<keepdims=0>(p) }"""
    x, s, w = normal(30, 4), np.array([0.3, -0.2, 0, 1.5], np.float32), normal(4, 3)
    x[0, :2] = 0
    notes, step = gradients(text, ["x", "s"], {"x": x, "s": s, "w": w}, 1)
    assert notes == ["ReluGrad → HardSigmoid · Mul"] and "Where" not in operators(step)
    found, dy = run(step, {"x": x, "s": s, "w": w}), np.broadcast_to(w.sum(1), x.shape)
    dx, ds = (found[name] for name in sorted(found, key=len) if name != "loss")
    dx, ds = (dx, ds) if dx.shape == x.shape else (ds, dx)
    np.testing.assert_allclose(dx, np.where(x > 0, dy, dy * s), rtol=1e-6)
    np.testing.assert_allclose(ds, np.where(x > 0, 0, dy * x).sum(0, dtype=np.float64), rtol=1e-5)


def chosen(call: str, more: str = "") -> str:
    return f"""agraph (float[N, 5] x, float[N, 5] dy, bool[5] mask) => (float[N, 5] y)
        {{ zero = Constant<value_float=0.0>() c = Greater(x, zero) {more} y = {call} }}"""


@pytest.mark.parametrize("first", [True, False])
def test_a_gradient_that_is_chosen_by_a_number_is_a_product(first: bool) -> None:
    call = f"Where(c, {'dy, zero' if first else 'zero, dy'})"
    notes, compute = lowered(chosen(call), name="relu/grad/Where")
    assert notes == ["gradients chosen by Where → Cast · Mul (1×)"]
    x, dy = normal(40, 5), normal(5, 40).reshape(40, 5)
    found = compute({"x": x, "dy": dy, "mask": np.ones(5, bool)})["y"]
    np.testing.assert_array_equal(found, np.where((x > 0) == first, dy, 0))


@pytest.mark.parametrize(
    ("name", "call", "more"),
    [
        ("where", "Where(c, dy, zero)", ""),  # no gradient: it may clear what is not finite
        ("a/grad/Where", "Where(mask, dy, zero)", ""),  # no number decides: it is the same in each row
        ("a/grad/Where", "Where(c, dy, x)", ""),
        ("a/grad/Where", "Where(c, r, zero)", "r = Reciprocal(dy)"),  # may be infinite
    ],
)
def test_other_choices_stay(name: str, call: str, more: str) -> None:
    notes, _ = lowered(chosen(call, more), name=name)
    assert notes == []


NORMAL_LAW = {
    "GeluGrad": lambda x: PHI(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi),
    "FastGeluGrad": lambda x: (
        (1 + np.tanh(u := math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
        + x / 2 * (1 - np.tanh(u) ** 2) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
    ),
}


@pytest.mark.parametrize(("name", "slope"), NORMAL_LAW.items(), ids=NORMAL_LAW)
def test_the_gradients_of_gelu(name: str, slope: Callable[[Array], Array]) -> None:
    text = f"agraph (float[N, 5] x, float[N, 5] dy) => (float[N, 5] dx) {{ dx = com.microsoft.{name}(dy, x) }}"
    notes, compute = lowered(text)
    assert notes == [f"{name} → its formula (1×)"]
    x, dy = 3 * normal(40, 5), normal(5, 40).reshape(40, 5)
    truth = dy * slope(x.astype(np.float64))
    np.testing.assert_allclose(compute({"x": x, "dy": dy})["dx"], truth, rtol=0, atol=5e-6)


@pytest.mark.parametrize("power", [2, 3])
def test_a_square_and_a_cube_are_products(power: int) -> None:
    notes, compute = lowered(
        f"agraph (float[N] x) => (float[N] y) {{ e = Constant<value_float={power}.0>() y = Pow(x, e) }}"
    )
    x = np.array([0, -0.0, 1, -1.5, 1e30, np.inf, -np.inf, np.nan], np.float32)
    assert len(notes) == 1
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(compute({"x": x})["y"], x * x if power == 2 else x * x * x)


SOFTMAXES = list(
    itertools.product(["Softmax", "LogSoftmax"], [((3, 4), 1), ((3, 4, 5), 1), ((3, 4, 5), -2), ((4, 3), 0)])
)


@pytest.mark.parametrize(("name", "where"), SOFTMAXES, ids=str)
def test_softmax_along_any_axis_and_its_gradient(name: str, where: tuple[tuple[int, ...], int]) -> None:
    shape, axis = where
    of, last = f"[{', '.join(map(str, shape))}]", axis % len(shape) == len(shape) - 1
    notes, compute = lowered(f"""agraph (float{of} x, float{of} dy) => (float{of} y, float{of} dx)
        {{ y = {name}<axis={axis}>(x) dx = com.microsoft.{name}Grad_13<axis={axis}>(dy, y) }}""")
    assert len(notes) == (0 if last and name == "Softmax" else 1 if last else 2)
    if not TRAINING_BUILD and last and name == "Softmax":
        return
    x, dy = 5 * normal(*shape), normal(*shape[::-1]).reshape(shape)
    powers = np.exp(x.astype(np.float64))
    p = powers / powers.sum(axis, keepdims=True)
    inner = (dy * p if name == "Softmax" else dy).sum(axis, keepdims=True, dtype=np.float64)
    found = compute({"x": x, "dy": dy})
    np.testing.assert_allclose(found["y"], p if name == "Softmax" else np.log(p), rtol=1e-5, atol=2e-7)
    np.testing.assert_allclose(
        found["dx"], p * (dy - inner) if name == "Softmax" else dy - p * inner, rtol=0, atol=3e-6
    )


def test_the_batch_norm_of_rows_and_its_gradient() -> None:
    text = """agraph (float[N, 6] x, float[N, 6] dy, float[6] s, float[6] b, float[6] m, float[6] v)
        => (float[N, 6] y, float[6] after, float[6] spread, float[6] mean, float[6] inverse,
            float[N, 6] dx, float[6] ds, float[6] db)
        { y, after, spread, mean, inverse =
            com.microsoft.BatchNormInternal<training_mode=1, epsilon=0.001, momentum=0.8>(x, s, b, m, v)
          dx, ds, db = com.microsoft.BatchNormalizationGrad<epsilon=0.001>(dy, x, s, mean, inverse) }"""
    notes, compute = lowered(text)
    assert sum("batch norm of rows" in note for note in notes) == 2
    feeds = {"x": 2 + normal(11, 6), "dy": normal(6, 11).reshape(11, 6)}
    feeds |= {name: 1 + normal(6) * number for name, number in (("s", 0.3), ("b", 0.2), ("m", 1), ("v", 0.1))}
    x, dy, s, b, m, v = (feeds[name].astype(np.float64) for name in ("x", "dy", "s", "b", "m", "v"))
    mean, variance = x.mean(0), x.var(0)
    inverse = 1 / np.sqrt(variance + 0.001)
    z = (x - mean) * inverse
    truth = {
        **{"y": z * s + b, "mean": mean, "inverse": inverse},
        **{"after": 0.8 * m + 0.2 * mean, "spread": 0.8 * v + 0.2 * variance},
        **{"ds": (dy * z).sum(0), "db": dy.sum(0)},
        "dx": s * inverse * (dy - dy.mean(0) - z * (dy * z).mean(0)),
    }
    for name, value in compute({name: array.astype(np.float32) for name, array in feeds.items()}).items():
        np.testing.assert_allclose(value, truth[name], rtol=0, atol=5e-6, err_msg=name)


VOLUMES = {
    # shape of x, of w, attributes
    "3x3x3": ((2, 4, 5, 6, 4), (6, 4, 3, 3, 3), "pads=[1,1,1,1,1,1]"),
    "uneven": ((2, 4, 5, 6, 4), (6, 4, 3, 2, 3), "pads=[1,0,1,0,1,1]"),
    "strided": ((2, 4, 7, 6, 5), (6, 4, 3, 3, 3), "strides=[2,2,1], pads=[1,1,1,1,1,1]"),
    "dilated": ((1, 4, 9, 7, 8), (3, 4, 3, 2, 2), "dilations=[3,2,1], pads=[2,0,0,1,0,0]"),
    "grouped": ((2, 6, 5, 6, 4), (4, 3, 2, 3, 3), "group=2, pads=[0,1,1,1,1,1]"),
    "one place": ((3, 4, 5, 6, 4), (6, 4, 1, 1, 1), ""),
}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("x", "w", "attributes"), VOLUMES.values(), ids=VOLUMES)
def test_the_gradient_of_a_kernel_over_volumes(
    x: tuple[int, ...], w: tuple[int, ...], attributes: str, bias: bool
) -> None:
    """Central differences of the convolution are exact, as it is linear in its kernel."""
    inside = f"<{attributes}>" if attributes else ""
    xs, ws = (", ".join(map(str, shape)) for shape in (("N", *x[1:]), w))
    forward = model_of(
        f"agraph (float[{xs}] x, float[{ws}] w) => (float[A, B, C, D, E] y) {{ y = Conv{inside}(x, w) }}"
    )
    feeds = {"x": normal(*x), "w": normal(*w)}
    y = run(forward, feeds)["y"]
    ys = ", ".join(map(str, ("N", *y.shape[1:])))
    third = (", db", f", float[{w[0]}] db") if bias else ("", "")
    notes, compute = lowered(
        f"""agraph (float[{ys}] dy, float[{xs}] x, float[{ws}] w) => (float[{ws}] dw{third[1]})
        {{ dx, dw{third[0]} = com.microsoft.ConvGrad{inside}(dy, x, w) }}""".replace("{ dx,", "{ ,")
    )
    assert notes
    if not TRAINING_BUILD:
        return
    dy = normal(*y.shape[::-1]).reshape(y.shape)
    found = compute({"dy": dy, **feeds})
    if bias:
        np.testing.assert_allclose(found["db"], dy.sum((0, 2, 3, 4), dtype=np.float64), rtol=1e-5, atol=1e-4)
    for seed in range(3):
        direction = np.random.default_rng(seed).standard_normal(w).astype(np.float32)
        along = (dy.astype(np.float64) * run(forward, {"x": feeds["x"], "w": direction})["y"]).sum()
        np.testing.assert_allclose((found["dw"].astype(np.float64) * direction).sum(), along, rtol=1e-4, atol=1e-3)
