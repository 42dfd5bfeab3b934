"""Files that say that any batch will do, and hold one: found before anything is trained, mended or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dsd_ort
from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.adapt import adapted
from dsd_ort.model import source
from dsd_ort.recipe import Recipe
from tests import cases
from tests.model.test_source import run

PHASES = [{"kind": "dense", "epochs": 1, "learning_rate": 0.05}]
SHAPES = {"a token in front": (3, 8), "a state": (3, 8), "a Reshape behind pictures of any size": (3, 9, 9)}


def recipe(**options: object) -> Recipe:
    return Recipe.from_dict({"phase": PHASES, "batch_size": 8} | options)


def data(what: str, examples: int = 24) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((examples, *SHAPES.get(what, (8,)))).astype(np.float32)
    return {"x": x, "label": rng.integers(0, 5, examples)}


@pytest.mark.parametrize("what", cases.HELD)
def test_it_is_found_told_and_mended(tmp_path: Path, what: str) -> None:
    model = cases.holding(tmp_path / "m.onnx", what)
    k = 4 if "four" in what else 1
    report = dsd_ort.check(model, recipe(), isolate=False)
    assert report.ok
    (note,) = [note.words for note in dsd_ort.inspect(model).notes if note.kind == "file"]
    assert note.startswith(f"the file says that it takes any batch, and holds a batch of {k} (")
    assert note.endswith("; it is trained and measured with any, and ships as it was") and note in report.notes


@pytest.mark.parametrize("what", cases.HELD)
def test_it_computes_for_each_example_what_the_file_does(tmp_path: Path, what: str) -> None:
    model, arrays = cases.holding(tmp_path / "m.onnx", what), data(what)
    dsd_ort.prepare(model, tmp_path / "run", recipe(metrics=["top-1"]))
    dsd_ort.train(tmp_path / "run", arrays)
    assert dsd_ort.export(tmp_path / "run", tmp_path / "final.onnx").same
    k = 4 if "four" in what else 1
    parts = [run(tmp_path / "final.onnx", {"x": arrays["x"][i : i + k]})[0] for i in range(0, 24, k)]
    right = float(np.mean(np.concatenate(parts).argmax(1) == arrays["label"]))
    assert dsd_ort.evaluate(tmp_path / "run", arrays)["top-1"] == pytest.approx(right)


@pytest.mark.parametrize("what", [what for what in cases.HELD if "any size" not in what])
def test_it_becomes_what_the_file_that_says_so_becomes(tmp_path: Path, what: str) -> None:
    k = "4" if "four" in what else "1"
    lying, honest = cases.holding(tmp_path / "m.onnx", what), cases.holding(tmp_path / "n.onnx", what, batch=k)
    one, two = (adapted(source.load(path), recipe()).model.graph for path in (lying, honest))
    assert [node.op_type for node in one] == [node.op_type for node in two]


def test_an_input_that_fixes_the_batch_beside_one_that_does_not_is_freed_with_it(tmp_path: Path) -> None:
    """A state of one example beside sequences of any number."""
    text = (
        "(float[n, 3, 8] x, float[1, 12] state) => (float[n, 5] y) { t = Transpose <perm = [1, 0, 2]> (x) "
        "h0 = Unsqueeze (state, zero) a, e = GRU <hidden_size = 12> (t, W, R, , , h0) o = Squeeze (e, zero) "
        "y = MatMul (o, V) }"
    )
    stored = {"W": cases.drawn(1, 36, 8), "R": cases.drawn(1, 36, 12), "V": cases.drawn(12, 5), "zero": np.array([0])}
    model = cases.write(tmp_path / "m.onnx", text, stored)
    assert dsd_ort.check(model, recipe(), isolate=False).ok
    found = adapted(source.load(model), recipe())
    assert found.held == 1
    assert {value.shape[0] for value in found.model.graph.inputs[:2]} == {"batch"}


def test_a_number_that_all_examples_share_is_no_batch(tmp_path: Path) -> None:
    text = (
        "(float[n, 8] x, float[1] scale) => (float[n, 5] y) { h = MatMul (x, W) s = Mul (h, scale) y = MatMul (s, V) }"
    )
    stored = {"W": cases.drawn(8, 12), "V": cases.drawn(12, 5)}
    found = adapted(source.load(cases.write(tmp_path / "m.onnx", text, stored)), recipe())
    assert found.held is None and found.notes == ()


REFUSED = {
    "an example that is picked": ("n, 8", "h = MatMul (x, W) r = Gather (h, zero) y = MatMul (r, V)", "Gather 'r'"),
    "steps that are joined": (
        "n, T, 8",
        "h = MatMul (x, W) r = Reshape (h, s) m = ReduceMax <keepdims = 0> (r, one) y = MatMul (m, V)",
        "Reshape 'r'",
    ),
    "a part for each of two": ("n, 8", "h = MatMul (x, W) a = Mul (h, P) y = MatMul (a, V)", "Mul 'a'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_mended_is_refused_with_the_node_before_anything_is_made(tmp_path: Path, what: str) -> None:
    axes, nodes, where = REFUSED[what]
    stored = {"W": cases.drawn(8, 12), "V": cases.drawn(12, 5), "zero": np.array([0]), "one": np.array([1])}
    stored |= {"s": np.array([1, -1, 12]), "P": cases.drawn(2, 12)}
    model = cases.write(tmp_path / "m.onnx", f"(float[{axes}] x) => (float[n, 5] y) {{ {nodes} }}", stored)
    (error,) = dsd_ort.inspect(model).refusals
    k = 2 if "two" in what else 1
    assert error.what.startswith(f"the file says that it takes any batch, and holds a batch of {k}: ")
    assert where in str(error.where) and "export the model with a symbolic batch" in str(error.fix)
    with pytest.raises(UnsupportedError, match="the file says that it takes any batch"):
        dsd_ort.prepare(model, tmp_path / "run", recipe())
    assert not (tmp_path / "run").exists()


HONEST = {
    "rows": ("n, 8", "h = MatMul (x, W) y = MatMul (h, V)"),
    "a computed Reshape": ("n, 8", "h = MatMul (x, W) s = Shape (h) r = Reshape (h, s) y = MatMul (r, V)"),
    "steps of any number": ("n, T, 8", "h = MatMul (x, W) m = ReduceMax <keepdims = 0> (h, one) y = MatMul (m, V)"),
    "pairs": (
        "n, 8",
        "h = MatMul (x, W) s = Constant <value_ints = [-1, 2, 12]> () p = Reshape (h, s) t = Constant <value_ints = "
        "[-1, 12]> () r = Reshape (p, t) y = MatMul (r, V)",
    ),
    "pictures of any size": ("n, 3, H, K", "c = Conv (x, C) g = GlobalMaxPool (c) f = Flatten (g) y = MatMul (f, V)"),
    "windows that small pictures have no room for": (
        "n, 3, H, K",
        "c = Conv <strides = [16, 16]> (x, C) p = LpPool <kernel_shape = [9, 9]> (c) g = GlobalMaxPool (p) "
        "f = Flatten (g) y = MatMul (f, V)",
    ),
}


@pytest.mark.parametrize("what", HONEST)
def test_of_a_file_that_says_what_it_takes_nothing_is_said(tmp_path: Path, what: str) -> None:
    axes, nodes = HONEST[what]
    weights = {"W": cases.drawn(8, 12), "V": cases.drawn(12, 5), "C": cases.drawn(12, 3, 3, 3), "one": np.array([1])}
    stored = {name: value for name, value in weights.items() if f"{name})" in nodes}
    model = cases.write(tmp_path / "m.onnx", f"(float[{axes}] x) => (float[n, 5] y) {{ {nodes} }}", stored)
    found = adapted(source.load(model), recipe())
    assert found.notes == () and found.held is None and not found.axes
