"""What became of the weights: counts against NumPy's own, each layer's way, and the same after a stop."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dsd_ort
from dsd_ort.errors import RunError, Stopped
from dsd_ort.graph.program import Program, open_program
from dsd_ort.run import borders, checkpoint, keeping
from dsd_ort.run.borders import BINS, Layer
from dsd_ort.run.journal import Event
from tests.models import CNN_SHAPES, cnn_data, write_cnn

PHASES = [
    {"kind": "dense", "epochs": 2, "learning_rate": 0.05},
    {"kind": "sparse", "sparsity": 0.5, "epochs": 2, "learning_rate": 0.05},
    {"kind": "dense", "epochs": 2, "learning_rate": 0.02},
]
DATA = cnn_data(24)


def trained(tmp_path: Path, phases: list[dict[str, Any]] = PHASES, *, until: int | None = None) -> Program:
    recipe = dsd_ort.Recipe.from_dict({"batch_size": 8, "phase": phases})
    dsd_ort.prepare(write_cnn(tmp_path / "model.onnx"), tmp_path / "run", recipe)
    dsd_ort.train(tmp_path / "run", DATA, threads=1, until=until)
    return open_program(tmp_path / "run")


def weights(program: Program, name: str) -> list[np.ndarray]:
    """In the file and at the end of each phase, by what loads a whole phase."""
    found = [program.source().start(name)]
    for index, phase in enumerate(program.recipe.phase[: borders.complete(program)]):
        with checkpoint.weights(keeping.weights_file(program.folder, index, phase.kind), program) as read:
            found.append(read(name))
    return found


@pytest.fixture
def run(tmp_path: Path) -> Program:
    return trained(tmp_path)


def test_every_weight_is_counted_once_at_each_moment_and_where_numpy_counts_it(run: Program) -> None:
    layers = {layer.name: layer for layer in borders.layers(run)}
    assert [*layers] == [p.name for p in run.manifest.trained if len(p.shape) > 1] and len(layers) == 3
    pruned = [layer for layer in layers.values() if layer.histograms is not None]
    assert {layer.name for layer in pruned} == {"conv2.weight", "fc.weight"}
    for layer in pruned:
        found, (_, before, after, last) = layer.histograms, weights(run, layer.name)
        assert found is not None and len(found.edges) == BINS + 1 and layer.size == before.size
        assert found.count == round(before.size / 2) and len(found.kept) == 3 and len(found.pruned) == 2
        mask = after != 0
        wanted = [before[mask], after[mask], last[mask]], [before[~mask], last[~mask]]
        inside = np.nextafter(found.edges[-1], 0)
        for counts, values in zip([*found.kept, *found.pruned], [*wanted[0], *wanted[1]], strict=True):
            assert counts.sum() == values.size
            expected, _ = np.histogram(np.clip(values.astype(np.float64), -inside, inside), found.edges)
            assert np.abs(counts - expected).sum() <= 2  # of one that lies on an edge
        assert found.threshold == np.abs(before[~mask]).max() <= np.abs(before[mask]).min()
        assert found.returned == pytest.approx((np.abs(last[~mask]) > found.threshold).mean())


def test_density_and_way_are_those_of_the_weights(run: Program) -> None:
    for layer in borders.layers(run):
        found = weights(run, layer.name)
        assert layer.density == tuple(np.count_nonzero(w) / w.size for w in found)
        assert layer.shape == CNN_SHAPES[layer.name]
        ways = [np.linalg.norm(b - a) / np.linalg.norm(a) for a, b in pairwise(found)]
        assert layer.moved == pytest.approx(ways, rel=1e-5) and min(layer.moved) > 0


def test_a_run_that_was_stopped_and_resumed_has_the_same(tmp_path: Path, run: Program) -> None:
    told: list[Event] = []
    dsd_ort.prepare(tmp_path / "model.onnx", tmp_path / "other", run.recipe)
    with pytest.raises(Stopped):
        dsd_ort.train(
            tmp_path / "other",
            DATA,
            threads=1,
            listener=told.append,
            stop=lambda: sum(event["event"] == "tick" for event in told) >= 8,
        )
    assert borders.complete(open_program(tmp_path / "other")) == 1
    dsd_ort.train(tmp_path / "other", DATA, threads=1, resume=True)
    for layer, other in zip(borders.layers(run), borders.layers(open_program(tmp_path / "other")), strict=True):
        assert same(layer, other)


def same(layer: Layer, other: Layer) -> bool:
    mine, theirs = layer.histograms, other.histograms
    if (layer.name, layer.density, layer.moved) != (other.name, other.density, other.moved) or mine is None:
        return theirs is None and layer.name == other.name
    assert theirs is not None
    pairs = zip((*mine.kept, *mine.pruned, mine.edges), (*theirs.kept, *theirs.pruned, theirs.edges), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs) and mine.returned == theirs.returned


def test_as_long_as_no_dense_phase_follows_nothing_has_returned(tmp_path: Path) -> None:
    run = trained(tmp_path, until=2)
    assert (borders.complete(run), borders.last_sparse(run)) == (2, 2)
    layer = next(layer for layer in borders.layers(run) if layer.histograms is not None)
    assert layer.histograms is not None and layer.histograms.returned is None
    assert len(layer.histograms.kept) == 2 and len(layer.histograms.pruned) == 1 and len(layer.moved) == 2


def test_without_a_sparse_phase_there_is_no_pruning_to_show(tmp_path: Path) -> None:
    run = trained(tmp_path, PHASES[:1])
    assert borders.last_sparse(run) is None
    assert all(layer.histograms is None and layer.moved[0] > 0 for layer in borders.layers(run))


def test_a_phase_whose_weights_are_gone_ends_what_is_known(run: Program) -> None:
    keeping.weights_file(run.folder, 1, "sparse").unlink()
    assert (borders.complete(run), borders.last_sparse(run)) == (1, None)
    assert all(len(layer.moved) == 1 for layer in borders.layers(run))


def test_damaged_weights_are_named(run: Program) -> None:
    path = keeping.weights_file(run.folder, 2, "dense")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(RunError, match="are damaged"):
        list(borders.layers(run))
