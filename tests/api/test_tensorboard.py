"""Event files, read back by the real TensorBoard: every number at its update, also where a run was stopped."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

import dsd_ort
from dsd_ort.errors import Stopped
from dsd_ort.run.journal import Event, read
from tests.models import cnn_data, write_cnn

PHASES = [
    {"kind": "dense", "epochs": 12, "learning_rate": 0.05},
    {"kind": "sparse", "sparsity": 0.5, "epochs": 4, "learning_rate": 0.02},
]
DATA, TEST = cnn_data(40), cnn_data(24, seed=2)


def written(folder: Path) -> dict[str, dict[int, float]]:
    """Tag → update → value, as TensorBoard's own reader has it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what TensorBoard imports
        accumulator = pytest.importorskip(
            "tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard, of the group dev"
        )
        found = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
        return {tag: {e.step: e.value for e in found.Scalars(tag)} for tag in found.Tags()["scalars"]}


def prepared(tmp_path: Path) -> Path:
    recipe = dsd_ort.Recipe.from_dict({"batch_size": 4, "phase": PHASES})
    dsd_ort.prepare(write_cnn(tmp_path / "model.onnx"), tmp_path / "run", recipe)
    return tmp_path / "run"


def expected(run: Path) -> dict[str, dict[int, float]]:
    """By the journal."""
    wanted: dict[str, dict[int, float]] = {}

    def put(tag: str, event: Event, value: float) -> None:
        wanted.setdefault(tag, {})[event["step"]] = pytest.approx(value, rel=1e-6)

    for event in read(run):
        if event["event"] == "progress":
            for name in ("loss", "learning_rate", "examples_per_second", "waiting"):
                put(f"train/{name}", event, event[name])
        if event["event"] == "epoch":
            put("epoch/loss", event, event["train_loss"])
        if event["event"] in ("epoch", "measured"):
            for name, value in event["metrics"].items():
                put(f"eval/{name}", event, value)
        if event["event"] == "phase-end":
            put("phase/density", event, event["density"])
            put("phase/seconds", event, event["seconds"])
    return wanted


def test_tensorboard_reads_what_the_journal_has(tmp_path: Path) -> None:
    run = prepared(tmp_path)
    dsd_ort.train(run, DATA, eval_data=TEST, threads=1, tensorboard=tmp_path / "events")
    found = written(tmp_path / "events")
    assert found == expected(run)
    assert len(found["train/loss"]) == 8 and {*found["eval/top-1"]} == {0, *range(10, 161, 10)}


def test_what_is_done_again_after_a_stop_is_there_once(tmp_path: Path) -> None:
    run, told = prepared(tmp_path), list[Event]()

    def killed(event: Event) -> None:
        told.append(event)
        if sum(e["event"] == "tick" for e in told) == 47:
            raise KeyboardInterrupt  # without a checkpoint: seven updates are lost

    options: dict[str, Any] = {"eval_data": TEST, "threads": 1, "tensorboard": tmp_path / "events"}
    with pytest.raises(KeyboardInterrupt):
        dsd_ort.train(run, DATA, listener=killed, **options)
    with pytest.raises(Stopped):
        dsd_ort.train(run, DATA, resume=True, stop=lambda: True, **options)
    dsd_ort.train(run, DATA, resume=True, **options)
    assert written(tmp_path / "events") == expected(run)
