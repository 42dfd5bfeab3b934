"""Runs the cases, each in a folder of its own, and writes the page of what dsd-ort said."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dsd_ort.cli import _status
from dsd_ort.cli.commands import cli
from tools.maintenance.bad_input.cases import GROUPS, Case, sound

PAGE = Path(__file__).parents[3] / "docs" / "errors.md"
HEAD = """# Bad input, and what is said to it

Made by `python -m tools.maintenance.bad_input`, which does each of these things to a sound model, recipe or data set,
and runs the command; `tests/tools/test_bad_input.py` holds the page to what is said now. A message says what is wrong,
where, and what to do. The exit status is 3, and nothing is written. Why each is refused:
[what is let in](reliability.md).

"""


def said(case: Case) -> tuple[int, str]:
    """Exit status and message of one case."""
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder) if hasattr(contextlib, "chdir") else _in(folder),
    ):
        sound(Path(folder))
        case.change(Path(folder))
        out, err = io.StringIO(), io.StringIO()
        arguments, sys.argv = sys.argv, ["dsd-ort", *case.command]
        path = list(sys.path)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = _status(cli, "dsd-ort")
        finally:
            sys.argv, sys.path[:] = arguments, path
            sys.modules.pop("loader", None)
        return status, err.getvalue().replace(str(Path(folder).resolve()), ".").replace(folder, ".")


@contextlib.contextmanager
def _in(folder: str) -> Iterator[None]:
    here = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(here)


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for group, cases in GROUPS.items():
        parts.append(f"## {group}\n\n")
        for case in cases:
            command = " ".join(case.command)
            parts.append(
                f"**{case.what[0].upper()}{case.what[1:]}**\n\n```\n$ dsd-ort {command}\n{said(case)[1]}```\n\n"
            )
    return "".join(parts).rstrip("\n") + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    print(f"{sum(map(len, GROUPS.values()))} cases in {PAGE}")
