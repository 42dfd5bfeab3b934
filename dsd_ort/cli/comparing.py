"""``dsd-ort compare``, and how it runs and is shown; the demo and the examples use the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click
import msgspec

from dsd_ort import api
from dsd_ort.api.comparison import arms
from dsd_ort.api.numbers import format_metrics
from dsd_ort.cli import columns, tables
from dsd_ort.cli.completion import of_paths
from dsd_ort.cli.options import FILE, as_json, data_option, is_default, recipe_options, training_options
from dsd_ort.cli.progress import reporter
from dsd_ort.cli.say import say
from dsd_ort.cli.stop import stoppable
from dsd_ort.recipe import MetricName, Recipe
from dsd_ort.recipe.tables import Experiment

ASKED = ("sparsities", "seeds", "select", "select_data", "kinds", "monitor", "keep", "jobs", "cell")
"""The options that make an experiment of a comparison."""
NONE = Experiment()


class _Sparsities(click.ParamType[str]):
    """One number, several with commas between, or ``auto``."""

    name = "S[,S…]|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "auto" or isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is no list of numbers: write 0.9, or 0.5,0.8,0.9, or auto", param, ctx)


def experiment_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What makes an experiment of a comparison."""
    kinds, usual = ", ".join(arms.KINDS), ", ".join(arms.USUAL)
    for option in (
        click.option(
            "--cell",
            type=click.IntRange(0),
            help="Train only this part of it, from 0, as one of many calls on any machines that share FOLDER.",
        ),
        click.option(
            "--jobs", type=click.IntRange(1), help="Trainings at a time, with the cores shared out.  [default: 1]"
        ),
        click.option(
            "--keep",
            type=click.Choice(["all", "final"]),
            help="final removes run folders as soon as they are measured.  [default: all]",
        ),
        click.option(
            "--by",
            "monitor",
            type=click.Choice(get_args(MetricName)),
            help="The metric that chooses.  [default: the recipe's monitor; of classes top-1]",
        ),
        click.option("--fresh", is_flag=True, help="One arm more: weights drawn anew, stopped early."),
        click.option("--arms", "kinds", help=f"Which arms, of {kinds}.  [default: {usual}]"),
        click.option(
            "--select-data",
            shell_complete=of_paths,
            help="Data that choose, and that MODEL has not seen.  [default: half of the evaluation data]",
        ),
        click.option(
            "--select",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            help="The share of the training data that chooses rather, where MODEL has not seen them.",
        ),
        click.option(
            "--seeds", type=click.IntRange(1), help="How often all is repeated.  [default: the recipe's, or 1]"
        ),
        click.option(
            "--sparsity",
            "sparsities",
            type=_Sparsities(),
            metavar=_Sparsities.name,
            help="Of the sparse phases; auto looks for the best.  [default: the recipe's]",
        ),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("model", type=FILE)
@click.option("-o", "--folder", type=FILE, required=True, help="Where runs, final.onnx and the results go.")
@recipe_options
@data_option
@click.option(
    "--eval-data",
    required=True,
    shell_complete=of_paths,
    help="The same, held out: what the trainings are measured on.",
)
@experiment_options
@training_options
@as_json
def compare(
    model: Path, folder: Path, recipe: Recipe, data: str, eval_data: str, *, json_: bool, **options: Any
) -> None:
    """Train MODEL with a recipe, and beside it the same budget in other ways: does pruning gain?

    All trainings have the same batches and learning rates.  Without more, DSD stands beside dense only, and
    FOLDER/final.onnx is MODEL with the weights of DSD.

    With several sparsities or seeds, or any of the options for it, it is an experiment: with dense only stopped early,
    with stronger weight decay, and DSD without suspects.  Half of the evaluation data choose, or data of their own, so
    that the others only measure; FOLDER/final.onnx is the best, or MODEL as it came where nothing is better.

    Without a recipe, the learning rates are fitted to MODEL and its data first, as fit-rates does it, and
    FOLDER/recipe.toml keeps them.

    Ctrl-C saves everything; the same command goes on, and when all is done prints the table again.

    \b
    Examples:
        dsd-ort compare model.onnx --data train.npz --eval-data test.npz -o comparison
        dsd-ort compare model.onnx --data train.npz --eval-data test.npz -o experiment --sparsity 0.8,0.9,0.95 --seeds 5
        dsd-ort compare model.onnx --data train.npz --eval-data test.npz -o experiment --sparsity auto --seeds 3
        dsd-ort compare model.onnx --data train.npz --eval-data test.npz -o experiment --seeds 50 --cell 7
        dsd-ort compare model.onnx --data train.npz --eval-data test.npz -o experiment --arms dsd,acdc,gradual --seeds 3
    """
    options["fit"] = is_default(click.get_current_context())
    asked = {name: options.pop(name) for name in ASKED}
    fresh = options.pop("fresh")
    given = asked["sparsities"]
    one = given is not None and len(given) == 1
    if not fresh and recipe.experiment == NONE and all(v is None or (one and v is given) for v in asked.values()):
        simple = arms.at(recipe, given[0]) if one else recipe
        comparison = run(api.compare, model, folder, simple, data, eval_data, quiet=json_, **options)
        _print(comparison, json_, lambda: show(comparison, f"{model.name} on {eval_data}, after each phase"))
        return
    asked = {name: value for name, value in asked.items() if value is not None}
    if "select" in asked and "select_data" in asked:
        raise click.UsageError("--select and --select-data are two ways to say the same: give one of them")
    kinds = (
        tuple(kind.strip() for kind in asked["kinds"].split(","))
        if "kinds" in asked
        else recipe.experiment.arms or arms.USUAL
    )
    asked["kinds"] = (*kinds, "fresh") if fresh else kinds
    if (number := asked.pop("cell", None)) is not None:
        if asked.keys() & {"keep", "jobs"}:
            raise click.UsageError("a cell is one job, and keeps its run folders: leave --jobs and --keep out")
        asked["number"] = number
        _print_cell(run(api.train_cell, model, folder, recipe, data, eval_data, quiet=json_, **asked, **options), json_)
        return
    found = run(api.experiment, model, folder, recipe, data, eval_data, quiet=json_, **asked, **options)
    _print(found, json_, lambda: show_experiment(found, f"{model.name} on {eval_data}"))


def _print(found: api.Comparison | api.Experiment, json_: bool, show_: Callable[[], None]) -> None:
    if json_:
        click.echo(json.dumps(found.to_dict(), indent=1))
    else:
        show_()


def _print_cell(cell: api.Cell, json_: bool) -> None:
    if json_:
        click.echo(json.dumps(msgspec.to_builtins(cell, enc_hook=str), indent=1))
        return
    for name, folder in cell.runs.items():
        said = f"ends without a result: {cell.diverged[name]}" if name in cell.diverged else str(folder)
        say(f"{name}: {said}")
    say(
        f"cell {cell.number} of 0 to {cell.of - 1} is trained; when all are, the same command without --cell measures "
        "and chooses"
    )


Found = TypeVar("Found")


def run(
    verb: Callable[..., Found], *arguments: Any, go_on: str = "the same command", quiet: bool = False, **options: Any
) -> Found:
    """*verb*, ``compare`` or ``experiment``, with progress on standard error.

    Ctrl-C ends the process, and *go_on* is what goes on.
    """
    brief = verb in (api.experiment, api.train_cell)  # of many trainings, nobody reads the epochs
    with stoppable(go_on) as stop, reporter(quiet=quiet, brief=brief) as listener:
        return verb(*arguments, listener=listener, stop=stop, **options)


def show(comparison: api.Comparison, title: str) -> None:
    """The table of both trainings, the verdict, and what the final model measures."""
    measured, cells = tables.phase_columns([msgspec.to_builtins(row) for row in comparison.rows])
    names = [[row.training, f"{row.phase} {row.kind}" if row.phase else ""] for row in comparison.rows]
    rows = [[*name, *row] for name, row in zip(names, cells, strict=True)]
    say()
    columns.show(title, {"training": "left", "phase": "left", **measured}, rows)
    tables.show_verdict(comparison.verdict, comparison.final)
    say(f"{comparison.final.name} in plain inference: {format_metrics(comparison.metrics)}")
    if comparison.worse:
        say(f"that is worse than the model as it came: {format_metrics(comparison.came)}; keep the file you had")


def show_experiment(found: api.Experiment, title: str) -> None:
    """The ladder of sparsities where there is one, the table of the arms, and what was found, in words."""
    document = found.document
    say()
    if found.best_rung:
        tables.show_ladder(document.ladder, found.best_rung, document.monitor)
    sparse = any(row.arm.startswith(arms.ENDS_SPARSE) for row in found.table)
    tables.show_arms(found.table, document.monitor, title, density=sparse)
    tables.show_verdict(found.verdict, found.final)
    for sentence in document.verdict:
        say(sentence)
