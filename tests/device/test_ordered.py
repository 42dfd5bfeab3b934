"""What ONNX Runtime fuses runs in the order of the file, to the same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import dsd_ort
from dsd_ort import runtime
from dsd_ort.device.ordered import fused
from tests.models import cnn_data, write_cnn

LAYERS = 6
RNG = np.random.default_rng(0)


def chain() -> onnx.ModelProto:
    """Layers of products that ONNX Runtime fuses with their transposes, and behind them what reads each, last first."""
    forward = [
        f"t{i} = Transpose <perm = [1, 0]> (w)\n h{i} = MatMul (x{i}, t{i})\n x{i + 1} = Relu (h{i})"
        for i in range(LAYERS)
    ]
    back = [
        f"m{i} = HardSigmoid <alpha = 3.0e38, beta = 0.0> (x{i + 1})\n e{i} = Mul (d{i + 1}, m{i})\n"
        f"t{i}b = Transpose <perm = [1, 0]> (w)\n d{i} = MatMul (e{i}, t{i}b)"
        for i in reversed(range(LAYERS))
    ]
    lines = "\n".join([*forward, f"d{LAYERS} = Neg (x{LAYERS})", *back])
    signature = "(float[N, 8] x0, float[8, 8] w) => (float[N, 8] d0)"
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> net {signature} {{{lines}\n}}')


def conditional() -> onnx.ModelProto:
    """A branch reads a value of the graph around it that no other node reads."""
    text = """<ir_version: 8, opset_import: ["" : 17]> net (float[N, 8] x0, float[8, 8] w, bool c) => (float[N, 8] y) {
        t = Transpose <perm = [1, 0]> (w)
        a = MatMul (x0, t)
        y = If <
            then_branch = then () => (float[N, 8] p) { p = Neg (a) },
            else_branch = other () => (float[N, 8] q) { q = Exp (x0) }
        > (c)
    }"""
    return onnx.parser.parse_model(text)


def run(model: onnx.ModelProto, feeds: dict[str, Any], **options: Any) -> list[Any]:
    found: list[Any] = runtime.session(model, runtime.session_options(1, **options)).run(None, feeds)
    return found


def executed(model: onnx.ModelProto, feeds: dict[str, Any], folder: Path, **options: Any) -> list[str]:
    """The names of nodes in the order in which they ran."""
    settings = runtime.session_options(1, **options)
    settings.enable_profiling, settings.profile_file_prefix = True, str(folder / "profile")
    session = runtime.session(model, settings)
    session.run(None, feeds)
    events = json.loads(Path(session.end_profiling()).read_text())
    ran = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    return [event["name"].removesuffix("_kernel_time") for event in sorted(ran, key=lambda event: event["ts"])]


def alive(model: onnx.ModelProto, order: list[str]) -> int:
    """The most values that are there at once when nodes run in *order*."""
    by_name = {node.name: node for node in model.graph.node}
    nodes = [by_name[name] for name in order]
    last = {value: i for i, node in enumerate(nodes) for value in node.input}
    made = {value: i for i, node in enumerate(nodes) for value in node.output}
    return max(sum(made[v] <= i <= last.get(v, made[v]) for v in made) for i in range(len(nodes)))


def test_nodes_run_in_the_order_of_the_file_to_the_same_bits(tmp_path: Path) -> None:
    model = chain()
    for number, node in enumerate(model.graph.node):
        node.name = f"n{number}"
    feeds = {"x0": RNG.standard_normal((4, 8), np.float32), "w": RNG.standard_normal((8, 8), np.float32)}
    made = fused(model)
    assert made is not None
    assert len(made.graph.node) < len(model.graph.node), "nothing was fused"
    stood = {name: i for i, node in enumerate(model.graph.node) for name in node.output}
    ran = executed(made, feeds, tmp_path, optimized=False)
    assert ran == [node.name for node in made.graph.node]
    places = [max(stood[name] for name in node.output) for node in made.graph.node]
    assert places == sorted(places)
    assert alive(made, ran) == LAYERS + 2, "masks wait"
    assert run(made, feeds, optimized=False)[0].tobytes() == run(model, feeds)[0].tobytes()


@pytest.mark.parametrize("chosen", [True, False])
def test_what_a_body_reads_comes_first(chosen: bool) -> None:
    feeds = {"x0": np.ones((2, 8), np.float32), "w": np.eye(8, dtype=np.float32), "c": np.array(chosen)}
    model = conditional()
    made = fused(model)
    assert made is not None
    (y,) = run(made, feeds, optimized=False)
    np.testing.assert_array_equal(y, run(model, feeds)[0])


def test_a_run_needs_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = dsd_ort.Recipe.from_dict({"phase": [{"kind": "dense", "steps": 3, "learning_rate": 0.1}], "batch_size": 8})
    for name in ("with", "without"):
        dsd_ort.prepare(write_cnn(tmp_path / "model.onnx"), tmp_path / name, recipe)
        dsd_ort.train(tmp_path / name, cnn_data(24), threads=1)
        dsd_ort.export(tmp_path / name, tmp_path / f"{name}.onnx")
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    assert fused(chain()) is None
    assert (tmp_path / "with.onnx").read_bytes() == (tmp_path / "without.onnx").read_bytes()


def test_a_graph_that_onnx_runtime_refuses_is_not_fused() -> None:
    model = chain()
    model.graph.node[0].op_type = "Transposed"
    assert fused(model) is None
