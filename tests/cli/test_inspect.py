"""dsd-ort inspect: parameters, signature, rewrites, refusals; also of models that cannot be trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest

import dsd_ort as package
from dsd_ort.errors import ModelError, RecipeError
from tests.cli.conftest import Command, snapshot
from tests.models import write_cnn


def write(folder: Path, text: str) -> None:
    weights = {"w": (3, 3), "v": (3, 4)}
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {text}')
    for name, shape in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(shape, np.float32), name))
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def inspected(dsd_ort: Command, *options: object) -> dict[str, Any]:
    answer = dsd_ort("inspect", "model.onnx", "--json", *options)
    assert (answer.status, answer.err) == (0, "")
    found: dict[str, Any] = json.loads(answer.out)
    return found


def test_a_model_that_trains(dsd_ort: Command, folder: Path) -> None:
    write_cnn(folder / "model.onnx", dropout=True)
    before = snapshot(folder)
    answer = dsd_ort("inspect", "model.onnx")
    assert snapshot(folder) == before
    assert "model.onnx: 247 parameters" in answer.out
    assert "195 of the 247 are in tensors that a sparse phase prunes" in answer.out
    for text in (
        "opset 17, IR version 8",
        "input 'image': float [N, 1, 6, 6]",
        "output 'scores': float [N, 3]   ← a loss reads it; cross-entropy fits",
        "for training, 1 node: Batch statistics, and running statistics that follow",
        "for training, 1 node: Active in training",
        "next: dsd-ort check model.onnx",
    ):
        assert text in answer.out
    pruned = [line for line in answer.out.splitlines() if line.rstrip(" │").endswith("yes")]
    assert ["conv2.weight" in pruned[0], "fc.weight" in pruned[1], len(pruned)] == [True, True, 2]


def test_json_has_everything(dsd_ort: Command, folder: Path) -> None:
    found = inspected(dsd_ort)
    assert found["trainable"] and found["refusals"] == []
    assert found["opsets"] == {"": 17} and found["ir_version"] == 8
    assert found["inputs"] == [{"name": "image", "type": "float", "shape": ["N", 1, 6, 6]}]
    assert found["outputs"] == [{"name": "scores", "type": "float", "shape": ["N", 3]}]
    assert found["loss"] == {"name": "cross-entropy", "output": "scores"}
    assert [r["what"] for r in found["rewrites"]] == ["Batch statistics, and running statistics that follow"]
    tensors = {t["name"]: t for t in found["tensors"]}
    assert {name for name, t in tensors.items() if t["prunable"]} == {"conv2.weight", "fc.weight"}
    assert sum(t["share"] for t in tensors.values()) == pytest.approx(1)
    assert tensors["bn.mean"]["role"] == "statistic"
    assert tensors["conv1.weight"]["shape"] == [4, 1, 3, 3]


def test_verbose_names_the_nodes(dsd_ort: Command, folder: Path) -> None:
    write(folder, "(float[N, 3] x) => (float[N, 3] y) { a = MatMul (x, w) [act] b = Elu (a) y = Identity (b) }")
    assert "for training, Elu 'act': " in dsd_ort("inspect", "model.onnx", "--verbose").out
    assert "'act'" not in dsd_ort("inspect", "model.onnx").out


TWO_REASONS = (
    "(float[N, 3] x) => (float[N, 3] y, float[N, 4] z) { a = MatMul (x, w) [m] b = Magic (a) [m2] c = Magic (b) "
    "[d] y = Wand (c) z = MatMul (x, v) }"
)


def test_all_that_prevents_training_is_listed(dsd_ort: Command, folder: Path) -> None:
    write(folder, TWO_REASONS)
    found = inspected(dsd_ort, "--output", "y")
    assert not found["trainable"] and found["rewrites"] == []
    places = [refusal["where"] for refusal in found["refusals"]]
    assert places == ["Magic 'm'", "Magic 'm2'", "Wand 'd'"]
    assert all(refusal["fix"] for refusal in found["refusals"])
    answer = dsd_ort("inspect", "model.onnx", "--output", "y")
    assert answer.status == 0
    assert "model.onnx cannot be trained as it is, for 2 reasons:" in answer.out
    assert "where: Magic 'm'; Magic 'm2'" in answer.out


def test_a_refused_model_shows_what_of_it_would_be_rewritten(dsd_ort: Command, folder: Path) -> None:
    write(folder, "(float[N, 3] x) => (float[N, 3] y) { a = MatMul (x, w) [act] b = Elu (a) [m] y = Magic (b) }")
    found = inspected(dsd_ort)
    assert not found["trainable"]
    assert [rewrite["node"] for rewrite in found["rewrites"]] == ["Elu 'act'"]
    assert "what else training rewrites in it:\n  for training, 1 node: " in dsd_ort("inspect", "model.onnx").out


def test_the_output_with_the_most_weights_in_front_of_it_is_read(dsd_ort: Command, folder: Path) -> None:
    write(folder, TWO_REASONS)
    found = inspected(dsd_ort)
    assert found["trainable"]
    assert found["loss"] == {"name": "cross-entropy", "output": "z"}
    assert "(choose another with --output)" in dsd_ort("inspect", "model.onnx").out
    answer = dsd_ort("inspect", "model.onnx", "--output", "zz")
    assert answer.status == 3
    assert "no output 'zz'" in answer.err and "did you mean 'z'?" in answer.err


def test_weights_that_cannot_be_trained(dsd_ort: Command, folder: Path) -> None:
    """Even what the reader itself refuses is inspected: inputs, outputs, versions."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 3] x) => (float[N, 3] y) { y = Relu (x) }'
    )
    values = onnx.numpy_helper.from_array(np.ones(1, np.float32), "s")
    indices = onnx.numpy_helper.from_array(np.zeros((1,), np.int64), "s_indices")
    model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=values, indices=indices, dims=[3]))
    onnx.save(model, "model.onnx")
    found = inspected(dsd_ort)
    assert [refusal["what"] for refusal in found["refusals"]] == ["sparse tensors are not supported"]
    assert found["inputs"][0]["shape"] == ["N", 3]
    assert dsd_ort("inspect", "model.onnx").status == 0


def test_a_model_without_parameters(dsd_ort: Command, folder: Path) -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 3] x) => (float[N, 3] y) { y = Relu (x) }'
    (folder / "model.onnx").write_bytes(onnx.parser.parse_model(text).SerializeToString())
    answer = dsd_ort("inspect", "model.onnx")
    assert answer.status == 0
    assert "there is nothing to train" in answer.out


def test_the_same_in_python(folder: Path) -> None:
    found = package.inspect(folder / "model.onnx")
    assert found.trainable
    assert [p.name for p in found.statistics] == ["bn.mean", "bn.var"]
    np.testing.assert_equal(found.value("fc.bias").shape, (3,))
    with pytest.raises(RecipeError, match="no output"):
        package.inspect(folder / "model.onnx", output="none")
    (folder / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError):
        package.inspect(folder / "bad.onnx")


def test_no_weight_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for the digest nor for anything else: a large model takes no longer."""
    model = onnx.load("model.onnx")
    onnx.save(model, "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    size = (folder / "weights.bin").stat().st_size
    (folder / "weights.bin").write_bytes(b"\xff" * size)  # NaN, if anyone looked
    monkeypatch.setattr("dsd_ort.model.source.digest_of", lambda files: pytest.fail("the weights were read"))
    assert package.inspect(folder / "model.onnx").trainable


def test_what_is_stored_and_not_trained_is_named(dsd_ort: Command, tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 2] x) => (float[N, 2] y)
        <float[2, 2] w = {1, 2, 3, 4}, float[2] last = {1, 2}, float[2] low = {1, 2}>
        { h = MatMul (x, w) m = Mul (h, last) b = Greater (m, low) c = Cast <to = 1> (b) y = Add (m, c) }"""
    )
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    answer = dsd_ort("inspect", tmp_path / "model.onnx")
    assert "where no gradient arrives, and not trained: 1 tensor, 2 numbers\n    'low': float [2]\n" in answer.out
    assert "a constant, not trained: whole numbers: 'last' (to train it: parameters.include = [" in answer.out
    named = dsd_ort("inspect", tmp_path / "model.onnx", "-v").out
    assert "    'last': float [2]: whole numbers\n    'low': float [2]: no gradient arrives\n" in named
    found = json.loads(dsd_ort("inspect", tmp_path / "model.onnx", "--json").out)
    assert found["constants"] == [
        {"name": "last", "type": "float", "shape": [2], "why": "whole numbers"},
        {"name": "low", "type": "float", "shape": [2], "why": "no gradient arrives"},
    ]
    assert [tensor["name"] for tensor in found["tensors"]] == ["w"]


def test_zeros_are_told_by_layer_where_there_are_some(dsd_ort: Command, folder: Path) -> None:
    assert "zeros" not in dsd_ort("inspect", "model.onnx").out
    proto = onnx.load(folder / "model.onnx")
    for tensor in proto.graph.initializer:
        if tensor.name == "fc.weight":
            value = onnx.numpy_helper.to_array(tensor).copy()
            value.flat[:6] = 0
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    found = {tensor["name"]: tensor["zeros"] for tensor in inspected(dsd_ort)["tensors"]}
    assert found["fc.weight"] == 6 and found["conv2.weight"] == 0
    (line,) = [line for line in dsd_ort("inspect", "model.onnx").out.splitlines() if "│ fc.weight" in line]
    assert "40.0 %" in line
