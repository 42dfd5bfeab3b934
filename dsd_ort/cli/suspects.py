"""``dsd-ort suspects``: the table of the first ones, and what to do with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from dsd_ort import api
from dsd_ort.cli.columns import show
from dsd_ort.cli.options import FILE, as_json, data_option, device_option, threads_option
from dsd_ort.cli.progress import doing
from dsd_ort.cli.say import say

SHOWN = 20
"""Rows of the table; the list has all."""
COLUMNS = {
    "rank": "right",
    "example": "left",
    "given": "left",
    "believed": "left",
    "probability": "right",
    "loss dense": "right",
    "loss sparse": "right",
}


@click.command()
@click.argument("run", type=FILE)
@data_option
@click.option("-o", "--output", type=FILE, help="Where the list goes as CSV; train --without takes it.")
@click.option("--phase", type=int, help="Which sparse phase's network, from 1.  [default: the last one's]")
@click.option("--sheet", type=FILE, help="Where a PNG file goes with the pictures of the first hundred.")
@device_option
@threads_option
@as_json
def suspects(run: Path, data: str, *, json_: bool, **options: Any) -> None:
    """List the training examples whose labels the sparse network of RUN does not believe.

    A network that is sparse enough cannot learn wrong labels by heart, and gives others: those are probably wrong.
    Hard examples are among them too, and only somebody who looks can tell.

    \b
    Examples:
        dsd-ort suspects run --data train.npz -o suspects.csv
        dsd-ort suspects run --data pictures/train --sheet sheet.png
    """
    with doing(quiet=json_) as tell:
        tell("asking the sparse network for every example")
        found = api.suspects(run, data, **options)
    if json_:
        click.echo(json.dumps(found.to_dict(), indent=1))
    else:
        _show(found, run, data, options["output"])


def _show(found: api.Suspects, run: Path, data: str, output: Path | None) -> None:
    rows = [
        [
            str(suspect.rank),
            str(suspect.index) if suspect.file is None else suspect.file,
            _text(suspect.given),
            _text(suspect.believed),
            "" if suspect.probability is None else f"{suspect.probability:.3f}",
            f"{suspect.dense_loss:.3f}",
            f"{suspect.sparse_loss:.3f}",
        ]
        for suspect in found.found[:SHOWN]
    ]
    share = f"{len(found.found):,} of {found.examples:,} examples"
    show(f"{share} are not believed by the network of sparse phase {found.phase}", COLUMNS, rows)
    if len(found.found) > SHOWN:
        say(f"… and {len(found.found) - SHOWN:,} more" + (f": {output}" if output else "; -o lists all"))
    say("note: hard and rare examples are not believed either: look before you leave them out")
    if output:
        say(f"next: dsd-ort prepare MODEL -o NEW, and dsd-ort train NEW --data {data} --without {output}")
    else:
        say(f"next: dsd-ort suspects {run} --data {data} -o suspects.csv")


def _text(label: object) -> str:
    return "" if label is None else str(label)
