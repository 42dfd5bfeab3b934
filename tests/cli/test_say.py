"""What stands in files is read on a terminal, and never commands it; a defect of ours is one message and a log."""

from __future__ import annotations

import re
import tempfile
from functools import partial
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsd_ort import api
from dsd_ort.cli.columns import show
from dsd_ort.errors import DsdError, ModelError
from dsd_ort.notes import plain
from tests.cli.conftest import Command

EVIL = "\x1b]0;title\x07\x1b[31mred\nfix:   rm -r \u202e[bold]x[/bold]"


@given(st.text())
def test_what_is_plain_is_one_line_of_what_can_be_printed(text: str) -> None:
    said = plain(text)
    assert said.isprintable()
    assert len(said.splitlines()) <= 1


@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"])))
def test_what_can_be_printed_stays_as_it_is(text: str) -> None:
    assert plain(text) == text


@given(
    st.text(st.characters(exclude_characters="\\"), max_size=20),
    st.text(st.characters(exclude_characters="\\"), max_size=20),
)
def test_two_names_are_never_said_alike(one: str, other: str) -> None:
    assert (plain(one) == plain(other)) == (one == other)


@given(st.text(), st.text(), st.text())
def test_an_error_has_a_line_a_part_whatever_it_quotes(what: str, where: str, fix: str) -> None:
    lines = DsdError(what, where=where, fix=fix).lines()
    assert len(lines) == 1 + bool(where) + bool(fix)
    assert all(len(plain(line).splitlines()) <= 1 for line in lines)


def test_a_table_shows_names_as_they_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    show(EVIL, {"name": "left"}, [[EVIL]])
    said = capsys.readouterr().out
    assert "\x1b" not in said and "\u202e" not in said
    assert said.count("[bold]x[/bold]") == 2


def with_names(folder: Path) -> None:
    """The model with an evil name for each node, and for a weight."""
    made = onnx.load(folder / "model.onnx")
    for node in made.graph.node:
        node.name = EVIL
        node.input[:] = [name.replace("fc.weight", EVIL) for name in node.input]
    for tensor in made.graph.initializer:
        tensor.name = tensor.name.replace("fc.weight", EVIL)
    made.producer_name = EVIL
    (folder / "model.onnx").write_bytes(made.SerializeToString())


def test_names_of_a_model_are_shown_escaped_and_name_no_file(folder: Path, dsd_ort: Command) -> None:
    with_names(folder)
    (folder / "recipe.toml").write_text('freeze = ["nothing*"]\n' + (folder / "recipe.toml").read_text())
    train = ("train", "run", "--data", "data.npz", "--threads", 1)
    commands = [("inspect", "model.onnx", "-v"), ("prepare", "model.onnx", "-o", "new", "--recipe", "recipe.toml")]
    commands += [("prepare", "model.onnx", "-o", "run"), train, ("export", "run", "-o", "final.onnx")]
    said = [dsd_ort(*command) for command in commands]
    assert [answer.status for answer in said] == [0, 3, 0, 0, 0]
    for answer in said:
        assert [c for c in answer.out + answer.err if not c.isprintable() and c != "\n"] == []
        assert not re.search(r"^ *fix: +rm", answer.out + answer.err, re.MULTILINE)
    assert r"\x1b" in said[0].out
    assert [path for path in folder.rglob("*") if "red" in path.name or "title" in path.name] == []


def test_a_defect_is_one_message_and_its_traceback_is_in_the_log(
    folder: Path, dsd_ort: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise KeyError(EVIL)

    monkeypatch.setattr(api, "inspect", fails)
    monkeypatch.setattr("dsd_ort.errors.tempfile.mkstemp", partial(tempfile.mkstemp, dir=tmp_path))
    answer = dsd_ort("inspect", "model.onnx")
    assert answer.status == 70
    assert "Traceback" not in answer.err
    assert len(answer.err.splitlines()) == 2
    found = re.fullmatch(r"  fix:   please report it, with (.*\.log)", answer.err.splitlines()[1])
    assert found
    log = Path(found[1]).read_text("utf-8")
    assert "Traceback (most recent call last)" in log and "KeyError" in log


def test_a_defect_is_told_where_no_log_can_be_written(
    folder: Path, dsd_ort: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ValueError("wrong")

    monkeypatch.setattr(api, "inspect", fails)
    monkeypatch.setattr("dsd_ort.errors.tempfile.mkstemp", partial(tempfile.mkstemp, dir=folder / "nowhere"))
    answer = dsd_ort("inspect", "model.onnx")
    assert answer.status == 70
    assert re.search(r"please report it, with line \d+ of .*test_say\.py", answer.err)


def test_an_error_inside_of_several_has_lines_of_its_own() -> None:
    both = DsdError("both")
    both.causes = (ModelError("one\ntwo", fix="mend"), ModelError("other"))
    assert both.lines() == ["one\ntwo", "  fix:   mend", "other"]
