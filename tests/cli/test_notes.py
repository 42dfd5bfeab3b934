"""What inspect and prepare tell of a model: nodes by their whole names, and what is said of all of it by itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest

from tests.cli.conftest import Command
from tests.models import retyped

WORDS = "x · min(max(x/6 + ½, 0), 1)"
"""What HardSwish becomes."""
IN_FLOAT32 = {"kind": "training", "node": None, "words": "bfloat16: computed in float32 for training"}
NAMES = ["act: one", "[red]act[/red]", ": ", 'it\'s: "one": two', r"a\: b", "act 'one': max(x, 0)"]


def write(activation: str, name: str, dtype: str = "float") -> None:
    """model.onnx, two products with an *activation* called *name* between them."""
    text = f"""<ir_version: 9, opset_import: ["" : 18]> g (float[N, 8] x) => (float[N, 5] y)
      {{ h = MatMul (x, w) a = {activation} (h) y = MatMul (a, v) }}"""
    model = onnx.parser.parse_model(text)
    for node, called in zip(model.graph.node, ("mm: one", name, "[red]out[/red]"), strict=True):
        node.name = called
    for weight, shape in {"w": (8, 12), "v": (12, 5)}.items():
        values = np.random.default_rng(0).standard_normal(shape, np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, weight))
    Path("model.onnx").write_bytes(retyped(model, dtype).SerializeToString())


@pytest.mark.parametrize("name", NAMES)
def test_a_line_that_names_a_node_has_its_whole_name(dsd_ort: Command, folder: Path, name: str) -> None:
    write("HardSwish", name)
    assert f"  for training, HardSwish {name!r}: {WORDS}\n" in dsd_ort("inspect", "model.onnx", "-v").out
    lines = (f"  for training, 1 node: {WORDS}\n", "│ MatMul mm: one        │", "│ MatMul [red]out[/red] │")
    assert all(line in dsd_ort("inspect", "model.onnx").out for line in lines)
    assert lines[0] in dsd_ort("prepare", "model.onnx", "-o", "run").out


@pytest.mark.parametrize("name", NAMES)
def test_json_has_name_and_words_apart(dsd_ort: Command, folder: Path, name: str) -> None:
    write("HardSwish", name)
    found = json.loads(dsd_ort("inspect", "model.onnx", "--json").out)
    assert found["rewrites"] == [{"node": f"HardSwish {name!r}", "what": WORDS}]
    assert found["notes"] == []
    made = json.loads(dsd_ort("prepare", "model.onnx", "-o", "run", "--json").out)
    assert made["notes"] == [{"kind": "rewrite", "node": f"HardSwish {name!r}", "words": WORDS}]


def test_what_is_said_of_the_whole_model_is_a_note_of_its_own(dsd_ort: Command, folder: Path) -> None:
    write("Relu", "act", "bfloat16")
    training = "  note: bfloat16: computed in float32 for training\n"
    evaluation = "  note: evaluated in float32, as bfloat16 does not run on the CPU: "
    for options in ([], ["--verbose"]):
        answer = dsd_ort("inspect", "model.onnx", *options)
        assert training in answer.out and "for training, " not in answer.out
    answer = dsd_ort("prepare", "model.onnx", "-o", "run")
    assert training + evaluation in answer.out and "for training, " not in answer.out


def test_json_has_what_is_said_of_the_whole_model(dsd_ort: Command, folder: Path) -> None:
    write("HardSwish", "act: one", "bfloat16")
    found = json.loads(dsd_ort("inspect", "model.onnx", "--json").out)
    assert found["rewrites"] == [{"node": "HardSwish 'act: one'", "what": WORDS}]
    assert found["notes"] == [IN_FLOAT32]
    made = json.loads(dsd_ort("prepare", "model.onnx", "-o", "run", "--json").out)
    assert [note["kind"] for note in made["notes"]] == ["training", "rewrite", "evaluation"]
    assert made["notes"][0] == IN_FLOAT32


def test_a_refused_model_tells_the_same_of_the_rest(dsd_ort: Command, folder: Path) -> None:
    write("HardSwish", "act: one", "bfloat16")
    model = onnx.load("model.onnx")
    model.graph.node[2].op_type = "Magic"
    onnx.save(model, "model.onnx")
    found = json.loads(dsd_ort("inspect", "model.onnx", "--json").out)
    assert not found["trainable"]
    assert found["rewrites"] == [{"node": "HardSwish 'act: one'", "what": WORDS}]
    assert found["notes"] == [IN_FLOAT32]
    told = f"what else training rewrites in it:\n  for training, 1 node: {WORDS}\n  note: {IN_FLOAT32['words']}\n"
    assert told in dsd_ort("inspect", "model.onnx").out


def test_a_run_folder_of_before_there_were_records_trains_resumes_and_ships(dsd_ort: Command, prepared: Path) -> None:
    path = prepared / "run" / "manifest.json"
    table = json.loads(path.read_text())
    del table["digest"]
    table["notes"] = [f"{note['node']}: {note['words']}" for note in table["notes"]]
    path.write_text(json.dumps(table))
    for command in (("train", "run", "--data", "data.npz"), ("export", "run", "-o", "final.onnx")):
        assert dsd_ort(*command).status == 0
    assert dsd_ort("train", "run", "--data", "data.npz", "--resume").status == 0
    assert json.loads(path.read_text())["notes"] == table["notes"]
    assert table["notes"] == ["BatchNormalization 'b': Batch statistics, and running statistics that follow"]


def test_markup_in_a_files_name_is_no_markup(dsd_ort: Command, folder: Path) -> None:
    (folder / "model.onnx").rename(folder / "[red]model.onnx")
    assert "[red]model.onnx: 247 parameters" in dsd_ort("inspect", "[red]model.onnx").out
