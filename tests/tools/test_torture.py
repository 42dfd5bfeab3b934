"""The short form of ``python -m tools.torture``, and that it would tell what was lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SHORT = ("--kills", "12", "--terms", "6", "--full", "8", "--damage", "1", "--mutated", "15")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="name spaces, /proc and what fork() does are Linux's")


def torture(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.torture", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_nothing_is_lost_and_a_second_call_does_nothing_again(tmp_path: Path) -> None:
    results = tmp_path / "torture.json"
    answer = torture(*SHORT, "--seed", "7", "--json", str(results))
    assert answer.returncode == 0, answer.stderr[-3000:]
    found = json.loads(results.read_text())
    assert found["lost"] == []
    assert sum(row["tried"] for row in found["trials"].values()) >= 12 + 6 + 8 + 12 + 15
    assert sum(row["reached"] for what, row in found["trials"].items() if "SIGKILL" in what) >= 1
    assert torture("--kills", "12", "--json", str(results)).returncode == 0
    assert json.loads(results.read_text())["trials"] == found["trials"]


def test_what_was_lost_is_told_with_exit_status_1(tmp_path: Path) -> None:
    results = tmp_path / "torture.json"
    row = {"tried": 1, "reached": 1, "lost": 1}
    results.write_text(
        json.dumps({"trials": {"SIGKILL in train": row}, "counts": {"kills": 1}, "lost": ["kills 0: x"]})
    )
    answer = torture("--kills", "1", "--json", str(results))
    assert answer.returncode == 1 and "LOST kills 0: x" in answer.stderr
    assert "| SIGKILL in train | 1 | 1 | 1 |" in answer.stdout


def test_the_page_has_what_was_measured() -> None:
    page, results = (ROOT / "docs" / name for name in ("reliability.md", "torture.json"))
    found = json.loads(results.read_text())
    assert found["lost"] == []
    for what, row in found["trials"].items():
        assert f"| {what} | {row['tried']} | {row['reached']} | {row['lost']} |" in page.read_text("utf-8")
