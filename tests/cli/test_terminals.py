"""What is printed on terminals narrow and wide, without colours, and into pipes that somebody closes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dsd_ort

pty = pytest.importorskip("pty", reason="needs pseudo-terminals")
ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "dsd_ort"]
ESCAPE = re.compile(r"\x1b\[([\d;?]*)([A-Za-z])")


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM")}
    return {**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **more}


def on_terminal(*arguments: str, columns: int, **more: str) -> str:
    """What the command writes on a terminal of that width."""
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment(**more), close_fds=True
    )
    os.close(theirs)
    found = b""
    try:
        while part := os.read(ours, 65536):
            found += part
    except OSError:  # Linux says so when the other end is closed
        pass
    finally:
        os.close(ours)
    assert process.wait(60) == 0
    return found.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_table_is_as_wide_as_the_terminal_at_most(columns: int) -> None:
    text = ESCAPE.sub("", on_terminal("recipes", columns=columns))
    assert max(len(line) for line in text.splitlines()) <= columns
    letters = re.sub(r"[\s│┃━─┏┓┡┩└┘╇┴┳┼├┤]", "", text)
    assert "paper/deepspeech2" in letters, "nothing is cut off"


@pytest.mark.parametrize("columns", [60, 200])
def test_help_is_as_wide_as_the_terminal_and_not_wider_than_one_reads(columns: int) -> None:
    text = ESCAPE.sub("", on_terminal("train", "--help", columns=columns))
    written = text.partition("Options:")[2].splitlines()
    assert max(map(len, written)) <= min(columns, 100)


def test_without_colours_none_are_written() -> None:
    colours = [code for code, kind in ESCAPE.findall(on_terminal("recipes", columns=80)) if kind == "m"]
    assert colours, "a terminal has some"
    bare = [code for code, kind in ESCAPE.findall(on_terminal("recipes", columns=80, NO_COLOR="1")) if kind == "m"]
    assert not [code for code in bare if set(code.split(";")) - {"", "0", "1", "3", "22", "23"}], "weight is no colour"


def test_into_a_pipe_no_escapes_are_written_and_lines_are_long() -> None:
    answer = subprocess.run([*COMMAND, "recipes"], capture_output=True, text=True, env=environment(), check=True)
    assert "\x1b" not in answer.stdout and answer.stderr == ""
    assert max(map(len, answer.stdout.splitlines())) > 80


def test_a_pipe_that_is_closed_is_no_error_of_ours() -> None:
    process = subprocess.Popen(
        [*COMMAND, "journal", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    said = process.stderr.read().decode()
    process.stderr.close()
    process.wait(60)
    assert "Traceback" not in said and "BrokenPipe" not in said


def test_the_version_is_told() -> None:
    answer = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, env=environment(), check=True)
    assert answer.stdout == f"dsd-ort, version {dsd_ort.__version__}\n"
