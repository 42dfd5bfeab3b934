"""Two runs that begin alike: the second goes on from the first, to the same bytes as one trained alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import safetensors.numpy

import dsd_ort
from dsd_ort.errors import RunError
from dsd_ort.graph.program import Program
from dsd_ort.run import checkpoint, keeping
from dsd_ort.run.fork import fork, shared_phases
from dsd_ort.run.journal import FILE, read
from tests.models import cnn_data, write_cnn

DATA, HELD_OUT = cnn_data(50), cnn_data(20, seed=2)
DENSE = {"kind": "dense", "epochs": 2, "learning_rate": 0.1}
SPARSE = {"kind": "sparse", "sparsity": 0.4, "epochs": 1.5, "learning_rate": 0.05}


def recipe(*phases: dict[str, Any], **changes: Any) -> dsd_ort.Recipe:
    table = {"batch_size": 8, "optimizer": {"name": "adamw", "weight_decay": 1e-2}, "phase": list(phases)}
    return dsd_ort.Recipe.from_dict(table | changes)


RECIPE = recipe(DENSE, DENSE, SPARSE, DENSE, optimizer={"name": "sgd", "weight_decay": 1e-3})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cnn(tmp_path_factory.mktemp("model") / "model.onnx", dropout=True)


@pytest.fixture
def runs(model: Path, tmp_path: Path) -> tuple[Program, Program]:
    """A run at the end of its two leading dense phases, and the dense-only one, which was never trained."""
    run = dsd_ort.prepare(model, tmp_path / "dsd", RECIPE)
    train(run, until=2)
    return run, dsd_ort.prepare(model, tmp_path / "dense-only", RECIPE.dense_only())


def train(run: Program, **options: Any) -> None:
    dsd_ort.train(run.folder, DATA, eval_data=HELD_OUT, threads=1, **options)


def contents(run: Program) -> dict[str, Any]:
    """The files of a run, without the times in its checkpoint and its journal."""
    files = {str(path.relative_to(run.folder)): path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    del files[FILE]
    if files.pop(keeping.CHECKPOINT, None):
        path = run.folder / keeping.CHECKPOINT
        record = checkpoint.read_record(path, run)
        del record["progress"]["seconds"]
        files |= {"record": record, "state": safetensors.numpy.save(safetensors.numpy.load_file(path))}
    return files


def told(folder: Path) -> list[dict[str, Any]]:
    timed = ("time", "seconds", "examples_per_second", "waiting")
    return [{key: value for key, value in event.items() if key not in timed} for event in read(folder)]


def test_a_fork_ends_with_the_same_bytes_as_a_run_trained_alone(
    model: Path, tmp_path: Path, runs: tuple[Program, Program]
) -> None:
    run, other = runs
    alone = dsd_ort.prepare(model, tmp_path / "alone", RECIPE.dense_only())
    train(alone)
    assert fork(run, other)
    train(other, resume=True)
    assert contents(other) == contents(alone)
    assert told(other.folder) == told(alone.folder)


def test_what_was_forked_from_ends_as_if_nobody_had(model: Path, tmp_path: Path, runs: tuple[Program, Program]) -> None:
    run, other = runs
    alone = dsd_ort.prepare(model, tmp_path / "alone", RECIPE)
    train(alone)
    fork(run, other)
    train(run, resume=True)
    assert contents(run) == contents(alone)
    assert told(run.folder) == told(alone.folder)


def test_the_phases_that_both_have_are_not_trained_again(runs: tuple[Program, Program]) -> None:
    run, other = runs
    fork(run, other)
    assert [event["phase"] for event in dsd_ort.phases(other.folder)] == [1, 2]
    assert dsd_ort.phases(other.folder) == dsd_ort.phases(run.folder)
    dsd_ort.export(other.folder, other.folder.with_suffix(".onnx"), phase=1, best=True)


def test_a_fork_that_is_killed_is_as_if_it_had_not_begun(
    runs: tuple[Program, Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, other = runs
    before, copy = contents(run), checkpoint.copy

    def killed(path: Path, destination: Path, program: str, new: str) -> None:
        if path.name == keeping.CHECKPOINT:
            raise KeyboardInterrupt
        copy(path, destination, program, new)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "copy", killed)
        fork(run, other)
    with pytest.raises(RunError, match="no such checkpoint"):
        train(other, resume=True)
    assert fork(run, other)
    assert contents(run) == before
    assert told(other.folder) == told(run.folder)


def test_a_run_that_has_begun_is_never_overwritten(runs: tuple[Program, Program]) -> None:
    run, other = runs
    train(other, until=1)
    before = contents(other)
    assert not fork(run, other)
    assert contents(other) == before


def test_only_where_the_two_part_is_there_a_fork(model: Path, tmp_path: Path, runs: tuple[Program, Program]) -> None:
    run, other = runs
    early = dsd_ort.prepare(model, tmp_path / "early", RECIPE)
    train(early, until=1)
    assert not fork(early, other)
    train(run, resume=True, until=3)
    assert not fork(run, other)
    assert not (other.folder / keeping.CHECKPOINT).exists()


def test_another_model_is_no_fork(tmp_path: Path, runs: tuple[Program, Program]) -> None:
    write_cnn(tmp_path / "other.onnx", seed=5)
    other = dsd_ort.prepare(tmp_path / "other.onnx", tmp_path / "other", RECIPE.dense_only())
    assert not fork(runs[0], other)


def test_phases_are_shared_up_to_the_first_that_differs_and_only_if_all_else_is_equal() -> None:
    assert shared_phases(RECIPE, RECIPE.dense_only()) == 2
    assert shared_phases(RECIPE, RECIPE) == 4
    assert shared_phases(recipe(SPARSE, DENSE), recipe(SPARSE, DENSE).dense_only()) == 0
    assert shared_phases(recipe(DENSE), recipe(DENSE, DENSE)) == 1
    assert shared_phases(RECIPE, msgspec.structs.replace(RECIPE, seed=1)) == 0
    assert shared_phases(RECIPE, recipe(DENSE, DENSE, SPARSE, DENSE)) == 0


def test_until_ends_after_a_phase_and_the_rest_is_resumed(runs: tuple[Program, Program]) -> None:
    run, _ = runs
    assert [event["phase"] for event in dsd_ort.phases(run.folder)] == [1, 2]
    train(run, resume=True, until=2)
    assert [event["phase"] for event in dsd_ort.phases(run.folder)] == [1, 2]
    assert not any(event["event"] == "end" for event in read(run.folder))
    train(run, resume=True, until=9)
    assert sum(event["event"] == "end" for event in read(run.folder)) == 1
    assert [event["phase"] for event in dsd_ort.phases(run.folder)] == [1, 2, 3, 4]
