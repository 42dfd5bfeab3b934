from __future__ import annotations

import json
from pathlib import Path

from dsd_ort.run.journal import FILE, Event, Journal, read


def test_events_are_recorded_in_order_and_told(tmp_path: Path) -> None:
    heard: list[Event] = []
    journal = Journal(tmp_path, heard.append)
    journal.write("phase", 0, kind="dense")
    journal.tell({"event": "tick"})
    journal.write("epoch", 5, train_loss=0.5)
    journal.close()
    assert [e["event"] for e in heard] == ["phase", "tick", "epoch"]
    assert [(e["event"], e["step"]) for e in read(tmp_path)] == [("phase", 0), ("epoch", 5)]
    assert len((tmp_path / FILE).read_text().splitlines()) == 2


def test_what_a_resumed_run_does_again_counts_once(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    for step in range(4):
        first.write("progress", step)
    first.close()
    second = Journal(tmp_path)
    second.resume(1, keep=2)
    second.write("progress", 2)
    second.close()
    third = Journal(tmp_path)
    assert third.count == 3
    third.resume(1, keep=2)
    third.write("progress", 2)
    third.close()
    assert [e["step"] for e in read(tmp_path)] == [0, 1, 2]
    assert len((tmp_path / FILE).read_text().splitlines()) == 8


def test_a_line_that_a_crash_tore_is_ignored_and_not_continued(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write("phase", 0)
    journal.close()
    with (tmp_path / FILE).open("a") as file:
        file.write('{"event": "epo')
    journal = Journal(tmp_path)
    assert journal.count == 1
    journal.write("epoch", 1)
    journal.close()
    assert [e["event"] for e in read(tmp_path)] == ["phase", "epoch"]
    assert json.loads((tmp_path / FILE).read_text().splitlines()[-1])["event"] == "epoch"


def test_a_journal_without_events_leaves_no_file(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.tell({"event": "tick"})
    journal.close()
    assert not (tmp_path / FILE).exists()


def test_no_journal_is_no_events(tmp_path: Path) -> None:
    assert read(tmp_path) == []
