"""How much of a running statistic a step keeps, and what the steps of one update make of it together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import dsd_ort
from dsd_ort.graph.momenta import momentum
from dsd_ort.run.arena import Arena, view
from dsd_ort.run.engine import Engine
from dsd_ort.run.execution import Execution
from tests.models import cnn_data, write_cnn

TWICE = """
<ir_version: 8, opset_import: ["" : 18]>
step (float[2] s, float[2] b, float m) => (float[2] once, float[2] twice, float[2] free, float[2] moved) {
    k = Constant <value = float {0.5}> ()
    l = Constant <value = float[1] {0.25}> ()
    kept = Mul (s, k)
    once = Add (kept, b)
    again = Mul (once, l)
    twice = Add (again, b)
    product = Mul (s, m)
    free = Add (product, b)
    moved = Sub (s, b)
}
"""


@pytest.mark.parametrize(("successor", "expected"), [("once", 0.5), ("twice", 0.125), ("free", None), ("moved", None)])
def test_what_the_graph_says(successor: str, expected: float | None) -> None:
    assert momentum(ir.from_onnx_text(TWICE), "s", successor) == expected


def test_steps_of_one_update_move_statistics_as_one_after_the_other(tmp_path: Path) -> None:
    """Three batches whose steps read the same statistics; PyTorch's law, on the batches' own moments."""
    table = {"batch_size": 8, "phase": [{"kind": "dense", "epochs": 1, "learning_rate": 0.0}]}
    table["optimizer"] = {"accumulate": 3}
    program = dsd_ort.prepare(write_cnn(tmp_path / "model.onnx"), tmp_path / "run", dsd_ort.Recipe.from_dict(table))
    arena, source = Arena.of(program), program.source()
    arena.fill_from(source)
    engine, data = Engine(program, arena, Execution(threads=1)), cnn_data(24)
    mean = source.start("bn.mean").astype(np.float64)
    before = arena.statistics.copy()
    for at in range(3):
        batch = {name: array[8 * at : 8 * at + 8] for name, array in data.items()}
        engine.queue(batch, sparse=False, seed=0)
        assert np.array_equal(arena.statistics, before), "steps of one update read the same statistics"
        conv = source.start("conv1.weight").astype(np.float64)
        padded = np.pad(batch["image"], [(0, 0), (0, 0), (1, 1), (1, 1)]).astype(np.float64)
        windows = np.lib.stride_tricks.sliding_window_view(padded[:, 0], (3, 3), axis=(1, 2))
        mean = 0.9 * mean + 0.1 * np.einsum("nhwij,oij->ohwn", windows, conv[:, 0]).mean((1, 2, 3))
    engine.update(0.0, 1)
    piece = next(piece for piece in arena.statistic_slices if piece.name == "bn.mean")
    np.testing.assert_allclose(view(arena.statistics, piece), mean, rtol=1e-5, atol=1e-6)
