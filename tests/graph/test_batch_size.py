"""A batch size that the file fixes becomes any, and what it computes stays; or the node that prevents it is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import dsd_ort
from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.adapt import adapted
from dsd_ort.graph.batch_size import marks
from dsd_ort.graph.prepare import build
from dsd_ort.model import source
from tests.model.test_source import run, write

PHASES = [{"kind": "dense", "steps": 2, "learning_rate": 0.01}]


def recipe(**changes) -> dsd_ort.Recipe:
    return dsd_ort.Recipe.from_dict({"phase": PHASES, "loss": {"name": "mse"}} | changes)


W = {"w": (4, 4)}
FREED = {
    "a Reshape that holds it": (
        """(float[K, 2, 2] x) => (float[K, 4] y) <int64[2] s = {K, 4}> { a = Reshape (x, s) y = MatMul (a, w) }""",
        W,
    ),
    "a Reshape that says it otherwise": (
        """(float[K, 2, 2] x) => (float[K, 4] y) <int64[2] s = {0, 4}, int64[2] t = {-1, 4}> {
            a = Reshape (x, s) b = MatMul (a, w) y = Reshape (b, t)
        }""",
        W,
    ),
    "positions and batch in one axis, and apart again": (
        """(float[K, 3, 4] x) => (float[K, 3, 4] y) <int64[2] s = {K3, 4}, int64[3] t = {K, 3, 4}> {
            a = Reshape (x, s) b = MatMul (a, w) c = Add (b, v) d = Relu (c) y = Reshape (d, t)
        }""",
        W | {"v": (4,)},
    ),
    "heads of attention beside the batch, time first": (
        """(float[K, 3, 4] x) => (float[K, 3, 4] y)
        <int64[3] s = {3, K2, 2}, int64[4] t = {K, 2, 3, 2}, int64[2] u = {K3, 4}, int64[3] v = {3, K, 4}> {
            a = Transpose <perm = [1, 0, 2]> (x) b = MatMul (a, w)
            c = Reshape (b, s) d = Transpose <perm = [1, 0, 2]> (c)
            e = Transpose <perm = [0, 2, 1]> (d) f = MatMul (d, e) g = Softmax (f) h = MatMul (g, d)
            i = Reshape (h, t) j = Transpose <perm = [2, 0, 1, 3]> (i) k = Reshape (j, u)
            l = MatMul (k, w) m = Reshape (l, v) y = Transpose <perm = [1, 0, 2]> (m)
        }""",
        W,
    ),
    "windows": (
        """(float[K, 4, 4] x) => (float[K, 4, 4] y)
        <int64[4] s = {K, 2, 2, 4}, int64[3] t = {K2, 2, 4}, int64[4] u = {K, 2, 2, 4}, int64[3] v = {K, 4, 4},
         float[2, 2, 2] mask = {0, 1, 2, 3, 4, 5, 6, 7}, int64[4] q = {K, 2, 2, 2}, int64[3] p = {K2, 2, 2}> {
            a = Reshape (x, s) b = Reshape (a, t) c = MatMul (b, w) d = Transpose <perm = [0, 2, 1]> (c)
            e = MatMul (c, d) f = Reshape (e, q) g = Add (f, mask) h = Reshape (g, p) i = Softmax (h)
            j = MatMul (i, c) k = Reshape (j, u) y = Reshape (k, v)
        }""",
        W,
    ),
    "a token in front of a sequence": (
        """(float[K, 3, 4] x) => (float[K, 4] y)
        <float[1, 1, 4] c = {1, 2, 3, 4}, int64[3] s = {K, 1, 4}, int64 zero = {0}> {
            t = Expand (c, s) a = MatMul (x, w) b = Concat <axis = 1> (t, a)
            d = Softmax <axis = 1> (b) e = ReduceSum <keepdims = 0> (d, one) y = MatMul (e, w)
        }""",
        W | {"one": (1,)},
    ),
    "a constant that is the same for each example": (
        """(float[K, 3, 4] x) => (float[K, 3, 4] y) { a = MatMul (x, w) y = Add (a, same) }""",
        W,
    ),
    "a slice, an Expand and a Resize that hold it": (
        """(float[K, 1, 4, 4] x) => (float[K, 2, 8, 8] y)
        <int64[4] o = {0, 0, 0, 0}, int64[4] e = {K, 1, 4, 4}, int64[4] s = {K, 2, 4, 4}, int64[4] z = {K, 2, 8, 8}> {
            a = MatMul (x, w) b = Slice (a, o, e) c = Expand (b, s) y = Resize <mode = "nearest"> (c, , , z)
        }""",
        W,
    ),
    "shapes that are computed": (
        """(float[K, 2, 2] x) => (float[K, 4] y) <int64[1] minus = {-1}, int64 zero = {0}, int64[1] o = {0}> {
            s = Shape (x) n = Gather (s, zero) m = Unsqueeze (n, o) t = Concat <axis = 0> (m, minus)
            a = Reshape (x, t) y = MatMul (a, w)
        }""",
        W,
    ),
    "tokens and a mask": (
        """(int64[K, 3] x, bool[K, 3] hidden) => (float[K, 3, 4] y) <float[1] low = {-10000}, int64[1] two = {2}> {
            a = Gather (w, x) h = Unsqueeze (hidden, two) b = Where (h, low, a) y = MatMul (b, w)
        }""",
        W,
    ),
    "an Einsum": ("(float[K, 3, 4] x) => (float[3, K, 4] z, float[K, 3, 4] y) {"
        ' z = Einsum <equation = "ntc,cd->tnd"> (x, w) y = Einsum <equation = "tnd,dc->ntc"> (z, w) }', W),
}  # fmt: skip


def static(tmp_path: Path, case: str, k: int) -> Path:
    text, shapes = FREED[case] if case in FREED else (REFUSED[case][0], W)
    text = text.replace("{K2,", f"{{{2 * k},").replace("K2", str(2 * k)).replace("K3", str(3 * k)).replace("K", str(k))
    path = write(tmp_path / f"{k}.onnx", text, {name: shape for name, shape in shapes.items() if name != "one"})
    model = onnx.load(path)
    if "one" in shapes:
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "one"))
    if "same" in text:
        value = np.repeat(np.arange(12, dtype=np.float32).reshape(1, 3, 4), k, 0)
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, "same"))
    del model.graph.output[: len(model.graph.output) - 1]
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(str(path), full_check=True)
    return path


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("case", FREED)
def test_batches_of_any_size_give_what_the_file_gives_for_each(tmp_path, case, k):
    path = static(tmp_path, case, k)
    found = source.load(path)
    model = ir.to_proto(adapted(found, recipe()).model)
    onnx.checker.check_model(model, full_check=True)
    assert model.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    rng = np.random.default_rng(0)
    data = {}
    for value in onnx.load(path).graph.input:
        shape = [2 * k, *(d.dim_value for d in value.type.tensor_type.shape.dim[1:])]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        numbers = rng.standard_normal(shape) if dtype == np.float32 else rng.integers(0, 2, shape)
        data[value.name] = numbers.astype(dtype)
    weights = {p.name: found.value(p.name) for p in found.parameters}
    parts = [run(path, {n: a[i : i + k] for n, a in data.items()})[0] for i in (0, k)]
    known = {value.name for value in model.graph.input}
    got = run(model, {n: a for n, a in (data | weights).items() if n in known})[0]
    np.testing.assert_allclose(got, np.concatenate(parts), rtol=1e-4, atol=1e-5)


REFUSED = {
    "an example that is picked": (
        "(float[K, 3, 4] x) => (float[K, 4] y) <int64 zero = {0}, int64[2] s = {K, 4}> {"
        " a = Gather (x, zero) b = MatMul (a, w) c = ReduceSum (b) d = Expand (c, s) y = MatMul (d, w) }",
        "Gather 'a'",
        "it mixes or picks examples of the batch",
    ),
    "a sum over the batch": (
        "(float[K, 4] x) => (float[K, 4] y) { a = MatMul (x, w) s = ReduceMean <axes = [0]> (a) y = Sub (a, s) }",
        "ReduceMean 's'",
        "it mixes or picks examples of the batch",
    ),
    "examples that are joined": (
        "(float[K, 4] x) => (float[K, 4] y) <int64[1] o = {0}, int64[1] e = {K}> {"
        " a = Concat <axis = 0> (x, x) b = MatMul (a, w) y = Slice (b, o, e, o) }",
        "Concat 'a'",
        "it joins examples",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_node_that_prevents_it_is_named(tmp_path, case):
    _, where, why = REFUSED[case]
    found = source.load(static(tmp_path, case, 3))
    with pytest.raises(UnsupportedError, match="the batch size is fixed at 3") as caught:
        adapted(found, recipe())
    assert caught.value.where == where
    assert why in caught.value.what
    assert "use batch_size = 3 and data.drop_last = true" in caught.value.fix
    kept = adapted(found, recipe(batch_size=3, data={"drop_last": True})).model
    assert kept.graph.inputs[0].shape[0] == 3


def test_a_constant_with_a_part_for_each_example_is_refused(tmp_path):
    text = (
        "(float[2, 3] x) => (float[2, 3] y) <float[2, 3] c = {1, 2, 3, 4, 5, 6}> { a = MatMul (x, w) y = Mul (c, a) }"
    )
    found = source.load(write(tmp_path / "m.onnx", text, {"w": (3, 3)}))
    with pytest.raises(UnsupportedError, match="'c' has a part for each example") as caught:
        adapted(found, recipe())
    assert caught.value.where == "Mul 'y'"


def test_a_result_that_depends_on_other_examples_is_not_taken(tmp_path):
    """By lengths alone, the product over [1, 2, 2] could have the batch in front."""
    text = """(float[1, 2, 2] x) => (float[1, 2, 2] y) <int64[3] s = {2, 1, 2}, int64[3] t = {1, 2, 2}> {
        a = Transpose <perm = [1, 0, 2]> (x) b = MatMul (a, w) c = Transpose <perm = [1, 0, 2]> (b)
        d = CumSum (c, zero) y = Reshape (d, t)
    }"""
    path = write(tmp_path / "m.onnx", text, {"w": (2, 2)})
    model = onnx.load(path)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(0), "zero"))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UnsupportedError, match="with another the model computes something else") as caught:
        adapted(source.load(path), recipe())
    assert caught.value.where == str(path)
    adapted(source.load(path), recipe(batch_size=1))


def test_a_recurrent_layer_with_a_state_of_its_own(tmp_path):
    text = """(float[1, 5, 3] x) => (float[1, 4] y)
    <float[1, 1, 4] h = {0, 0, 0, 0}, float[1, 1, 4] c = {1, 2, 3, 4}, int64[1] o = {0}, int64 last = {-1}> {
        a = Transpose <perm = [1, 0, 2]> (x) b = LSTM <hidden_size = 4> (a, W, R, B, , h, c) d = Squeeze (b, one)
        y = Gather (d, last)
    }"""
    path = write(tmp_path / "m.onnx", text, {"W": (1, 16, 3), "R": (1, 16, 4), "B": (1, 32)})
    model = onnx.load(path)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "one"))
    path.write_bytes(model.SerializeToString())
    found = source.load(path)
    freed = ir.to_proto(adapted(found, recipe()).model)
    x = np.random.default_rng(0).standard_normal((3, 5, 3)).astype(np.float32)
    weights = {p.name: found.value(p.name) for p in found.parameters}
    expected = np.concatenate([run(path, {"x": x[i : i + 1]})[0] for i in range(3)])
    np.testing.assert_allclose(run(freed, {"x": x, **weights})[0], expected, rtol=1e-5)


def test_a_model_with_a_fixed_batch_trains_and_evaluates_with_any_and_ships_as_it_was(tmp_path):
    path = static(tmp_path, "a Reshape that holds it", 1)
    program = dsd_ort.prepare(path, tmp_path / "run", recipe(batch_size=16))
    assert [(field.name, field.shape[0]) for field in program.manifest.inputs] == [("x", "batch")]
    rng = np.random.default_rng(0)
    data = {"x": rng.standard_normal((50, 2, 2)).astype(np.float32), "label": np.zeros((50, 4), np.float32)}
    dsd_ort.train(tmp_path / "run", data, eval_data=data, threads=1)
    assert dsd_ort.export(tmp_path / "run", tmp_path / "final.onnx").same
    single = [run(tmp_path / "final.onnx", {"x": data["x"][i : i + 1]})[0] for i in range(50)]
    expected = float((np.concatenate(single) ** 2).mean())
    assert dsd_ort.evaluate(tmp_path / "run", data)["loss"] == pytest.approx(expected, rel=1e-5)
    assert dsd_ort.evaluate(tmp_path / "final.onnx", data, recipe())["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("before", "shape", "other", "k", "after"),
    [
        ((0,), (1, 8, 2, 2), (1, 32), 1, (0,)),
        ((1,), (5, 1, 6), (5, 6), 1, (0, 5, 1)),
        ((1,), (5, 1, 6), (5, 2, 3), 1, (1, 1, 2)),
        ((0, 1, 2), (2, 5, 3), (1, 2, 5, 3), 1, (0,)),
        ((1,), (5, 1, 2, 3), (5, 6), 1, (0, 5, 1)),
        ((0,), (4, 3), (3, 4), 4, None),
        ((0,), (4, 6), (2, 12), 4, None),
    ],
)
def test_where_the_batch_goes_in_a_reshape(before, shape, other, k, after):
    got = marks.reshaped(marks.Mark(*before), shape, other, k)
    assert got == (None if after is None else marks.Mark(*after))


def test_zoo_models_of_batch_one_are_freed(tmp_path):
    from tests.model.test_source import LIGHT

    made, _ = build(source.load(LIGHT / "light_squeezenet.onnx"), dsd_ort.Recipe.from_dict({"phase": PHASES}))
    assert made.inputs[0].shape == ("batch", 3, 224, 224)
    assert made.labels[0].shape == ("batch", 1, 1)


@pytest.mark.parametrize("kind", [onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE])
def test_a_model_in_another_precision_is_freed_too(tmp_path, kind):
    name = onnx.TensorProto.DataType.Name(kind).lower()
    text = f"({name}[1, 2, 2] x) => ({name}[1, 4] y) <int64[2] s = {{1, 4}}> {{ a = Reshape (x, s) y = MatMul (a, w) }}"
    path = write(tmp_path / "m.onnx", text)
    model = onnx.load(path)
    model.graph.initializer.append(onnx.helper.make_tensor("w", kind, [4, 4], np.linspace(-1, 1, 16)))
    path.write_bytes(model.SerializeToString())
    made, _ = build(source.load(path), recipe())
    assert made.inputs[0].shape == ("batch", 2, 2)
