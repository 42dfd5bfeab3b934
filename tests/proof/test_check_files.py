"""check of files of other kinds: in training mode, of types that the CPU does not run, without weights of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from dsd_ort.model.source import Source
from dsd_ort.proof import Report, exported, gradients
from dsd_ort.proof.reference import InNumPy
from tests.models import retyped, write_cnn
from tests.proof.test_check import CONV, check, verdicts, write


def line(report: Report, what: str) -> str:
    (found,) = [line for line in report.lines if line.what == what]
    assert found.passed, found
    return found.text


def test_a_file_in_training_mode_is_compared_by_its_inference_form(tmp_path: Path) -> None:
    model = onnx.load(write_cnn(tmp_path / "m.onnx", dropout=True))
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            node.attribute.append(onnx.helper.make_attribute("training_mode", 1))
            node.output.extend(["new_mean", "new_var"])
        if node.op_type == "Dropout":
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "on"))
            node.input.extend(["", "on"])
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, tmp_path / "m.onnx")
    report = check(tmp_path / "m.onnx")
    assert report.ok, report
    assert {row.mode for row in report.rows} == {"inference", "training"}
    assert "its inference form was compared" in line(report, "export")


@pytest.mark.parametrize("dtype", ["bfloat16", "double", "float16"])
def test_a_type_that_the_cpu_does_not_run(tmp_path: Path, dtype: str) -> None:
    """A convolution in bfloat16 or double; float16 runs."""
    model = onnx.load(write(tmp_path / "m.onnx", CONV, {"w": (4, 2, 3, 3), "v": (4, 3)}))
    onnx.save(retyped(model, dtype), tmp_path / "m.onnx")
    report = check(tmp_path / "m.onnx")
    assert report.ok, report
    text = "ONNX Runtime's CPU build cannot run this file itself; compared in float32"
    assert (text in line(report, "export")) == (dtype != "float16")


def test_what_differs_too_much_is_compared_where_no_nodes_are_fused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime puts a constant batch norm into its convolution, which rounds otherwise."""
    monkeypatch.setattr(exported, "SAME_OUTPUT", 0.0)
    text = line(check(write_cnn(tmp_path / "m.onnx")), "export")
    assert text.endswith(", and within 0.0e+00 where ONNX Runtime fuses no nodes")


def test_an_export_of_old_weights_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_weights = exported.export.write_weights

    def forgetful(source: Source, weights: Mapping[str, np.ndarray], final: Path) -> Any:
        return write_weights(source, {**weights, "fc.weight": source.value("fc.weight")}, final)

    monkeypatch.setattr(exported.export, "write_weights", forgetful)
    (export,) = [line for line in check(write_cnn(tmp_path / "m.onnx")).lines if line.what == "export"]
    assert not export.passed
    assert "where ONNX Runtime fuses no nodes" in export.text


def test_a_file_of_equal_weights_is_checked_at_drawn_ones(tmp_path: Path) -> None:
    model = onnx.load(write(tmp_path / "m.onnx", CONV, {"w": (4, 2, 3, 3), "v": (4, 3)}))
    for tensor in model.graph.initializer:
        same = np.full_like(onnx.numpy_helper.to_array(tensor), 0.02)
        tensor.CopyFrom(onnx.numpy_helper.from_array(same, tensor.name))
    onnx.save(model, tmp_path / "m.onnx")
    report = check(tmp_path / "m.onnx")
    assert report.ok, report
    assert verdicts(report) == {"w": "right", "v": "right"}
    assert "2 tensors of the file hold one number each; random ones were drawn for them" in report.notes


def test_an_exported_file_with_a_fixed_batch(tmp_path: Path) -> None:
    """Training takes any batch; the file takes one example."""
    text = CONV.replace("float[N, 2, 7, 7] x", "float[1, 2, 7, 7] x").replace("float[N, 3] y", "float[1, 3] y")
    report = check(write(tmp_path / "m.onnx", text, {"w": (4, 2, 3, 3), "v": (4, 3)}))
    assert report.ok, report
    assert line(report, "export")


def test_what_no_time_is_left_for_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first group is compared however long that takes, then time is over; one of six is not enough."""
    names = {f"w{i}": (5, 5) for i in range(6)}
    body = " ".join(f"h{i + 1} = MatMul (h{i}, w{i}) " for i in range(6)).replace("h0", "x").replace("h6", "y")
    model = write(tmp_path / "m.onnx", f"(float[N, 5] x) => (float[N, 5] y) {{ {body} }}", names)
    monkeypatch.setattr(gradients, "groups", lambda slices, *_: [gradients.Group(p.role, (p,)) for p in slices])
    report = check(model, seconds=1e-3)
    assert not report.ok and not report.wrong
    assert (report.count("right"), report.count("not checked")) == (1, 5)
    assert any("5 of 6 gradients were not checked: no time was left" in note for note in report.notes)


def test_a_gradient_is_not_called_wrong_by_one_point_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference that is off where w is the file's, as on a kink, and right next to it."""
    model = write(tmp_path / "m.onnx", CONV, {"w": (4, 2, 3, 3), "v": (4, 3)})
    there, values = (onnx.numpy_helper.to_array(t) for t in onnx.load(model).graph.initializer)
    v = float(values.astype(np.float64).sum())
    real = InNumPy.__call__

    def off(self: InNumPy, inputs: dict[str, np.ndarray]) -> float:
        return real(self, inputs) + (float(inputs["v"].sum()) - v if np.array_equal(inputs["w"], there) else 0.0)

    monkeypatch.setattr(InNumPy, "__call__", off)
    monkeypatch.setattr(InNumPy, "slope", lambda *_: None)
    report = check(model)
    assert not report.wrong
    (row,) = [row for row in report.rows if row.group == "v"]
    assert row.verdict == "right" and "compared beside it" in row.note
