"""Trainings that begin alike: each phase is trained once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dsd_ort
from dsd_ort.api.comparison.training import Trainings, phases_taken_over
from dsd_ort.graph.program import Program
from dsd_ort.recipe import Recipe
from dsd_ort.run.journal import Event
from tests.models import cnn_data, write_cnn

DATA = cnn_data(24)


def phase(kind: str, rate: float, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "epochs": 1, "learning_rate": rate, **more}


def sparse(sparsity: float) -> dict[str, Any]:
    return phase("sparse", 0.02, sparsity=sparsity)


def test_every_phase_of_the_tree_is_trained_once(tmp_path: Path) -> None:
    """Two sparsities with two ends each beside dense only: 1 + 2 + 2 · (1 + 2) phases rather than 5 · 3."""
    first, ends = phase("dense", 0.05), (phase("dense", 0.01), phase("dense", 0.02))
    paths = {"dense": [first, phase("dense", 0.02), ends[0]]}
    paths |= {f"{s} {n}": [first, sparse(s), end] for n, end in enumerate(ends) for s in (0.3, 0.6)}
    model = write_cnn(tmp_path / "model.onnx", dropout=True)
    runs: dict[str, Program] = {}
    for name, phases in paths.items():
        recipe = Recipe.from_dict({"batch_size": 8, "phase": phases})
        runs[name] = dsd_ort.prepare(model, tmp_path / name, recipe)
    assert phases_taken_over(list(runs.values())) == [0, 1, 1, 2, 2]
    events: list[Event] = []
    ended: list[str] = []

    def train(run: Path, **options: Any) -> None:
        dsd_ort.train(run, DATA, threads=1, listener=events.append, **options)

    Trainings(runs, train, events.append, ended.append)()
    assert sorted(ended) == sorted(runs)
    assert sum(event["event"] == "tick" for event in events) == 3 * (1 + 2 + 2 * (1 + 2))
    alone = dsd_ort.prepare(model, tmp_path / "alone", runs["0.6 1"].recipe)
    dsd_ort.train(alone.folder, DATA, threads=1)
    last = "phases/3-dense.safetensors"
    assert (alone.folder / last).read_bytes() == (runs["0.6 1"].folder / last).read_bytes()
