"""What a model makes of each example adds up to what evaluation reports of all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest

import dsd_ort
from dsd_ort.data import Subset, open_data
from dsd_ort.decode.scores import Edits, distance
from dsd_ort.graph.loss.formulas import LOSSES
from dsd_ort.graph.program import open_program
from dsd_ort.model import source
from dsd_ort.recipe import Recipe
from dsd_ort.run import memory
from dsd_ort.run.arena import Arena
from dsd_ort.run.evaluate import Evaluator
from dsd_ort.run.execution import Execution
from dsd_ort.run.scoring import SCORES, Scored, score
from tests.models import cnn_data, retyped, write_cnn

RNG = np.random.default_rng(0)
ON = {"execution": Execution(threads=1), "memory": memory.Host()}


def recipe(**more: Any) -> Recipe:
    return Recipe.from_dict({"batch_size": 5, "phase": [{"kind": "dense", "steps": 1, "learning_rate": 0.1}], **more})


def written(path: Path, text: str, **weights: np.ndarray) -> Path:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {text}')
    for name, value in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(value.astype(np.float32), name))
    path.write_bytes(model.SerializeToString())
    return path


def both(model: Path, arrays: Any, /, **options: Any) -> tuple[Scored, dict[str, float]]:
    """Every example's score, and the metrics of all of them."""
    evaluator = Evaluator.of_source(source.load(model), recipe(**options), **ON)
    opened = open_data(arrays, evaluator.fields, evaluator.recipe.data)
    return score(evaluator, opened), evaluator(opened)


def assert_adds_up(scored: Scored, metrics: dict[str, float], *, rel: float = 1e-6) -> None:
    assert scored.loss.dtype == scored.weight.dtype == np.float64
    assert (scored.loss * scored.weight).sum() / scored.weight.sum() == pytest.approx(metrics["loss"], rel=rel)


def linear(path: Path, shape: str, outputs: int, tail: str) -> Path:
    """Logits of 4 features, then *tail* from h to y."""
    dims = shape.replace("4", str(outputs))
    text = f"(float[{shape}] x) => (float[{dims}] y) {{ h = MatMul (x, w) y = {tail} (h) }}"
    return written(path, text, w=2 * RNG.standard_normal((4, outputs)))


@pytest.mark.parametrize(
    "loss",
    [{}, {"label_smoothing": 0.1}, {"class_weights": [0.5, 2.0, 1.0]}, {"ignore_index": 1},
     {"label_smoothing": 0.2, "class_weights": [0.5, 2.0, 0.2], "ignore_index": 0}],
)  # fmt: skip
def test_classification(tmp_path: Path, loss: dict[str, Any]) -> None:
    data = cnn_data(23)
    scored, metrics = both(write_cnn(tmp_path / "m.onnx"), data, loss=loss)
    assert_adds_up(scored, metrics)
    assert scored.agreed is not None and scored.given is not None and scored.believed is not None
    assert scored.probability is not None
    counts = data["label"] != loss.get("ignore_index")
    assert scored.agreed[counts].mean() == metrics["top-1"]
    assert np.isnan(scored.agreed[~counts]).all() and not scored.loss[~counts].any()
    np.testing.assert_array_equal(scored.given, data["label"])
    np.testing.assert_array_equal(scored.agreed[counts], (scored.believed == scored.given)[counts])
    assert (scored.probability > 1 / 3).all() and (scored.probability <= 1).all()
    if not loss:
        own = scored.agreed == 1
        np.testing.assert_allclose(scored.loss[own], -np.log(scored.probability[own]), rtol=1e-12)


@pytest.mark.parametrize("type_", ["float16", "double", "bfloat16"])
def test_logits_of_other_types_are_read(tmp_path: Path, type_: str) -> None:
    model = retyped(onnx.load(write_cnn(tmp_path / "m.onnx")), type_)
    if type_ == "bfloat16":
        model.opset_import[0].version, model.ir_version = 22, 10
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    scored, metrics = both(tmp_path / "m.onnx", cnn_data(12))
    assert_adds_up(scored, metrics)


def test_a_loss_behind_a_softmax_is_finite_where_the_probability_is_not_told_from_0(tmp_path: Path) -> None:
    model = written(
        tmp_path / "m.onnx",
        "(float[N, 2] x) => (float[N, 2] y) { h = MatMul (x, w) y = Softmax (h) }",
        w=np.eye(2),
    )
    data = {"x": np.array([[300, 0], [0, 1]], np.float32), "label": np.array([1, 1])}
    scored, _ = both(model, data)
    np.testing.assert_allclose(scored.loss, [300, np.log1p(np.exp(-1))], rtol=1e-7)


@pytest.mark.parametrize("axis", [1, -1])
def test_tokens_have_the_mean_of_those_that_count(tmp_path: Path, axis: int) -> None:
    x = RNG.standard_normal((13, 6, 4)).astype(np.float32)
    label = np.where(RNG.random((13, 6)) < 0.4, -1, RNG.integers(0, 5, (13, 6)))
    label[3] = -1
    model = linear(tmp_path / "m.onnx", "N, 6, 4", 5, "Identity")
    if axis == 1:
        model = written(
            tmp_path / "t.onnx",
            "(float[N, 6, 4] x) => (float[N, 5, 6] y) { h = MatMul (x, w) y = Transpose <perm = [0, 2, 1]> (h) }",
            w=RNG.standard_normal((4, 5)),
        )
    loss = {"class_axis": axis, "ignore_index": -1, "class_weights": [1.0, 2.0, 0.5, 1.0, 3.0]}
    scored, metrics = both(model, {"x": x, "label": label}, loss=loss)
    assert_adds_up(scored, metrics)
    assert scored.given is scored.believed is scored.probability is None and scored.agreed is not None
    assert scored.weight[3] == 0 and scored.loss[3] == 0 and np.isnan(scored.agreed[3])
    counted = (label >= 0).sum(1)
    assert np.nansum(scored.agreed * counted) / counted.sum() == pytest.approx(metrics["top-1"], rel=1e-12)


@pytest.mark.parametrize("tail", ["Sigmoid", "Identity"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_yes_or_no(tmp_path: Path, tail: str, outputs: int) -> None:
    x, label = 5 * RNG.standard_normal((11, 4)).astype(np.float32), RNG.integers(0, 2, (11, outputs))
    model = linear(tmp_path / "m.onnx", "N, 4", outputs, tail)
    scored, metrics = both(model, {"x": x, "label": label}, loss={"name": "bce-with-logits"})
    assert_adds_up(scored, metrics)
    assert scored.agreed is not None and set(scored.weight) == {outputs}
    assert set(scored.agreed * outputs) <= set(range(outputs + 1))
    if outputs > 1:
        assert scored.given is scored.believed is scored.probability is None
    else:
        np.testing.assert_array_equal(scored.given, label[:, 0])
        np.testing.assert_array_equal(scored.agreed, scored.given == scored.believed)
        assert scored.probability is not None
        own = np.where(scored.agreed, scored.probability, 1 - scored.probability)
        np.testing.assert_allclose(np.exp(-scored.loss), own, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("loss", [{"name": "mse"}, {"name": "l1"}, {"name": "huber", "delta": 0.7}])
def test_values_have_a_loss_only(tmp_path: Path, loss: dict[str, Any]) -> None:
    x, label = RNG.standard_normal((11, 4)).astype(np.float32), RNG.standard_normal((11, 3)).astype(np.float32)
    scored, metrics = both(linear(tmp_path / "m.onnx", "N, 4", 3, "Tanh"), {"x": x, "label": label}, loss=loss)
    assert_adds_up(scored, metrics)
    assert scored.agreed is scored.given is scored.believed is scored.probability is None


CTC = "(float[N, T, 4] x, int64[N] n) => (float[N, T, 4] y) { h = MatMul (x, w) y = LogSoftmax (h) }"


def spoken() -> dict[str, np.ndarray]:
    """Labels of all lengths; the third does not fit into its frames."""
    label = np.array([[1, 2, 2], [3, -1, -1], [1, 1, 1], [-1, -1, -1], [2, 1, -1], [3, 3, -1], [1, -1, -1]])
    n = np.array([9, 4, 3, 7, 9, 8, 1])
    x = np.random.default_rng(2).standard_normal((7, 9, 4))
    x[1, :4] = np.eye(4)[[0, 3, 3, 0]] * 9
    return {"x": x.astype(np.float32), "n": n, "label": label}


@pytest.mark.parametrize("zero", [True, False])
def test_ctc_has_texts_and_the_probability_of_the_best_path(tmp_path: Path, zero: bool) -> None:
    model, data = written(tmp_path / "m.onnx", CTC, w=np.eye(4)), spoken()
    loss = {"name": "ctc", "lengths": "n", "zero_infinity": zero}
    scored, metrics = both(model, data, loss=loss, data={"alphabet": "_abc"})
    assert scored.loss[2] == (0 if zero else np.inf)
    if zero:
        assert_adds_up(scored, metrics)
    assert scored.given is not None and scored.believed is not None and scored.agreed is not None
    assert scored.given.tolist() == ["abb", "c", "aaa", "", "ba", "cc", "a"]
    assert scored.believed[1] == "c" and scored.agreed[1] == 1
    np.testing.assert_array_equal(scored.agreed == 1, scored.given == scored.believed)
    pairs = zip(scored.given, scored.believed, strict=True)
    shares = [1 - Edits(distance([*map(ord, b)], [*map(ord, g)]), len(g) or 1).rate for g, b in pairs]
    np.testing.assert_allclose(scored.agreed, np.maximum(shares, 0))
    assert set(scored.agreed) - {0, 1}, "some are believed in part"
    assert scored.probability is not None
    logp = data["x"].astype(np.float64)
    logp -= np.log(np.exp(logp).sum(-1, keepdims=True))
    paths = [np.exp(logp[i, :n].max(-1).sum()) for i, n in enumerate(data["n"])]
    np.testing.assert_allclose(scored.probability, paths, rtol=1e-6)
    numbered, _ = both(model, data, loss=loss)
    assert numbered.given is not None and numbered.given.tolist() == ["1 2 2", "3", "1 1 1", "", "2 1", "3 3", "1"]


def test_the_weights_of_a_run_score_as_they_evaluate(tmp_path: Path) -> None:
    dsd_ort.prepare(write_cnn(tmp_path / "m.onnx"), tmp_path / "run", recipe())
    data = cnn_data(17)
    dsd_ort.train(tmp_path / "run", data, threads=1)
    program = open_program(tmp_path / "run")
    arena = Arena.of(program)
    arena.fill_from(program.source())
    evaluator = Evaluator.of_program(program, memory.Host().place(arena.values()), **ON)
    opened = open_data(data, evaluator.fields)
    before = score(evaluator, opened)
    np.testing.assert_array_equal(before.loss, both(tmp_path / "m.onnx", data)[0].loss)
    arena.values()["fc.bias"][:] += [5, 0, 0]  # weights are read anew at each call
    assert_adds_up(score(evaluator, opened), evaluator(opened))
    assert not np.array_equal(score(evaluator, opened).loss, before.loss)
    part = score(evaluator, Subset(opened, np.array([16, 2])))
    np.testing.assert_allclose(part.loss, score(evaluator, opened).loss[[16, 2]], rtol=1e-5)


def test_every_loss_has_scores() -> None:
    assert SCORES.keys() == LOSSES.keys()
