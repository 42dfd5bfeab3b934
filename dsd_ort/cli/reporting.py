"""The command that shows a run or a comparison as a page: report."""

from __future__ import annotations

from pathlib import Path

import click

from dsd_ort import api
from dsd_ort.cli.options import FILE
from dsd_ort.cli.say import say


@click.command()
@click.argument("folder", type=FILE)
@click.option(
    "-o",
    "--output",
    type=FILE,
    help="The HTML file to write.  [default: report.html in FOLDER]",
)
@click.option(
    "--sheet", "sheets", type=FILE, multiple=True, help="A contact sheet that suspects wrote, to be shown too."
)
def report(folder: Path, output: Path | None, sheets: tuple[Path, ...]) -> None:
    """Show a run or a comparison as one page of HTML, with pictures.

    FOLDER is what prepare or compare made, or the .json of a scan; the run need not be complete.  The page has losses,
    metrics and rates over the updates, where the time went, and each layer's weights before pruning, under the mask and
    behind it; of a comparison the arms with their intervals, the differences by seed, and the verdict; of a scan what
    each layer bears.  It is one file, and opens from disk.  Takes matplotlib and jinja2: pip install "dsd-ort[report]".

    \b
    Examples:
        dsd-ort report run
        dsd-ort report experiment -o experiment.html
        dsd-ort report run --sheet sheet.png
        dsd-ort report scan.json
    """
    say(f"wrote {api.report(folder, output, sheets=sheets)}")
