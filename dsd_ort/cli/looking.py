"""The commands that look at a run folder and change nothing: status, journal."""

from __future__ import annotations

import csv
import json
import sys
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from dsd_ort import api
from dsd_ort.api.numbers import duration, format_metrics
from dsd_ort.api.progress import Status
from dsd_ort.cli import tables
from dsd_ort.cli.options import FILE, as_json
from dsd_ort.run.journal import Event, read

EVERY = 2.0
"""Seconds between two looks of ``--follow``."""


@click.command()
@click.argument("run", type=FILE)
@click.option("-f", "--follow", is_flag=True, help="One line that goes on until the run is complete, or until Ctrl-C.")
@as_json
def status(run: Path, follow: bool, json_: bool) -> None:
    """Tell how far RUN is, also while it trains elsewhere, and whether it goes well.

    Reads the run folder and changes nothing.

    \b
    Examples:
        dsd-ort status run
        dsd-ort status run --follow
    """
    found = api.status(run)
    if json_:
        click.echo(json.dumps(found.to_dict(), indent=1))
    elif follow:
        _follow(run, found)
    else:
        tables.show_status(found)


def _follow(run: Path, found: Status) -> None:
    console = Console(stderr=False, emoji=False, markup=False)
    with Live(Text(line(found)), console=console, auto_refresh=False) as live:
        while found.state == "training":
            time.sleep(EVERY)
            found = api.status(run)
            live.update(Text(line(found)), refresh=True)


def line(found: Status) -> str:
    """All of it in one line: ``phase 2 of 3, 140 of 600 updates, loss 0.12, …``."""
    going = next((phase for phase in found.phases if not phase.complete), found.phases[-1])
    parts = [f"{found.state}: phase {going.number} of {len(found.phases)}, {going.kind}"]
    parts += [f"{going.done:,} of {going.of:,} updates"] if going.of else []
    parts += [f"loss {found.loss:.4g}"] if found.loss is not None else []
    parts += [format_metrics(going.metrics, "eval ")] if going.metrics else []
    parts += [f"about {duration(found.seconds_left)} left"] if found.seconds_left is not None else []
    parts += [f"saved {duration(since)} ago"] if (since := found.since_checkpoint) is not None else []
    return ", ".join(parts)


@click.command()
@click.argument("run", type=FILE)
@click.option("--csv", "as_csv", is_flag=True, help="A table for spreadsheets in the place of JSON lines.")
@click.option("-o", "--output", type=FILE, help="Write it to this file.  [default: print it]")
def journal(run: Path, as_csv: bool, output: Path | None) -> None:
    """Write what RUN recorded: losses, rates and metrics by update.

    A line an event that counts, as JSON, or with --csv a table with a column for each entry and metric.  What was done
    again after a stop is there once.

    \b
    Examples:
        dsd-ort journal run --csv -o run.csv
        dsd-ort journal run | grep '"epoch"'
    """
    api.status(run)  # refuses what is no run folder
    events = read(run)
    file = sys.stdout if output is None else output.open("w", encoding="utf-8", newline="")
    try:
        if as_csv:
            _write_table(events, file)
        else:
            file.writelines(json.dumps(event) + "\n" for event in events)
    finally:
        if output is not None:
            file.close()


def _write_table(events: list[Event], file: Any) -> None:
    rows = [_flat(event) for event in events]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _flat(event: Event) -> dict[str, Any]:
    """Metrics are columns of their own."""
    metrics: dict[str, Any] = event.get("metrics", {})
    return {name: value for name, value in event.items() if name != "metrics"} | metrics
