"""``dsd-ort fsck``: is a run folder what was written, and what can be saved of it?"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from dsd_ort import api
from dsd_ort.cli.columns import show
from dsd_ort.cli.options import FILE, as_json
from dsd_ort.cli.say import say


@click.command()
@click.argument("run", type=FILE)
@as_json
def fsck(run: Path, json_: bool) -> None:
    """Check every file of RUN, and tell what can be saved: exit status 0 if all is whole.

    Digests that were written with the files are compared with what is there now: one changed bit is found, and named.
    Changes nothing.  Exit status 1 if something is damaged or missing.

    \b
    Examples:
        dsd-ort fsck run
        dsd-ort fsck run --json
    """
    found = api.fsck(run)
    if json_:
        click.echo(json.dumps(found.to_dict(), indent=1))
    else:
        rows = [[each.file, each.holds, each.state] for each in found.findings]
        show("", {"file": "left", "what it is for": "left", "state": "left"}, rows)
        for each in found.findings:
            if each.words:
                say(f"{each.file}: {each.words}\n  fix:   {each.fix}")
        if not found.whole:
            say("\nwhat can be saved:" if found.saved else "\nnothing of it can be saved")
            for text in found.saved:
                say(f"  {text}")
    sys.exit(0 if found.whole else 1)
