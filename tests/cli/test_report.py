"""``report``, and ``train --report``: what is written where, and what is refused before hours of training."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.cli.test_bad_input import refuse


def test_a_page_is_written_and_named(dsd_ort: Command, trained: Path) -> None:
    answer = dsd_ort("report", "run")
    assert answer.status == 0 and answer.out == f"wrote {Path('run') / 'report.html'}\n"
    assert dsd_ort("report", "run", "-o", "other.html").status == 0
    assert (trained / "other.html").read_bytes() == (trained / "run" / "report.html").read_bytes()


def test_training_ends_with_one_where_it_is_asked_for(dsd_ort: Command, prepared: Path) -> None:
    answer = dsd_ort("train", "run", "--data", "data.npz", "--threads", 1, "--report")
    assert answer.status == 0 and answer.out.endswith(f"wrote {Path('run') / 'report.html'}\n")
    assert "dense → sparse 30 %" in (prepared / "run" / "report.html").read_text("utf-8")


def test_what_is_missing_is_said_before_the_first_step(
    dsd_ort: Command, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    answer = dsd_ort("train", "run", "--data", "data.npz", "--report")
    assert answer.status == 3 and 'pip install "dsd-ort[report]"' in answer.err
    assert not (prepared / "run" / "journal.jsonl").exists()


def test_what_is_no_run_is_refused(dsd_ort: Command, folder: Path) -> None:
    refuse(
        dsd_ort, folder, ("report", "nothing"), "neither a run nor a comparison", "dsd-ort prepare or dsd-ort compare"
    )
    refuse(dsd_ort, folder, ("report", "data.npz"), "neither a run nor a comparison", "give a folder")


# --- event files, which other programs show


def test_event_files_are_written_where_it_is_asked_for(
    dsd_ort: Command, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "tensorboardX", None)
        answer = dsd_ort("train", "run", "--data", "data.npz", "--tensorboard", "events")
        assert answer.status == 3 and 'pip install "dsd-ort[tensorboard]"' in answer.err
    assert dsd_ort("train", "run", "--data", "data.npz", "--tensorboard", "events", "--threads", 1).status == 0
    assert len(list((prepared / "events").glob("events.out.tfevents.*"))) == 1
