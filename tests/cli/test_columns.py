"""A table is the one that rich draws row by row, whichever way it takes."""

from __future__ import annotations

import contextlib
import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from dsd_ort.cli import columns
from dsd_ort.notes import plain

TEXTS = st.text(st.sampled_from("ab[]:/é日‖\u0301  \n"), max_size=30)


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict[str, str], list[list[str]]]:
    """Some fit into one line, some do not."""
    heads = draw(st.lists(st.text("xyz", min_size=1, max_size=9), min_size=1, max_size=8, unique=True))
    sides = st.sampled_from(["left", "right"])
    row = st.lists(TEXTS, min_size=len(heads), max_size=len(heads))
    return {head: draw(sides) for head in heads}, draw(st.lists(row, max_size=5))


@given(tables())
def test_a_table_is_drawn_as_row_by_row(made: tuple[dict[str, str], list[list[str]]]) -> None:
    heads, rows = made
    expected = Table(title="title", title_justify="left", title_style="bold")
    for name, side in heads.items():
        expected.add_column(name, justify="right" if side == "right" else "left", overflow="fold")
    for row in rows:
        expected.add_row(*map(plain, row))
    said, drawn = io.StringIO(), io.StringIO()
    Console(file=drawn, emoji=False, markup=False, width=columns.WIDTH).print(expected)
    with contextlib.redirect_stdout(said):
        columns.show("title", heads, rows)
    assert said.getvalue() == drawn.getvalue()


def test_texts_that_do_not_fit_stay_in_their_rows() -> None:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        columns.show("", {"name": "left", "size": "right"}, [["a" * 200, "1"], ["b", "2"]])
    first, second = (line for line in said.getvalue().splitlines() if line.rstrip("│ ").endswith(("1", "2")))
    assert first.count("a") > 100
    assert "b" in second
