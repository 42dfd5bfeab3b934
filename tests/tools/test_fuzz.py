"""Three hundred files that are almost right: each is answered or refused in one message."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random

import pytest

from tools.fuzz import KINDS
from tools.fuzz.__main__ import run
from tools.fuzz.trial import SECONDS, Case

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
DOCS = Path(__file__).parents[2] / "docs"
SEED = 20
COUNTS = {"models": 100, "recipes": 100, "data": 100}
PARTS = [(kind, begin) for kind, count in COUNTS.items() for begin in range(0, count, 100)]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("kind", "begin"), PARTS)
def test_what_is_almost_right_is_answered_or_refused(kind: str, begin: int) -> None:
    lines = list(run([Case(kind, number, SEED) for number in range(begin, begin + 100)]))
    assert [line for line in lines if line["bad"]] == []
    statuses = {status for line in lines for _, status, _ in line["ends"]}
    assert {0, 3} <= statuses <= {0, 1, 2, 3}


def test_a_case_is_made_again_by_its_number(tmp_path: Path) -> None:
    folders = [tmp_path / name / "case" for name in ("one", "other")]
    for folder in folders:
        folder.mkdir(parents=True)
    made = [KINDS["models"](folder, Random("models:1:7")) for folder in folders]
    assert made[0] == made[1]
    assert (folders[0] / "model.onnx").read_bytes() == (folders[1] / "model.onnx").read_bytes()


def test_what_was_run_by_hand_ended_well_and_the_page_says_how_much() -> None:
    stored = json.loads((DOCS / "fuzz.json").read_text("utf-8"))
    page = (DOCS / "reliability.md").read_text("utf-8")
    assert stored["bad"] == []
    assert stored["most processor seconds of a command"] <= SECONDS
    assert all(f"{count:,} {kind}" in page for kind, count in stored["cases"].items())
