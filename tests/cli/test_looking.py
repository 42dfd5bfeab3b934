"""``status``, ``journal`` and ``inspect RUN``: what is told of a run folder from outside."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

import dsd_ort as package
from dsd_ort.errors import Stopped
from dsd_ort.run.journal import Event, read
from dsd_ort.run.lock import locked
from tests.cli.conftest import Command
from tests.models import cnn_data

RECIPE = """
batch_size = 4
[[phase]]
kind = "dense"
epochs = 3
learning_rate = {schedule = "cosine", initial = 0.1, final = 0.01, warmup = 5}
[[phase]]
kind = "sparse"
sparsity = 0.5
steps = 40
learning_rate = 0.01
"""


@pytest.fixture
def run(dsd_ort: Command, folder: Path) -> Path:
    (folder / "recipe.toml").write_text(RECIPE)
    np.savez(folder / "train.npz", **cnn_data(160))
    np.savez(folder / "test.npz", **cnn_data(16, seed=1))
    answer = dsd_ort("prepare", "model.onnx", "-o", "run", "--recipe", "recipe.toml")
    assert answer.status == 0
    return folder / "run"


def train(run: Path, updates: int | None = None, *, resume: bool = False) -> None:
    """Up to some update, where it stops."""
    told: list[Event] = []
    data, held_out = (str(run.parent / name) for name in ("train.npz", "test.npz"))
    stop = (lambda: False) if updates is None else lambda: sum(e["event"] == "tick" for e in told) >= updates
    try:
        package.train(run, data, eval_data=held_out, listener=told.append, stop=stop, resume=resume, threads=1)
    except Stopped:
        assert updates is not None


def test_prepare_ends_with_what_training_will_do(dsd_ort: Command, run: Path) -> None:
    out = dsd_ort("inspect", "run").out
    assert "What train will do: sgd, momentum 0.9, batches of 4" in out
    assert "0.1 to 0.01, cosine, 5 updates of warmup" in out and "40 updates" in out and "3 epochs" in out
    assert "model.onnx in run: new" in out and "next: dsd-ort train run --data DATA" in out


def test_a_run_tells_how_far_it_is_and_what_is_left(dsd_ort: Command, run: Path) -> None:
    new = package.status(run)
    assert (new.state, new.loss, new.seconds_left, new.checkpoint) == ("new", None, None, None)
    train(run, 60)
    stopped = package.status(run)
    assert stopped.state == "stopped" and stopped.since_checkpoint is not None
    dense, sparse = stopped.phases
    assert (dense.done, dense.of, dense.epoch, dense.complete) == (60, 120, 1, False)
    assert (sparse.done, sparse.of, sparse.sparsity) == (0, 40, 0.5)
    last = [event for event in read(run) if event["event"] == "progress"]
    per_update = (last[-1]["time"] - last[0]["time"]) / 40
    assert stopped.seconds_left == pytest.approx(100 * per_update)
    answer = dsd_ort("status", "run")
    assert "60 of 120 updates" in answer.out and "--resume" in answer.out
    train(run, resume=True)
    done = json.loads(dsd_ort("status", "run", "--json").out)
    assert done["state"] == "complete" and done["seconds_left"] is None
    assert [phase["complete"] for phase in done["phases"]] == [True, True]
    assert json.loads(dsd_ort("inspect", "run", "--json").out)["status"]["state"] == "complete"
    assert "next: dsd-ort export run" in dsd_ort("status", "run").out


def test_one_that_trains_is_told_from_one_that_was_stopped(dsd_ort: Command, run: Path) -> None:
    train(run, 20)
    with locked(run):
        assert package.status(run).state == "training"
    assert package.status(run).state == "stopped"
    assert dsd_ort("status", "run", "--follow").out.startswith("stopped: phase 1 of 2, dense, 20 of 120 updates, loss ")


def test_looking_changes_nothing(dsd_ort: Command, run: Path) -> None:
    train(run, 20)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.rglob("*") if path.is_file()}
    for command in (["status", "run"], ["journal", "run"], ["inspect", "run"]):
        assert dsd_ort(*command).status == 0
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.rglob("*") if path.is_file()}


def test_the_journal_is_a_table_of_the_events_that_count(dsd_ort: Command, run: Path) -> None:
    train(run, 50)
    train(run, resume=True)
    lines = [json.loads(line) for line in dsd_ort("journal", "run").out.splitlines()]
    assert lines == read(run)
    assert dsd_ort("journal", "run", "--csv", "-o", "run.csv").status == 0
    rows = list(csv.DictReader(io.StringIO((run.parent / "run.csv").read_text())))
    assert [row["event"] for row in rows] == [line["event"] for line in lines]
    progress = [row for row in rows if row["event"] == "progress"]
    assert [int(row["step"]) for row in progress] == [20, 40, 60, 80, 100, 120, 140, 160]
    epochs = [row for row in rows if row["event"] == "epoch"]
    assert [float(row["loss"]) for row in epochs] == [e["metrics"]["loss"] for e in lines if e["event"] == "epoch"]


@pytest.mark.parametrize("command", [["status"], ["journal"], ["journal", "--csv"]])
def test_what_is_no_run_folder_is_said(dsd_ort: Command, folder: Path, command: list[str]) -> None:
    name, *options = command
    answer = dsd_ort(name, "model.onnx", *options)
    assert answer.status == 3 and "prepare" in answer.err and "Traceback" not in answer.err


def test_updates_that_were_left_out_have_a_column(dsd_ort: Command, prepared: Path) -> None:
    arrays = cnn_data(20)
    arrays["image"][3] = 3e38  # overflows in the first convolution
    np.savez(prepared / "bad.npz", **arrays)  # type: ignore[arg-type]
    answer = dsd_ort("train", "run", "--data", "bad.npz", "--threads", 1, "--on-nan", "skip")
    assert answer.status == 0
    [header] = [line for line in answer.out.splitlines() if "phase" in line and "seconds" in line]
    rows = [
        line.split("│")[-2].strip() for line in answer.out.splitlines() if "│ 1 dense" in line or "│ 2 sparse" in line
    ]
    assert "skipped" in header and rows == ["1", "2"], "the count goes on"


def test_a_damaged_journal_is_told_and_the_rest_of_it_shown(dsd_ort: Command, trained: Path) -> None:
    path = trained / "run" / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[1].replace(b"1", b"2", 1), *lines[2:]]))
    answer = dsd_ort("status", "run")
    assert answer.status == 0 and "journal.jsonl is damaged in line 2" in answer.out
    assert len(dsd_ort("journal", "run").out.splitlines()) == len(lines)
    assert dsd_ort("train", "run", "--data", "data.npz", "--resume", "--threads", 1).status == 0
