"""Which tensors are parameters, in which role; and what is refused."""

from __future__ import annotations

import hashlib
import os
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort
import pytest

from dsd_ort.errors import ModelError, RunError, UnsupportedError
from dsd_ort.graph import source

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def write(path: Path, text: str, shapes: dict[str, tuple[int, ...]] | None = None, opset: int = 17) -> Path:
    """A model from ONNX text, with random float32 initializers of *shapes*."""
    imports = f'"": {opset}, "com.microsoft": 1'
    model = onnx.parser.parse_model(f"<ir_version: 8, opset_import: [{imports}]> main {text}")
    rng = np.random.default_rng(0)
    for name, shape in (shapes or {}).items():
        value = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    path.write_bytes(model.SerializeToString())
    return path


def roles(path: Path) -> dict[str, str]:
    found = source.load(path)
    return {p.name: p.role for p in (*found.parameters, *found.statistics)}


def run(model: onnx.ModelProto | Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    content = str(model) if isinstance(model, Path) else model.SerializeToString()
    outputs: list[np.ndarray] = ort.InferenceSession(content, options).run(None, feeds)
    return outputs


# --- roles

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
    "the inside of a subgraph": """(float[N, 3, 4, 4] x, bool c) => (float[N, 2, 4, 4] y) {
            a = Conv (x, w)
            y = If (c) <
                then_branch = yes () => (float[N, 2, 4, 4] b)
                    <float[2, 2, 1, 1] inner = {1, 2, 3, 4}> { b = Conv (a, inner) },
                else_branch = no () => (float[N, 2, 4, 4] d) { d = Relu (a) }
            >
        }""",
    "a product of constants": """(float[N, 3, 4, 4] x) => (float[N, 2, 4, 4] y)
        <float[2, 2] one = {1, 2, 3, 4}, float[2, 2] other = {1, 2, 3, 4}, int64[4] shape = {1, 1, 2, 2}> {
            a = Conv (x, w) b = MatMul (one, other) c = Reshape (b, shape) d = Resize (a, , ) y = Conv (x, w)
        }""",
    "a list of numbers that is picked from": """(float[N, 3, 4, 4] x, int64 i) => (float[N, 2, 4, 4] y)
        <float[3] list = {1, 2, 3}> { a = Conv (x, w) b = Gather (list, i) y = Mul (a, b) }""",
}


@pytest.mark.parametrize("case", NOT_WEIGHTS)
def test_other_constants_are_no_parameters(tmp_path, case):
    assert roles(write(tmp_path / "m.onnx", NOT_WEIGHTS[case], {"w": (2, 3, 1, 1)})) == {"w": "kernel"}


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


# --- where they are kept

STORED = """(float[N, 2] x) => (float[N, 2] y) <int64[1] two = {2}, float[2, 2] a = {1, 2, 3, 4}> {
    b = Constant <value = float[2, 2] {5, 6, 7, 8}> ()
    c = ConstantOfShape <value = float[1] {0.5}> (two)
    d = Identity (a)
    e = Identity (d)
    f = MatMul (x, a)
    g = MatMul (f, b)
    h = Add (g, c)
    y = MatMul (h, e)
}"""


def test_each_kind_of_storage_has_its_values(tmp_path):
    found = source.load(write(tmp_path / "m.onnx", STORED))
    kept = {p.name: (p.storage, p.aliases, found.value(p.name).tolist()) for p in found.parameters}
    assert kept == {
        "a": ("initializer", ("d", "e"), [[1, 2], [3, 4]]),
        "b": ("constant", (), [[5, 6], [7, 8]]),
        "c": ("constant-of-shape", (), [0.5, 0.5]),
    }
    assert found.value("a").dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        found.value("a")[0] = 1


def test_an_initializer_that_is_an_input_too_is_a_parameter_and_no_input(tmp_path):
    path = write(tmp_path / "m.onnx", STORED)
    model = onnx.load(path)
    model.ir_version = 3
    for name, kind in {"a": 1, "two": 7}.items():
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, None))
    path.write_bytes(model.SerializeToString())
    found = source.load(path)
    assert [p.name for p in found.parameters] == ["a", "b", "c"]
    assert [value.name for value in source.training_copy(found).graph.inputs] == ["x", "a", "b", "c"]


def external(path: Path, **places: tuple[int, int, str]) -> Path:
    """Points float32 initializers of a model at ``(offset, rows, file)``, two columns each."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name in places:
            offset, rows, location = places[tensor.name]
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.dims[:] = [rows, 2]
            for key, value in {"location": location, "offset": offset, "length": rows * 8}.items():
                tensor.external_data.add(key=key, value=str(value))
    path.write_bytes(model.SerializeToString())
    return path


CHAIN = """(float[N, 2] x) => (float[N, 2] y) { a = MatMul (x, v) b = MatMul (a, w) y = Relu (b) }"""


def chain(folder: Path, **places: tuple[int, int, str]) -> Path:
    np.arange(12, dtype=np.float32).tofile(folder / "m.bin")
    return external(write(folder / "m.onnx", CHAIN, {"v": (2, 2), "w": (2, 2)}), **places)


def test_external_data_is_read_from_its_place(tmp_path):
    found = source.load(chain(tmp_path, v=(4, 2, "m.bin"), w=(32, 2, "./m.bin")))
    assert found.files == (tmp_path / "m.onnx", tmp_path / "m.bin")
    assert found.value("v").tolist() == [[1, 2], [3, 4]]
    assert found.value("w").tolist() == [[8, 9], [10, 11]]


def test_two_tensors_in_one_place_are_one_parameter(tmp_path):
    found = source.load(chain(tmp_path, v=(4, 2, "m.bin"), w=(4, 2, "m.bin")))
    assert [(p.name, p.aliases) for p in found.parameters] == [("v", ("w",))]
    copy = source.training_copy(found)
    assert [value.name for value in copy.graph.inputs] == ["x", "v"]
    assert [node.inputs[1].name for node in list(copy.graph)[:2]] == ["v", "v"]


def test_tensors_that_share_only_some_bytes_are_refused(tmp_path):
    with pytest.raises(UnsupportedError, match=r"share bytes of 'm\.bin'") as caught:
        source.load(chain(tmp_path, v=(4, 2, "m.bin"), w=(12, 2, "m.bin")))
    assert "initializer 'v' and initializer 'w'" in caught.value.what
    assert caught.value.where == str(tmp_path / "m.onnx")
    assert "each tensor with data of its own" in caught.value.fix


def test_the_digest_covers_the_model_and_its_external_data(tmp_path):
    path = chain(tmp_path, v=(0, 2, "m.bin"))
    first = source.load(path).digest
    assert first.startswith("sha256:")
    assert source.load(path).digest == first
    renamed = tmp_path / "renamed.onnx"
    shutil.copyfile(path, renamed)
    assert source.load(renamed).digest == first
    (tmp_path / "m.bin").write_bytes(bytes(48))
    assert source.load(path).digest != first
    alone = write(tmp_path / "alone.onnx", CHAIN, {"v": (2, 2), "w": (2, 2)})
    assert source.load(alone).digest == f"sha256:{hashlib.sha256(alone.read_bytes()).hexdigest()}"


def test_loading_holds_no_weights(tmp_path):
    path = write(tmp_path / "m.onnx", CHAIN.replace("2] x", "2000] x"), {"v": (2000, 2000), "w": (2000, 2)})
    tracemalloc.start()
    found = source.load(path)
    source.training_copy(found)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < path.stat().st_size / 4


# --- the training copy


def constants(copy: onnx.ModelProto) -> int:
    return sum(node.op_type in ("Constant", "ConstantOfShape", "Identity") for node in copy.graph.node)


def test_the_training_copy_takes_its_weights_as_inputs_and_computes_the_same(tmp_path):
    found = source.load(write(tmp_path / "m.onnx", STORED))
    before = ir.to_proto(found.model).SerializeToString()
    copy = ir.to_proto(source.training_copy(found))
    onnx.checker.check_model(copy, full_check=True)
    assert ir.to_proto(found.model).SerializeToString() == before
    assert [value.name for value in copy.graph.input] == ["x", "a", "b", "c"]
    assert (len(copy.graph.initializer), constants(copy)) == (0, 0)
    x = np.float32([[1, -2], [3, 4]])
    weights = {p.name: found.value(p.name) for p in found.parameters}
    np.testing.assert_array_equal(run(copy, {"x": x, **weights})[0], run(found.path, {"x": x})[0])


def test_an_output_that_is_a_copy_of_a_weight_stays(tmp_path):
    text = """(float[N, 2] x) => (float[N, 2] y, float[2, 2] z) { y = MatMul (x, w) z = Identity (w) }"""
    found = source.load(write(tmp_path / "m.onnx", text, {"w": (2, 2)}))
    copy = ir.to_proto(source.training_copy(found))
    x, w = np.eye(2, dtype=np.float32), np.float32([[1, 2], [3, 4]])
    for output in run(copy, {"x": x, "w": w}):
        np.testing.assert_array_equal(output, w)


def test_the_training_copy_needs_no_other_file(tmp_path):
    text = """(float[N, 2] x, bool c) => (float[N, 2] y) {
        ids = Constant <value = int64[2] {1, 0}> ()
        a = MatMul (x, v) b = Gather <axis = 1> (a, ids)
        y = If (c) <
            then_branch = yes () => (float[N, 2] d) <float[1] two = {2}> { d = Mul (b, two) },
            else_branch = no () => (float[N, 2] e) { e = Relu (b) }
        >
    }"""
    path = write(tmp_path / "m.onnx", text, {"v": (2, 2)})
    model = onnx.load(path)
    ids, two = model.graph.node[0].attribute[0].t, model.graph.node[3].attribute[0].g.initializer[0]
    for tensor, offset in ((ids, 0), (two, 16)):
        for name in ("int64_data", "float_data", "raw_data"):
            tensor.ClearField(name)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in {"location": "m.bin", "offset": str(offset)}.items():
            tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    (tmp_path / "m.bin").write_bytes(np.int64([1, 0]).tobytes() + np.float32([2]).tobytes())
    copy = ir.to_proto(source.training_copy(source.load(path)))
    feeds = {"x": np.float32([[1, 2]]), "c": np.array(True), "v": np.eye(2, dtype=np.float32)}
    np.testing.assert_array_equal(run(copy, feeds)[0], [[4, 2]])


def test_weights_inside_calls_of_functions_are_found(tmp_path):
    text = """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
        main (float[N, 2] x) => (float[N, 2] y) <float[2, 2] w = {1, 2, 3, 4}, float[2] b = {1, 2}> {
            y = own.linear (x, w, b)
        }
        <domain: "own", opset_import: ["" : 17]> linear (x, w, b) => (y) {
            t = Identity (w) p = MatMul (x, t) y = Add (p, b)
        }"""
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    found = source.load(path)
    assert [(p.name, p.role) for p in found.parameters] == [("w", "matrix"), ("b", "bias")]
    assert len(found.model.functions) == 1
    copy = ir.to_proto(source.training_copy(found))
    assert not copy.functions
    feeds = {"x": np.float32([[1, 1]])}
    weights = {p.name: found.value(p.name) for p in found.parameters}
    np.testing.assert_array_equal(run(copy, feeds | weights)[0], run(path, feeds)[0])


# --- what is refused


@pytest.mark.parametrize("kind", [onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE])
def test_weights_that_are_not_float32_are_refused_by_name(tmp_path, kind):
    path = write(tmp_path / "m.onnx", CHAIN, {"v": (2, 2)})
    model = onnx.load(path)
    model.graph.initializer.append(onnx.helper.make_tensor("w", kind, [2, 2], [1, 2, 3, 4]))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UnsupportedError) as caught:
        source.load(path)
    name = onnx.TensorProto.DataType.Name(kind).lower()
    assert caught.value.what == f"the weight 'w' is {name}; only float (32 bits) can be trained"
    assert caught.value.where == f"{path}: MatMul b"
    assert caught.value.fix == "export the model in float32"


def test_a_statistic_that_is_also_a_weight_is_refused(tmp_path):
    text = """(float[N, 2] x) => (float[N, 2] y) {
        a = Gemm (x, w) zeros = Identity (bias) y = BatchNormalization (a, s, bias, zeros, v)
    }"""
    path = write(tmp_path / "m.onnx", text, {"w": (2, 2), "s": (2,), "bias": (2,), "v": (2,)})
    with pytest.raises(UnsupportedError, match="the running statistic 'bias' is also") as caught:
        source.load(path)
    assert caught.value.where == f"{path}: BatchNormalization y"
    assert "without merging equal tensors" in caught.value.fix


def test_one_batch_norm_that_is_used_twice_is_no_conflict(tmp_path):
    text = """(float[N, 2] x) => (float[N, 2] y) {
        a = BatchNormalization (x, s, b, m, v) y = BatchNormalization (a, s, b, m, v)
    }"""
    found = source.load(write(tmp_path / "m.onnx", text, {"s": (2,), "b": (2,), "m": (2,), "v": (2,)}))
    assert [p.name for p in found.statistics] == ["m", "v"]


def test_missing_and_wrong_external_data_is_refused(tmp_path):
    path = chain(tmp_path, v=(4, 2, "m.bin"))
    (tmp_path / "m.bin").write_bytes(bytes(10))
    with pytest.raises(ModelError) as caught:
        source.load(path)
    assert caught.value.what == (
        "the external data file 'm.bin' is too short: it has 10 bytes, and this tensor ends at byte 20"
    )
    assert caught.value.where == f"{path}: initializer 'v'"
    assert caught.value.fix == "copy or export the file again"
    (tmp_path / "m.bin").unlink()
    with pytest.raises(ModelError) as caught:
        source.load(path)
    assert caught.value.what == "the external data file 'm.bin' is missing"
    assert caught.value.where == f"{path}: initializer 'v'"
    assert str(tmp_path / "m.bin") in caught.value.fix


@pytest.mark.parametrize("location", ["../m.bin", "sub/../../m.bin", "link.bin", "absolute"])
def test_external_data_outside_of_the_folder_is_refused(tmp_path, location):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "m.bin").write_bytes(bytes(100))
    (folder / "link.bin").symlink_to(tmp_path / "m.bin")
    if location == "absolute":
        location = str(folder / "m.bin")
    path = chain(folder, v=(0, 2, location))
    with pytest.raises(ModelError, match="is outside of the model's folder") as caught:
        source.load(path)
    assert caught.value.where == f"{path}: initializer 'v'"
    assert "in the model's own folder" in caught.value.fix


def test_files_without_a_model_are_refused(tmp_path):
    path = write(tmp_path / "m.onnx", CHAIN, {"v": (2, 2), "w": (2, 2)})
    model = onnx.load(path)

    def refused(change: onnx.ModelProto, what: str) -> None:
        path.write_bytes(change.SerializeToString())
        with pytest.raises(ModelError, match=what) as caught:
            source.load(path)
        assert caught.value.where == str(path)
        assert caught.value.fix

    empty = onnx.ModelProto(ir_version=8)
    refused(empty, "it has no graph")
    headless = onnx.ModelProto()
    headless.CopyFrom(model)
    del headless.graph.output[:]
    refused(headless, "has no outputs")
    ended = onnx.ModelProto()
    ended.CopyFrom(model)
    del ended.opset_import[:]
    refused(ended, "does not say which operator set it uses")
    strange = onnx.ModelProto()
    strange.CopyFrom(model)
    strange.graph.initializer[0].data_type = 99
    refused(strange, "cannot be read")


def test_two_tensors_of_one_name_are_refused(tmp_path):
    path = write(tmp_path / "m.onnx", CHAIN, {"v": (2, 2), "w": (2, 2)})
    model = onnx.load(path)
    model.graph.initializer[1].name = "v"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="two tensors are called 'v'") as caught:
        source.load(path)
    assert caught.value.where == f"{path}: initializer 'v'"


def test_a_tensor_with_too_little_data_is_refused(tmp_path):
    path = write(tmp_path / "m.onnx", CHAIN, {"v": (2, 2), "w": (2, 2)})
    model = onnx.load(path)
    model.graph.initializer[0].raw_data = bytes(12)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError) as caught:
        source.load(path)
    assert caught.value.what == "the tensor 'v' has data for 3 elements, but its shape [2, 2] takes 4"
    assert caught.value.where == f"{path}: initializer 'v'"


def test_sparse_tensors_are_refused(tmp_path):
    path = write(tmp_path / "m.onnx", CHAIN, {"v": (2, 2), "w": (2, 2)})
    model = onnx.load(path)
    model.graph.sparse_initializer.add(dims=[2, 2])
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UnsupportedError, match="sparse tensors are not supported") as caught:
        source.load(path)
    assert caught.value.where == f"{path}: sparse initializer"
    assert caught.value.fix == "export with dense weights"


def test_a_file_that_changes_while_it_is_in_use_is_noticed(tmp_path):
    path = write(tmp_path / "m.onnx", CHAIN, {"v": (2, 2), "w": (2, 2)})
    found = source.load(path)
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    with pytest.raises(RunError, match="the model changed while it was in use") as caught:
        found.value("v")
    assert caught.value.where == str(path)
