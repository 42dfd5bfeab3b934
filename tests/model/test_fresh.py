"""Weights drawn anew: by role, and as if somebody trained from the start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.parser
import pytest

import dsd_ort
from dsd_ort.model import fresh
from dsd_ort.model import source as source_files
from dsd_ort.model.source import Source
from tests.models import cnn_data, write_cnn

GRAPH = """
<ir_version: 8, opset_import: ["" : 17]> g (float[N, 4, 8, 8] x) => (float[N, 5] y) {
  c = Conv <pads = [1, 1, 1, 1]> (x, kernel, conv_bias)
  n = BatchNormalization (c, scale, shift, mean, variance)
  p = PRelu (n, slope)
  g = GlobalAveragePool (p)
  f = Flatten (g)
  m = MatMul (f, columns)
  a = Add (m, bias)
  r = Relu (a)
  y = Gemm <transB = 1> (r, rows, last_bias)
}
"""
SHAPES = {
    "kernel": (64, 4, 3, 3),
    "conv_bias": (64,),
    "scale": (64,),
    "shift": (64,),
    "mean": (64,),
    "variance": (64,),
    "slope": (64, 1, 1),
    "columns": (64, 200),
    "bias": (200,),
    "rows": (5, 200),
    "last_bias": (5,),
}


@pytest.fixture
def source(tmp_path: Path) -> Source:
    model, rng = onnx.parser.parse_model(GRAPH), np.random.default_rng(0)
    for name, shape in SHAPES.items():
        value = rng.uniform(2, 3, shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    onnx.save(model, tmp_path / "model.onnx")
    return source_files.load(tmp_path / "model.onnx")


def test_every_tensor_is_drawn_by_its_role_and_place(source: Source) -> None:
    found = dict(fresh.drawn(source, 0))
    assert {name: value.shape for name, value in found.items()} == SHAPES
    assert all(value.dtype == np.float32 for value in found.values())
    constant = {
        "conv_bias": 0,
        "scale": 1,
        "shift": 0,
        "mean": 0,
        "variance": 1,
        "slope": 0.25,
        "bias": 0,
        "last_bias": 0,
    }
    for name, value in constant.items():
        np.testing.assert_array_equal(found[name], np.full(SHAPES[name], value, np.float32))
    for name, inputs in {"kernel": 36, "columns": 64, "rows": 200}.items():
        assert found[name].std() == pytest.approx(np.sqrt(2 / inputs), rel=0.1)
        assert abs(found[name].mean()) < 0.1 * np.sqrt(2 / inputs) * 2


def test_it_is_a_function_of_the_seed(source: Source) -> None:
    one, same, other = (dict(fresh.drawn(source, seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one["kernel"], same["kernel"])
    assert not np.array_equal(one["kernel"], other["kernel"])
    assert not np.array_equal(one["kernel"].reshape(-1)[:9], one["columns"].reshape(-1)[:9])


def test_a_model_that_is_drawn_anew_learns(tmp_path: Path) -> None:
    from dsd_ort.ship.export import write_weights

    model = source_files.load(write_cnn(tmp_path / "model.onnx"))
    write_weights(model, dict(fresh.drawn(model, 0)), tmp_path / "drawn.onnx")
    assert dsd_ort.verify(tmp_path / "model.onnx", tmp_path / "drawn.onnx").same
    recipe = dsd_ort.Recipe.from_dict(
        {"batch_size": 8, "phase": [{"kind": "dense", "epochs": 10, "learning_rate": 0.05}]}
    )
    dsd_ort.prepare(tmp_path / "drawn.onnx", tmp_path / "run", recipe)
    dsd_ort.train(tmp_path / "run", cnn_data(120), eval_data=cnn_data(60, seed=2), threads=1)
    came, [end] = dsd_ort.api.as_it_came(tmp_path / "run"), dsd_ort.phases(tmp_path / "run")
    assert end["metrics"]["loss"] < 0.8 * came["loss"]
