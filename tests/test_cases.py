"""Files of kinds that people meet (``tests/cases.py``), through all verbs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

import dsd_ort
from dsd_ort.recipe import BuilderName, Recipe
from tests import cases


def stored(path: Path) -> dict[str, cases.Array]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def trained(model: Path, data: Path, folder: Path, **options: object) -> dict[str, cases.Array]:
    """What the exported file holds after a sparse and a dense phase."""
    phases = [{"kind": "sparse", "sparsity": 0.5, "epochs": 1}, {"kind": "dense", "epochs": 1}]
    table = dsd_ort.default_recipe(model).to_dict() | {"batch_size": 8, **options}
    table["phase"] = [{**phase, "learning_rate": 0.05} for phase in phases]
    dsd_ort.prepare(model, folder / "run", Recipe.from_dict(table))
    dsd_ort.train(folder / "run", data)
    dsd_ort.export(folder / "run", folder / "final.onnx")
    assert dsd_ort.verify(model, folder / "final.onnx").same
    return stored(folder / "final.onnx")


@pytest.mark.parametrize("builder", ["own", pytest.param("ort", marks=pytest.mark.training_build)])
@pytest.mark.parametrize("by", cases.ROUTED)
def test_a_weight_that_no_gradient_reaches_stays_and_the_others_train(
    tmp_path: Path, by: str, builder: BuilderName
) -> None:
    model = cases.routed(tmp_path / "m.onnx", by)
    found = dsd_ort.inspect(model, builder=builder)
    (note,) = [note.words for note in found.notes if note.kind == "weights"]
    assert note.startswith("no gradient reaches the parameter 'V': ") and note.endswith("; it stays as it is")
    assert found.pruned == {"W"}
    report = dsd_ort.check(model, builder=builder, isolate=False)
    assert report.ok and note in report.notes
    assert {name for row in report.rows for name in row.tensors} == {"W", "table"}
    before, after = stored(model), trained(model, cases.data(tmp_path / "d.npz", x=(8,)), tmp_path, builder=builder)
    assert {name for name in before if not np.array_equal(before[name], after[name])} == {"W", "table"}


def test_a_head_that_the_loss_does_not_read_is_named(tmp_path: Path) -> None:
    text = "(float[N, 8] x) => (float[N, 5] y, float[N, 3] z) { y = MatMul (x, W) z = MatMul (x, V) }"
    model = cases.write(tmp_path / "m.onnx", text, {"W": cases.drawn(8, 5), "V": cases.drawn(8, 3)})
    found = dsd_ort.inspect(model, output="y")
    assert [note.words for note in found.notes] == ["the loss does not depend on 'V': not trained"]
    assert found.pruned == {"W"}
