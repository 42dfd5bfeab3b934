"""``predict``: what a file and a run say, beside plain ONNX Runtime and without labels."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import dsd_ort as package
from tests import cases
from tests.cli.conftest import Command
from tests.models import cnn_data


def plain(model: Path, name: str, x: np.ndarray) -> np.ndarray:
    """The first output of plain inference."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {name: x})[0]
    return found


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text("utf-8").splitlines()))


def test_a_file_says_what_plain_inference_says_and_needs_no_labels(dsd_ort: Command, folder: Path) -> None:
    image = cnn_data(11)["image"]
    np.savez(folder / "new.npz", image=image)
    assert dsd_ort("predict", "model.onnx", "--data", "new.npz", "-o", "said.npz").status == 0
    scores = plain(folder / "model.onnx", "image", image)
    with np.load(folder / "said.npz") as said:
        np.testing.assert_allclose(said["scores"], scores, rtol=1e-5, atol=1e-6)
        assert np.array_equal(said["believed"], scores.argmax(1))
        np.testing.assert_allclose(said["probability"], scores.max(1), rtol=1e-5)  # the model ends in Softmax
    answer = dsd_ort("predict", "model.onnx", "--data", "new.npz", "-o", "said.csv")
    assert "said.csv: 11 examples, 'scores'" in answer.out
    rows = table(folder / "said.csv")
    assert [int(row["believed"]) for row in rows] == scores.argmax(1).tolist()
    assert [row["index"] for row in rows] == [str(i) for i in range(11)]


def test_a_run_says_what_its_exported_file_says_and_labels_are_passed_over(dsd_ort: Command, trained: Path) -> None:
    assert dsd_ort("export", "run", "-o", "final.onnx").status == 0
    said = [package.predict(trained / name, str(trained / "data.npz")) for name in ("run", "final.onnx")]
    np.testing.assert_allclose(said[0].outputs["scores"], said[1].outputs["scores"], rtol=1e-5, atol=1e-6)
    metrics = package.evaluate(trained / "run", str(trained / "data.npz"))
    with np.load(trained / "data.npz") as data:
        assert said[0].believed is not None
        assert np.mean(said[0].believed == data["label"]) == pytest.approx(metrics["top-1"])


def test_values_and_yes_or_no(dsd_ort: Command, tmp_path: Path) -> None:
    text = "(float[N, 8] x) => (float[N, 2] y) { y = MatMul (x, W) }"
    model = cases.write(tmp_path / "m.onnx", text, {"W": cases.drawn(8, 2)})
    x = np.random.default_rng(0).standard_normal((9, 8)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    scores = plain(model, "x", x)
    data, file = tmp_path / "x.npz", tmp_path / "y.csv"
    assert dsd_ort("predict", model, "--data", data, "--loss", "mse", "-o", file).status == 0
    found = [[float(row["y.0"]), float(row["y.1"])] for row in table(file)]
    np.testing.assert_allclose(found, scores, rtol=1e-5, atol=1e-6)
    said = package.predict(model, {"x": x}, loss="bce-with-logits")
    assert said.believed is not None and np.array_equal(said.believed, scores > 0)
    softmax = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    of_classes = package.predict(model, {"x": x}, loss="cross-entropy").probability
    np.testing.assert_allclose(of_classes, softmax.max(1), rtol=1e-5)
    p = 1 / (1 + np.exp(-scores))
    np.testing.assert_allclose(said.probability, np.where(scores > 0, p, 1 - p), rtol=1e-5)


def test_the_batch_may_be_second_and_examples_stay_first(tmp_path: Path) -> None:
    model = cases.recurrent(tmp_path / "m.onnx")
    x = np.random.default_rng(0).standard_normal((5, 7, 4)).astype(np.float32)
    said = package.predict(model, {"sequence": x})
    scores = plain(model, "sequence", x.transpose(1, 0, 2)).transpose(1, 0, 2)
    np.testing.assert_allclose(said.outputs["scores"], scores, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "said.txt"], "ends with .csv or .npz"),
        (["-o", "nowhere/said.csv"], "cannot be written"),
        (["-o", "said.csv", "--phase", "1"], "--phase and --best are for runs"),
        (["-o", "said.csv", "--data", "none.npz"], "none.npz"),
    ],
)
def test_bad_input_is_one_message_and_leaves_nothing(
    dsd_ort: Command, folder: Path, arguments: list[str], words: str
) -> None:
    np.savez(folder / "new.npz", image=cnn_data(4)["image"])
    before = sorted(folder.iterdir())
    answer = dsd_ort("predict", "model.onnx", "--data", "new.npz", *arguments)
    assert answer.status in (2, 3) and words in answer.err and "Traceback" not in answer.err
    assert sorted(folder.iterdir()) == before
