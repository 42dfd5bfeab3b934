"""docs/performance.md is what was measured."""

from __future__ import annotations

import json
from pathlib import Path

from tools.benchmarks.pytorch import page


def test_the_page_is_written_from_the_measurements() -> None:
    rows = json.loads(Path("docs/bench_pytorch.json").read_text("utf-8"))
    assert page.PAGE.read_text("utf-8") == page.page(rows)


def test_the_readme_says_what_was_measured() -> None:
    """Words may be broken into lines anywhere."""
    rows = json.loads(Path("docs/bench_pytorch.json").read_text("utf-8"))
    assert page.short(rows) in " ".join(Path("README.md").read_text("utf-8").split())
