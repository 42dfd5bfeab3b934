"""The command that shows what a model says: predict."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from dsd_ort import api
from dsd_ort.api import Predicted
from dsd_ort.cli.completion import of_paths, of_recipes
from dsd_ort.cli.options import (
    FILE,
    RECIPE,
    device_option,
    loss_option,
    note,
    output_option,
    recipe_of_file_or_run,
    settings_option,
    threads_option,
    weights_options,
)
from dsd_ort.cli.say import say
from dsd_ort.errors import DataError

MOST = 32
"""Numbers of an example's output that a table has columns for."""


@click.command()
@click.argument("model", type=FILE, metavar="MODEL|RUN")
@click.option(
    "--data",
    required=True,
    shell_complete=of_paths,
    help="As for train; labels need not be there, and are passed over.",
)
@click.option("-o", "--output-file", "file", type=FILE, required=True, help="A .npz or a .csv.")
@click.option(
    "--recipe",
    type=FILE,
    shell_complete=of_recipes,
    help=f"{RECIPE}  Its loss and data count, and may be all that it has.",
)
@loss_option
@output_option
@settings_option
@weights_options
@device_option
@threads_option
def predict(model: Path, data: str, file: Path, recipe: Path | None, settings: tuple[str, ...], **options: Any) -> None:
    """Write what an ONNX file, or a run's weights, say of each example.

    A .csv has a row an example: its number, the file that it comes from, the label believed and how probable that is,
    the text where the loss is ctc, the values of small outputs otherwise.  A .npz has all outputs as arrays, under
    their names, and what is believed.  How data become inputs and outputs labels, the recipe says, as for evaluate.

    \b
    Examples:
        dsd-ort predict final.onnx --data pictures -o said.csv
        dsd-ort predict model.onnx --data test.npz --set data.mean=[0.286] --set data.std=[0.353] -o said.npz
        dsd-ort predict run --data recordings.jsonl --phase 2 -o said.csv
    """
    if file.suffix not in (".csv", ".npz"):
        raise click.UsageError(f"-o {file}: the name of what is written ends with .csv or .npz")
    chosen = recipe_of_file_or_run(model, recipe, settings, options)
    found = api.predict(model, data, chosen, listener=note, **options)
    temporary = file.with_name(f".{file.name}.tmp{file.suffix}")
    try:
        (_write_table if file.suffix == ".csv" else _write_arrays)(temporary, found)
        temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(
            f"the predictions cannot be written: {error.strerror}", where=str(file), fix="choose another place"
        ) from error
    examples = len(next(iter(found.outputs.values())))
    say(f"{file}: {examples:,} examples, {', '.join(map(repr, found.outputs))}")


def _write_arrays(path: Path, found: Predicted) -> None:
    said = {"believed": found.believed, "probability": found.probability}
    arrays: dict[str, Any] = {name: values for name, values in said.items() if values is not None} | found.outputs
    with path.open("wb") as stream:
        np.savez(stream, **arrays)


def _write_table(path: Path, found: Predicted) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(_rows(found))


def _rows(found: Predicted) -> Iterator[list[Any]]:
    columns: dict[str, Any] = {} if found.names is None else {"file": found.names}
    if found.believed is None:
        for name, values in found.outputs.items():
            flat = values.reshape(len(values), -1)
            if flat.shape[1] <= MOST:
                names = [name] if flat.shape[1] == 1 else [f"{name}.{i}" for i in range(flat.shape[1])]
                columns |= dict(zip(names, flat.T, strict=True))
    else:
        columns["believed"] = map(_shown, found.believed)
        if found.probability is not None:
            columns["probability"] = map(_shown, found.probability)
    yield ["index", *columns]
    for index, row in enumerate(zip(*columns.values(), strict=True)):
        yield [index, *row]


def _shown(value: Any) -> Any:
    """Several labels of an example with spaces between."""
    shown = np.round(value, 6) if np.asarray(value).dtype.kind == "f" else value
    return " ".join(map(str, np.ravel(shown)))
