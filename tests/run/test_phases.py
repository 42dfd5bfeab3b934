"""The training loop as a whole, on a small CNN."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dsd_ort
from dsd_ort.errors import DivergedError, RecipeError, RunError, Stopped
from dsd_ort.graph.program import open_program
from dsd_ort.run.arena import Arena
from dsd_ort.run.engine import Engine
from dsd_ort.run.execution import Execution
from dsd_ort.run.journal import Event, read
from tests.models import cnn_data, write_cnn

DATA, HELD_OUT = cnn_data(50), cnn_data(20, seed=2)


def recipe(**changes: Any) -> dsd_ort.Recipe:
    table: dict[str, Any] = {
        "batch_size": 8,
        "optimizer": {"momentum": 0.9, "weight_decay": 1e-3},
        "phase": [
            {"kind": "dense", "epochs": 2, "learning_rate": 0.1},
            {"kind": "sparse", "sparsity": 0.4, "epochs": 2, "learning_rate": 0.05},
            {"kind": "dense", "epochs": 1, "learning_rate": 0.02},
        ],
    }
    return dsd_ort.Recipe.from_dict(table | changes)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cnn(tmp_path_factory.mktemp("model") / "model.onnx", dropout=True)


def train(model: Path, run: Path, recipe: dsd_ort.Recipe, **options: Any) -> list[Event]:
    dsd_ort.prepare(model, run, recipe)
    return dsd_ort.train(run, DATA, eval_data=HELD_OUT, threads=1, **options)


def exported_digest(run: Path) -> str:
    final = run.with_suffix(".onnx")
    dsd_ort.export(run, final)
    return hashlib.sha256(final.read_bytes()).hexdigest()


def weights(run: Path, name: str) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(run / "phases" / f"{name}.safetensors")


@pytest.fixture(scope="module")
def finished(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("finished") / "run"
    train(model, run, recipe())
    return run


def test_the_phases_learn_prune_and_restore(finished: Path) -> None:
    events = [e for e in read(finished) if e["event"] == "phase-end"]
    assert [e["kind"] for e in events] == ["dense", "sparse", "dense"]
    start = dsd_ort.evaluate(open_program(finished).source_path, HELD_OUT, open_program(finished).recipe)
    assert events[-1]["metrics"]["loss"] < 0.5 * start["loss"]
    assert [e["density"] for e in events[:2]] == [1.0, 0.6]
    assert events[2]["density"] > 0.6, "weights of units that never fire stay at zero, others do not"


def test_the_exported_model_measures_what_the_last_phase_measured(finished: Path, tmp_path: Path) -> None:
    dsd_ort.export(finished, tmp_path / "final.onnx")
    measured = dsd_ort.evaluate(tmp_path / "final.onnx", HELD_OUT, open_program(finished).recipe)
    last = [e for e in read(finished) if e["event"] == "phase-end"][-1]
    assert measured == pytest.approx(last["metrics"], rel=1e-5)


def test_the_sparse_weights_can_be_shipped_too(finished: Path, tmp_path: Path) -> None:
    dsd_ort.export(finished, tmp_path / "sparse.onnx", sparse=True)
    value = dsd_ort.inspect(tmp_path / "sparse.onnx").value("fc.weight")
    assert np.count_nonzero(value == 0) == round(value.size * 0.4)
    np.testing.assert_array_equal(value, weights(finished, "2-sparse")["weights/fc.weight"])


@pytest.mark.parametrize(
    "optimizer",
    [
        {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-2},
        {"name": "sgd", "momentum": 0.9, "weight_decay": 1e-2, "nesterov": True},
        {"name": "sgd", "momentum": 0.9, "dampening": 0.3},
        {"name": "adam", "weight_decay": 1e-2},
        {"name": "adamw", "weight_decay": 1e-2},
        {"name": "adamw", "weight_decay": 1e-2, "clip_norm": 0.1, "accumulate": 2},
    ],
    ids=lambda o: "-".join(map(str, o.values())),
)
def test_law_3_a_pruned_weight_is_exactly_zero_after_every_step(
    model: Path, tmp_path: Path, optimizer: dict[str, Any]
) -> None:
    run = tmp_path / "run"
    rate = 0.002 if "adam" in optimizer["name"] else 0.02
    phases = [
        {"kind": "dense", "epochs": 1, "learning_rate": rate},
        {"kind": "sparse", "sparsity": 0.4, "epochs": 2, "learning_rate": rate},
        {"kind": "dense", "epochs": 1, "learning_rate": rate},
    ]
    program = dsd_ort.prepare(model, run, recipe(optimizer=optimizer, phase=phases))
    steps: list[bool] = []

    class Watched(Engine):
        def update(self, learning_rate: float, step: int) -> None:
            super().update(learning_rate, step)
            pruned = self.arena.weights[: self.arena.masks.size][self.arena.masks == 0]
            if pruned.size:
                steps.append(bool(np.all(pruned == 0.0)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dsd_ort.run.state.Engine", Watched)
        dsd_ort.train(run, DATA, threads=1)
    sparse_steps = 2 * -(-7 // program.recipe.optimizer.accumulate)
    assert all(steps[:sparse_steps])
    assert not all(steps[sparse_steps:]), "the last dense phase moves pruned weights again"


def test_a_phase_may_end_within_an_epoch_and_is_evaluated_there(model: Path, tmp_path: Path) -> None:
    """1.25 epochs of 7 batches are 9 steps; stopped in between, it ends with the same bytes."""
    phases = [
        {"kind": "dense", "epochs": 1.25, "learning_rate": 0.05},
        {"kind": "sparse", "sparsity": 0.4, "epochs": 0.5, "learning_rate": 0.05},
    ]
    short = recipe(phase=phases)
    ends = train(model, tmp_path / "whole", short)
    assert [(e["step"], e["reason"]) for e in ends] == [(9, "epochs"), (13, "epochs")]
    epochs = [(e["phase"], e["epoch"], e["step"]) for e in read(tmp_path / "whole") if e["event"] == "epoch"]
    assert epochs == [(1, 1, 7), (1, 2, 9), (2, 1, 13)]
    asked = iter([False] * 7 + [True])
    with pytest.raises(Stopped):
        train(model, tmp_path / "stopped", short, stop=lambda: next(asked, False))
    dsd_ort.train(tmp_path / "stopped", DATA, eval_data=HELD_OUT, threads=1, resume=True)
    assert exported_digest(tmp_path / "stopped") == exported_digest(tmp_path / "whole")


def test_law_5_pruned_weights_return_at_zero(model: Path, tmp_path: Path) -> None:
    phases = [
        {"kind": "dense", "epochs": 1, "learning_rate": 0.1},
        {"kind": "sparse", "sparsity": 0.5, "epochs": 1, "learning_rate": 0.1},
        {"kind": "dense", "steps": 0, "learning_rate": 0.1},
    ]
    train(model, tmp_path / "run", recipe(phase=phases))
    before, after = weights(tmp_path / "run", "2-sparse"), weights(tmp_path / "run", "3-dense")
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert np.count_nonzero(after["weights/conv2.weight"] == 0.0) == 90


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stops=st.lists(st.integers(1, 34), min_size=1, max_size=3))
def test_law_6_stopped_anywhere_and_resumed_ends_with_the_same_bytes(
    model: Path, finished: Path, tmp_path_factory: pytest.TempPathFactory, stops: list[int]
) -> None:
    run = tmp_path_factory.mktemp("stopped") / "run"
    dsd_ort.prepare(model, run, recipe())
    asked = iter(range(1000))
    for number, stop in enumerate(sorted(stops)):
        begun = number > 0
        try:
            dsd_ort.train(
                run, DATA, eval_data=HELD_OUT, threads=1, resume=begun, stop=lambda stop=stop: next(asked) >= stop
            )
        except Stopped:
            continue
        break
    else:
        dsd_ort.train(run, DATA, eval_data=HELD_OUT, threads=1, resume=True)
    assert exported_digest(run) == exported_digest(finished)
    told = [
        {k: v for k, v in e.items() if k not in ("time", "seconds", "examples_per_second", "waiting")}
        for e in read(run)
    ]
    undisturbed = read(finished)
    assert told == [
        {k: v for k, v in e.items() if k not in ("time", "seconds", "examples_per_second", "waiting")}
        for e in undisturbed
    ]


def test_gradient_accumulation_equals_a_larger_batch(tmp_path: Path) -> None:
    """Without batch norm in training mode and dropout, two batches of 4 are one of 8."""
    model = write_cnn(tmp_path / "model.onnx")
    ends = []
    for size, accumulate in ((8, 1), (4, 2)):
        run = tmp_path / f"run{size}"
        phases = [{"kind": "dense", "epochs": 2, "learning_rate": 0.05}]
        changed = recipe(phase=phases, batch_size=size, optimizer={"accumulate": accumulate}, batch_norm="frozen")
        data = {name: value[:48] for name, value in DATA.items()}
        dsd_ort.prepare(model, run, changed)
        dsd_ort.train(run, data, threads=1)
        ends.append(weights(run, "1-dense"))
    for name in ends[0]:
        np.testing.assert_allclose(ends[0][name], ends[1][name], rtol=1e-4, atol=1e-6)


def test_clipping_bounds_the_step(model: Path, tmp_path: Path) -> None:
    """Plain gradient descent of one step: the weights move by rate · clip_norm, no more."""
    optimizer = {"momentum": 0.0, "clip_norm": 0.01}
    phases = [{"kind": "dense", "steps": 1, "learning_rate": 1.0}]
    train(model, tmp_path / "run", recipe(phase=phases, optimizer=optimizer))
    after = weights(tmp_path / "run", "1-dense")
    source = dsd_ort.inspect(model)
    moved = sum(np.sum((after[f"weights/{p.name}"] - source.value(p.name)) ** 2) for p in source.parameters)
    assert np.sqrt(moved) == pytest.approx(0.01, rel=1e-3)


def test_a_plateau_ends_a_phase(model: Path, tmp_path: Path) -> None:
    phases = [{"kind": "dense", "epochs": 50, "learning_rate": 0.0, "patience": 2}]
    events = train(model, tmp_path / "run", recipe(phase=phases, batch_norm="frozen"))
    assert events[0]["reason"] == "converged"
    assert sum(e["event"] == "epoch" for e in read(tmp_path / "run")) == 3


def test_the_best_epoch_of_a_phase_is_kept(model: Path, tmp_path: Path) -> None:
    phases = [{"kind": "dense", "epochs": 6, "learning_rate": 0.5}]
    train(model, tmp_path / "run", recipe(phase=phases, monitor="top-1"))
    epochs = [e for e in read(tmp_path / "run") if e["event"] == "epoch"]
    best = max(e["metrics"]["top-1"] for e in epochs)
    measured = dsd_ort.evaluate(tmp_path / "run", HELD_OUT, best=True)
    assert measured["top-1"] == best


def test_the_monitor_is_measured_even_where_the_metrics_leave_it_out(model: Path, tmp_path: Path) -> None:
    """Otherwise the training loss would stand in for it, and "higher is better" would choose the worst epoch."""
    phases = [{"kind": "dense", "epochs": 2, "learning_rate": 0.1}]
    events = train(model, tmp_path / "run", recipe(phase=phases, metrics=["loss"], monitor="top-1"))
    assert list(events[0]["metrics"]) == ["loss", "top-1"]


def test_groups_have_learning_rates_of_their_own(model: Path, tmp_path: Path) -> None:
    groups = [{"match": ["role:bias", "conv1.*"], "learning_rate_factor": 0.0}]
    train(model, tmp_path / "run", recipe(optimizer={"groups": groups}))
    after, source = weights(tmp_path / "run", "3-dense"), dsd_ort.inspect(model)
    for parameter in source.parameters:
        still = np.array_equal(after[f"weights/{parameter.name}"], source.value(parameter.name))
        assert still == (parameter.name in ("conv1.weight", "conv2.bias", "fc.bias"))


def test_frozen_parameters_do_not_move(model: Path, tmp_path: Path) -> None:
    train(model, tmp_path / "run", recipe(freeze=["conv*"]))
    dsd_ort.export(tmp_path / "run", tmp_path / "final.onnx")
    trained, source, after = weights(tmp_path / "run", "3-dense"), dsd_ort.inspect(model), tmp_path / "final.onnx"
    for parameter in source.parameters:
        frozen = parameter.name.startswith("conv")
        assert (f"weights/{parameter.name}" not in trained) == frozen
        still = np.array_equal(dsd_ort.inspect(after).value(parameter.name), source.value(parameter.name))
        assert still == frozen


def test_a_diverging_run_stops_names_the_tensor_and_keeps_the_last_good_checkpoint(model: Path, tmp_path: Path) -> None:
    phases = [
        {"kind": "dense", "epochs": 1, "learning_rate": 0.1},
        {"kind": "dense", "epochs": 3, "learning_rate": 1e30},
    ]
    run = tmp_path / "run"
    with pytest.raises(DivergedError) as caught:
        train(model, run, recipe(phase=phases))
    assert "in phase 2" in caught.value.what or "after update" in caught.value.what
    assert "'" in (caught.value.where or "")
    assert "the last good checkpoint is kept" in (caught.value.fix or "")
    state = safetensors.numpy.load_file(run / "checkpoint.safetensors")
    assert all(np.isfinite(value).all() for value in state.values())
    dsd_ort.export(run, tmp_path / "good.onnx")


def test_a_trained_run_is_not_trained_over(finished: Path) -> None:
    with pytest.raises(RunError, match="has been trained already") as caught:
        dsd_ort.train(finished, DATA)
    assert "--resume" in (caught.value.fix or "")


def test_resuming_a_complete_run_changes_nothing(finished: Path) -> None:
    before = exported_digest(finished)
    dsd_ort.train(finished, DATA, eval_data=HELD_OUT, resume=True, threads=1)
    assert exported_digest(finished) == before
    assert sum(e["event"] == "end" for e in read(finished)) == 1


def test_resuming_what_never_began_is_refused(model: Path, tmp_path: Path) -> None:
    dsd_ort.prepare(model, tmp_path / "run", recipe())
    with pytest.raises(RunError, match="no such checkpoint"):
        dsd_ort.train(tmp_path / "run", DATA, resume=True)


def test_the_checkpoint_of_another_run_is_refused(model: Path, finished: Path, tmp_path: Path) -> None:
    dsd_ort.prepare(model, tmp_path / "run", recipe(seed=7))
    (tmp_path / "run" / "checkpoint.safetensors").write_bytes((finished / "checkpoint.safetensors").read_bytes())
    with pytest.raises(RunError, match="belong to another model or recipe"):
        dsd_ort.train(tmp_path / "run", DATA, resume=True)


def test_a_monitor_without_evaluation_data_is_refused(model: Path, tmp_path: Path) -> None:
    dsd_ort.prepare(model, tmp_path / "run", recipe(monitor="top-1"))
    with pytest.raises(RecipeError, match="monitor = 'top-1' needs data"):
        dsd_ort.train(tmp_path / "run", DATA)


def test_dropout_differs_from_step_to_step_and_repeats_with_its_seed(model: Path, tmp_path: Path) -> None:
    program = dsd_ort.prepare(model, tmp_path / "run", recipe())
    arena, source = Arena.of(program), program.source()
    arena.fill_from(source)
    engine = Engine(program, arena, Execution(threads=1))
    batch = {"image": DATA["image"][:8], "label": DATA["label"][:8]}
    losses = [engine.step(batch, sparse=False, seed=seed) for seed in (1, 2, 1)]
    assert losses[0] == losses[2] != losses[1]
