"""Convolutions without the channels that a mask leaves empty, beside ONNX Runtime's own with all of them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import dsd_ort
from dsd_ort.device import narrow as device_narrow
from dsd_ort.device.narrow import channels_left, narrow
from dsd_ort.errors import Stopped
from dsd_ort.graph.program import open_program
from dsd_ort.recipe import Recipe
from dsd_ort.run import engine as engine_module
from dsd_ort.run.arena import Arena, view
from dsd_ort.run.engine import Engine
from dsd_ort.run.execution import Execution
from dsd_ort.run.journal import read
from dsd_ort.run.keeping import CHECKPOINT
from dsd_ort.run.prune import write_masks
from tests import cases
from tests.models import cnn_data, write_cnn

NETWORK = (
    "(float[N, 4, 9, 8] x) => (float[N, 5] y) { a = Conv <pads = [1, 1, 1, 1]> (x, K, b) r = Relu (a) "
    "c = Conv <strides = [2, 2], dilations = [1, 2]> (r, L) s = Relu (c) d = Conv <group = 4> (s, D) "
    "p = GlobalAveragePool (d) f = Flatten (p) y = Gemm <transB = 1> (f, V) }"
)
SHAPES = {"K": (64, 4, 3, 3), "b": (64,), "L": (128, 64, 3, 2), "D": (8, 32, 1, 1), "V": (5, 8)}


def engine(tmp_path: Path, sparsity: float = 0.5, pattern: str = "channels", **recompute: Any) -> Engine:
    """Under masks of the two plain convolutions and the one with groups."""
    if not (tmp_path / "run").exists():
        model = cases.write(tmp_path / "m.onnx", NETWORK, {name: cases.drawn(*shape) for name, shape in SHAPES.items()})
        phase = {"kind": "sparse", "sparsity": sparsity, "steps": 3, "learning_rate": 0.1}
        prune = {"exclude": ["V", "b"], "pattern": pattern}
        table = {"phase": [phase], "prune": prune, "batch_size": 6, **recompute}
        dsd_ort.prepare(model, tmp_path / "run", Recipe.from_dict(table))
    program = open_program(tmp_path / "run")
    arena = Arena.of(program)
    arena.fill_from(program.source())
    write_masks(arena, sparsity, program.recipe.prune)
    arena.apply_masks()
    return Engine(program, arena, Execution(threads=1))


def batch() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"x": rng.standard_normal((6, 4, 9, 8), np.float32), "label": rng.integers(0, 5, 6)}


def nodes(opened: Engine) -> dict[str, int]:
    graph = opened._load("sparse").graph
    return {kind: sum(node.op_type == kind for node in graph) for kind in ("Conv", "ConvGrad", "Gather")}


@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("recompute", ["none", "blocks"])
def test_loss_and_gradients_are_those_of_all_channels(tmp_path: Path, sparsity: float, recompute: str) -> None:
    narrowed, whole = (engine(tmp_path, sparsity, recompute=recompute) for _ in range(2))
    before = nodes(narrowed)
    narrowed.expect(same_masks=True)
    after = nodes(narrowed)
    assert after["Gather"] > before["Gather"] and after["ConvGrad"] == before["ConvGrad"] == 3
    losses = [each.step(batch(), sparse=True, seed=0) for each in (narrowed, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for piece in narrowed.arena.trained:
        got, wanted = (view(each.arena.gradients, piece) for each in (narrowed, whole))
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6 * abs(wanted).max(), err_msg=piece.name)
        assert np.abs(wanted).max() > 0
    for piece in narrowed.arena.prunable:
        assert not view(narrowed.arena.gradients, piece)[view(narrowed.arena.masks, piece) == 0].any()


def test_a_convolution_reads_the_channels_that_are_left(tmp_path: Path) -> None:
    opened = engine(tmp_path, 0.75)
    opened.expect(same_masks=True)
    graph = opened._load("sparse").graph
    shapes = [tuple(node.inputs[1].shape or ()) for node in graph if node.op_type == "Conv" and node.inputs[1]]
    assert [shape[0] for shape in shapes] == [16, 32, 8]  # a quarter of each, and all of those with groups


def test_masks_that_may_change_leave_a_step_as_it_is(tmp_path: Path) -> None:
    opened = engine(tmp_path)
    plain = nodes(opened)
    opened.expect(same_masks=False)
    assert nodes(opened) == plain
    opened.expect(same_masks=True)
    assert nodes(opened) != plain
    opened.upload()  # which may bring other masks
    assert nodes(opened) == plain


def test_a_few_empty_channels_are_not_worth_it(tmp_path: Path) -> None:
    opened = engine(tmp_path, 0.2)
    plain = nodes(opened)
    opened.expect(same_masks=True)
    assert nodes(opened) == plain


def test_a_session_is_opened_anew_for_other_masks(tmp_path: Path) -> None:
    opened, other = engine(tmp_path), engine(tmp_path)
    opened.expect(same_masks=True)
    opened.step(batch(), sparse=True, seed=0)
    for each in (opened, other):
        kernel = next(piece for piece in each.arena.prunable if piece.name == "K")
        view(each.arena.weights, kernel)[...] = cases.drawn(*kernel.shape)[::-1]
        view(each.arena.masks, kernel)[...] = view(each.arena.masks, kernel)[::-1].copy()
        each.arena.apply_masks()
    opened.expect(same_masks=True)
    losses = [each.step(batch(), sparse=True, seed=0) for each in (opened, other)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_so_many_channels_are_left_that_blocks_are_whole_and_only_where_enough_are_empty() -> None:
    mask = np.zeros((48, 2, 3), np.float32)
    mask[20:37, 1, 2] = 1
    full = np.ones((48, 2, 3), np.float32)
    full[:11] = 0
    found = channels_left({"some": mask, "full": full, "few": mask[17:37], "nothing": np.zeros((48, 1), np.float32)})
    assert {name: left.tolist() for name, left in found.items()} == {"some": [*range(15), *range(20, 37)]}


def test_golden_forward() -> None:
    model = ir.from_proto(
        onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 17]>
        g (float[2, 3, 5, 5] x, float[4, 3, 3, 3] w) => (float[2, 4, 3, 3] y) { y = Conv (x, w) }""")
    )
    assert narrow(model, {"w": np.array([1, 3])}) == 1
    assert [node.op_type for node in model.graph if node.op_type != "Constant"] == ["Gather", "Conv", "Pad", "Gather"]
    assert [value.name for value in model.graph.outputs] == ["y"]
    constants = [node.attributes["value"].as_tensor().numpy() for node in model.graph if node.op_type == "Constant"]
    assert [c.tolist() for c in constants] == [[1, 3], [0] * 5 + [1, 0, 0], [2, 0, 2, 1]]


def test_law_6_a_run_that_is_stopped_narrows_again_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_narrow, "WHOLE", 1)  # the network has few channels
    counts, stops = [], iter(range(10**6))
    monkeypatch.setattr(engine_module, "narrow", lambda model, left: counts.append(narrow(model, left)))
    model, data = write_cnn(tmp_path / "m.onnx"), cnn_data(64)
    phase = {"kind": "sparse", "sparsity": 0.5, "epochs": 2, "learning_rate": 0.05}
    recipe = Recipe.from_dict({"batch_size": 8, "phase": [phase], "prune": {"pattern": "channels"}})
    for name in ("whole", "parts"):
        dsd_ort.prepare(model, tmp_path / name, recipe)
    dsd_ort.train(tmp_path / "whole", data, threads=1)
    while not any(event["event"] == "end" for event in read(tmp_path / "parts")):
        with contextlib.suppress(Stopped):
            resume = (tmp_path / "parts" / CHECKPOINT).exists()
            dsd_ort.train(tmp_path / "parts", data, threads=1, resume=resume, stop=lambda: next(stops) % 5 == 4)
    assert len(counts) > 2 and min(counts) > 0
    ends = [(tmp_path / name / "phases" / "1-sparse.safetensors").read_bytes() for name in ("whole", "parts")]
    assert ends[0] == ends[1]
