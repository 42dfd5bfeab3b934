"""The commands on a model's file: inspect, check, evaluate, verify."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from dsd_ort import api
from dsd_ort.cli import checking, inspection, tables
from dsd_ort.cli.completion import of_recipes
from dsd_ort.cli.options import (
    FILE,
    RECIPE,
    as_json,
    builder_option,
    device_option,
    loss_option,
    note,
    output_option,
    recipe_of_file_or_run,
    settings_option,
    threads_option,
    weights_options,
)
from dsd_ort.cli.progress import doing
from dsd_ort.graph.program import MANIFEST, open_program


@click.command()
@click.argument("model", type=FILE, metavar="MODEL|RUN")
@loss_option
@output_option
@builder_option
@click.option("-v", "--verbose", is_flag=True, help="Name every node that training rewrites.")
@as_json
def inspect(model: Path, verbose: bool, json_: bool, **options: Any) -> None:
    """Show a model's parameters, what training rewrites in it, and all that prevents training.

    Needs no data, writes nothing, and takes seconds.  MODEL may also be a training graph that ONNX
    Runtime's own exporter wrote: its folder, or its training_model.onnx.  Of a run folder, it shows what was prepared
    and how far it is.

    \b
    Examples:
        dsd-ort inspect model.onnx
        dsd-ort inspect run
    """
    if (model / MANIFEST).exists():
        _inspect_run(model, json_)
        return
    found = api.inspect(model, **options)
    if json_:
        click.echo(json.dumps(inspection.inspection_data(found), indent=1))
    else:
        inspection.show_inspection(found, verbose=verbose)


def _inspect_run(run: Path, json_: bool) -> None:
    program, status = open_program(run), api.status(run)
    if json_:
        click.echo(json.dumps(tables.program_data(program) | {"status": status.to_dict()}, indent=1))
        return
    tables.show_program(program)
    tables.show_status(status)


@click.command()
@click.argument("model", type=FILE)
@click.option("--recipe", type=FILE, shell_complete=of_recipes, help=f"{RECIPE}  [default: a loss that fits]")
@loss_option
@output_option
@builder_option
@click.option("--data", help="Real examples, as for train.  [default: made up from the model's signature]")
@click.option("--shape", "shapes", multiple=True, metavar="NAME=2x3x224x224", help="Of an input that is made up.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    show_default=True,
    help="About what it may take: more gradients are then checked together, and what is left is not checked.",
)
@click.option("--thorough", is_flag=True, help="Every gradient for itself, however long it takes.")
@threads_option
@click.option("-v", "--verbose", is_flag=True, help="Show all gradients, not only those that are not right.")
@as_json
def check(
    model: Path, recipe: Path | None, shapes: tuple[str, ...], verbose: bool, json_: bool, **options: Any
) -> None:
    """Prove that MODEL trains: every gradient against finite differences of plain inference.

    The first line is the answer: it trains, does not, or is not proven to.
    Exit status 0 if nothing is wrong and half of the gradients or more is proven right, 1 otherwise, 3 if the
    model cannot be trained.  Nothing is written.  MODEL may also be a training graph of ONNX Runtime's own exporter.

    \b
    Examples:
        dsd-ort check model.onnx
        dsd-ort check model.onnx --shape image=2x3x224x224 --thorough
    """
    with doing(quiet=json_) as listener:
        report = api.check(
            model,
            api.completed(recipe, model) if recipe else None,
            shapes=dict(map(_shape, shapes)),
            listener=listener,
            **options,
        )
    if json_:
        click.echo(json.dumps(report.to_dict(), indent=1))
    else:
        checking.show_report(report, verbose=verbose)
    sys.exit(0 if report.ok else 1)


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    """``NAME=2x3x224x224``."""
    name, equals, sizes = text.rpartition("=")
    try:
        shape = tuple(int(size) for size in sizes.split("x")) if sizes else ()
    except ValueError:
        shape = (-1,)
    if not (name and equals) or any(size < 0 for size in shape):
        raise click.BadParameter(f"{text!r} is no NAME=2x3x224x224", param_hint="--shape")
    return name, shape


@click.command()
@click.argument("model", type=FILE, metavar="MODEL|RUN")
@click.option("--data", required=True, help="As for train.")
@click.option(
    "--recipe",
    type=FILE,
    shell_complete=of_recipes,
    help=f"{RECIPE}  Its loss, metrics and data count, and may be all that it has.",
)
@loss_option
@output_option
@settings_option
@weights_options
@device_option
@threads_option
@as_json
def evaluate(
    model: Path, data: str, recipe: Path | None, settings: tuple[str, ...], json_: bool, **options: Any
) -> None:
    """Measure an ONNX file, or a run's weights, on data.

    A run has its own recipe.  Beside a file that dsd-ort exported is another that says how it is used, final.toml
    beside final.onnx: loss and data are taken from there, and from --recipe what that has.  Of any other file the loss
    fits the output, and 8-bit data become numbers from 0 to 1: where the model was trained on others, as normalised
    pictures, say so.

    \b
    Examples:
        dsd-ort evaluate final.onnx --data test.npz
        dsd-ort evaluate final.onnx --data test.npz --loss huber
        dsd-ort evaluate model.onnx --data test.npz --set data.mean=[0.286] --set data.std=[0.353]
        dsd-ort evaluate run --data test.npz --phase 2
    """
    chosen = recipe_of_file_or_run(model, recipe, settings, options)
    metrics = api.evaluate(model, data, chosen, listener=note, **options)
    if json_:
        click.echo(json.dumps(metrics, indent=1))
    else:
        tables.show_metrics(metrics)


@click.command()
@click.argument("model", type=FILE)
@click.argument("final", type=FILE)
@as_json
def verify(model: Path, final: Path, json_: bool) -> None:
    """Prove that FINAL is MODEL with other weights: exit status 0 if so, 1 if not.

    \b
    Example:
        dsd-ort verify model.onnx final.onnx && echo the same graph
    """
    verdict = api.verify(model, final)
    if json_:
        click.echo(json.dumps(verdict.to_dict(), indent=1))
    else:
        tables.show_verdict(verdict, final)
    sys.exit(0 if verdict.same else 1)
