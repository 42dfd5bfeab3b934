"""What a shell completes: ``dsd-ort completion`` prints or installs the script, and values that options may have.

The script asks ``dsd-ort`` itself, which answers without importing what a command needs.  Installing writes one file
where the shell looks for it, and changes no file of the user's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_origin

import click
import msgspec
from click.shell_completion import CompletionItem, get_completion_class

from dsd_ort.errors import DsdError
from dsd_ort.recipe import Recipe, builtin_names
from dsd_ort.recipe.reading import tables_in

PROGRAM, VARIABLE = "dsd-ort", "_DSD_ORT_COMPLETE"
SHELLS = ("bash", "zsh", "fish")


def _place(shell: str) -> tuple[Path, str]:
    """Where a shell looks for the script of a command, and what else there may be to do."""
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    if shell == "bash":
        return data / "bash-completion" / "completions" / PROGRAM, "the package bash-completion has to be there"
    if shell == "fish":
        return config / "fish" / "completions" / f"{PROGRAM}.fish", ""
    return data / "zsh" / "site-functions" / f"_{PROGRAM}", (
        f"~/.zshrc needs, before compinit: fpath+=({data / 'zsh' / 'site-functions'})"
    )


@click.command()
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@click.option("--install", is_flag=True, help="Write it where the shell looks for it, for you alone.")
def completion(shell: str | None, install: bool) -> None:
    """Print or install what makes SHELL complete commands, options, files, recipes and their keys.

    SHELL is the one that you use, by default.

    \b
    Examples:
        dsd-ort completion --install
        dsd-ort completion bash > dsd-ort.bash
    """
    shell = shell or Path(os.environ.get("SHELL", "")).name
    if shell not in SHELLS:
        fix = "name one: dsd-ort completion bash"
        raise DsdError(f"nothing is known of the shell {shell!r}, only of {', '.join(SHELLS)}", fix=fix)
    kind = get_completion_class(shell)
    assert kind is not None, "click knows these shells"
    from dsd_ort.cli.commands import cli

    script = kind(cli, {}, PROGRAM, VARIABLE).source()
    if not install:
        click.echo(script)
        return
    path, more = _place(shell)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"the folder of the shell's completions cannot be made: {error.strerror}"
        raise DsdError(
            what, where=str(path.parent), fix=f"dsd-ort completion {shell}, into a file of your own"
        ) from error
    from dsd_ort.run.suspects import keep

    keep(path, script.encode() + b"\n")
    click.echo(f"wrote {path}: new shells complete {PROGRAM}" + (f"; {more}" if more else ""))


# --- values of options


def of_paths(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Files and folders, by the shell itself."""
    return [CompletionItem(incomplete, type="file")]


def of_recipes(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of built-in recipes, and files."""
    names = [CompletionItem(name) for name in builtin_names() if name.startswith(incomplete)]
    return names or of_paths(ctx, parameter, incomplete)


def of_keys(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """``KEY=`` of a recipe, as ``optimizer.momentum=``."""
    return [CompletionItem(f"{key}=") for key in _keys(Recipe) if key.startswith(incomplete)]


def _keys(table: type[msgspec.Struct], before: str = "") -> Iterator[str]:
    """All keys of *table* and of the tables in it; entries of arrays of tables by the number of the first."""
    for field in msgspec.structs.fields(table):
        inner, kind = tables_in(field.type), get_origin(field.type)
        if not inner or {int, float, str} & {*get_args(field.type)}:
            yield before + field.name
        for cls in inner if kind is not dict else []:  # a dict's keys are names of the model's
            yield from _keys(cls, f"{before}{field.name}.{'0.' if kind is tuple else ''}")
