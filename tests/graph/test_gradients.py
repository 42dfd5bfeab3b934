"""``dsd_ort.differentiate``: gradients of whole models against central differences in float64, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.parser
import pytest
from onnx.reference import ReferenceEvaluator

import dsd_ort
from dsd_ort import runtime
from dsd_ort.errors import ModelError, UnsupportedError
from tests.graph.gradient import Arrays, Exact, disagreement, quiet
from tests.models import cnn_data, retyped, write_cnn

TOLERANCE = 2e-5
"""Of a float32 gradient, along a direction, in units of its norm."""


def run(model: onnx.ModelProto, feeds: Arrays) -> Arrays:
    """All outputs, by ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), quiet(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def with_weights_as_inputs(model: onnx.ModelProto, names: Sequence[str]) -> tuple[onnx.ModelProto, Arrays]:
    """*model* with its initializers *names* as inputs, and their values."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    weights = {i.name: onnx.numpy_helper.to_array(i) for i in copy.graph.initializer if i.name in names}
    kept = [i for i in copy.graph.initializer if i.name not in names]
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(kept)
    for name, value in weights.items():
        copy.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, value.shape))
    return copy, weights


def model_of(text: str, weights: Mapping[str, tuple[int, ...] | np.ndarray] | None = None) -> onnx.ModelProto:
    """The model of ONNX text with *weights*; of a shape, random ones."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> g {text}')
    random = np.random.default_rng(0)
    for name, given in (weights or {}).items():
        value = given if isinstance(given, np.ndarray) else (0.5 * random.standard_normal(given)).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    onnx.checker.check_model(model, full_check=True)
    return model


def agrees(model: onnx.ModelProto, wrt: Sequence[str], of: str, feeds: Arrays, **how: bool) -> Arrays:
    """Compares with central differences of *model*; all that the result gives."""
    made = dsd_ort.differentiate(model, wrt, of, **how)
    onnx.checker.check_model(made, full_check=True)
    exact, weights = with_weights_as_inputs(model, wrt)
    y = Exact(exact)({**feeds, **weights})[of]
    dy = np.random.default_rng(3).standard_normal(y.shape).astype(np.float32) if y.ndim else np.float32(1)
    given = run(made, {**feeds, f"{of}_grad": dy} if y.size > 1 else feeds)
    gradients = {name: given[f"{name}_grad"] for name in wrt}
    worst = disagreement(Exact(exact), {**feeds, **weights}, {of: dy}, gradients)
    assert max(worst.values()) < TOLERANCE, worst
    return given


CNN = ["image", "conv1.weight", "bn.weight", "bn.bias", "conv2.bias", "fc.weight"]


@pytest.fixture
def cnn(tmp_path: Path) -> onnx.ModelProto:
    return onnx.load(write_cnn(tmp_path / "model.onnx", dropout=True))


def test_a_network_of_convolutions_by_its_image_and_its_weights(cnn: onnx.ModelProto) -> None:
    feeds = {"image": cnn_data(3)["image"]}
    given = agrees(cnn, CNN, "scores", feeds)
    assert list(given) == ["scores", *(f"{name}_grad" for name in CNN)]
    np.testing.assert_allclose(given["scores"], run(cnn, feeds)["scores"], rtol=1e-5)


LSTM = """(float[T, N, 3] x, int32[N] lengths) => (float[N, 4] last, float loss) {
    y, h, c = LSTM <hidden_size = 4> (x, w, r, b, lengths)
    axis = Constant <value_ints = [0]> ()
    last = Squeeze (h, axis)
    square = Mul (last, last)
    loss = ReduceMean <keepdims = 0> (square)
}"""


@pytest.mark.parametrize("of", ["loss", "last"])
def test_a_recurrent_network_with_sequences_of_several_lengths(of: str) -> None:
    model = model_of(LSTM, {"w": (1, 16, 3), "r": (1, 16, 4), "b": (1, 32)})
    x = np.random.default_rng(1).standard_normal((5, 2, 3)).astype(np.float32)
    given = agrees(model, ["x", "w", "r", "b"], of, {"x": x, "lengths": np.array([5, 3], np.int32)})
    assert not given["x_grad"][3:, 1].any()
    assert given["x_grad"][:3, 1].all()


TRANSFORMER = """(float[N, T, 8] x) => (float[N, T, 8] y) {
    q = MatMul (x, wq)  k = MatMul (x, wk)  v = MatMul (x, wv)
    heads = Constant <value_ints = [0, 0, 2, 4]> ()
    q4 = Reshape (q, heads)  k4 = Reshape (k, heads)  v4 = Reshape (v, heads)
    qh = Transpose <perm = [0, 2, 1, 3]> (q4)
    kh = Transpose <perm = [0, 2, 3, 1]> (k4)
    vh = Transpose <perm = [0, 2, 1, 3]> (v4)
    scores = MatMul (qh, kh)
    half = Constant <value_float = 0.5> ()
    scaled = Mul (scores, half)
    attention = Softmax <axis = -1> (scaled)
    seen = MatMul (attention, vh)
    back = Transpose <perm = [0, 2, 1, 3]> (seen)
    flat = Constant <value_ints = [0, 0, 8]> ()
    joined = Reshape (back, flat)
    residual = Add (x, joined)
    normal = LayerNormalization <axis = -1> (residual, gamma, beta)
    wide = MatMul (normal, w1)
    gate = Sigmoid (wide)
    active = Mul (wide, gate)
    narrow = MatMul (active, w2)
    y = Add (residual, narrow)
}"""


def test_a_transformer_block_with_axes_of_any_length() -> None:
    square = dict.fromkeys(["wq", "wk", "wv"], (8, 8))
    model = model_of(TRANSFORMER, square | {"gamma": (8,), "beta": (8,), "w1": (8, 16), "w2": (16, 8)})
    x = np.random.default_rng(1).standard_normal((2, 5, 8)).astype(np.float32)
    agrees(model, ["x", *square, "gamma", "beta", "w1", "w2"], "y", {"x": x})


def test_weights_are_defaults_that_a_session_may_be_fed_others_for(cnn: onnx.ModelProto) -> None:
    made = dsd_ort.differentiate(cnn, "fc.weight")
    feeds = {"image": cnn_data(2)["image"], "scores_grad": np.eye(2, 3, dtype=np.float32)}
    other = np.random.default_rng(4).standard_normal((3, 5)).astype(np.float32)
    (tensor,) = [i for i in cnn.graph.initializer if i.name == "fc.weight"]
    tensor.CopyFrom(onnx.numpy_helper.from_array(other, "fc.weight"))
    expected, got = run(dsd_ort.differentiate(cnn, "fc.weight"), feeds), run(made, {**feeds, "fc.weight": other})
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)


def test_a_large_weight_is_in_its_place_again() -> None:
    text = "(float[N, 300] x) => (float[N, 300] y) { h = MatMul (x, large)  b = Add (h, bias)  y = Tanh (b) }"
    model = model_of(text, {"large": (300, 300), "bias": (300,)})
    made = dsd_ort.differentiate(model, ["x", "bias"])
    assert [value.name for value in made.graph.input] == ["x", "bias", "y_grad"]
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    large = onnx.numpy_helper.to_array(model.graph.initializer[0])
    np.testing.assert_array_equal(stored["large"], large)
    x, dy = np.full((1, 300), 0.01, np.float32), np.ones((1, 300), np.float32)
    given = run(made, {"x": x, "y_grad": dy})
    np.testing.assert_allclose(given["x_grad"], (1 - given["y"] ** 2) @ large.T, rtol=1e-4, atol=1e-4)


def test_a_file_and_a_model_are_left_as_they_are(cnn: onnx.ModelProto, tmp_path: Path) -> None:
    path, before = tmp_path / "external.onnx", cnn.SerializeToString(deterministic=True)
    onnx.save(
        onnx.ModelProto.FromString(before), path, save_as_external_data=True, location="weights", size_threshold=0
    )
    files = {file: file.read_bytes() for file in tmp_path.iterdir()}
    of_file, of_model = dsd_ort.differentiate(path, ["image"]), dsd_ort.differentiate(cnn, ["image"])
    assert cnn.SerializeToString(deterministic=True) == before
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == files
    assert of_file == of_model


TRAINING = """(float[N, 3] x) => (float[N, 3] y) {
    y, m, v = BatchNormalization <training_mode = 1, momentum = 0.8> (x, scale, bias, mean, variance)
}"""
MEAN, VARIANCE = np.array([-1, 0, 1], np.float32), np.array([0.5, 1, 2], np.float32)


@pytest.fixture
def in_training() -> onnx.ModelProto:
    return model_of(TRAINING, {"scale": (3,), "bias": (3,), "mean": MEAN, "variance": VARIANCE})


def test_in_training_batch_norm_normalises_by_the_batch_and_gives_the_new_statistics(
    in_training: onnx.ModelProto,
) -> None:
    x = np.random.default_rng(1).standard_normal((6, 3)).astype(np.float32)
    given = agrees(in_training, ["x", "scale", "bias"], "y", {"x": x}, training=True)
    assert list(given)[-2:] == ["mean_next", "variance_next"]
    np.testing.assert_allclose(given["mean_next"], 0.8 * MEAN + 0.2 * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(given["variance_next"], 0.8 * VARIANCE + 0.2 * x.var(0, ddof=1), rtol=1e-5)


def test_a_model_in_training_mode_is_differentiated_as_in_inference_unless_asked(in_training: onnx.ModelProto) -> None:
    dy = np.ones((6, 3), np.float32)
    given = run(dsd_ort.differentiate(in_training, "x"), {"x": dy, "y_grad": dy})
    scale = onnx.numpy_helper.to_array(in_training.graph.initializer[0])
    assert list(given) == ["y", "x_grad"]
    np.testing.assert_allclose(given["x_grad"], dy * scale / np.sqrt(VARIANCE + 1e-5), rtol=1e-5)


DROPOUT = """(float[N] x) => (float[N] y, bool[N] kept) {
    ratio = Constant <value_float = 0.5> ()
    on = Constant <value = bool {1}> ()
    y, kept = Dropout (x, ratio, on)
}"""


def test_dropout_drops_in_training_only() -> None:
    model = model_of(DROPOUT)
    feeds = {"x": np.ones(1000, np.float32), "y_grad": np.arange(1000, dtype=np.float32)}
    still = run(dsd_ort.differentiate(model, "x", "y"), feeds)
    assert still["kept"].all()
    np.testing.assert_array_equal(still["x_grad"], feeds["y_grad"])
    dropped = run(dsd_ort.differentiate(model, "x", "y", training=True), feeds)
    assert 400 < dropped["kept"].sum() < 600
    np.testing.assert_array_equal(dropped["x_grad"], feeds["y_grad"] * dropped["kept"] * 2)


def test_twice_is_the_product_with_the_second_derivatives() -> None:
    """Of y = sin(x₀·x₁), H = [[-x₁²·sin, cos - x₀·x₁·sin], [cos - x₀·x₁·sin, -x₀²·sin]]."""
    text = """(float[2] x) => (float y) {
        product = ReduceProd <keepdims = 0> (x)
        y = Sin (product)
    }"""
    once = dsd_ort.differentiate(model_of(text), "x")
    twice = dsd_ort.differentiate(once, "x", "x_grad")
    a, b = 0.5, 2.0
    off = np.cos(a * b) - a * b * np.sin(a * b)
    hessian = np.array([[-b * b * np.sin(a * b), off], [off, -a * a * np.sin(a * b)]])
    for v in np.eye(2, dtype=np.float32):
        given = run(twice, {"x": np.array([a, b], np.float32), "x_grad_grad": v})
        np.testing.assert_allclose(given["x_grad_1"], hessian @ v, rtol=1e-5)


def test_an_output_of_one_number_needs_nothing_whatever_its_rank() -> None:
    text = "(float[2] x) => (float[1, 1] y) { r = Reshape (x, shape)  square = Mul (r, r)  y = ReduceSum (square) }"
    made = dsd_ort.differentiate(model_of(text, {"shape": np.array([1, 2])}), "x")
    assert [value.name for value in made.graph.input] == ["x"]
    given = run(made, {"x": np.array([1, 2], np.float32)})
    np.testing.assert_array_equal(given["x_grad"], [2, 4])


def test_names_that_are_taken_get_a_number() -> None:
    text = "(float[2] x, float[2] x_grad) => (float[2] y) { y_grad = Mul (x, x_grad)  y = Exp (y_grad) }"
    made = dsd_ort.differentiate(model_of(text), ["x_grad", "x"])
    assert [value.name for value in made.graph.input] == ["x", "x_grad", "y_grad_1"]
    assert [value.name for value in made.graph.output] == ["y", "x_grad_grad", "x_grad_1"]


@pytest.mark.parametrize("dtype", ["float16", "double"])
def test_other_types_are_computed_in_float32(dtype: str, cnn: onnx.ModelProto) -> None:
    expected = run(dsd_ort.differentiate(cnn, CNN), {**(feeds := {"image": cnn_data(2)["image"]}), "scores_grad": DY})
    made = dsd_ort.differentiate(retyped(cnn, dtype), CNN)
    types = {value.name: value.type.tensor_type.elem_type for value in (*made.graph.input, *made.graph.output)}
    given = run(made, {"image": feeds["image"].astype("e" if dtype == "float16" else "d"), "scores_grad": DY})
    for name in CNN:
        assert types[f"{name}_grad"] == types[name]
        np.testing.assert_allclose(given[f"{name}_grad"], expected[f"{name}_grad"], rtol=2e-2, atol=2e-3, err_msg=name)


DY = np.eye(2, 3, dtype=np.float32)


def test_by_default_it_is_made_of_operators_that_every_onnx_runtime_has(cnn: onnx.ModelProto) -> None:
    made = dsd_ort.differentiate(cnn, CNN)
    assert {node.domain for node in made.graph.node} == {""}
    assert [(i.domain, i.version) for i in made.opset_import] == [("", 18)]
    given = ReferenceEvaluator(made).run(None, {"image": cnn_data(2)["image"], "scores_grad": DY})
    expected = run(made, {"image": cnn_data(2)["image"], "scores_grad": DY})
    for array, (name, value) in zip(given, expected.items(), strict=True):
        np.testing.assert_allclose(array, value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_training_operators_are_kept_where_they_are_asked_for(cnn: onnx.ModelProto) -> None:
    made = dsd_ort.differentiate(cnn, CNN, training_operators=True)
    assert {"ConvGrad", "ReluGrad"} <= {node.op_type for node in made.graph.node if node.domain == "com.microsoft"}
    if not runtime.trains():
        with pytest.raises(Exception, match=r"com\.microsoft:.*Grad.* is not a registered function"):
            run(made, {})
        return
    feeds = {"image": cnn_data(2)["image"], "scores_grad": DY}
    given, expected = run(made, feeds), run(dsd_ort.differentiate(cnn, CNN), feeds)
    for name, value in expected.items():
        np.testing.assert_allclose(given[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


MANY = """(float[N, 3] x, int64[N] rows) => (float[N, 3] y, float[N, 3] other, int64[N] best) {
    y = Tanh (x)
    other = Gather (y, rows)
    best = ArgMax <axis = 1, keepdims = 0> (y)
}"""


def test_other_outputs_are_given_too() -> None:
    made = dsd_ort.differentiate(model_of(MANY), "x", "y")
    x = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    given = run(made, {"x": x, "rows": np.array([1, 1]), "y_grad": np.ones_like(x)})
    assert list(given) == ["y", "other", "best", "x_grad"]
    np.testing.assert_allclose(given["x_grad"], 1 - np.tanh(x) ** 2, rtol=1e-5)
    np.testing.assert_array_equal(given["other"], given["y"][[1, 1]])
    np.testing.assert_array_equal(given["best"], x.argmax(1))


@pytest.mark.parametrize(
    ("wrt", "of", "what", "fix"),
    [
        ("x", None, "the model has 3 outputs: y, other, best", "name one of them as of"),
        ("x", "bset", "the model has no output 'bset'", "did you mean 'best'"),
        ("z", "y", "the model has no input or initializer 'z'", "those of inputs and initializers are x, rows"),
        ([], "y", "wrt names nothing", "name some of x, rows"),
        ("rows", "y", "'rows' is of type int64, by which there is no gradient", "floating-point"),
        ("x", "best", "no gradient of 'best' reaches 'x': ArgMax 'best' yields positions", "leave it out of wrt"),
    ],
)
def test_what_there_is_not_is_said(wrt: str, of: str | None, what: str, fix: str) -> None:
    with pytest.raises(ModelError) as caught:
        dsd_ort.differentiate(model_of(MANY), wrt, of)
    assert caught.value.what.startswith(what)
    assert fix in (caught.value.fix or "")


def test_an_output_that_does_not_depend_on_it_is_told() -> None:
    text = "(float[2] x, float[2] z) => (float[2] y) { y = Exp (x) }"
    with pytest.raises(UnsupportedError, match="no gradient of 'y' reaches 'z': it does not depend on it"):
        dsd_ort.differentiate(model_of(text), ["x", "z"])


def test_an_operator_without_a_derivative_is_refused_by_name() -> None:
    text = "(float[N, 4] x) => (float[N] y) { y = Mystery (x) }"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> g {text}')
    with pytest.raises(UnsupportedError, match="Mystery is none that ONNX defines") as caught:
        dsd_ort.differentiate(model, "x")
    assert "Mystery 'y'" in (caught.value.where or "")


def test_an_operator_in_front_of_another_output_needs_no_derivative() -> None:
    shape = "float[2, C, 3, 3]"
    model = model_of(f"({shape} x) => ({shape} y, {shape} z) {{ y = Exp (x) z = LRN <size = 3> (x) }}")
    x = np.random.default_rng(0).standard_normal((2, 4, 3, 3)).astype(np.float32)
    plain = run(model, {"x": x})
    found = run(dsd_ort.differentiate(model, "x", "y"), {"x": x, "y_grad": np.ones_like(x)})
    np.testing.assert_array_equal(found["z"], plain["z"])
    np.testing.assert_allclose(found["x_grad"], np.exp(x), rtol=1e-6)
    with pytest.raises(UnsupportedError, match="LRN cannot be rewritten for training"):
        dsd_ort.differentiate(model, "x", "z")


def test_quantised_numbers_in_front_of_another_output_need_no_derivative() -> None:
    model = model_of(
        "(float[3] x) => (float[3] y, uint8[3] z) <float s = {0.5}, uint8 zero = {128}> "
        "{ y = Exp (x) z = QuantizeLinear (y, s, zero) }"
    )
    x = np.float32([-1, 0, 2])
    found = run(dsd_ort.differentiate(model, "x", "y"), {"x": x, "y_grad": np.ones_like(x)})
    np.testing.assert_array_equal(found["z"], run(model, {"x": x})["z"])
    np.testing.assert_allclose(found["x_grad"], np.exp(x), rtol=1e-6)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        dsd_ort.differentiate(tmp_path / "none.onnx", "x")
    (tmp_path / "text.onnx").write_text("not an ONNX file")
    with pytest.raises(ModelError):
        dsd_ort.differentiate(tmp_path / "text.onnx", "x")


PAGE = (Path(__file__).parent.parent.parent / "docs" / "differentiate.md").read_text("utf-8")


def test_the_page_shows_what_is_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_cnn(tmp_path / "model.onnx")
    np.save("images.npy", cnn_data(4)["image"])
    onnx.save(
        model_of("(float[2] x) => (float y) { product = ReduceProd <keepdims = 0> (x)  y = Sin (product) }"),
        "curve.onnx",
    )
    known: dict[str, np.ndarray] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "docs/differentiate.md", "exec"), known)
    assert known["by_weight"].shape == (3, 5)
    a, b = known["x"].tolist()
    np.testing.assert_allclose(
        known["column"], [-b * b * np.sin(a * b), np.cos(a * b) - a * b * np.sin(a * b)], rtol=1e-5
    )
