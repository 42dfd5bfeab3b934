"""The commands on a run folder: prepare, train, export."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import click

from dsd_ort import api
from dsd_ort.api.page.layout import require_extra
from dsd_ort.cli import tables
from dsd_ort.cli.completion import of_paths
from dsd_ort.cli.options import (
    FILE,
    as_json,
    data_option,
    is_default,
    recipe_options,
    training_arguments,
    training_options,
    weights_options,
)
from dsd_ort.cli.progress import reporter
from dsd_ort.cli.say import say
from dsd_ort.cli.stop import stoppable
from dsd_ort.launcher import is_first
from dsd_ort.recipe import Recipe


@click.command()
@click.argument("model", type=FILE)
@click.option("-o", "--run", type=FILE, required=True, help="The run folder to make.")
@recipe_options
@as_json
def prepare(model: Path, run: Path, recipe: Recipe, json_: bool) -> None:
    """Make the graphs that train MODEL, as a run folder.

    The model's file is copied and never changed.  Options override the recipe.

    \b
    Examples:
        dsd-ort prepare model.onnx -o run
        dsd-ort prepare model.onnx -o run --recipe recipe.toml --set optimizer.weight_decay=1e-4
    """
    program = api.prepare(model, run, recipe)
    if json_:
        click.echo(json.dumps(tables.program_data(program), indent=1))
        return
    tables.show_program(program)
    say(f"next: dsd-ort train {program.folder} --data DATA")
    if is_default(click.get_current_context()):
        say(f"its rates fit no model in particular; dsd-ort fit-rates {model} --data DATA finds some that fit")


@click.command()
@click.argument("run", type=FILE)
@data_option
@click.option("--eval-data", shell_complete=of_paths, help="The same, held out: evaluated first and after each epoch.")
@click.option("--without", type=FILE, help="A CSV of examples that are not trained on, in place of the recipe's.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint.")
@click.option("--micro-batch", type=click.IntRange(1), help="Cut batches into parts of this size, which ranks share.")
@click.option("--report", "report_", is_flag=True, help="Write RUN/report.html at the end, as dsd-ort report does.")
@click.option("--tensorboard", type=FILE, metavar="DIR", help="Write event files of TensorBoard there.")
@training_options
@as_json
def train(run: Path, data: str, eval_data: str | None, report_: bool, json_: bool, **options: Any) -> None:
    """Train a prepared RUN through its phases.

    Arrays are matched to the model's inputs and the label by name, or by position with the label last.  Ctrl-C saves
    everything; --resume goes on to the same bytes as if nothing had happened.  Started by mpirun or srun, the processes
    share the batches of each update, and end with the bytes of one.

    \b
    Examples:
        dsd-ort train run --data train.npz --eval-data test.npz
        dsd-ort train run --data /usr/share/datasets/fashion-mnist/train
        dsd-ort train run --data pictures/train --eval-data pictures/val
        dsd-ort train run --data train.npz --without suspects.csv
        dsd-ort train run --data recordings.jsonl
        dsd-ort train run --data mymodule:batches
        mpirun -n 4 dsd-ort train run --data train.npz --micro-batch 32
    """
    again = ["dsd-ort", "train", str(run), "--data", data, *(["--eval-data", eval_data] if eval_data else [])]
    again += training_arguments(options)
    speaks = is_first()
    again += ["--report"] if report_ else []
    again += ["--tensorboard", str(options["tensorboard"])] if options["tensorboard"] else []
    if report_:
        require_extra()  # not after hours of training
    with stoppable(shlex.join([*again, "--resume"])) as stop, reporter(quiet=json_ or not speaks) as listener:
        api.train(run, data, eval_data=eval_data, listener=listener, stop=stop, **options)
    if not speaks:
        return
    if json_:
        click.echo(json.dumps(api.phases(run), indent=1))
    else:
        tables.show_phases(api.phases(run), api.as_it_came(run))
        say()
        say(f"next: dsd-ort export {run} -o final.onnx")
    if report_:
        say(f"wrote {api.report(run)}", err=json_)


@click.command()
@click.argument("run", type=FILE)
@click.option("-o", "--output", "final", type=FILE, required=True, help="The ONNX file to write.")
@weights_options
@click.option("--sparse", is_flag=True, help="Ship the last sparse phase's weights.")
@as_json
def export(run: Path, final: Path, json_: bool, **options: Any) -> None:
    """Write the model with trained weights, and verify it.

    Of a sparse phase it also tells how sparse the file is, and what that brings: its size when it is compressed, and
    its time in ONNX Runtime, both measured.

    \b
    Examples:
        dsd-ort export run -o final.onnx
        dsd-ort export run -o sparse.onnx --sparse
    """
    if options["sparse"] and options["phase"] is not None:
        raise click.UsageError("--sparse means the last sparse phase: leave --phase out")
    verdict = api.export(run, final, **options)
    sparse = api.ships_sparse(run, phase=options["phase"], sparse=options["sparse"])
    shipped = api.shipped(run, final) if sparse else None
    if json_:
        more = {} if shipped is None else {"shipped": shipped.to_dict()}
        click.echo(json.dumps({"file": str(final), **verdict.to_dict(), **more}, indent=1))
        return
    tables.show_verdict(verdict, final)
    if shipped is not None:
        tables.show_shipped(shipped)
