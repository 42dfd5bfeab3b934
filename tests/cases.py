"""Small models of kinds that people meet; ``tests/test_cases.py`` says what must happen to each."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper
import onnx.parser

Array = npt.NDArray[np.generic]


def drawn(*shape: int, seed: int = 0) -> Array:
    """Weights of a network that is trained already."""
    return (np.random.default_rng([seed, *shape]).standard_normal(shape) * 0.4).astype(np.float32)


def write(path: Path, text: str, weights: dict[str, Array], *, opset: int = 18, domains: str = "") -> Path:
    """The graph *text* with initializers."""
    proto = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : {opset}{domains}]> g {text}')
    for name, value in weights.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    path.write_bytes(proto.SerializeToString(deterministic=True))
    return path


def data(path: Path, *, classes: int = 5, examples: int = 32, **inputs: tuple[int, ...]) -> Path:
    """Random examples ``[examples, *shape]`` for each of *inputs*, and labels."""
    rng = np.random.default_rng(1)
    arrays = {name: rng.standard_normal((examples, *shape)).astype(np.float32) for name, shape in inputs.items()}
    np.savez(path, **arrays, label=rng.integers(0, classes, examples))  # type: ignore[arg-type]
    return path


ROUTED = {
    "ArgMax": "r = MatMul (x, V) c = ArgMax <axis = 1, keepdims = 0> (r)",
    "TopK's positions": "r = MatMul (x, V) one = Constant <value_ints = [1]> () a = Constant <value_ints = [1]> () "
    "best, p = TopK (r, one) c = Squeeze (p, a)",
    "a comparison": "r = MatMul (x, V) s = ReduceSum <keepdims = 0> (r, axis) z = Constant <value_float = 0.0> () "
    "b = Greater (s, z) c = Cast <to = 7> (b)",
    "rounding": "r = MatMul (x, V) s = ReduceMax <keepdims = 0> (r, axis) t = Sigmoid (s) u = Round (t) "
    "c = Cast <to = 7> (u)",
}
"""What chooses a row ``c: i64[N]`` of a table by weights V that no gradient reaches."""


def routed(path: Path, by: str = "ArgMax") -> Path:
    """A row of a table, chosen by V, is added to what W makes of x: f32[N, 8]."""
    text = (
        f"(float[N, 8] x) => (float[N, 5] y) {{ {ROUTED[by]} e = Gather (table, c) m = MatMul (x, W) y = Add (e, m) }}"
    )
    weights = {"V": drawn(8, 4), "table": drawn(4, 5), "W": drawn(8, 5), "axis": np.array([1])}
    return write(path, text, weights)


def hidden(path: Path, *, opset: int = 18, dtype: type[np.generic] = np.float32) -> Path:
    """A padding row and a class that are hidden by -inf, behind a looked-up table: i64[N, 6] → scores f32[N, 5]."""
    table, hide = drawn(9, 12).astype(dtype), np.zeros((1, 5), dtype)
    table[0], hide[0, 4] = -np.inf, -np.inf
    kind = "float" if dtype is np.float32 else "float16"
    text = (
        f"(int64[N, 6] ids) => ({kind}[N, 5] scores) {{ t = Gather (table, ids) r = Relu (t) "
        "m = ReduceMax <axes = [1], keepdims = 0> (r) s = MatMul (m, V) scores = Add (s, hide) }"
    )
    weights = {"table": table, "V": drawn(12, 5).astype(dtype), "hide": hide}
    if opset >= 18:
        text = text.replace("<axes = [1], keepdims = 0> (r)", "<keepdims = 0> (r, axis)")
        weights["axis"] = np.array([1])
    return write(path, text, weights, opset=opset)


def chosen(path: Path, end: str) -> Path:
    """A network whose outputs are ints, or maps: f32[N, 8] → scores f32[N, 5] → *end*."""
    text = f"(float[N, 8] x) => {end.replace('{', '{ h = MatMul (x, W) p = Relu (h) scores = MatMul (p, V)')}"
    weights = {"W": drawn(8, 12), "V": drawn(12, 5), "one": np.array([1])}
    return write(path, text, weights, domains=', "ai.onnx.ml" : 1')


TREE = """(float[N, 8] x) => (int64[N] label, float[N, 2] scores) {
    label, scores = ai.onnx.ml.TreeEnsembleClassifier <
        nodes_treeids = [0, 0, 0], nodes_nodeids = [0, 1, 2], nodes_featureids = [0, 0, 0],
        nodes_values = [0.5, 0.0, 0.0], nodes_modes = ["BRANCH_LEQ", "LEAF", "LEAF"], nodes_truenodeids = [1, 0, 0],
        nodes_falsenodeids = [2, 0, 0], class_treeids = [0, 0], class_nodeids = [1, 2], class_ids = [0, 1],
        class_weights = [1.0, 1.0], classlabels_int64s = [0, 1], post_transform = "NONE"> (x)
}"""
SVM = """(float[N, 8] x) => (float[N, 1] y) {
    y = ai.onnx.ml.SVMRegressor <coefficients = [1.0], kernel_params = [0.1, 0.0, 3.0], kernel_type = "RBF",
        n_supports = 1, rho = [0.0], support_vectors = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]> (x)
}"""
LINEAR = """(float[N, 8] x) => (int64[N] label, float[N, 2] p) {
    label, s = ai.onnx.ml.LinearClassifier <
        classlabels_ints = [0, 1], coefficients = [1.0, -1.0], intercepts = [0.0]> (x)
    p = ai.onnx.ml.Normalizer <norm = "L1"> (s)
}"""
CLASSICAL = {
    "a tree ensemble (TreeEnsembleClassifier)": TREE,
    "a support vector machine (SVMRegressor)": SVM,
    "a linear model whose weights are attributes, not tensors (LinearClassifier)": LINEAR,
}


def switched(path: Path, at: int = 16000) -> Path:
    """One of two layers, chosen by a sample rate that is an input: f32[N, 8], i64[] → f32[N, 5]."""
    text = (
        "(float[N, 8] x, int64 sr) => (float[N, 5] y) { b = Equal (sr, wide) "
        "h = If (b) <then_branch = t () => (float[N, 12] p) { p = MatMul (x, W) }, "
        "else_branch = e () => (float[N, 12] q) { q = MatMul (x, U) }> r = Relu (h) y = MatMul (r, V) }"
    )
    weights = {"W": drawn(8, 12), "U": drawn(8, 12, seed=1), "V": drawn(12, 5), "wide": np.array(at)}
    return write(path, text, weights)


LAYERS = {"LSTM": 4, "GRU": 3, "RNN": 1}
"""Recurrent layer → its gates."""


def recurrent(path: Path, layer: str = "LSTM", *, shape: str = "7, n", first: bool = False, end: str = "") -> Path:
    """A recurrent layer and scores of each step: f32[7, n, 4] → f32[7, n, 5]; [n, 7, …] with the batch *first*."""
    gates, axes = LAYERS[layer], "n, 7" if first else shape
    there, back = ("t = Transpose <perm = [1, 0, 2]> (sequence)", "Transpose <perm = [1, 0, 2]> (s)")
    x, y = (f"{there} ", f"z = {back}") if first else ("t = Identity (sequence) ", "z = Identity (s)")
    text = (
        f"(float[{axes}, 4] sequence) => (float[{axes}, 5] scores) {{ {x} a = {layer} <hidden_size = 6> (t, W, R, B) "
        f"s = Squeeze (a, one) {y} {end or 'scores = MatMul (z, V)'} }}"
    )
    weights = {"W": drawn(1, 6 * gates, 4), "R": drawn(1, 6 * gates, 6), "B": drawn(1, 12 * gates), "V": drawn(6, 5)}
    return write(path, text, weights | {"one": np.array([1])})


def stateful(path: Path, layer: str = "LSTM") -> Path:
    """Two layers whose first and last states are inputs and outputs: f32[7, n, 4], f32[1, n, 6] → f32[7, n, 5], …."""
    gates, cells = LAYERS[layer], layer == "LSTM"
    states, ends = ("h0, c0", "h1, c1") if cells else ("h0", "h1")

    def declared(names: str) -> str:
        return ", ".join(f"float[1, n, 6] {name}" for name in names.split(", "))

    text = (
        f"(float[7, n, 4] sequence, {declared(states)}) => (float[7, n, 5] scores, {declared(ends)}) {{ "
        f"a, {ends} = {layer} <hidden_size = 6> (sequence, W, R, B, , {states}) "
        "s = Squeeze (a, one) scores = MatMul (s, V) }"
    )
    weights = {"W": drawn(1, 6 * gates, 4), "R": drawn(1, 6 * gates, 6), "B": drawn(1, 12 * gates), "V": drawn(6, 5)}
    return write(path, text, weights | {"one": np.array([1])})


ATTENTION = (
    "q = MatMul (t, Q) k = MatMul (t, K) p = Transpose <perm = [1, 0, 2]> (q) o = Transpose <perm = [1, 2, 0]> (k) "
    "c = MatMul (p, o) d = Softmax (c) v = MatMul (t, U) u = Transpose <perm = [1, 0, 2]> (v) w = MatMul (d, u) "
    "s = Transpose <perm = [1, 0, 2]> (w)"
)


def attentive(path: Path) -> Path:
    """Self-attention over the first axis, as PyTorch's transformers have it: f32[7, n, 4] → f32[7, n, 5]."""
    text = (
        "(float[7, n, 4] sequence) => (float[7, n, 5] scores) { t = Identity (sequence) "
        f"{ATTENTION} scores = MatMul (s, V) }}"
    )
    weights = {"Q": drawn(4, 6), "K": drawn(4, 6, seed=1), "U": drawn(4, 6, seed=2), "V": drawn(6, 5)}
    return write(path, text, weights)


NORMALISED = {
    "in training mode, with means of 0 and variances of 1": "n, m, v = BatchNormalization <training_mode = 1> "
    "(c, scale, shift, zeros, ones)",
    "in training mode, with statistics that are computed": "m = ReduceMean <keepdims = 0> (c, axes) "
    "w = Mul (m, m) n, p, q = BatchNormalization <training_mode = 1> (c, scale, shift, m, w)",
    "by reductions": "m = ReduceMean <keepdims = 0> (c, axes) k = ReduceMean <keepdims = 1> (c, axes) d = Sub (c, k) "
    "e = Mul (d, d) v = ReduceMean <keepdims = 0> (e, axes) n = BatchNormalization (c, scale, shift, m, v)",
}
"""What normalises c, [n, 6, …], by the batch; none of it has running statistics."""


def batch_normalised(path: Path, by: str, *, sides: str = "9, 9", opset: int = 18) -> Path:
    """A convolution, normalised by the batch: f32[n, 3, 9, 9] → f32[n, 5]; *sides* are those of its pictures."""
    rank = 2 + sides.count(",") + 1
    text = (
        f"(float[n, 3, {sides}] image) => (float[n, 5] scores) {{ c = Conv (image, W) {NORMALISED[by]} r = Relu (n) "
        "g = GlobalAveragePool (r) f = Flatten (g) scores = MatMul (f, V) }"
    )
    weights: dict[str, Array] = {"W": drawn(6, 3, *[3] * (rank - 2)), "V": drawn(6, 5)}
    weights |= {"scale": drawn(6) + 1, "shift": drawn(6), "axes": np.array([0, *range(2, rank)])}
    weights |= {"zeros": np.zeros(6, np.float32), "ones": np.ones(6, np.float32)}
    used = {name: value for name, value in weights.items() if name in text}
    if opset < 18:
        axes = f"axes = {list(map(int, weights['axes']))}"
        text = text.replace("(c, axes)", "(c)").replace("(e, axes)", "(e)").replace("<keep", f"<{axes}, keep")
        used.pop("axes", None)
    return write(path, text, used, opset=opset)


HELD = {
    "a Reshape": ("x, 8", "h = MatMul (x, W) r = Reshape (h, s) y = MatMul (r, V)", {"s": np.array([1, 12])}),
    "a Reshape that leaves the features open": (
        "x, 8",
        "h = MatMul (x, W) r = Reshape (h, s) y = MatMul (r, V)",
        {"s": np.array([1, -1])},
    ),
    "a Reshape of four": ("x, 8", "h = MatMul (x, W) r = Reshape (h, s) y = MatMul (r, V)", {"s": np.array([4, 12])}),
    "a Reshape that adds up the examples": (
        "x, 8",
        "h = MatMul (x, W) r = Reshape (h, s) m = ReduceMean <keepdims = 0> (r, one) y = MatMul (m, V)",
        {"s": np.array([1, -1, 12]), "one": np.array([1])},
    ),
    "a token in front": (
        "x, 3, 8",
        "c = Concat <axis = 1> (token, x) h = MatMul (c, W) m = ReduceMax <keepdims = 0> (h, one) y = MatMul (m, V)",
        {"token": drawn(1, 1, 8), "one": np.array([1])},
    ),
    "a state": (
        "x, 3, 8",
        "t = Transpose <perm = [1, 0, 2]> (x) a, e = GRU <hidden_size = 12> (t, W, R, , , h0) o = Squeeze (e, zero) "
        "y = MatMul (o, V)",
        {
            "W": drawn(1, 36, 8),
            "R": drawn(1, 36, 12),
            "h0": np.full((1, 1, 12), 0.25, np.float32),
            "zero": np.array([0]),
        },
    ),
    "a Reshape behind pictures of any size": (
        "x, 3, H, K",
        "c = Conv (x, W) g = GlobalAveragePool (c) r = Reshape (g, s) y = MatMul (r, V)",
        {"W": drawn(12, 3, 3, 3), "s": np.array([1, 12])},
    ),
}
"""What holds a batch though the signature says that any will do: the axes of x, the nodes, and what they read."""


def holding(path: Path, what: str, *, batch: str = "n") -> Path:
    """One of :data:`HELD`: x → f32[n, 5], *batch* being what the file says of it."""
    axes, nodes, weights = HELD[what]
    text = f"(float[{axes.replace('x', batch, 1)}] x) => (float[{batch}, 5] y) {{ {nodes} }}"
    return write(path, text, {"W": drawn(8, 12), "V": drawn(12, 5)} | weights)


def external(path: Path, location: str) -> Path:
    """All weights in a file beside the model, as PyTorch's exporter lays them: f32[N, 8] → f32[N, 5]."""
    text = "(float[N, 8] x) => (float[N, 5] y) { h = MatMul (x, W) r = Relu (h) y = MatMul (r, V) }"
    proto = onnx.load(write(path, text, {"W": drawn(8, 12), "V": drawn(12, 5)}))
    onnx.save(proto, path, save_as_external_data=True, location=location, size_threshold=0)
    return path


class Outside(NamedTuple):
    """A network with weights that sit in no slot for weights: a graph, what it stores, and which of these are such."""

    text: str
    weights: dict[str, Array]
    others: set[str]


def _whole(**numbers: int | list[int]) -> dict[str, Array]:
    """Stored whole numbers."""
    return {name: np.array(value, np.int64) for name, value in numbers.items()}


_ROWS = "(float[N, 8] x) => (float[N, 5] y) "
_PICTURE = "(float[N, 3, 8, 8] x) => (float[N, 5] y) "
_HEAD = "g = GlobalAveragePool (f) v = Flatten (g) y = MatMul (v, U) "
_STATE = "(float[N, 7, 4] x) => (float[N, 5] y) { t = Transpose <perm = [1, 0, 2]> (x) "
_EXPANDED = "n = Shape <start = 0, end = 1> (x) s = Concat <axis = 0> (one, n, six) h = Expand (h0, s) "
_LAST = "f = Squeeze (last, zero) y = MatMul (f, U) }"
OUTSIDE = {
    "a kernel that is standardised": Outside(
        _PICTURE + "{ r = Reshape (W, rows) s = InstanceNormalization (r, ones, zeros) k = Reshape (s, kernel) "
        "c = Conv (x, k) f = Relu (c) " + _HEAD + "}",
        {"W": drawn(6, 3, 3, 3), "U": drawn(6, 5), "ones": np.ones(6, np.float32), "zeros": np.zeros(6, np.float32)}
        | _whole(rows=[1, 6, 27], kernel=[6, 3, 3, 3]),
        {"W"},
    ),
    "a kernel that is standardised as the batch of a batch norm, over sequences": Outside(
        "(float[N, 3, 9] x) => (float[N, 5] y) { r = Reshape (W, rows) "
        "s, m, w = BatchNormalization <training_mode = 1> (r, ones, zeros, means, variances) k = Reshape (s, kernel) "
        "c = Conv (x, k) f = Relu (c) " + _HEAD + "}",
        {"W": drawn(6, 3, 3), "U": drawn(6, 5), "ones": np.ones(6, np.float32), "zeros": np.zeros(6, np.float32)}
        | {"means": np.zeros(6, np.float32), "variances": np.ones(6, np.float32)}
        | _whole(rows=[1, 6, 9], kernel=[6, 3, 3]),
        {"W"},
    ),
    "a kernel that is standardised by a batch norm whose statistics are written out": Outside(
        "(float[N, 3, 9] x) => (float[N, 5] y) { r = Reshape (W, rows) m = ReduceMean <keepdims = 0> (r, both) "
        "d = ReduceMean (r, both) c0 = Sub (r, d) q = Mul (c0, c0) v0 = ReduceMean <keepdims = 0> (q, both) "
        "s = BatchNormalization (r, ones, zeros, m, v0) k = Reshape (s, kernel) "
        "c = Conv (x, k) f = Relu (c) " + _HEAD + "}",
        {"W": drawn(6, 3, 3), "U": drawn(6, 5), "ones": np.ones(6, np.float32), "zeros": np.zeros(6, np.float32)}
        | _whole(rows=[1, 6, 9], kernel=[6, 3, 3], both=[0, 2]),
        {"W"},
    ),
    "weights behind an activation, and behind a projection": Outside(
        _ROWS + "{ p = Relu (W) h = MatMul (x, p) u = LpNormalization <axis = 0> (V) y = MatMul (h, u) }",
        {"W": drawn(8, 12), "V": drawn(12, 5)},
        {"W", "V"},
    ),
    "a kernel that is the largest of two": Outside(
        _PICTURE + "{ k = Max (W, V) c = Conv (x, k) f = Relu (c) " + _HEAD + "}",
        {"W": drawn(6, 3, 3, 3), "V": drawn(6, 3, 3, 3, seed=1), "U": drawn(6, 5)},
        {"W", "V"},
    ),
    "centres and widths of radial basis functions": Outside(
        _ROWS + "{ c = Unsqueeze (x, one) d = Sub (c, centres) q = Mul (d, d) s = ReduceSum <keepdims = 0> (q, two) "
        "w = Exp (widths) z = Mul (s, w) n = Neg (z) b = Exp (n) y = MatMul (b, U) }",
        {"centres": drawn(1, 10, 8), "widths": drawn(10), "U": drawn(10, 5)} | _whole(one=[1], two=[2]),
        {"centres", "widths"},
    ),
    "centres of one feature": Outside(
        _ROWS + "{ h = MatMul (x, W) c = Unsqueeze (h, two) d = Sub (centres, c) q = Abs (d) n = Neg (q) b = Exp (n) "
        "v = Flatten (b) y = MatMul (v, U) }",
        {"W": drawn(8, 3), "centres": drawn(1, 1, 6), "U": drawn(18, 5)} | _whole(two=[2]),
        {"centres"},
    ),
    "scores of transitions": Outside(
        _ROWS
        + "{ s = MatMul (x, W) c = Unsqueeze (s, two) p = Add (c, T) y = ReduceLogSumExp <keepdims = 0> (p, one) }",
        {"W": drawn(8, 5), "T": drawn(1, 5, 5)} | _whole(one=[1], two=[2]),
        {"T"},
    ),
    "scores of transitions, of which the best count": Outside(
        _ROWS + "{ s = MatMul (x, W) c = Unsqueeze (s, one) p = Add (T, c) y = ReduceMax <keepdims = 0> (p, two) }",
        {"W": drawn(8, 5), "T": drawn(5, 5)} | _whole(one=[1], two=[2]),
        {"T"},
    ),
    "first states of an LSTM": Outside(
        _STATE + _EXPANDED + "c = Expand (c0, s) all, last = LSTM <hidden_size = 6> (t, W, R, , , h, c) " + _LAST,
        {"h0": drawn(1, 1, 6), "c0": drawn(1, 1, 6, seed=1), "W": drawn(1, 24, 4), "R": drawn(1, 24, 6)}
        | {"U": drawn(6, 5)}
        | _whole(one=[1], six=[6], zero=[0]),
        {"h0", "c0"},
    ),
    "the first state of a GRU, as a vector": Outside(
        _STATE + _EXPANDED + "all, last = GRU <hidden_size = 6> (t, W, R, , , h) " + _LAST,
        {"h0": drawn(6), "W": drawn(1, 18, 4), "R": drawn(1, 18, 6), "U": drawn(6, 5)}
        | _whole(one=[1], six=[6], zero=[0]),
        {"h0"},
    ),
    "positions that are resized": Outside(
        _PICTURE
        + '{ p = Conv (x, W) r = Resize <mode = "cubic"> (places, , , size) a = Add (p, r) f = Conv (a, M) '
        + _HEAD
        + "}",
        {"W": drawn(6, 3, 3, 3), "places": drawn(1, 6, 9, 9), "M": drawn(6, 6, 1, 1), "U": drawn(6, 5)}
        | _whole(size=[1, 6, 6, 6]),
        {"places"},
    ),
    "positions of a sequence that are resized by a factor": Outside(
        "(float[N, 4, 6] x) => (float[N, 5] y) <float[3] by = {1.0, 1.0, 2.0}> { p = Conv (x, W) "
        'r = Resize <mode = "linear"> (places, , by) a = Add (p, r) f = Conv (a, M) ' + _HEAD + "}",
        {"W": drawn(6, 4, 1), "places": drawn(1, 6, 3), "M": drawn(6, 6, 1), "U": drawn(6, 5)},
        {"places"},
    ),
    "a gate between two ways, and scales of the scores": Outside(
        _ROWS + "{ a = MatMul (x, W) b = MatMul (x, V) d = Sub (a, b) g = Sigmoid (gate) m = Mul (d, g) s = Add (m, b) "
        "e = Exp (scales) y = Mul (s, e) }",
        {"W": drawn(8, 5), "V": drawn(8, 5, seed=1), "gate": drawn(5), "scales": drawn(1, 5)},
        {"gate", "scales"},
    ),
}
"""Weights that sit in no slot of an operator."""


def counted(path: Path, *, p: float = 2.71, temperature: float = 1.37) -> Path:
    """Single learned numbers: the exponent of a pooling by powers, and a temperature."""
    text = (
        _PICTURE + "<float low = {0.000001}> { c = Conv (x, W) l = Clip (c, low) q = Pow (l, gem) "
        "m = GlobalAveragePool (q) i = Reciprocal (gem) r = Pow (m, i) f = Flatten (r) s = MatMul (f, U) "
        "y = Mul (s, temperature) }"
    )
    weights = {"W": drawn(6, 3, 3, 3), "U": drawn(6, 5), "gem": np.array([p], np.float32)}
    return write(path, text, weights | {"temperature": np.array(temperature, np.float32)})


def waves(steps: int, count: int, *, base: float = 50.0) -> Array:
    """Sinusoidal positions ``[steps, count]``."""
    angle = np.arange(steps)[:, None] / base ** (np.arange(count) // 2 / (count / 2))
    return np.where(np.arange(count) % 2, np.cos(angle), np.sin(angle)).astype(np.float32)


def transform(size: int, count: int) -> Array:
    """The cosine transform ``[size, count]``, type II."""
    return np.cos(np.pi / size * (np.arange(size)[:, None] + 0.5) * np.arange(count)).astype(np.float32)


def bank(size: int, count: int) -> Array:
    """Triangles over *size* frequencies, *count* of them, wider and wider: ``[size, count]``."""
    edges = np.linspace(0, 1, count + 2) ** 1.5 * (size - 1)
    left, top, right = edges[:-2], edges[1:-1], edges[2:]
    bins = np.arange(size)[:, None]
    return np.maximum(0, np.minimum((bins - left) / (top - left), (right - bins) / (right - top))).astype(np.float32)


def spectral(path: Path, *, dtype: type[np.generic] = np.float32, opset: int = 18) -> Path:
    """Frames of sound through constants that look like weights: f32[N, 6, 24] → f32[N, 5]."""
    kind = "float" if dtype is np.float32 else "float16"
    text = (
        f"({kind}[N, 6, 24] x) => ({kind}[N, 5] y) {{ c = Sub (x, mean) n = Div (c, deviation) w = Mul (n, window) "
        "s = MatMul (w, cosine) e = Mul (s, s) b = MatMul (e, bank) m = MatMul (b, M) p = Add (m, places) "
        "r = Relu (p) f = Flatten (r) y = MatMul (f, U) }"
    )
    weights = {"mean": drawn(24) + 0.3, "deviation": np.abs(drawn(1, 24, seed=1)) + 0.1, "window": np.hanning(24)}
    weights |= {"cosine": transform(24, 24), "bank": bank(24, 9), "places": waves(6, 10)[None]}
    weights |= {"M": drawn(9, 10), "U": drawn(60, 5)}
    return write(path, text, {name: value.astype(dtype) for name, value in weights.items()}, opset=opset)
