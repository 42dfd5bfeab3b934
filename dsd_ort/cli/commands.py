"""The commands.  Each one reads options, calls the verb of the same name, and prints."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import click

from dsd_ort import __version__, api
from dsd_ort.cli import demo as demonstration
from dsd_ort.cli import tables
from dsd_ort.cli.progress import doing, reporter
from dsd_ort.errors import RecipeError
from dsd_ort.recipe import LossName, Recipe, parse_value
from dsd_ort.run.phases import Stopped

FILE = click.Path(path_type=Path)


class _Group(click.Group):
    """Keeps the order in which people meet the commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def as_json(command: Any) -> Any:
    return click.option("--json", "json_", is_flag=True, help="Print the result as JSON.")(command)


def weights_options(command: Any) -> Any:
    command = click.option("--best", is_flag=True, help="Take the phase's best epoch rather than its last.")(command)
    return click.option("--phase", type=int, help="Which phase's weights, from 1.  [default: the last complete one]")(
        command
    )


threads_option = click.option("--threads", type=click.IntRange(0), default=0, help="Of ONNX Runtime; 0: one a core.")


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="dsd-ort")
def cli() -> None:
    """Dense-Sparse-Dense training for any exported ONNX model.

    \b
    dsd-ort demo                                    see all of it on bundled data
    dsd-ort inspect model.onnx                      what can be trained, and what prevents it
    dsd-ort check model.onnx                        proof that its gradients are right
    dsd-ort prepare model.onnx -o run               make the training graphs
    dsd-ort train run --data train.npz              dense → sparse → dense
    dsd-ort export run -o final.onnx                the same model with better weights
    dsd-ort verify model.onnx final.onnx            proof that only weights differ
    """


@cli.command()
@click.argument("model", type=FILE)
@click.option("--output", help="The output that a loss reads.  [default: what most weights lead to]")
@click.option("-v", "--verbose", is_flag=True, help="Name every node that training rewrites.")
@as_json
def inspect(model: Path, output: str | None, verbose: bool, json_: bool) -> None:
    """Show a model's parameters, what training rewrites in it, and all that prevents training.

    Needs no data, writes nothing, and takes seconds: no weight is read.  MODEL may also be a training graph that ONNX
    Runtime's own exporter wrote: its folder, or its training_model.onnx.

    \b
    Example:
        dsd-ort inspect model.onnx
    """
    found = api.inspect(model, output=output)
    if json_:
        click.echo(json.dumps(tables.inspection_data(found), indent=1))
    else:
        tables.show_inspection(found, verbose=verbose)


@cli.command()
@click.argument("model", type=FILE)
@click.option("--recipe", type=FILE, help="A TOML file.  [default: the default recipe, with a loss that fits]")
@click.option(
    "--loss", type=click.Choice(get_args(LossName)), help="Without a recipe.  [default: what fits the output]"
)
@click.option(
    "--output", help="Without a recipe: the output that the loss reads.  [default: what most weights lead to]"
)
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
@as_json
def check(model: Path, recipe: Path | None, shapes: tuple[str, ...], json_: bool, **options: Any) -> None:
    """Prove that MODEL trains: every gradient against finite differences of plain inference.

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
            Recipe.load(recipe) if recipe else None,
            shapes=dict(map(_shape, shapes)),
            listener=listener,
            **options,
        )
    if json_:
        click.echo(json.dumps(report.to_dict(), indent=1))
    else:
        tables.show_report(report)
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


@cli.command()
@click.argument("model", type=FILE)
@click.option("-o", "--run", type=FILE, required=True, help="The run folder to make.")
@click.option("--recipe", type=FILE, help="A TOML file.  [default: sparse then dense, for a model that is trained]")
@click.option("--loss", type=click.Choice(get_args(LossName)), help="What is minimised.  [default: cross-entropy]")
@click.option("--output", help="The model's output that the loss reads, where it has several.")
@click.option("--label-name", help="The target's name among the data's arrays.  [default: label]")
@click.option("--batch-size", type=int, help="Examples a step.")
@click.option("--seed", type=int, help="Of shuffling and dropout.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any key of the recipe, as optimizer.momentum=0.8."
)
@as_json
def prepare(model: Path, run: Path, recipe: Path | None, settings: tuple[str, ...], json_: bool, **keys: Any) -> None:
    """Make the graphs that train MODEL, as a run folder.

    The model's file is copied and never changed.  Options override the recipe.

    \b
    Examples:
        dsd-ort prepare model.onnx -o run
        dsd-ort prepare model.onnx -o run --recipe recipe.toml --set optimizer.weight_decay=1e-4
    """
    program = api.prepare(model, run, _recipe(recipe, keys, settings, model))
    if json_:
        click.echo(json.dumps(tables.program_data(program), indent=1))
    else:
        tables.show_program(program)


@cli.command()
@click.argument("run", type=FILE)
@click.option("--data", required=True, help="A .npz, a folder of .npy, a prefix of IDX files, or module:function.")
@click.option("--eval-data", help="The same, held out: evaluated after each epoch.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint.")
@click.option("--device", type=click.Choice(["auto", "cpu"]), default="auto", show_default=True)
@threads_option
@click.option(
    "--checkpoint-seconds",
    type=click.FloatRange(0),
    default=300.0,
    show_default=True,
    help="The longest time between two checkpoints.",
)
@as_json
def train(run: Path, data: str, eval_data: str | None, json_: bool, **options: Any) -> None:
    """Train a prepared RUN through its phases.

    Arrays are matched to the model's inputs and the label by name, or by position with the label last.  Ctrl-C saves
    everything; --resume goes on to the same bytes as if nothing had happened.

    \b
    Examples:
        dsd-ort train run --data train.npz --eval-data test.npz
        dsd-ort train run --data /usr/share/datasets/fashion-mnist/train
        dsd-ort train run --data mymodule:batches
    """
    with reporter(quiet=json_) as listener, _asked_to_stop() as stop:
        try:
            api.train(run, data, eval_data=eval_data, listener=listener, stop=stop, **options)
        except (Stopped, KeyboardInterrupt):
            listener({"event": "stopped"})
            again = ["dsd-ort", "train", str(run), "--data", data, *(["--eval-data", eval_data] if eval_data else [])]
            again += ["--threads", str(options["threads"])] if options["threads"] else []
            click.echo(f"stopped; go on with: {shlex.join([*again, '--resume'])}", err=True)
            sys.exit(130)
    if json_:
        click.echo(json.dumps(api.phases(run), indent=1))
    else:
        tables.show_phases(api.phases(run))
        click.echo(f"\nnext: dsd-ort export {run} -o final.onnx")


@cli.command()
@click.argument("model", type=FILE, metavar="MODEL|RUN")
@click.option("--data", required=True, help="As for train.")
@click.option("--recipe", type=FILE, help="Loss, metrics and data section, for a model; a run has its own.")
@weights_options
@threads_option
@as_json
def evaluate(model: Path, data: str, recipe: Path | None, json_: bool, **options: Any) -> None:
    """Measure an ONNX file, or a run's weights, on data.

    \b
    Examples:
        dsd-ort evaluate final.onnx --data test.npz
        dsd-ort evaluate run --data test.npz --phase 2
    """
    if model.is_dir() and recipe:
        raise click.UsageError("a run has its own recipe: leave --recipe out")
    if model.is_file() and (options["phase"] is not None or options["best"]):
        raise click.UsageError("--phase and --best are for runs, and this is a file")
    metrics = api.evaluate(model, data, Recipe.load(recipe) if recipe else None, **options)
    if json_:
        click.echo(json.dumps(metrics, indent=1))
    else:
        tables.show_metrics(metrics)


@cli.command()
@click.argument("run", type=FILE)
@click.option("-o", "--output", "final", type=FILE, required=True, help="The ONNX file to write.")
@weights_options
@click.option("--sparse", is_flag=True, help="Ship the last sparse phase's weights.")
@as_json
def export(run: Path, final: Path, json_: bool, **options: Any) -> None:
    """Write the model with trained weights, and verify it.

    \b
    Examples:
        dsd-ort export run -o final.onnx
        dsd-ort export run -o sparse.onnx --sparse
    """
    if options["sparse"] and options["phase"] is not None:
        raise click.UsageError("--sparse means the last sparse phase: leave --phase out")
    verdict = api.export(run, final, **options)
    if json_:
        click.echo(json.dumps({"file": str(final), **verdict.to_dict()}, indent=1))
    else:
        tables.show_verdict(verdict, final)


@cli.command()
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


@cli.command()
@click.option("-o", "--folder", type=FILE, help="Where the files go.  [default: dsd-ort-demo, or the next free name]")
@threads_option
def demo(folder: Path | None, threads: int) -> None:
    """Train a small network on bundled handwritten digits, dense → sparse → dense, in a minute or two.

    \b
    Example:
        dsd-ort demo -o digits
    """
    demonstration.run(folder, threads)


@contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM came: the first one asks, the second does not wait for the end of the step."""
    asked: list[int] = []

    def ask(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        # Not print(): the signal may come while this thread is printing, and streams are not reentrant.
        os.write(2, b"\nstopping after this step; press Ctrl-C again to leave at once\n")

    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield lambda: False
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _recipe(path: Path | None, keys: dict[str, Any], settings: tuple[str, ...], model: Path) -> Recipe:
    """The recipe file, or the default one, with what the command line sets."""
    table = (Recipe.load(path) if path else api.default_recipe(model)).to_dict()
    loss_keys = {"loss": "name", "output": "output", "label_name": "label"}
    for key, value in keys.items():
        if value is None:
            continue
        if key not in loss_keys:
            table[key] = value
        elif isinstance(table["loss"], list):
            raise RecipeError(
                f"--{key.replace('_', '-')} does not say which of the recipe's losses",
                where=str(path),
                fix=f"use --set loss.0.{loss_keys[key]}=…",
            )
        else:
            table["loss"][loss_keys[key]] = value
    for setting in settings:
        _set(table, setting)
    return Recipe.from_dict(table, where="recipe with command-line options" if settings else str(path or "recipe"))


def _set(table: dict[str, Any], setting: str) -> None:
    """``a.b=value`` with the value as TOML, or as text where it is no TOML."""
    key, equals, text = setting.partition("=")
    if not equals:
        raise RecipeError(f"--set {setting} has no value", fix="write --set KEY=VALUE, as optimizer.momentum=0.8")
    *path, last = key.split(".")
    inner: Any = table
    try:
        for part in path:
            inner = inner[int(part)] if isinstance(inner, list) else inner.setdefault(part, {})
        inner[int(last) if isinstance(inner, list) else last] = parse_value(text)
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise RecipeError(
            f"--set {setting} names nothing in the recipe", fix="write it as optimizer.momentum=0.8 or phase.0.epochs=3"
        ) from error
