"""What is measured before the first step, and that a best epoch is best among what was measured on the same data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy

import dsd_ort
from dsd_ort.errors import Stopped
from dsd_ort.run import keeping
from dsd_ort.run.journal import Event, read
from dsd_ort.run.position import Progress
from tests.models import cnn_data, write_cnn

DATA, HELD_OUT = cnn_data(50), cnn_data(20, seed=2)
RECIPE = dsd_ort.Recipe.from_dict(
    {"batch_size": 8, "phase": [{"kind": "dense", "epochs": 4, "learning_rate": 0.05}]}
)  # fmt: skip
WITHOUT_DATA = "the run was evaluated so far, and goes on without evaluation data: best epochs are by training loss"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    dsd_ort.prepare(write_cnn(tmp_path / "model.onnx", dropout=True), tmp_path / "run", RECIPE)
    return tmp_path / "run"


def train(run: Path, *, evaluate: bool = True, **options: Any) -> list[str]:
    """Trains on one thread, and returns the notes."""
    notes: list[Event] = []
    dsd_ort.train(
        run, DATA, eval_data=HELD_OUT if evaluate else None, threads=1, listener=notes.append, **options
    )  # fmt: skip
    return [note["text"] for note in notes if note["event"] == "note"]


def stop_after(updates: int) -> Callable[[], bool]:
    asked = iter(range(1, 1000))
    return lambda: next(asked) >= updates


def epochs(run: Path) -> list[Event]:
    return [event for event in read(run) if event["event"] == "epoch"]


def test_the_model_as_it_came_is_the_first_that_is_measured(run: Path) -> None:
    train(run)
    kinds = [event["event"] for event in read(run)]
    assert kinds[:3] == ["data", "measured", "phase"] and kinds.count("measured") == 1
    measured = read(run)[1]
    assert (measured["name"], measured["step"]) == ("as it came", 0)
    came = dsd_ort.evaluate(run.parent / "model.onnx", HELD_OUT, RECIPE, threads=1)
    assert measured["metrics"] == pytest.approx(came, rel=1e-6)
    assert [event["event"] for event in dsd_ort.phases(run)] == ["phase-end"]


@pytest.mark.parametrize("stop", [1, 9])
def test_a_run_that_goes_on_does_not_measure_it_again(run: Path, stop: int) -> None:
    with pytest.raises(Stopped):
        train(run, stop=stop_after(stop))
    before = read(run)[:2]
    train(run, resume=True)
    assert read(run)[:2] == before
    assert [event["event"] for event in read(run)].count("measured") == 1


@pytest.mark.parametrize("at", ["data", "measured", "phase"])
def test_ended_before_the_first_step_it_begins_to_the_same_events(run: Path, at: str) -> None:
    def ended(event: Event) -> None:
        if event["event"] == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dsd_ort.train(run, DATA, eval_data=HELD_OUT, threads=1, listener=ended)
    train(run, resume=True)
    assert [event["event"] for event in read(run)][:4] == ["data", "measured", "phase", "epoch"]


def test_nothing_is_measured_without_data_or_where_it_is_not_wanted(run: Path, tmp_path: Path) -> None:
    train(run, evaluate=False)
    dsd_ort.prepare(tmp_path / "model.onnx", tmp_path / "other", RECIPE)
    train(tmp_path / "other", measure_first=False)
    for folder in (run, tmp_path / "other"):
        assert "measured" not in [event["event"] for event in read(folder)]


def test_going_on_without_evaluation_data_is_said(run: Path) -> None:
    with pytest.raises(Stopped):
        train(run, stop=stop_after(9))
    with pytest.raises(Stopped):
        train(run, resume=True, stop=stop_after(2))
    notes: list[Event] = []
    with pytest.raises(Stopped):
        dsd_ort.train(run, DATA, threads=1, resume=True, stop=stop_after(2), listener=notes.append)
    assert WITHOUT_DATA in [note.get("text") for note in notes]
    assert WITHOUT_DATA not in train(run, resume=True)
    assert WITHOUT_DATA not in train(run, resume=True, evaluate=False), "nothing is left to train"


def test_a_run_that_never_had_any_says_nothing(run: Path) -> None:
    with pytest.raises(Stopped):
        train(run, evaluate=False, stop=stop_after(9))
    assert WITHOUT_DATA not in train(run, resume=True, evaluate=False)


@pytest.mark.parametrize("evaluated_first", [True, False])
def test_the_best_is_never_a_training_loss_beside_an_evaluations(run: Path, evaluated_first: bool) -> None:
    """Whichever comes second starts anew, as if nothing had been measured."""
    with pytest.raises(Stopped):
        train(run, evaluate=evaluated_first, stop=stop_after(15))
    train(run, evaluate=not evaluated_first, resume=True)
    told = epochs(run)
    assert [bool(event["metrics"]) for event in told] == [evaluated_first] * 2 + [not evaluated_first] * 2
    assert told[0]["best"] and told[2]["best"]
    values = [event["metrics"].get("loss", event["train_loss"]) for event in told]
    assert told[3]["best"] == (values[3] < values[2])


def test_a_checkpoint_of_before_is_as_its_last_epoch_was(run: Path) -> None:
    assert Progress(best=0.5, metrics={"loss": 0.6}).best_on == "evaluation"
    assert Progress(best=0.5).best_on == "training"
    assert Progress().best_on is None
    with pytest.raises(Stopped):
        train(run, stop=stop_after(15))
    path = run / keeping.CHECKPOINT
    with safetensors.safe_open(path, framework="numpy") as file:
        record = json.loads(file.metadata()["dsd_ort"])
    assert record["progress"].pop("best_on") == "evaluation"
    tensors = safetensors.numpy.load_file(path)
    safetensors.numpy.save_file(tensors, path, metadata={"dsd_ort": json.dumps(record)})
    train(run, resume=True)
    told = epochs(run)
    assert [event["best"] for event in told] == [
        event["metrics"]["loss"] == min(each["metrics"]["loss"] for each in told[: i + 1])
        for i, event in enumerate(told)
    ]
