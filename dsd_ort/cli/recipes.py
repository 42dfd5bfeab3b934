"""``dsd-ort recipes``: what ships with the package, to use by name or to copy and change."""

from __future__ import annotations

import itertools
import json

import click

from dsd_ort.cli.columns import show
from dsd_ort.cli.completion import of_recipes
from dsd_ort.cli.options import as_json
from dsd_ort.errors import RecipeError, nearest
from dsd_ort.recipe import BUILTIN, Recipe, builtin_names


@click.command()
@click.argument("name", required=False, shell_complete=of_recipes)
@as_json
def recipes(name: str | None, json_: bool) -> None:
    """List the built-in recipes, or print the one called NAME, to copy and change.

    \b
    Examples:
        dsd-ort recipes
        dsd-ort recipes default > recipe.toml
    """
    texts = {known: (BUILTIN / f"{known}.toml").read_text("utf-8") for known in builtin_names()}
    if name is None:
        about = {known: _about(text) for known, text in texts.items()}
        if json_:
            click.echo(json.dumps(about, indent=1, ensure_ascii=False))
        else:
            show("", {"recipe": "left", "what it is": "left"}, [list(row) for row in about.items()])
        return
    if name not in texts:
        fix = nearest(name, texts) or "the built-in ones are " + ", ".join(texts)
        raise RecipeError(f"there is no built-in recipe {name!r}", fix=fix)
    click.echo(json.dumps(Recipe.load(name).to_dict(), indent=1) if json_ else texts[name].rstrip())


def _about(text: str) -> str:
    """What a recipe's first comment says before its colon."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    return " ".join(line.lstrip("# ") for line in lines).partition(":")[0]
