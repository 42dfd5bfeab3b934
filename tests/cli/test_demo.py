"""demo: both experiments, the suspects counted, and a folder that somebody else uses."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from dsd_ort.cli import demo as module
from tests.cli.conftest import Command
from tests.cli.test_bad_input import refuse


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """One seed and two arms rather than five and four."""
    monkeypatch.setattr(module, "SEEDS", 1)
    monkeypatch.setattr(module, "ARMS", ("dense-only", "dsd"))


@pytest.mark.usefixtures("brief")
def test_it_trains_on_wrong_and_on_right_labels_and_counts_the_suspects(dsd_ort: Command, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    answer = dsd_ort("demo", "-o", folder, "--jobs", 1, "--threads", 1)
    assert answer.status == 0, answer
    clean, wrong = (np.load(folder / f"{name}.npz")["label"] for name in ("clean", "wrong"))
    assert f"{np.count_nonzero(clean != wrong)} labels are wrong now" in answer.out
    listed = [int(row["index"]) for row in csv.DictReader((folder / "suspects.csv").read_text().splitlines())]
    right = np.count_nonzero(clean[listed] != wrong[listed])
    assert f"{len(listed)} labels are not believed by the sparse network of seed 0: {right} of these" in answer.out
    # Which are mostly those that were drawn: the reason for all of it.
    assert right > 0.7 * len(listed) > 0.4 * np.count_nonzero(clean != wrong)
    for name in ("wrong", "clean"):
        found = json.loads((folder / name / "experiment.json").read_text())
        assert [r["arm"] for r in found["results"]] == ["dense-only", "dsd"]
        assert (folder / name / "final.onnx").exists()
    assert answer.out.count("is the same graph") == 2
    commands = re.findall(r"^ {3}dsd-ort (compare .*)$", answer.out, re.MULTILINE)
    again = dsd_ort(*shlex.split(commands[0]))
    assert again.status == 0 and "trainings to go" not in again.err


def test_a_folder_in_use_is_left_alone(dsd_ort: Command, folder: Path) -> None:
    refuse(dsd_ort, folder, ("demo", "-o", "."), "the demo's folder is not empty", "choose another")
