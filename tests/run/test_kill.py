"""Law 6 with SIGKILL: a training process is killed in the middle, resumed, and ends with the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dsd_ort
from dsd_ort.run import checkpoint, keeping
from dsd_ort.run.arena import Arena
from dsd_ort.run.journal import Event, read
from tests.models import cnn_data, write_cnn

EPOCHS = 4
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9, "weight_decay": 1e-3, "nesterov": True},
    "adamw": {"name": "adamw", "weight_decay": 1e-2, "accumulate": 2, "clip_norm": 1.0},
}


def recipe(optimizer: str) -> dsd_ort.Recipe:
    rate = 0.02 if optimizer == "sgd" else 0.002
    return dsd_ort.Recipe.from_dict(
        {
            "batch_size": 8,
            "optimizer": OPTIMIZERS[optimizer],
            "phase": [
                {"kind": "dense", "epochs": EPOCHS, "learning_rate": rate},
                {"kind": "sparse", "sparsity": 0.4, "epochs": EPOCHS, "learning_rate": rate},
                {"kind": "dense", "epochs": EPOCHS, "learning_rate": {"schedule": "cosine", "initial": rate}},
            ],
        }
    )


class Bench:
    """A model with dropout and batch norm, its data, and the digest of an undisturbed run's export."""

    def __init__(self, folder: Path, optimizer: str) -> None:
        self.folder, self.recipe = folder, recipe(optimizer)
        self.model = write_cnn(folder / "model.onnx", dropout=True)
        np.savez(folder / "train.npz", **cnn_data(1000))
        np.savez(folder / "test.npz", **cnn_data(40, seed=2))
        whole = self.prepare("undisturbed")
        assert self.start(whole).wait() == 0
        self.digest = self.export_digest(whole)

    def prepare(self, name: str) -> Path:
        dsd_ort.prepare(self.model, self.folder / name, self.recipe)
        return self.folder / name

    def start(self, run: Path, *options: str) -> subprocess.Popen[bytes]:
        data = ["--data", str(self.folder / "train.npz"), "--eval-data", str(self.folder / "test.npz")]
        command = [sys.executable, "-m", "dsd_ort", "train", str(run), *data, "--threads", "1", *options]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        with self.errors.open("wb") as errors:
            return subprocess.Popen(command, stderr=errors, stdout=subprocess.DEVNULL, env=environment)

    @property
    def errors(self) -> Path:
        """What the last process said."""
        return self.folder / "errors.txt"

    def export_digest(self, run: Path) -> str:
        dsd_ort.export(run, run.with_suffix(".onnx"))
        return hashlib.sha256(run.with_suffix(".onnx").read_bytes()).hexdigest()


@pytest.fixture(scope="module", params=OPTIMIZERS)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp(request.param), request.param)


def wait_until(process: subprocess.Popen[bytes], run: Path, reached: Callable[[list[Event]], bool]) -> None:
    """Waits for the journal to say so; the process must not end before."""
    deadline = time.monotonic() + 60
    while not reached(read(run)):
        assert process.poll() is None, "training ended before it could be stopped"
        assert time.monotonic() < deadline, "training did not get there in a minute"
        time.sleep(0.002)


def in_the_middle_of(phase: int) -> Callable[[list[Event]], bool]:
    """Progress within the third epoch of the phase."""
    return lambda events: any(e["event"] == "progress" and e["phase"] == phase and e["epoch"] == 3 for e in events)


@pytest.mark.parametrize(
    ("phase", "checkpoint_seconds"),
    [
        *((phase, "0.01") for phase in (1, 2, 3)),
        *(pytest.param(phase, "300", marks=[pytest.mark.slow] * (phase != 2)) for phase in (1, 2, 3)),
    ],
)
def test_a_killed_run_ends_with_the_same_bytes(bench: Bench, phase: int, checkpoint_seconds: str) -> None:
    run = bench.prepare(f"killed-{phase}-{checkpoint_seconds}")
    process = bench.start(run, "--checkpoint-seconds", checkpoint_seconds)
    wait_until(process, run, in_the_middle_of(phase))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not any(e["event"] == "end" for e in read(run))
    assert bench.start(run, "--resume").wait() == 0
    assert bench.export_digest(run) == bench.digest
    assert not list(run.rglob(".*")), "what the killed process left half-written is gone"


def test_ctrl_c_saves_says_how_to_go_on_and_loses_nothing(bench: Bench) -> None:
    run = bench.prepare("interrupted")
    process = bench.start(run)
    wait_until(process, run, in_the_middle_of(2))
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    errors = bench.errors.read_text()
    assert "Traceback" not in errors
    assert f"go on with: dsd-ort train {run} --data" in errors
    assert "--resume" in errors
    assert bench.start(run, "--resume").wait() == 0
    assert bench.export_digest(run) == bench.digest
    steps = [e["step"] for e in map(json.loads, (run / "journal.jsonl").read_text().splitlines())]
    assert steps == sorted(steps), "nothing that was done before Ctrl-C is done again"


@pytest.mark.slow
def test_killed_again_and_again_at_random_it_ends_with_the_same_bytes(bench: Bench) -> None:
    rng, kills = np.random.default_rng(0), 0
    for trial in range(10):
        run = bench.prepare(f"hammered-{trial}")
        for attempt in range(40):
            options = ["--resume"] if (run / "checkpoint.safetensors").exists() else []
            process = bench.start(run, "--checkpoint-seconds", "0.05", *options)
            try:
                process.wait(timeout=float(rng.uniform(0.4, 1.2)) if attempt < 30 else None)
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
        assert process.returncode == 0
        assert bench.export_digest(run) == bench.digest
    assert kills >= 10


def test_what_a_killed_process_leaves_half_written_is_removed(tmp_path: Path) -> None:
    arena = Arena([], [], [])
    (tmp_path / ".tmpA1b2C3").write_bytes(b"half")
    (tmp_path / ".checkpoint.safetensors.0123abcd.part").write_bytes(b"half")
    (tmp_path / ".tmp-mine").write_bytes(b"another's")
    checkpoint.save(tmp_path / keeping.CHECKPOINT, arena, {})
    assert keeping.remove_left(tmp_path) == [".tmpA1b2C3"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tmp-mine", keeping.CHECKPOINT]
