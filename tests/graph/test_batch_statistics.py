"""Batch norm without running statistics: by the batch in training, in evaluation and as it ships."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import dsd_ort
from dsd_ort.errors import UnsupportedError
from dsd_ort.recipe import BuilderName, Recipe
from tests import cases

WORDS = (
    "BatchNormalization 'n' has no running statistics: "
    "it normalises by the batch, in training, in evaluation and as it ships"
)


def recipe(**options: object) -> Recipe:
    phases = [{"kind": "dense", "epochs": 2, "learning_rate": 0.05}]
    return Recipe.from_dict({"phase": phases, "batch_size": 8, "metrics": ["loss", "top-1"]} | options)


def data() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"image": rng.standard_normal((24, 3, 9, 9)).astype(np.float32), "label": rng.integers(0, 5, 24)}


@pytest.mark.parametrize("batch_norm", ["train", "frozen"])
@pytest.mark.parametrize("builder", ["own", pytest.param("ort", marks=pytest.mark.training_build)])
@pytest.mark.parametrize("by", cases.NORMALISED)
def test_gradients_go_through_the_statistics_of_the_batch(
    tmp_path: Path, by: str, builder: BuilderName, batch_norm: str
) -> None:
    model = cases.batch_normalised(tmp_path / "m.onnx", by)
    found = dsd_ort.inspect(model, builder=builder)
    assert [note.words for note in found.notes] == [WORDS]
    report = dsd_ort.check(model, recipe(builder=builder, batch_norm=batch_norm), isolate=False)
    assert report.ok and report.count("right") == 4 and report.notes == [WORDS]
    (export,) = [line.text for line in report.lines if line.what == "export"]
    assert "training mode" not in export


@pytest.mark.parametrize(("opset", "sides"), [(14, "9"), (17, "9, 9"), (18, "5, 5, 5")])
@pytest.mark.parametrize("by", cases.NORMALISED)
def test_at_every_opset_and_rank(tmp_path: Path, by: str, sides: str, opset: int) -> None:
    model = cases.batch_normalised(tmp_path / "m.onnx", by, sides=sides, opset=opset)
    report = dsd_ort.check(model, recipe(), isolate=False)
    assert report.ok and report.count("right") == 4


@pytest.mark.parametrize("by", cases.NORMALISED)
def test_what_is_measured_is_what_the_file_computes_and_only_weights_change(tmp_path: Path, by: str) -> None:
    model, arrays = cases.batch_normalised(tmp_path / "m.onnx", by), data()
    dsd_ort.prepare(model, tmp_path / "run", recipe())
    (end,) = dsd_ort.train(tmp_path / "run", arrays, eval_data=arrays)
    assert dsd_ort.export(tmp_path / "run", tmp_path / "final.onnx").same
    assert not (tmp_path / "final.inference.onnx").exists()
    changed = {change.name for change in dsd_ort.verify(model, tmp_path / "final.onnx").changed}
    assert changed == {"W", "V", "scale", "shift"}
    session = onnxruntime.InferenceSession(tmp_path / "final.onnx", providers=["CPUExecutionProvider"])
    parts = [session.run(["scores"], {"image": arrays["image"][i : i + 8]})[0] for i in (0, 8, 16)]
    right = np.mean(np.concatenate(parts).argmax(1) == arrays["label"])
    assert end["metrics"]["top-1"] == pytest.approx(right)


def test_a_batch_size_that_the_file_fixes_is_the_one_to_normalise_by(tmp_path: Path) -> None:
    model = cases.batch_normalised(tmp_path / "m.onnx", next(iter(cases.NORMALISED)))
    proto = onnx.load(model)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 8
    onnx.save(proto, model)
    with pytest.raises(UnsupportedError, match="the batch size is fixed at 8, and BatchNormalization 'n' ") as caught:
        dsd_ort.prepare(model, tmp_path / "run", recipe(batch_size=4))
    assert caught.value.where == "BatchNormalization 'n'"
    assert dsd_ort.check(model, recipe(batch_size=8), isolate=False).ok


def test_new_statistics_of_a_file_in_training_mode_follow_as_their_names_say(tmp_path: Path) -> None:
    """A network that was never trained has means of 0 and variances of 1 too."""
    model = cases.batch_normalised(tmp_path / "m.onnx", next(iter(cases.NORMALISED)))
    proto = onnx.load(model)
    names = {"zeros": "bn.running_mean", "ones": "bn.running_var"}
    for tensor in proto.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    (node,) = [node for node in proto.graph.node if node.op_type == "BatchNormalization"]
    node.input[3:] = names.values()
    onnx.save(proto, model)
    assert all(note.kind != "file" for note in dsd_ort.inspect(model).notes)
    dsd_ort.prepare(model, tmp_path / "run", recipe())
    dsd_ort.train(tmp_path / "run", data())
    dsd_ort.export(tmp_path / "run", tmp_path / "final.onnx")
    changed = {change.name for change in dsd_ort.verify(model, tmp_path / "final.onnx").changed}
    assert changed >= set(names.values()) and (tmp_path / "final.inference.onnx").exists()


def test_gradients_of_a_graph_go_through_them_too(tmp_path: Path) -> None:
    proto = onnx.load(cases.batch_normalised(tmp_path / "m.onnx", "by reductions"))
    for training in (False, True):
        made = dsd_ort.differentiate(proto, wrt=["W"], of="scores", training=training)
        assert "W_grad" in {value.name for value in made.graph.output}
