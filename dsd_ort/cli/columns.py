"""A table for people."""

from __future__ import annotations

from collections.abc import Iterable

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from dsd_ort.notes import plain

WIDTH = 132
"""Columns of a table that nobody's terminal limits."""


def show(title: str, columns: dict[str, str], rows: list[list[str]], *, stderr: bool = False) -> None:
    """A table on standard output, or error; *columns* maps a heading to ``left`` or ``right``."""
    table = Table(title=plain(title) or None, title_justify="left", title_style="bold")
    for name, side in columns.items():
        table.add_column(name, justify="right" if side == "right" else "left", overflow="fold")
    console = Console(soft_wrap=False, emoji=False, markup=False, stderr=stderr)
    if not console.is_terminal:
        console.width = WIDTH
    texts = [list(map(plain, row)) for row in rows]
    if texts and _need(columns, texts) <= console.width:  # rich takes a third of the time for a column in one cell
        texts = [["\n".join(column) for column in zip(*texts, strict=True)]]
    for row in texts:
        table.add_row(*row)
    console.print(table)


def _need(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> int:
    """The width of a table in which each text has one line."""
    return 1 + sum(3 + max(map(cell_len, texts)) for texts in zip(columns, *rows, strict=True))
