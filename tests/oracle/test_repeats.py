"""Real networks by more threads than there are cores: three updates give the same bytes each time."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from dsd_ort.graph.program import open_program
from dsd_ort.run.arena import Arena
from dsd_ort.run.engine import Engine
from dsd_ort.run.execution import Execution
from tools.benchmarks.pytorch import networks, sides

pytestmark = [pytest.mark.oracle, pytest.mark.slow]
LARGE = ("vgg16", "deepspeech2", "vit_b_16")
RATE = 0.05
"""So large that a difference in the last bit of a gradient is one in the weights."""


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_a_network_trains_to_the_same_bytes_each_time(name: str, tmp_path: Path) -> None:
    sides.prepare(name, networks.write(name, tmp_path / "model.onnx"), tmp_path / "run")
    batch = networks.NETWORKS[name].batch(1 if name in LARGE else 4)

    def trained() -> str:
        program = open_program(tmp_path / "run")
        arena = Arena.of(program)
        arena.fill_from(program.source())
        engine = Engine(program, arena, Execution(threads=4))
        fields = [field.name for field in (*program.manifest.inputs, *program.manifest.labels)]
        for step in range(3):
            engine.step(dict(zip(fields, batch.values(), strict=True)), sparse=False, seed=step)
            engine.update(RATE, step + 1)
        return hashlib.sha256(arena.weights.tobytes() + arena.statistics.tobytes()).hexdigest()

    assert len({trained() for _ in range(3)}) == 1
