"""Dropout by arithmetic on a seed: what it drops is as good as random, and a function of the seed alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from dsd_ort import runtime
from dsd_ort.device.lower import lower
from dsd_ort.device.lower.dropout import LARGEST, PRIME, SEED, seed_numbers
from tests.session import opened

Array = np.ndarray
ROWS, COLUMNS = 64, 4096


def graph(shape: str, nodes: str, outputs: str) -> ir.Model:
    text = f"""<ir_version: 10, opset_import: ["": 18, "com.microsoft": 1]>
    g (float[{shape}] x) => ({outputs})
      <float r = {{0.25}}, bool training = {{1}}> {{ {nodes} }}"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    assert lower(model, "cuda")
    assert "Dropout" not in {node.op_type for node in model.graph}
    return model


def dropping(ratio: float = 0.5, shape: tuple[int, ...] = (ROWS, COLUMNS)) -> Callable[[int], Array]:
    """Seed → mask of a Dropout of *shape*."""
    sizes = ", ".join(map(str, shape))
    text = f"""<ir_version: 10, opset_import: ["": 18]> g (float[{sizes}] x) => (float[{sizes}] y, bool[{sizes}] m)
      <float r = {{{ratio}}}, bool training = {{1}}> {{ y, m = Dropout (x, r, training) }}"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    lower(model, "cuda")
    session = opened(model)
    x = np.ones(shape, np.float32)

    def mask(seed: int) -> Array:
        y, kept = session.run(["y", "m"], {"x": x, SEED: seed_numbers(seed)})
        np.testing.assert_array_equal(y, np.where(kept, np.float32(1 / (1 - float(np.float32(ratio)))), 0))
        return kept

    return mask


@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.5, 0.9])
def test_the_share_that_is_kept(ratio: float) -> None:
    mask = dropping(ratio)
    error = np.sqrt(ratio * (1 - ratio) / (ROWS * COLUMNS))
    shares = [mask(seed).mean() for seed in range(20)]
    assert all(abs(share - (1 - ratio)) < 4.5 * error for share in shares)
    assert len(set(shares)) > 15


def test_nothing_and_everything() -> None:
    assert dropping(0.0)(3).all()
    assert dropping(0.999)(3).mean() < 0.002


def test_no_pattern_is_seen() -> None:
    """Correlations of a mask with itself moved on, with other seeds' and with near seeds' are those of coin tosses."""
    mask = dropping()
    signs = np.stack([2.0 * mask(seed) - 1 for seed in range(30)])
    one = np.sqrt(signs[0].size)

    def correlation(a: Array, b: Array) -> float:
        return float(np.abs((a * b).mean(axis=(1, 2))).max() * one)

    for lag in (1, 2, 3, 16, 64, 1000, 2048):
        assert correlation(signs[:, :, lag:], signs[:, :, :-lag]) < 4.5
    for lag in (1, 2, 32):
        assert correlation(signs[:, lag:], signs[:, :-lag]) < 4.5
    assert correlation(signs[1:], signs[:-1]) < 4.5
    assert 0.9 < signs.mean(axis=2).var() * COLUMNS < 1.1
    assert 0.97 < signs.mean(axis=1).var() * ROWS < 1.03
    assert 0.97 < signs.mean(axis=0).var() * len(signs) < 1.03


def test_it_is_a_function_of_the_seed_that_everybody_computes() -> None:
    """ONNX's reference evaluator has another implementation of every operator."""
    text = """<ir_version: 10, opset_import: ["": 18]> g (float[3, 4, 5] x) => (float[3, 4, 5] y, bool[3, 4, 5] m)
      <float r = {0.3}, bool training = {1}> { y, m = Dropout (x, r, training) }"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    lower(model, "cuda")
    proto = ir.to_proto(model)
    given = {"x": np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32), SEED: seed_numbers(5)}
    a, b = ReferenceEvaluator(proto).run(None, given), runtime.session(proto).run(None, given)
    for theirs, ours in zip(a, b, strict=True):
        np.testing.assert_array_equal(theirs, ours)
    first, second = (int(number) for number in given[SEED])
    expected = [((48271 * i + first) ** 2 % PRIME * 69621 + second) ** 2 % PRIME >= int(0.3 * PRIME) for i in range(60)]
    np.testing.assert_array_equal(a[1].ravel(), expected)


def test_two_in_a_graph_drop_differently_and_the_gradient_drops_the_same() -> None:
    size = f"{ROWS}, {COLUMNS}"
    nodes = """a, m = Dropout (x, r, training)  b, n = Dropout (x, r, training)
      dx = com.microsoft.DropoutGrad (x, m, r, training)"""
    model = graph(size, nodes, f"float[{size}] a, float[{size}] b, float[{size}] dx")
    x = np.random.default_rng(1).standard_normal((ROWS, COLUMNS)).astype(np.float32)
    a, b, dx = opened(model).run(None, {"x": x, SEED: seed_numbers(0)})
    np.testing.assert_allclose(dx, a, rtol=1e-6)
    same = ((a == 0) == (b == 0)).mean()
    assert abs(same - (0.75**2 + 0.25**2)) < 0.01
    assert [value.name for value in model.graph.inputs] == ["x", SEED]


@pytest.mark.parametrize(
    "text",
    [
        "(float[N, 4] x) => (float[N, 4] y) <float r = {0.3}, bool t = {1}> { y = Dropout (x, r, t) }",
        f"(float[{LARGEST + 1}] x) => (float[N] y) <float r = {{0.3}}, bool t = {{1}}> {{ y = Dropout (x, r, t) }}",
        "(float[4] x) => (float[4] y) <float r = {0.3}, bool t = {0}> { y = Dropout (x, r, t) }",
        "(float[4] x, float r) => (float[4] y) <bool t = {1}> { y = Dropout (x, r, t) }",
        "(float[4] x) => (float[4] y) { y = Dropout (x) }",
    ],
)
def test_others_stay(text: str) -> None:
    model = ir.from_proto(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 18]> g {text}'))
    lower(model, "cuda")
    assert [node.op_type for node in model.graph] == ["Dropout"]


def test_a_dropout_inside_a_scan_stays() -> None:
    text = """<ir_version: 10, opset_import: ["": 18]> g (float[4] s, float[5, 4] x) => (float[4] e, float[5, 4] y) {
      e, y = Scan <num_scan_inputs = 1, body = b (float[4] h, float[4] xt) => (float[4] h1, float[4] yt)
        <float r = {0.3}, bool t = {1}> { h1 = Add (h, xt)  yt = Dropout (h1, r, t) }> (s, x) }"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    lower(model, "cuda")
    assert "Dropout" in {node.op_type for node in model.graph.all_nodes()}
