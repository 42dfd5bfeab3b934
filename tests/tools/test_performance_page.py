"""docs/performance.md is what was measured."""

from __future__ import annotations

import json
from pathlib import Path

from tools.benchmarks.pytorch import page


def test_the_page_is_written_from_the_measurements() -> None:
    rows = json.loads(Path("docs/bench_pytorch.json").read_text("utf-8"))
    assert page.PAGE.read_text("utf-8") == page.page(rows)
