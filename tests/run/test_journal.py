from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dsd_ort.run.journal import FILE, Event, Journal, damage, read


def progress(journal: Journal, step: int) -> None:
    journal.write("progress", step, phase=1, loss=0.5)


def test_events_are_recorded_in_order_and_told(tmp_path: Path) -> None:
    heard: list[Event] = []
    journal = Journal(tmp_path, heard.append)
    journal.write("phase", 0, phase=1, kind="dense")
    journal.tell({"event": "tick"})
    journal.write("epoch", 5, phase=1, epoch=1, train_loss=0.5, metrics={}, best=True)
    journal.close()
    assert [e["event"] for e in heard] == ["phase", "tick", "epoch"]
    assert [(e["event"], e["step"]) for e in read(tmp_path)] == [("phase", 0), ("epoch", 5)]
    assert len((tmp_path / FILE).read_text().splitlines()) == 2


def test_what_a_resumed_run_does_again_counts_once(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    for step in range(4):
        progress(first, step)
    first.close()
    second = Journal(tmp_path)
    second.resume(1, keep=2)
    progress(second, 2)
    second.close()
    third = Journal(tmp_path)
    assert third.count == 3
    third.resume(1, keep=2)
    progress(third, 2)
    third.close()
    assert [e["step"] for e in read(tmp_path)] == [0, 1, 2]
    assert len((tmp_path / FILE).read_text().splitlines()) == 8


TORN = [b'{"event": "epo', b"\0\0\0\0", b'{"event": "end", "step": 3}']


@pytest.mark.parametrize("torn", TORN)
def test_what_a_crash_tore_is_ignored_and_cut_off(tmp_path: Path, torn: bytes) -> None:
    journal = Journal(tmp_path)
    journal.write("phase", 0, phase=1, kind="dense")
    journal.close()
    with (tmp_path / FILE).open("ab") as file:
        file.write(torn)
    journal = Journal(tmp_path)
    assert journal.count == 1
    journal.write("end", 1)
    journal.close()
    assert [e["event"] for e in read(tmp_path)] == ["phase", "end"]
    assert [json.loads(line)["event"] for line in (tmp_path / FILE).read_text().splitlines()] == ["phase", "end"]


def test_one_changed_bit_of_a_line_is_named_and_the_others_count(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for step in range(4):
        progress(journal, step)
    journal.resume(2, keep=3)  # itself a line that may be damaged
    progress(journal, 3)
    journal.close()
    whole = (tmp_path / FILE).read_bytes()
    for at in range(len(whole) - 1):
        for bit in (0, 5):
            (tmp_path / FILE).write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            events = read(tmp_path)
            steps = [e["step"] for e in events if e["event"] == "progress"]
            assert steps == [s for s in range(4) if s in steps], "no event counts twice, and none is changed"
            # Of the lines that are done again nobody asks any more.
            assert len(steps) == 4 or "journal.jsonl is damaged in line" in damage(events)


def test_what_a_power_failure_left_of_lines_is_done_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for step in range(3):
        progress(journal, step)
    journal.close()
    with (tmp_path / FILE).open("ab") as file:
        file.write(b"\xff\xfe\n\n{}\n\0")
    assert "damaged in line 4, 6" in damage(read(tmp_path))
    journal = Journal(tmp_path)
    journal.resume(2, keep=2)
    progress(journal, 2)
    journal.close()
    assert damage(read(tmp_path)) == "" and [e["step"] for e in read(tmp_path)] == [0, 1, 2]


def test_a_damaged_resume_line_lets_no_event_count_twice(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for step in range(4):
        progress(journal, step)
    journal.resume(1, keep=2)
    for step in (2, 3):
        progress(journal, step)
    journal.close()
    lines = (tmp_path / FILE).read_bytes().splitlines(keepends=True)
    lines[4] = lines[4].replace(b"resume", b"rasume")
    (tmp_path / FILE).write_bytes(b"".join(lines))
    assert [e["step"] for e in read(tmp_path)] == [0, 1, 2, 3]


def test_a_journal_of_an_earlier_version_is_read_and_goes_on(tmp_path: Path) -> None:
    old: list[Any] = [{"event": "progress", "step": step, "phase": 1, "loss": 0.5, "time": 0.0} for step in range(3)]
    lines = [*map(json.dumps, old), '{"event": "epo', json.dumps({"event": "resume", "step": 1, "keep": 2})]
    (tmp_path / FILE).write_text("\n".join(lines) + "\n")
    assert [e["step"] for e in read(tmp_path)] == [0, 1]
    journal = Journal(tmp_path)
    progress(journal, 2)
    journal.close()
    assert [e["step"] for e in read(tmp_path) if e["event"] == "progress"] == [0, 1, 2]


@pytest.mark.parametrize(
    "event",
    [
        {"event": "progress", "step": 1, "phase": 1},
        {"event": "progress", "step": "1", "phase": 1, "loss": 0.5},
        {"event": "progress", "step": -1, "phase": 1, "loss": 0.5},
        {"event": "resume", "step": 1, "keep": -1},
        {"event": "end", "step": 1, "command": "rm"},
        {"event": "shell", "step": 1},
        {"event": {"event": "end"}, "step": 1},
        ["end"],
        None,
    ],
)
def test_what_is_no_event_is_none(tmp_path: Path, event: object) -> None:
    (tmp_path / FILE).write_text(json.dumps(event) + "\n" + json.dumps({"event": "end", "step": 2}) + "\n")
    assert read(tmp_path) == [{"event": "end", "step": 2}]


def test_a_journal_without_events_leaves_no_file(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.tell({"event": "tick"})
    journal.close()
    assert not (tmp_path / FILE).exists()


def test_no_journal_is_no_events(tmp_path: Path) -> None:
    assert read(tmp_path) == []
