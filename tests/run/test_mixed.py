"""Whole runs with 16-bit products, on the CPU, which rounds as a GPU would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import dsd_ort
from dsd_ort.errors import DivergedError, Stopped
from dsd_ort.graph.program import open_program
from dsd_ort.run import checkpoint, keeping
from dsd_ort.run.journal import Event
from tests.models import cnn_data, write_cnn

DATA, HELD_OUT = cnn_data(50), cnn_data(20, seed=2)
STEPS = 3 * 2 * 7
"""Updates of all phases."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cnn(tmp_path_factory.mktemp("model") / "model.onnx", dropout=True)


def prepare(model: Path, run: Path, rate: float = 0.1, **changes: Any) -> Path:
    phases = [{"kind": "dense"}, {"kind": "sparse", "sparsity": 0.4}, {"kind": "dense"}]
    table = {"batch_size": 8, "phase": [{**phase, "epochs": 2, "learning_rate": rate} for phase in phases]}
    dsd_ort.prepare(model, run, dsd_ort.Recipe.from_dict(table | changes))
    return run


def train(run: Path, precision: str | None, **options: Any) -> list[Event]:
    return dsd_ort.train(run, DATA, eval_data=HELD_OUT, threads=1, device="cpu", precision=precision, **options)


def record(run: Path) -> dict[str, Any]:
    program = open_program(run)
    return checkpoint.read_record(run / keeping.CHECKPOINT, program)


def tensors(run: Path) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(run / keeping.CHECKPOINT)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_it_learns_prunes_and_counts(precision: str, model: Path, tmp_path: Path) -> None:
    events = train(prepare(model, tmp_path / "run", 0.02), precision)
    exact = train(prepare(model, tmp_path / "exact", 0.02), "fp32")
    assert [event["density"] for event in events[:2]] == [1.0, 0.6]
    for event, other in zip(events, exact, strict=True):
        assert event["metrics"]["loss"] == pytest.approx(other["metrics"]["loss"], rel=0.05)
        assert event["metrics"]["loss"] != other["metrics"]["loss"]
        assert "overflows" in event
        assert "overflows" not in other
    found = record(tmp_path / "run")
    assert found["precision"] == precision
    assert found["update"]["done"] + found["update"]["skipped"] == STEPS
    assert dsd_ort.export(tmp_path / "run", tmp_path / "final.onnx").same


@pytest.mark.parametrize("optimizer", [{"momentum": 0.9}, {"name": "adamw", "accumulate": 2, "clip_norm": 0.5}])
def test_stopped_anywhere_it_ends_with_the_same_bytes(optimizer: dict[str, Any], model: Path, tmp_path: Path) -> None:
    rate = 0.1 if "momentum" in optimizer else 0.003
    whole, run = (prepare(model, tmp_path / name, rate, optimizer=optimizer) for name in ("whole", "run"))
    train(whole, "fp16")
    asked = iter([False] * 3 + [True])
    for resume in (False, True):
        with pytest.raises(Stopped):
            train(run, "fp16" if not resume else None, resume=resume, stop=lambda: next(asked, True))
    train(run, None, resume=True)
    expected, got = tensors(whole), tensors(run)
    assert set(expected) == set(got)
    assert all(np.array_equal(got[name], value) for name, value in expected.items())
    assert record(run)["update"] == record(whole)["update"]


def test_a_scale_is_one_precisions(model: Path, tmp_path: Path) -> None:
    run = prepare(model, tmp_path / "run")
    train(run, "fp16", until=1)
    before = record(run)["update"]
    assert before["scale"] > 1
    train(run, "bf16", resume=True, until=2)
    after = record(run)["update"]
    assert after["scale"] == 1
    assert after["done"] == before["done"] + 14
    losses = [event["metrics"]["loss"] for event in train(run, "fp32", resume=True)]
    assert record(run)["precision"] == "fp32"
    assert losses[-1] < losses[0]


def test_overflows_are_left_out_and_the_scale_comes_down(model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from dsd_ort.graph.optimizer import scaler

    run = prepare(model, tmp_path / "run")
    monkeypatch.setitem(scaler.SCHEDULES, "fp16", scaler.Schedule(2.0**24, 2000.0))
    events = train(run, "fp16")
    found = record(run)["update"]
    assert 2 <= found["skipped"] < 14
    assert found["scale"] == 2.0 ** (24 - found["skipped"])
    assert 0 < events[0]["overflows"] <= events[-1]["overflows"] == found["skipped"]
    assert all(np.isfinite(value).all() for value in tensors(run).values())
    assert events[-1]["metrics"]["loss"] < events[0]["metrics"]["loss"] * 1.5


def test_what_does_not_come_back_has_diverged(model: Path, tmp_path: Path) -> None:
    run = prepare(model, tmp_path / "run", 1e8)
    with pytest.raises(DivergedError, match=r"times in a row|no longer finite") as caught:
        train(run, "fp16")
    assert "the last good checkpoint is kept" in (caught.value.fix or "")
