"""``dsd-ort fit-rates``: the curve of a learning-rate range test, and the recipe that follows from it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import click

from dsd_ort import api
from dsd_ort.cli.columns import show
from dsd_ort.cli.options import FILE, as_json, data_option, device_option, recipe_options, threads_option
from dsd_ort.cli.progress import doing
from dsd_ort.cli.say import say
from dsd_ort.recipe import Recipe, to_toml


@click.command()
@click.argument("model", type=FILE)
@recipe_options
@data_option
@device_option
@threads_option
@as_json
def fit_rates(model: Path, recipe: Recipe, data: str, *, json_: bool, **options: Any) -> None:
    """Print a recipe whose learning rates fit MODEL and its training data, as TOML.

    A range test: a few updates at each rate, from MODEL's own weights, pruned where the recipe starts sparse; the rate
    with the lowest loss, on a tenth of the data that is held back, is the recipe's highest, and the others keep their
    ratio to it.  The table of losses goes to standard error.

    \b
    Examples:
        dsd-ort fit-rates model.onnx --data train.npz > recipe.toml
        dsd-ort fit-rates model.onnx --data train.npz --recipe mine.toml --set optimizer.name=sgd
    """
    with doing(quiet=json_) as tell:
        tell("testing learning rates")
        found = api.fit_rates(model, recipe, data, listener=lambda point: tell(f"tested {point.rate:g}"), **options)
    if json_:
        click.echo(json.dumps(found.to_dict(), indent=1))
        return
    curve = found.curve
    rows = [["as it came", f"{curve.came:.4g}", ""]]
    rows += [["pruned", f"{curve.start:.4g}", ""]] if recipe.phase[0].kind == "sparse" else []
    for rate, loss in curve.points:
        shown = f"{loss:.4g}" if math.isfinite(loss) else "not finite"
        rows.append([f"{rate:g}", shown, "chosen" if rate == found.rate else ""])
    show(f"{model.name}: loss after a few updates", COLUMNS, rows, stderr=True)
    say(found.why, err=True)
    say(f"# {model.name}: {found.why}")
    click.echo(to_toml(found.recipe), nl=False)


COLUMNS = {"learning rate": "right", "loss": "right", "": "left"}
