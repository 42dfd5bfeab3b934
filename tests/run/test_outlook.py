"""What a training says that it takes: memory and disk as what is there then, and time by its updates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import dsd_ort
from dsd_ort.api.numbers import amount
from dsd_ort.cli.progress import describe
from dsd_ort.graph.program import Program, open_program
from dsd_ort.run import outlook
from dsd_ort.run.arena import Arena
from dsd_ort.run.journal import Event
from tests.models import cnn_data, write_cnn

PHASES = [
    {"kind": "dense", "epochs": 2, "learning_rate": 0.05},
    {"kind": "sparse", "sparsity": 0.5, "steps": 30, "learning_rate": 0.02},
]


def prepared(tmp_path: Path, **optimizer: Any) -> Program:
    recipe = dsd_ort.Recipe.from_dict({"batch_size": 8, "phase": PHASES, "optimizer": optimizer})
    dsd_ort.prepare(write_cnn(tmp_path / "model.onnx"), tmp_path / "run", recipe)
    return open_program(tmp_path / "run")


@pytest.mark.parametrize("optimizer", [{}, {"name": "adam"}, {"momentum": 0.0}], ids=str)
def test_memory_is_that_of_the_buffers_but_for_their_gaps(tmp_path: Path, optimizer: dict[str, Any]) -> None:
    program = prepared(tmp_path, **optimizer)
    arena = Arena.of(program)
    buffers = [arena.weights, arena.gradients, *arena.slots.values(), arena.masks]
    buffers += [arena.statistics, arena.next_statistics]
    gaps = 64 * len(program.manifest.parameters) * len(buffers)
    assert 0 <= sum(buffer.nbytes for buffer in buffers) - outlook.memory(program) <= gaps


def test_disk_is_what_is_written_and_what_is_there_is_not_counted_again(tmp_path: Path) -> None:
    program, told = prepared(tmp_path), list[Event]()
    dsd_ort.train(program.folder, cnn_data(160), threads=1, until=1, listener=told.append)
    first = next(event for event in told if event["event"] == "needs")
    assert (first["memory"], first["disk"]) == (outlook.memory(program), outlook.disk(program))
    assert first["free"] > 0
    written = [program.folder / "checkpoint.safetensors", *(program.folder / "phases").iterdir()]
    there = sum(file.stat().st_size for file in written)
    headers = 4000 * len(written)
    assert len(written) == 3 and 0 < there - (first["disk"] - _rest(program)) < headers
    assert outlook.needs(program)["disk"] == max(0, first["disk"] - there)


def _rest(program: Program) -> int:
    """A second checkpoint, and the weights of the second phase."""
    trained, statistics, prunable = (
        sum(p.size for p in pieces)
        for pieces in (program.manifest.trained, program.manifest.statistics, program.manifest.prunable)
    )
    return 4 * (2 * trained + statistics) + prunable + 2 * 4 * (trained + statistics)


def test_the_time_left_is_that_of_all_updates_that_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    told, clock = list[Event](), [100.0]
    monkeypatch.setattr(outlook.time, "monotonic", lambda: clock[0])
    watch = outlook.Outlook([40, 30], None, told.append)
    for done in range(1, 30):
        watch({"event": "tick", "phase": 1, "done": done})
        clock[0] += 0.5
    [event] = told
    assert event["seconds"] == pytest.approx((40 - 21 + 30) * 0.5), "after twenty behind the first"
    assert event["memory"] is None or event["memory"] > 1e6


def test_slow_updates_are_not_waited_for_and_a_phase_to_end_after_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told, clock = list[Event](), [0.0]
    monkeypatch.setattr(outlook.time, "monotonic", lambda: clock[0])
    watch = outlook.Outlook([40, 30], 1, told.append)
    for done in (39, 1, 2):  # of two phases: the second one begins anew
        watch({"event": "tick", "phase": 1, "done": done})
        clock[0] += 60
    [event] = told
    assert event["seconds"] == pytest.approx(38 * 60)


def test_a_training_tells_both_before_they_matter(tmp_path: Path) -> None:
    told: list[Event] = []
    dsd_ort.train(prepared(tmp_path).folder, cnn_data(160), threads=1, listener=told.append)
    kinds = [event["event"] for event in told]
    assert kinds.index("needs") < kinds.index("phase") < kinds.index("outlook") < kinds.index("phase-end")
    assert kinds.count("needs") == kinds.count("outlook") == 1


def test_it_is_said_in_words() -> None:
    event = {"event": "needs", "memory": 1_234_567, "disk": 2_000_000_000, "free": 57_400_000_000}
    said = describe(event)
    assert "1.2 MB of memory" in said and "up to 2.0 GB of disk, of which 57 GB are free" in said
    assert "too little" in describe({**event, "free": 10}) and "too little" not in said
    assert describe({"event": "outlook", "seconds": 130, "memory": 4e8}).startswith(
        "  about 2 min of training to go, in 400 MB of memory"
    )
    assert describe({"event": "outlook", "seconds": 3, "memory": None}) == "", "it is done before one has read it"
    sizes = {1: "0.0 kB", 9_960: "10 kB", 999_400: "999 kB", 999_600: "1.0 MB", 1e12: "1000 GB"}
    assert [amount(size) for size in sizes] == [*sizes.values()]
