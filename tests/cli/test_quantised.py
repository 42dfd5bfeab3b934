"""``dsd-ort dequantize``: from a quantised file to one that trains."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Command
from tests.quantised import quantised


def test_the_refusal_of_a_quantised_file_names_the_command_that_works(tmp_path: Path, dsd_ort: Command) -> None:
    _, made = quantised(tmp_path, "layers", "dynamic", "int8")
    float_model = tmp_path / "float-again.onnx"
    refused = dsd_ort("prepare", made, "-o", tmp_path / "run")
    assert refused.status == 3 and "dsd-ort dequantize MODEL -o float.onnx" in refused.err
    told = dsd_ort("dequantize", made, "-o", float_model)
    assert told.status == 0 and f"{float_model} has 2 weights in floating point" in told.out
    assert "MatMulInteger" in told.out and "DynamicQuantizeLinear" in told.out
    assert dsd_ort("prepare", float_model, "-o", tmp_path / "run").status == 0
    answer = json.loads(dsd_ort("dequantize", made, "-o", float_model, "--json").out)
    assert answer["weights"] == {"W": "W_quantized", "V": "V_quantized"}
    assert {"operator": "MatMulInteger", "becomes": "MatMul", "nodes": 2} in answer["operators"]


def test_the_source_and_a_float_model_are_left_alone(tmp_path: Path, dsd_ort: Command) -> None:
    model, made = quantised(tmp_path, "layers", "QDQ", "int8")
    before = made.read_bytes()
    assert "never overwritten" in dsd_ort("dequantize", made, "-o", made).err
    assert "no quantised operators" in dsd_ort("dequantize", model, "-o", tmp_path / "x.onnx").err
    assert made.read_bytes() == before and not (tmp_path / "x.onnx").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
