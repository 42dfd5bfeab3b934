"""Models that were exported in training mode: trained as such, shipped as such, and beside it their inference form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx_ir as ir
import onnxruntime
import pytest

import dsd_ort
from dsd_ort.graph.inference import to_inference, write_inference_form
from dsd_ort.recipe import Phase, Recipe
from tests.graph.expression import expression
from tests.graph.gradient import model
from tests.models import cnn_data, write_cnn

BATCH_NORM = "(float[N, 3, 4] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[] y{more}) {{ {node} }}"


@pytest.mark.parametrize(
    ("node", "outputs", "expected"),
    [
        ("y = BatchNormalization <training_mode = 0> (x, s, b, m, v)", "", "BatchNormalization(x, s, b, m, v)"),
        ("y, p, q = BatchNormalization <training_mode = 1> (x, s, b, m, v)", "", "BatchNormalization(x, s, b, m, v)"),
        ("t, p, q = BatchNormalization <training_mode = 1> (x, s, b, m, v) y = Add (t, t)", ", float[3] q", "v"),
        ("t = Constant <value = bool {1}> () r = Constant <value = float {0.3}> () y = Dropout (x, r, t)", "", None),
        ("t = Constant <value = bool {0}> () r = Constant <value = float {0.3}> () y = Dropout (x, r, t)", "", None),
    ],
)
def test_the_inference_form_normalises_by_running_statistics_and_drops_nothing(
    node: str, outputs: str, expected: str | None
) -> None:
    graph = ir.from_proto(model(BATCH_NORM.format(more=outputs, node=node)))
    changed = to_inference(graph)
    assert changed == ("mode = 1" in node or "bool {1}" in node)
    last = graph.graph.outputs[-1]
    if expected is not None:
        assert expression(last).replace(", training_mode=0", "") == expected
    elif changed:
        assert expression(last) == "Dropout(x, 0.3, _)"


def in_training_mode(path: Path) -> Path:
    """The CNN with its batch norm and dropout as PyTorch exports them in training mode."""
    proto = onnx.load(write_cnn(path, dropout=True))
    for node in proto.graph.node:
        if node.op_type == "BatchNormalization":
            node.attribute.append(onnx.helper.make_attribute("training_mode", 1))
            node.output.extend(["bn.mean.out", "bn.var.out"])
        if node.op_type == "Dropout":
            node.input.extend(["ratio", "training"])
    for name, value in (("ratio", np.float32(0.2)), ("training", np.True_)):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))
    return path


def test_it_is_trained_measured_in_inference_and_shipped_in_both_forms(tmp_path: Path) -> None:
    source, data = in_training_mode(tmp_path / "cnn.onnx"), cnn_data(256)
    phase = Phase(kind="dense", epochs=3, learning_rate=3e-2)
    dsd_ort.prepare(source, tmp_path / "run", Recipe(phase=(phase,)))
    (end,) = dsd_ort.train(tmp_path / "run", data, eval_data=data)
    assert dsd_ort.export(tmp_path / "run", tmp_path / "final.onnx").same

    shipped = onnx.load(tmp_path / "final.onnx")
    assert [n.op_type for n in shipped.graph.node] == [n.op_type for n in onnx.load(source).graph.node]
    session = onnxruntime.InferenceSession(tmp_path / "final.inference.onnx", providers=["CPUExecutionProvider"])
    one, two = (session.run(None, {"image": data["image"]})[0] for _ in range(2))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(session.run(None, {"image": data["image"][:1]})[0], one[:1], atol=1e-6)
    assert np.mean(one.argmax(1) == data["label"]) == pytest.approx(end["metrics"]["top-1"])
    mean = {t.name: onnx.numpy_helper.to_array(t) for t in shipped.graph.initializer}["bn.mean"]
    before = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(source).graph.initializer}["bn.mean"]
    assert not np.array_equal(mean, before)


def test_an_ordinary_model_gets_no_second_file(tmp_path: Path) -> None:
    assert write_inference_form(write_cnn(tmp_path / "cnn.onnx")) is None
    assert [path.name for path in tmp_path.iterdir()] == ["cnn.onnx"]
