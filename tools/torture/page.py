"""The table of a page: what was tried, and what was lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- torture: written by tools.torture -->", "<!-- end of torture -->"


def table(done: dict[str, Any]) -> Iterator[str]:
    """As Markdown: trials, how many met the verb at work (of damage: were refused by name), and what was lost."""
    yield "| what | tried | disturbed | lost |"
    yield "|---|--:|--:|--:|"
    for what, row in sorted(done["trials"].items()):
        yield f"| {what} | {row['tried']} | {row['reached']} | {row['lost']} |"


def write(path: Path, done: dict[str, Any]) -> None:
    """Writes the table between its marks in the page."""
    text = path.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    path.write_text("\n".join([before + BEGIN, "", *table(done), "", END]) + after, "utf-8")
