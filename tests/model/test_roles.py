"""Which tensors are parameters, and in which role."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from dsd_ort.model import source
from tests.model.test_source import LIGHT, write


def roles(path: Path) -> dict[str, str]:
    found = source.load(path)
    return {p.name: p.role for p in (*found.parameters, *found.statistics)}


ROLES = {
    "a convolution, batch norm and a fully connected layer": (
        """(float[N, 3, 8, 8] x) => (float[N, 2] y) {
            a = Conv (x, conv_w, conv_b)
            b = BatchNormalization (a, bn_s, bn_b, bn_m, bn_v)
            c = Conv (b, conv2_w)
            d = Flatten (c)
            y = Gemm (d, fc_w, fc_b)
        }""",
        {"conv_w": (4, 3, 3, 3), "conv_b": (4,), "bn_s": (4,), "bn_b": (4,), "bn_m": (4,), "bn_v": (4,)}
        | {"conv2_w": (2, 4, 6, 6), "fc_w": (2, 2), "fc_b": (2,)},
        {"conv_w": "kernel", "conv_b": "bias", "bn_s": "norm", "bn_b": "norm", "conv2_w": "kernel", "fc_w": "matrix"}
        | {"fc_b": "bias", "bn_m": "statistic", "bn_v": "statistic"},
    ),
    "a linear layer as a product of either side and a sum, also with one output": (
        """(float[N, 3] x) => (float[2, N] y) {
            a = MatMul (x, w)
            b = Add (one, a)
            c = Transpose <perm = [1, 0]> (b)
            y = MatMul (v, c)
        }""",
        {"w": (3, 1), "one": (1,), "v": (2, 1)},
        {"w": "matrix", "one": "bias", "v": "matrix"},
    ),
    "recurrent layers": (
        """(float[T, N, 3] x) => (float[T, 1, N, 2] y) {
            y = LSTM <hidden_size = 2> (x, W, R, B, , , , P)
        }""",
        {"W": (1, 8, 3), "R": (1, 8, 2), "B": (1, 16), "P": (1, 6)},
        {"W": "recurrent", "R": "recurrent", "B": "bias", "P": "norm"},
    ),
    "an encoder: embedding, positions, decomposed layer norm, attention mask": (
        """(int64[N, 4] ids) => (float[N, 4, 6] y)
        <float[1, 1, 4] mask = {0, 0, 0, -1000}, float two = {2}, float eps = {0.1}> {
            a = Gather (words, ids)
            b = Add (a, positions)
            mean = ReduceMean <axes = [-1]> (b)
            c = Sub (b, mean)
            d = Pow (c, two)
            var = ReduceMean <axes = [-1]> (d)
            e = Add (var, eps)
            f = Sqrt (e)
            g = Div (c, f)
            h = Mul (g, ln_scale)
            i = Add (h, ln_shift)
            q = MatMul (i, wq)
            k = MatMul (i, wk)
            l = Transpose <perm = [0, 2, 1]> (k)
            s = MatMul (q, l)
            t = Add (s, mask)
            u = Softmax (t)
            v = MatMul (u, i)
            y = MatMul (v, wo)
        }""",
        {"words": (9, 6), "positions": (1, 4, 6), "ln_scale": (6,), "ln_shift": (6,)}
        | {"wq": (6, 5), "wk": (6, 5), "wo": (6, 6)},
        {"words": "embedding", "positions": "embedding", "ln_scale": "norm", "ln_shift": "norm"}
        | {"wq": "matrix", "wk": "matrix", "wo": "matrix"},
    ),
    "normalisations": (
        """(float[N, 4, 5] x) => (float[N, 4, 5] y) {
            a = InstanceNormalization (x, i_s, i_b)
            b = LayerNormalization (a, l_s, l_b)
            c = com.microsoft.SkipLayerNormalization (b, a, k_s, k_b, k_bias)
            d = PRelu (c, slope)
            y = com.microsoft.BiasGelu (d, g_b)
        }""",
        {"i_s": (4,), "i_b": (4,), "l_s": (5,), "l_b": (5,), "k_s": (5,), "k_b": (5,), "k_bias": (5,)}
        | {"slope": (4, 1), "g_b": (5,)},
        {"i_s": "norm", "i_b": "norm", "l_s": "norm", "l_b": "norm", "k_s": "norm", "k_b": "norm", "k_bias": "bias"}
        | {"slope": "norm", "g_b": "bias"},
    ),
    "a group norm, as exporters write it": (
        """(float[N, 4, 5] x) => (float[N, 4, 5] y)
        <int64[3] groups = {0, 2, -1}, int64[3] channels = {0, 4, -1}, float[2] one = {1, 1}, float[2] zero = {0, 0}> {
            a = Reshape (x, groups)
            b = InstanceNormalization (a, one, zero)
            c = Reshape (b, channels)
            d = Mul (c, scale)
            e = Add (d, shift)
            y = Conv (e, w)
        }""",
        {"scale": (4, 1), "shift": (4, 1), "w": (4, 4, 1)},
        {"scale": "norm", "shift": "norm", "w": "kernel"},
    ),
    "layer scale and a decomposed batch norm between layers": (
        """(float[N, 3, 8, 8] x) => (float[N, 2, 8, 8] y) {
            a = Conv (x, w1)
            b = Mul (a, gamma)
            c = Add (shift, b)
            d = Relu (c)
            y = Conv (d, w2)
        }""",
        {"w1": (4, 3, 1, 1), "gamma": (4, 1, 1), "shift": (1, 4, 1, 1), "w2": (2, 4, 1, 1)},
        {"w1": "kernel", "gamma": "norm", "shift": "norm", "w2": "kernel"},
    ),
    "einsum": (
        """(float[N, 3] x) => (float[N, 2] y) { y = Einsum <equation = "ni,io->no"> (x, w) }""",
        {"w": (3, 2)},
        {"w": "matrix"},
    ),
    "behind transposes, reshapes and casts": (
        """(float[N, 3] x) => (float[N, 2] y) <int64[2] shape = {3, 2}> {
            a = Transpose <perm = [1, 0]> (w)
            b = Cast <to = 1> (a)
            c = Reshape (b, shape)
            d = MatMul (x, c)
            e = Squeeze (bias)
            y = Add (d, e)
        }""",
        {"w": (2, 3), "bias": (1, 2)},
        {"w": "matrix", "bias": "bias"},
    ),
}


ROLES |= {
    "both branches of a condition": (
        """(float[N, 3] x, bool c) => (float[N, 2] y) {
            a = MatMul (x, w)
            y = If (c) <
                then_branch = yes () => (float[N, 2] p) { one = MatMul (a, v) p = Add (one, b) },
                else_branch = no () => (float[N, 2] q) <float[4, 2] own = {1, 2, 3, 4, 5, 6, 7, 8}> {
                    q = MatMul (a, own)
                }
            >
        }""",
        {"w": (3, 4), "v": (4, 2), "b": (2,)},
        {"w": "matrix", "v": "matrix", "b": "bias", "own": "matrix"},
    ),
    "a class token, also before any training, and positions that are cut to length": (
        """(float[N, 3, 4] x) => (float[N, 2] y)
        <float[1, 1, 6] fresh = {0, 0, 0, 0, 0, 0}, int64[1] zero = {0}, int64[1] one = {1}, int64[2] ones = {1, 1}> {
            a = MatMul (x, w)
            s = Shape <start = 0, end = 1> (x) t = Concat <axis = 0> (s, ones)
            c = Expand (cls, t) d = Expand (fresh, t) e = Concat <axis = 1> (c, d, a)
            l = Shape <start = 1, end = 2> (e) p = Slice (positions, zero, l, one) f = Add (e, p)
            g = ReduceMean <axes = [1], keepdims = 0> (f) y = MatMul (g, v)
        }""",
        {"w": (4, 6), "cls": (1, 1, 6), "positions": (1, 9, 6), "v": (6, 2)},
        {"w": "matrix", "cls": "embedding", "fresh": "embedding", "positions": "embedding", "v": "matrix"},
    ),
    "a bias by relative position, and a mask token": (
        """(float[N, 4, 6] x, bool[N, 4, 1] hidden) => (float[N, 4, 6] y)
        <int64[16] index = {2, 1, 0, 0, 3, 2, 1, 0, 3, 3, 2, 1, 3, 3, 3, 2}, int64[3] shape = {4, 4, 1}> {
            a = MatMul (x, w) b = Where (hidden, token, a)
            t = Transpose <perm = [0, 2, 1]> (b) s = MatMul (b, t)
            r = Gather (table, index) q = Reshape (r, shape) p = Transpose <perm = [2, 0, 1]> (q)
            u = Add (s, p) v = Softmax (u) o = MatMul (v, b) y = MatMul (o, w2)
        }""",
        {"w": (6, 6), "token": (1, 1, 6), "table": (4, 1), "w2": (6, 6)},
        {"w": "matrix", "token": "embedding", "table": "embedding", "w2": "matrix"},
    ),
    "gates of a recurrent layer in another order, and a hidden half": (
        """(float[T, N, 3] x) => (float[T, 1, N, 2] y)
        <int64[1] o = {0}, int64[1] i = {2}, int64[1] e = {8}, float[4] half = {0.5, 0.5, 0.5, 0.5}> {
            a = Slice (wi, o, i, o) b = Slice (wi, i, e, o) c = Concat <axis = 0> (b, a) W = Unsqueeze (c, o)
            R = Unsqueeze (wh, o) d = Concat <axis = 0> (bi, bh) B = Unsqueeze (d, o)
            y = LSTM <hidden_size = 2> (x, W, R, B)
        }""",
        {"wi": (8, 3), "wh": (8, 2), "bi": (8,), "bh": (8,)},
        {"wi": "recurrent", "wh": "recurrent", "bi": "bias", "bh": "bias"},
    ),
    "weight norm, a low-rank update and a fixed mask": (
        """(float[N, 3] x) => (float[N, 4] y)
        <float[3, 4] mask = {1, 0, 1, 1, 0, 1, 1, 1, 0, 1, 1, 0}, float scale = {2}> {
            n = ReduceL2 <axes = [0]> (v) u = Div (v, n) s = Mul (u, g)
            d = MatMul (down, up) e = Mul (d, scale) f = Add (s, e) k = Mul (f, mask) y = MatMul (x, k)
        }""",
        {"v": (3, 4), "g": (1, 4), "down": (3, 2), "up": (2, 4)},
        {"v": "matrix", "g": "matrix", "down": "matrix", "up": "matrix"},
    ),
    "a layer norm over more than one axis": (
        """(float[N, 3, 4] x) => (float[N, 3, 4] y) <float two = {2}, float eps = {0.1}> {
            m = ReduceMean <axes = [1, 2]> (x) c = Sub (x, m) d = Pow (c, two) v = ReduceMean <axes = [1, 2]> (d)
            e = Add (v, eps) f = Sqrt (e) g = Div (c, f) h = Mul (g, scale) i = Add (h, shift) y = MatMul (i, w)
        }""",
        {"scale": (3, 4), "shift": (3, 4), "w": (4, 4)},
        {"scale": "norm", "shift": "norm", "w": "matrix"},
    ),
    "steps of a scan, around it and inside": (
        """(float[T, N, 3] x) => (float[T, N, 2] y) <float[1, 2] zeros = {0, 0}> {
            h, y = Scan <num_scan_inputs = 1,
                body = step (float[M, 2] s, float[M, 3] t) => (float[M, 2] n, float[M, 2] z)
                <float[3, 2] inner = {1, 2.5, -3, 4.5, 5, 6.5}, float[2] shift = {0.5, 1.5}> {
                a = MatMul (t, inner) b = MatMul (s, w) c = Add (b, shift) d = Add (a, c) n = Tanh (d) z = Identity (n)
            }> (zeros, x)
        }""",
        {"w": (2, 2)},
        {"inner": "matrix", "w": "matrix", "shift": "bias"},
    ),
    "a loop of a fixed number of steps, over layers that are picked one by one": (
        """(float[N, 3] x) => (float[N, 3] y) <int64 three = {3}> {
            y = Loop (three, , x) <body = step (int64 i, bool go, float[N, 3] s) => (bool on, float[N, 3] r) {
                on = Identity (go) m = Gather (layers, i) a = MatMul (s, m) b = MatMul (a, w) r = Tanh (b)
            }>
        }""",
        {"layers": (3, 3, 3), "w": (3, 3)},
        {"layers": "embedding", "w": "matrix"},
    ),
}


@pytest.mark.parametrize("case", ROLES)
def test_weights_are_found_in_their_roles(tmp_path, case):
    text, shapes, expected = ROLES[case]
    path = write(tmp_path / "m.onnx", text, shapes)
    onnx.checker.check_model(str(path))
    assert roles(path) == expected


NOT_WEIGHTS = {
    "preprocessing of the input": """(float[N, 3, 4, 4] x) => (float[N, 2, 4, 4] y)
        <float[1, 3, 1, 1] mean = {1, 2, 3}, float[1, 3, 1, 1] std = {1, 2, 3}, float[3, 1, 1] more = {1, 2, 3}> {
            a = Sub (x, mean) b = Div (a, std) c = Mul (b, more) d = Add (c, more) y = Conv (d, w)
        }""",
    "decoding behind the last layer": """(float[N, 3, 4, 4] x) => (float[N, 2, 4, 4] y)
        <float[1, 1, 1, 4] strides = {1, 2, 3, 4}, float[1, 2, 1, 4] grid = {0, 1, 2, 3, 4, 5, 6, 7}> {
            a = Conv (x, w) b = Sigmoid (a) c = Add (b, grid) y = Mul (c, strides)
        }""",
    "constants of other operators": """(float[N, 3, 4, 4] x) => (float[N, 2, 8, 8] y)
        <float[4] scales = {1, 1, 2, 2}, float low = {0}, float high = {6}, float two = {2}, float[1] half = {0.5}> {
            a = Conv (x, w) b = Clip (a, low, high) c = Resize <mode = "nearest"> (b, , scales)
            d = Pow (c, two) y = Mul (d, half)
        }""",
    "what no output needs": """(float[N, 3, 4, 4] x) => (float[N, 2, 4, 4] y)
        <float[2, 3, 1, 1] dead = {1, 2, 3, 4, 5, 6}, float[7] unused = {1, 2, 3, 4, 5, 6, 7}> {
            a = Conv (x, dead) y = Conv (x, w)
        }""",
    "the inside of a loop as long as the data say": """(float[N, 3, 4, 4] x, int64 n, bool c) => (float[N, 2, 4, 4] y) {
            a = Conv (x, w)
            y = Loop (n, c, a) <body = step (int64 i, bool go, float[N, 2, 4, 4] b) => (bool on, float[N, 2, 4, 4] d)
                <float[2, 2, 1, 1] inner = {1, 2, 3, 4}> { on = Identity (go) d = Conv (b, inner) }>
        }""",
    "a grid that is joined with features, an initial state of zeros": """(float[N, 3, 4, 4] x) => (float[N, 2, 4, 4] y)
        <float[1, 1, 4, 4] grid = {0, 0.5, 1, 1.5, 0, 0.5, 1, 1.5, 0, 0.5, 1, 1.5, 0, 0.5, 1, 1.5},
         float[1, 3, 1, 1] zeros = {0, 0, 0}> {
            a = Conv (x, w) b = Concat <axis = 1> (a, grid) c = Mul (b, zeros) y = Conv (c, w)
        }""",
    "a product of constants": """(float[N, 3, 4, 4] x) => (float[N, 2, 4, 4] y)
        <float[2, 2] one = {1, 2, 3, 4}, float[2, 2] other = {1, 2, 3, 4}, int64[4] shape = {1, 1, 2, 2}> {
            a = Conv (x, w) b = MatMul (one, other) c = Reshape (b, shape) y = Conv (x, w)
        }""",
    "a list of numbers that is picked from": """(float[N, 3, 4, 4] x, int64 i) => (float[N, 2, 4, 4] y)
        <float[3] list = {1, 2, 3}> { a = Conv (x, w) b = Gather (list, i) y = Mul (a, b) }""",
}


@pytest.mark.parametrize("case", NOT_WEIGHTS)
def test_other_constants_are_no_parameters(tmp_path, case):
    assert roles(write(tmp_path / "m.onnx", NOT_WEIGHTS[case], {"w": (2, 3, 1, 1)})) == {"w": "kernel"}


def test_a_table_of_few_numbers_is_an_embedding_where_data_is_looked_up_in_it(tmp_path):
    """As one that was quantised once has."""
    table = ", ".join(["1, -1, 0, 2"] * 4)
    text = f"(int64[N] ids) => (float[N, 4] y) <float[4, 4] table = {{{table}}}> {{ y = Gather (table, ids) }}"
    assert roles(write(tmp_path / "m.onnx", text)) == {"table": "embedding"}
    anchors = f"""(float[N, 4] x) => (float[N, 4] y)
        <float[4, 4] anchors = {{{table}}}, int64[2] two = {{0, 1}}, int64[2] one = {{0, 0}}> {{
            a = MatMul (x, w) b = Gather (anchors, two) c = ReduceSum (b, one) y = Mul (a, c)
        }}"""
    assert roles(write(tmp_path / "a.onnx", anchors, {"w": (4, 4)})) == {"w": "matrix"}


def test_an_embedding_that_is_also_multiplied_by_is_not_pruned(tmp_path):
    text = """(int64[N] ids) => (float[N, 5] y) {
        a = Gather (table, ids) b = Transpose <perm = [1, 0]> (table) y = MatMul (a, b)
    }"""
    (table,) = source.load(write(tmp_path / "m.onnx", text, {"table": (5, 3)})).parameters
    assert (table.role, table.prunable, table.layer) == ("embedding", False, "Gather a")


def test_only_convolutions_that_the_input_reaches_first_are_first(tmp_path):
    text = """(float[N, 3, 8, 8] x) => (float[N, 2, 8, 8] y) {
        r = Relu (x) a = Conv (r, left) b = Conv (x, right) c = Add (a, b) d = Conv (c, next)
        e = ConvTranspose (d, last) y = Relu (e)
    }"""
    shapes = {"left": (4, 3, 1, 1), "right": (4, 3, 1, 1), "next": (4, 4, 1, 1), "last": (4, 2, 1, 1)}
    found = source.load(write(tmp_path / "m.onnx", text, shapes)).parameters
    assert {p.name: p.first_conv for p in found} == {"left": True, "right": True, "next": False, "last": False}
    assert [p.name for p in found] == list(shapes)
    assert [p.prunable for p in found] == [True] * 4
    assert found[0].size == 12


@pytest.mark.parametrize(
    ("name", "weights", "statistics"),
    [("resnet50", 25_557_032, 53_120), ("squeezenet", 1_235_496, 0), ("vgg19", 143_667_240, 0)],
)
def test_parameter_counts_of_the_model_zoo(name, weights, statistics):
    found = source.load(LIGHT / f"light_{name}.onnx")
    assert sum(p.size for p in found.parameters) == weights
    assert sum(p.size for p in found.statistics) == statistics
    assert sum(p.first_conv for p in found.parameters) == 1
    assert found.parameters[0].first_conv
