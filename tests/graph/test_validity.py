"""What a manifest says is held against what one can say, and against its graphs, whoever made the folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import onnx
import pytest

import dsd_ort
from dsd_ort.errors import DamagedError, RunError
from dsd_ort.graph.manifest import Manifest, sha256
from dsd_ort.graph.program import GRAPHS, open_program
from tests.models import write_cnn

Table = dict[str, Any]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    recipe = dsd_ort.Recipe.from_dict({"batch_size": 8, "phase": [{"kind": "dense", "steps": 2, "learning_rate": 0.1}]})
    return dsd_ort.prepare(write_cnn(folder / "model.onnx"), folder / "run", recipe).folder


def changed(prepared: Path, change: Callable[[Table], object], *, sealed: bool = True) -> Path:
    """The manifest with a change, with a digest that is right again if it is *sealed*."""
    table = json.loads((prepared / "manifest.json").read_bytes())
    change(table)
    content = json.dumps(table).encode()
    if sealed:
        content = msgspec.json.decode(content, type=Manifest).sealed().written()
    folder = prepared.parent / "changed"
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_bytes(content)
    if not (folder / "graphs").exists():
        (folder / "graphs").mkdir()
    for name in GRAPHS:
        (folder / "graphs" / f"{name}.onnx").write_bytes((prepared / "graphs" / f"{name}.onnx").read_bytes())
    return folder


def put(*path: Any) -> Callable[[Table], object]:
    *way, last, value = path

    def change(table: Any) -> None:
        for part in way:
            table = table[part]
        table[last] = value

    return change


def twice(table: Table) -> None:
    table["parameters"][1]["name"] = table["parameters"][0]["name"]


WRONG = {
    "an offset below 0": (put("parameters", 0, "offset", -16), "begins at -16 of its buffer"),
    "an offset far behind": (put("parameters", 1, "offset", 10**9), "begins at 1000000000 of its buffer"),
    "an offset of 1": (put("parameters", 0, "offset", 1), "begins at 1 of its buffer"),
    "one over another": (put("parameters", 1, "offset", 0), "begins at 0 of its buffer"),
    "a size of another shape": (put("parameters", 0, "size", 7), "and 7 elements"),
    "a shape below 0": (put("parameters", 0, "shape", [-4, -45]), "has the shape"),
    "a name twice": (
        lambda table: put("parameters", 1, "name", table["parameters"][0]["name"])(table),
        "two of its parameters are called",
    ),
    "no name": (put("parameters", 0, "name", ""), "has no name"),
    "a role": (put("parameters", 0, "role", "king"), "has the role 'king'"),
    "no gradient": (put("parameters", 0, "successor", ""), "is trained: its gradient is ''"),
    "a decay": (put("parameters", 0, "weight_decay", -1.0), "has weight decay -1"),
    "a mask behind": (put("parameters", 0, "prunable", False), "stands behind parameters"),
    "a path": (put("model", "../model.onnx"), "may be the name of a file in source/ only"),
    "an absolute path": (put("model", "/etc/passwd"), "may be the name of a file in source/ only"),
    "the folder": (put("model", ".."), "may be the name of a file in source/ only"),
    "a type": (put("inputs", 0, "dtype", "float9"), "is of the type 'float9'"),
    "an axis": (put("axes", {"image": -1}), "below 0"),
    "a file outside": (put("file_digests", {"../../x": "sha256:0"}), "which is none in the run folder"),
    "no output": (put("outputs", {}), "no loss reads an output"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_no_manifest_says_is_refused_when_it_is_opened(prepared: Path, case: str) -> None:
    change, words = WRONG[case]
    with pytest.raises(RunError, match="the manifest is damaged") as caught:
        open_program(changed(prepared, change))
    assert words in caught.value.what


def large(table: Table) -> None:
    table["parameters"][-1] |= {"shape": [2**31, 2**31], "size": 2**62}


def test_a_size_that_no_memory_has_is_refused(prepared: Path) -> None:
    with pytest.raises(RunError, match="the manifest is damaged"):
        open_program(changed(prepared, large))


UNFIT = {
    "another shape": (put("parameters", 0, "shape", [5, 36]), "has the shape"),
    "an unknown parameter": (put("parameters", 0, "name", "other"), "which nothing feeds"),
    "an unknown gradient": (put("parameters", 0, "successor", "other"), "does not give 'other'"),
    "an unknown loss": (put("step_loss", "other"), "does not give 'other'"),
    "an unknown input": (put("inputs", 0, "name", "other"), "which nothing feeds"),
    "an unknown output": (put("outputs", {"other": "label"}), "does not give 'other'"),
    "unknown lengths": (put("lengths", "other"), "does not give 'other'"),
    "an unknown label": (put("outputs", {"scores": "other"}), "reads the label 'other'"),
    "another optimizer": (put("recipe", "optimizer", "name", "adam"), "'update' does not fit the manifest"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_what_its_graphs_do_not_say_is_refused_before_there_is_a_buffer(prepared: Path, case: str) -> None:
    change, words = UNFIT[case]
    program = open_program(changed(prepared, change))
    with pytest.raises(RunError, match="does not fit the manifest") as caught:
        _ = program.sound
    assert words in caught.value.what


def test_a_graph_has_no_numbers_in_other_files(prepared: Path, tmp_path: Path) -> None:
    folder = changed(prepared, lambda table: None)
    path = folder / "graphs" / "step.onnx"
    model = onnx.load(path)
    tensor = model.graph.initializer.add(name="secret", data_type=1, dims=[4], data_location=1)
    tensor.external_data.add(key="location", value="../../../../etc/passwd")
    path.write_bytes(model.SerializeToString())
    program = open_program(changed_digest(folder, sha256(path.read_bytes())))
    with pytest.raises(RunError, match="'secret' are said to be in another file"):
        program.graph("step")


def changed_digest(folder: Path, digest: str) -> Path:
    path = folder / "manifest.json"
    manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    digests = manifest.graph_digests | {"step": digest}
    path.write_bytes(msgspec.structs.replace(manifest, graph_digests=digests).sealed().written())
    return folder


def test_every_bit_of_a_manifest_counts(prepared: Path) -> None:
    content = (prepared / "manifest.json").read_bytes()
    folder = changed(prepared, lambda table: None)
    for at in range(0, len(content), 7):
        path = folder / "manifest.json"
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        with pytest.raises(RunError):
            open_program(folder)


def test_a_key_that_there_is_not_is_refused_and_a_format_to_come_is_named(prepared: Path) -> None:
    with pytest.raises(DamagedError, match="unknown field `command`"):
        open_program(changed(prepared, put("command", "x"), sealed=False))
    with pytest.raises(RunError, match="the run folder has format 2"):
        open_program(changed(prepared, put("format", 2), sealed=False))
