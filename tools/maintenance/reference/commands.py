"""The page of the commands: each one's help, from click."""

from __future__ import annotations

import inspect
import textwrap

import click

from dsd_ort.cli.commands import COMMANDS, cli


def page() -> str:
    """Markdown."""
    parts = ["# Commands\n", "All of them take `--help`. Written from the commands themselves.\n"]
    for name in COMMANDS:
        context = cli.make_context("dsd-ort", [], resilient_parsing=True)
        command = cli.get_command(context, name)
        assert command is not None
        parts += [f"## dsd-ort {name} {{ #{name} }}\n", *_help(command), *_usage(command, context, name)]
    return "\n".join(parts)


def _help(command: click.Command) -> list[str]:
    """Paragraphs; one behind click's mark for it keeps its lines."""
    parts = []
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b"):
            title, _, lines = paragraph.removeprefix("\b\n").partition("\n")
            parts.append(f"{title}\n\n```console\n{textwrap.dedent(lines)}\n```\n")
        else:
            parts.append(_text(paragraph) + "\n")
    return parts


def _usage(command: click.Command, above: click.Context, name: str) -> list[str]:
    context = click.Context(command, info_name=name, parent=above)
    lines = [f"```console\n{' '.join([context.command_path, *command.collect_usage_pieces(context)])}\n```\n"]
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record and record[1]:
            lines.append(f"- `{record[0]}`: {_text(record[1])}")
    return [*lines, ""]


def _text(help_text: str) -> str:
    """What Markdown would read otherwise, as it is."""
    return help_text.replace("<", "&lt;").replace("*", "\\*").replace("[", "\\[")
