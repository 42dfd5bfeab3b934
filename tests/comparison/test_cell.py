"""Cells: parts of an experiment that calls of their own train, in any order and side by side."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dsd_ort
from dsd_ort.errors import RecipeError, RunError
from dsd_ort.run.journal import read
from dsd_ort.run.lock import locked
from tests.cli.test_experiment import TEST, TRAIN, ended_with, experiment, recipe
from tests.models import write_cnn

ASKED: dict[str, Any] = {"sparsities": (0.3, 0.6), "seeds": 2, "threads": 1}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_cnn(tmp_path / "model.onnx")


def cell(model: Path, folder: Path, number: int, **options: Any) -> dsd_ort.Cell:
    return dsd_ort.train_cell(model, folder, recipe(), TRAIN, TEST, number=number, **{**ASKED, **options})


def test_an_experiment_of_cells_ends_as_one_that_trained_all(model: Path, tmp_path: Path) -> None:
    """In an order of chance; what is left is done by the experiment itself."""
    first = cell(model, tmp_path / "cells", 1)
    assert first.of > 2
    assert all((folder / "manifest.json").exists() for folder in first.runs.values())
    for number in range(first.of - 1, 1, -1):
        cell(model, tmp_path / "cells", number)
    begun: list[str] = []

    def listener(event: dict[str, Any]) -> None:
        begun.extend([event["run"]] if event["event"] == "training" else [])

    found = experiment(tmp_path / "cells", listener=listener)
    assert {Path(run).parent.name for run in begun} == {"seed-0"}, "only what no cell has trained"
    whole = experiment(tmp_path / "whole")
    assert ended_with(tmp_path / "cells") == ended_with(tmp_path / "whole")
    assert [(r.arm, r.seed, r.measured) for r in found.document.results] == [
        (r.arm, r.seed, r.measured) for r in whole.document.results
    ]


def test_a_cell_goes_on_where_it_was_stopped_and_does_nothing_twice(model: Path, tmp_path: Path) -> None:
    asked = iter([False] * 3 + [True])
    with pytest.raises(dsd_ort.errors.Stopped):
        cell(model, tmp_path / "cells", 0, stop=lambda: next(asked, False))
    runs = cell(model, tmp_path / "cells", 0).runs
    journals = {run: read(run) for run in runs.values()}
    assert all(events[-1]["event"] == "end" for events in journals.values())
    assert cell(model, tmp_path / "cells", 0).runs == runs
    assert {run: read(run) for run in runs.values()} == journals


def test_a_number_means_the_same_cell_whatever_is_measured(model: Path, tmp_path: Path) -> None:
    before = cell(model, tmp_path / "cells", 1)
    experiment(tmp_path / "cells")
    assert cell(model, tmp_path / "cells", 1) == before


def test_a_wrong_number_names_all_cells(model: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="there is no cell 99") as caught:
        cell(model, tmp_path / "cells", 99)
    assert "0: " in str(caught.value)
    assert "seed 1" in str(caught.value)


def test_a_call_waits_while_another_one_begins(model: Path, tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    text = (
        "import sys, time; from pathlib import Path; from dsd_ort.run.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(3)"
    )
    holding = [sys.executable, "-c", text, str(tmp_path / "cells")]
    notes: list[str] = []
    with subprocess.Popen(holding, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        cell(model, tmp_path / "cells", 0, listener=lambda e: notes.append(e["text"]) if e["event"] == "note" else None)
    assert any("waiting until it has begun" in note for note in notes)


def test_a_run_that_another_process_trains_is_refused(model: Path, tmp_path: Path) -> None:
    run = next(iter(cell(model, tmp_path / "cells", 0).runs.values()))
    (run / "checkpoint.safetensors").unlink()
    (run / "journal.jsonl").unlink()
    with locked(run), pytest.raises(RunError):
        cell(model, tmp_path / "cells", 0)
