"""The norms of what meets a weight, beside NumPy's of the values that the model computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import pytest

import dsd_ort
from dsd_ort.data import open_data
from dsd_ort.fields import Field
from dsd_ort.graph.program import open_program
from dsd_ort.recipe import Recipe
from dsd_ort.run import memory
from dsd_ort.run.arena import Arena
from dsd_ort.run.calibration import norms, sample
from dsd_ort.run.evaluate import Evaluator
from dsd_ort.run.execution import Execution
from tests import cases

NETWORK = (
    "(float[N, 4, 6, 6] x) => (float[N, 6] y) { c = Conv <pads = [1, 1, 1, 1]> (x, K) r = Relu (c) "
    "d = Conv <pads = [1, 1, 1, 1], group = 4> (r, D) t = ConvTranspose (d, T) "
    "a = GlobalAveragePool (t) f = Flatten (a) h = MatMul (f, W) s = Relu (h) v = Transpose (V) "
    "g = Gemm <transB = 1> (s, v) b = Add (g, s) y = MatMul (b, U) }"
)
SHAPES = {"K": (8, 4, 3, 3), "D": (8, 2, 3, 3), "T": (8, 5, 2, 2), "W": (5, 20), "V": (20, 20), "U": (20, 6)}
MEETS = {"K": "x", "D": "r", "T": "d", "W": "f", "V": "s", "U": "b"}


@pytest.mark.parametrize("opset", [11, 18])
def test_norms_are_numpy_s(tmp_path: Path, opset: int) -> None:
    weights = {name: cases.drawn(*shape) for name, shape in SHAPES.items()}
    model = cases.write(tmp_path / "m.onnx", NETWORK, weights, opset=opset)
    data = cases.data(tmp_path / "d.npz", x=(4, 6, 6), classes=6)
    sparse = {"kind": "sparse", "epochs": 1, "sparsity": 0.5, "learning_rate": 0.1}
    prune = {"criterion": "wanda", "exclude": []}
    dsd_ort.prepare(model, tmp_path / "run", Recipe.from_dict({"phase": [sparse], "batch_size": 5, "prune": prune}))
    program, place = open_program(tmp_path / "run"), memory.of(Execution().device)
    arena = Arena.of(program)
    arena.fill_from(program.source())
    weighted = place.place(arena.values())
    evaluator = Evaluator.of_program(program, weighted, execution=Execution(threads=1), memory=place)
    found = norms(evaluator, program.manifest.prunable, open_data(str(data), evaluator.fields, program.recipe.data))
    proto = onnx.load(model)
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in "rdfsb")
    values = onnx.reference.ReferenceEvaluator(proto).run(list("rdfsb"), {"x": (x := np.load(data)["x"])})
    met = {"x": x, **dict(zip("rdfsb", values, strict=True))}
    assert found.keys() == SHAPES.keys()
    for name, value in MEETS.items():
        axes = tuple(axis for axis in range(met[value].ndim) if axis != 1)
        np.testing.assert_allclose(found[name], np.sqrt((met[value].astype(np.float64) ** 2).sum(axes)), rtol=1e-5)


def test_a_sample_is_whole_batches_of_all_classes_and_a_function_of_the_seed(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(4), 25)
    label = Field("label", "int64", (None,), label=True, classes=4)
    fields = [Field("x", "float32", (None, 2)), label]
    data = open_data({"x": np.zeros((100, 2), np.float32), "label": labels}, fields, Recipe.load("default").data)
    found = sample(data, 18, 8, 0)
    assert found.examples == 24
    assert np.bincount(labels[found.indices]).tolist() == [6, 6, 6, 6]
    assert np.array_equal(found.indices, sample(data, 18, 8, 0).indices)
    assert not np.array_equal(found.indices, sample(data, 18, 8, 1).indices)
    assert sample(data, 1000, 8, 0).examples == 100
