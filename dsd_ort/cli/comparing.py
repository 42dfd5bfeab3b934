"""``dsd-ort compare``, and how it runs and is shown; the demo and the examples use the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import msgspec

from dsd_ort import api
from dsd_ort.cli import tables
from dsd_ort.cli.options import FILE, as_json, data_option, recipe_options, training_options
from dsd_ort.cli.progress import format_metrics, reporter
from dsd_ort.cli.stop import stoppable
from dsd_ort.recipe import Recipe


@click.command()
@click.argument("model", type=FILE)
@click.option("-o", "--folder", type=FILE, required=True, help="Where both runs, final.onnx and report.json go.")
@recipe_options
@data_option
@click.option("--eval-data", required=True, help="The same, held out: what both trainings are measured on.")
@training_options
@as_json
def compare(
    model: Path, folder: Path, recipe: Recipe, data: str, eval_data: str, *, json_: bool, **options: Any
) -> None:
    """Train MODEL with a recipe, and beside it the same budget dense only: does pruning gain?

    Both trainings have the same seeds, batches and learning rates.  FOLDER/final.onnx is MODEL with the weights of the
    recipe.  Ctrl-C saves everything; the same command goes on, and when all is done prints the table again.

    \b
    Examples:
        dsd-ort compare model.onnx --data train.npz --eval-data test.npz -o comparison
        dsd-ort compare model.onnx --recipe recipe.toml --data train.npz --eval-data test.npz -o comparison
    """
    comparison = run(model, folder, recipe, data, eval_data, quiet=json_, **options)
    if json_:
        click.echo(json.dumps(comparison.to_dict(), indent=1))
    else:
        show(comparison, f"{model.name} on {eval_data}, after each phase")


def run(
    model: Path,
    folder: Path,
    recipe: Recipe,
    data: Any,
    eval_data: Any,
    *,
    go_on: str = "the same command",
    quiet: bool = False,
    **options: Any,
) -> api.Comparison:
    """:func:`dsd_ort.compare` with progress on standard error; Ctrl-C ends the process, and *go_on* is what goes on."""
    with stoppable(go_on) as stop, reporter(quiet=quiet) as listener:
        return api.compare(model, folder, recipe, data, eval_data, listener=listener, stop=stop, **options)


def show(comparison: api.Comparison, title: str) -> None:
    """The table of both trainings, the verdict, and what the final model measures."""
    rows = []
    for row in comparison.rows:
        [(phase, *measured, seconds)] = tables.phase_rows([msgspec.to_builtins(row)])
        rows.append([row.training, *((phase, *measured, seconds) if row.phase else ("", *measured, ""))])
    click.echo("")
    tables.show(title, {"training": "left", **tables.PHASE_COLUMNS}, rows)
    tables.show_verdict(comparison.verdict, comparison.final)
    click.echo(f"{comparison.final.name} in plain inference: {format_metrics(comparison.metrics)}")
    if comparison.worse:
        click.echo(f"that is worse than the model as it came: {format_metrics(comparison.came)}; keep the file you had")
