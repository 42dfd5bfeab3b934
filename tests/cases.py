"""Small models of kinds that people meet; ``tests/test_cases.py`` says what must happen to each."""

from __future__ import annotations

from pathlib import Path

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


def external(path: Path, location: str) -> Path:
    """All weights in a file beside the model, as PyTorch's exporter lays them: f32[N, 8] → f32[N, 5]."""
    text = "(float[N, 8] x) => (float[N, 5] y) { h = MatMul (x, W) r = Relu (h) y = MatMul (r, V) }"
    proto = onnx.load(write(path, text, {"W": drawn(8, 12), "V": drawn(12, 5)}))
    onnx.save(proto, path, save_as_external_data=True, location=location, size_threshold=0)
    return path
