"""``dsd-ort dequantize``: what each operator became, and the file."""

from __future__ import annotations

import json
from pathlib import Path

import click

from dsd_ort import api
from dsd_ort.cli.columns import show
from dsd_ort.cli.options import FILE, as_json
from dsd_ort.cli.say import say

COLUMNS = {"operator": "left", "becomes": "left", "nodes": "right"}


@click.command()
@click.argument("model", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="The ONNX file to write.")
@as_json
def dequantize(model: Path, output: Path, json_: bool) -> None:
    """Write the float model that a quantised MODEL stands for, which trains.

    Weights become scale * (q - zero), and each operator on quantised numbers the one on what these stand for.  What
    quantising cut off between two operators stays cut off, by a Clip.

    \b
    Example:
        dsd-ort dequantize model-int8.onnx -o float.onnx
    """
    found = api.dequantize(model, output)
    if json_:
        click.echo(json.dumps(found.to_dict(), indent=1))
        return
    rows = [[old, new, str(count)] for (old, new), count in sorted(found.became.items())]
    show(f"{model.name}: what became of its quantised operators", COLUMNS, rows)
    say(f"{output} has {len(found.weights)} weights in floating point; dsd-ort check {output} proves that it trains")
