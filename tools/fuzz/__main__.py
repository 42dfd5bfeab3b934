"""``python -m tools.fuzz``: cases, one after another, in child processes; goes on where it was interrupted."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from tools.fuzz import results
from tools.fuzz.trial import Case, work
from tools.measuring.children import Died, each

PATIENCE = 90.0
"""Seconds by the clock after which a case is taken to hang."""


@click.command()
@click.option("--models", default=0, help="Mutated ONNX files.")
@click.option("--recipes", default=0, help="Mutated recipes.")
@click.option("--data", default=0, help="Mutated data sets.")
@click.option("--seed", default=1, show_default=True)
@click.option("--only", help="One case, as models:4711, with all that is known of it.")
@click.option("--done", type=click.Path(path_type=Path), help="A file of the cases that were run, a line each.")
@click.option("--part", default="1/1", show_default=True, help="Which share of the cases, as 1/2.")
@click.option("--json", "summary", type=click.Path(path_type=Path), help="Write what --done has, in sum.")
def main(only: str | None, done: Path | None, part: str, summary: Path | None, seed: int, **counts: int) -> None:
    """Runs mutated files through the command line; exit status 1 if one ends as none must."""
    known = {tuple(json.loads(line)["case"]) for line in done.open()} if done and done.exists() else set()
    which, of = map(int, part.split("/"))
    cases = [Case(kind, number, seed) for kind, count in counts.items() for number in range(count)]
    cases = [case for case in cases if tuple(case) not in known and case.number % of == which - 1]
    if only:
        kind, number = only.split(":")
        cases = [Case(kind, int(number), seed)]
    failed = 0
    for line in run(cases):
        failed += bool(line["bad"])
        if done:
            with done.open("a") as file:
                file.write(json.dumps(line) + "\n")
        if line["bad"] or only:
            click.echo(json.dumps(line, indent=1 if only else None))
    if summary and done:
        summary.write_text(json.dumps(results.summary(done), indent=1) + "\n", "utf-8")
    sys.exit(1 if failed else 0)


def run(cases: list[Case]) -> Any:
    """What became of each case, as a line of ``--done``."""
    with tempfile.TemporaryDirectory() as folder:
        ended = each(work, ((case, folder) for case in cases), seconds=PATIENCE)
        for case, result in zip(cases, ended, strict=True):
            if isinstance(result, Died):
                yield {"case": list(case), "made": "", "ends": [], "bad": [["", "ended", result.how]]}
                continue
            made, ends = result
            bad = [[end.command, end.what, end.detail] for end in ends if end.what not in ("answer", "refused")]
            told = [[end.command, end.status, round(end.seconds, 2)] for end in ends]
            yield {"case": list(case), "made": made, "ends": told, "bad": bad}


if __name__ == "__main__":
    main()
