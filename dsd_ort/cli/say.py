"""What is said, line by line: texts from files never command a terminal."""

from __future__ import annotations

import click

from dsd_ort.errors import DsdError
from dsd_ort.notes import plain


def say(line: str = "", *, err: bool = False) -> None:
    """One line on standard output, or error; what it quotes of files cannot break it, nor do more than be read."""
    click.echo(plain(line), err=err)


def say_error(error: DsdError, *, prefix: str = "", indent: str = "", err: bool = False) -> None:
    """An error, a line a part, *prefix* in front of the first."""
    for number, line in enumerate(error.lines()):
        say(f"{indent}{'' if number else prefix}{line}", err=err)
