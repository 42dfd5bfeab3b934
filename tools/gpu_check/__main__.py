"""The command line: what to do, in which order, until it is done or the time is over."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

import tools.gpu_check as package
from dsd_ort import runtime
from tools.gpu_check import checks, correctness, networks, page, prepared, speed
from tools.gpu_check.bench import Bench, Options, Task
from tools.gpu_check.pipe import ROOT, OutOfTime, SideError
from tools.gpu_check.results import OtherDevice, Results, without_folders
from tools.measuring.machine import cpu

LEAST = 8.0
"""Seconds that have to be left for another task."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 1 if something is wrong, 2 if it could not begin, otherwise 0."""
    parser = new_parser()
    given = parser.parse_args(arguments)
    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=200, soft_wrap=True)
    options = options_of(given)
    if given.prepare:
        return prepare(console, options, given.networks)
    results = Results(given.json, retry=given.retry)
    if given.part != "page":
        try:
            measure(console, options, results, given)
        except (OtherDevice, SideError, OutOfTime) as error:
            console.print(f"cannot begin: {error}")
            return 2
    if given.markdown:
        given.markdown.write_text(page.page(results.content), "utf-8")
    show(console, results)
    return 1 if results.wrong else 0


def new_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "gpu_check", description=package.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    here = shlex.quote(sys.executable)
    trains = runtime.trains()
    parser.add_argument("part", nargs="?", default="all", choices=["all", "correctness", "speed", "page"])
    parser.add_argument("--ours", default=here if trains else "", metavar="PYTHON", help="with the training build")
    parser.add_argument("--stock", default="" if trains else here, metavar="PYTHON", help="with a stock ONNX Runtime")
    parser.add_argument("--torch", default="", metavar="PYTHON", help="with PyTorch")
    parser.add_argument("--device", default="cuda", help="cpu, cuda or cuda:1 (cuda)")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU; 0: one a core (0)")
    parser.add_argument("--seconds", type=float, default=540, help="for everything (540)")
    parser.add_argument("--patience", type=float, default=240, help="seconds for one answer of a process (240)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each side that count, at least 5 (7)")
    parser.add_argument("--round-seconds", type=float, default=0.5, help="of a turn (0.5)")
    parser.add_argument("--steps", type=int, default=200, help="of a loss curve (200)")
    parser.add_argument("--sizes", choices=["full", "tiny"], default="full", help="of the networks that are timed")
    parser.add_argument("--networks", nargs="+", choices=list(networks.SMALL), help="only these")
    parser.add_argument("--checks", nargs="+", choices=list(checks.CHECKS), default=list(checks.CHECKS))
    parser.add_argument("--precisions", nargs="+", choices=speed.PRECISIONS, default=list(speed.PRECISIONS))
    parser.add_argument("--against", nargs="+", choices=speed.AGAINST, default=list(speed.AGAINST))
    parser.add_argument("--folder", type=Path, default=Path("build/gpu-check"), help="what is prepared, and logs")
    parser.add_argument("--prepare", action="store_true", help="only prepare what needs no GPU, for --folder to travel")
    parser.add_argument("--json", type=Path, help="rows are written here; what is there already is not done again")
    parser.add_argument("--commit", help="for the page, where the host has no repository")
    parser.add_argument("--retry", action="store_true", help="do again what failed or was wrong")
    parser.add_argument("--markdown", type=Path, help="write the page")
    return parser


def options_of(given: argparse.Namespace) -> Options:
    pythons = {"training": given.ours, "stock": given.stock, "torch": given.torch}
    return Options(
        folder=given.folder,
        pythons={side: python for side, python in pythons.items() if python},
        device=given.device,
        threads=given.threads,
        seconds=given.seconds,
        patience=given.patience,
        rounds=max(5, given.rounds),
        round_seconds=given.round_seconds,
        steps=given.steps,
        sizes=given.sizes,
    )


def prepare(console: Console, options: Options, only: Sequence[str] | None) -> int:
    """Everything that needs no GPU, without what a seed brings back."""
    bench = Bench(options)
    for kind in ("small", options.sizes):
        for name in networks.SETS[kind]:
            if not only or name in only:
                began = time.monotonic()
                bench.prepare(kind, name, cpu=kind == "small")
                console.print(f"{kind} {name}: {time.monotonic() - began:.1f} s")
    bench.close()
    prepared.lighten(options.folder)
    size = sum(file.stat().st_size for file in options.folder.rglob("*") if file.is_file())
    console.print(f"{options.folder}: {size / 2**20:.0f} MiB")
    return 0


def measure(console: Console, options: Options, results: Results, given: argparse.Namespace) -> None:
    """All tasks that are not in the results yet, while there is time."""
    bench = Bench(options)
    describe(console, bench, results, given.commit or commit())
    todo = [task for task in sorted(wanted(options, given), key=lambda task: task.order) if not results.has(task.name)]
    for number, task in enumerate(todo):
        if bench.left() < LEAST:
            console.print(f"out of time, {len(todo) - number} tasks are left: run this again with the same --json")
            break
        began = time.monotonic()
        try:
            rows = task.work(bench)
        except OutOfTime:
            console.print(f"out of time in: {task.name}; run this again with the same --json")
            break
        except Exception as error:  # one row is lost, not the time on the host
            words = str(error) if isinstance(error, SideError) else f"{type(error).__name__}: {error}"
            rows = [{"error": words, "ok": False}]
        about = {"task": task.name, **task.about}
        results.add([{**about, **row, "took": round(time.monotonic() - began, 1)} for row in rows])
        console.print(f"{number + 1}/{len(todo)} {bench.left():4.0f} s left  {line(task, rows)}", markup=False)
    bench.close()
    speed.close_base(bench)


def wanted(options: Options, given: argparse.Namespace) -> list[Task]:
    small = [name for name in networks.SMALL if not given.networks or name in given.networks]
    timed = [name for name in networks.SETS[options.sizes] if not given.networks or name in given.networks]
    found: list[Task] = []
    if given.part in ("all", "correctness"):
        found += correctness.tasks(options, small, given.checks)
    if given.part in ("all", "speed"):
        found += speed.tasks(options, timed, given.precisions, given.against)
    return found


def describe(console: Console, bench: Bench, results: Results, commit: str) -> None:
    """Asks the sides what they are; one that cannot use the device is left out, and the results say so.

    Raises:
        SideError: there is no ONNX Runtime.
    """
    pythons, sides, device = bench.options.pythons, {}, {}
    missing = {side: "not given" for side in ("training", "stock", "torch") if side not in pythons}
    for side in tuple(pythons):
        try:
            answer = bench.ask(bench.side(side), hello=bench.options.device)
            if answer.get("trains", False) != (side == "training"):
                raise SideError(f"{answer['versions']['package']} is no {page.SIDES[side]}")
        except (SideError, OSError) as error:
            missing[side] = str(error)
            console.print(f"{side} ({pythons.pop(side)}) is left out: {error}", markup=False, style="bold")
            bench.close(side)
            continue
        sides[side], device = answer["versions"], device or answer["device"]
        console.print(f"{side}: {answer['device']['name']}, {answer['versions']}", markup=False)
    bench.close("torch")
    if not pythons.keys() & {"training", "stock"}:
        raise SideError("there is no ONNX Runtime that can use the device: give --ours or --stock")
    results.describe(sides, missing, device=device, cpu=cpu(), commit=commit, command=command())


def command() -> str:
    """As it was given, without the folders of this machine."""
    return without_folders(shlex.join(["python", "tools/gpu_check.py", *sys.argv[1:]]))


def commit() -> str:
    asked = ["git", "rev-parse", "--short=12", "HEAD"]
    done = subprocess.run(asked, cwd=ROOT, check=False, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def line(task: Task, rows: Sequence[dict]) -> str:
    """What came out, for the log."""
    words = []
    for row in rows:
        if "error" in row:
            words.append(f"ERROR {row['error']}")
        elif "check" in row:
            mark = "" if row["ok"] else f" WRONG (at most {row['limit']:.1e}): {row['where']}"
            words.append(f"{row['check']} {float(row['value']):.2g}{mark}")
        else:
            words.append(f"{row['ratio']:.3f} = {1e3 * row['seconds']:.4g} / {1e3 * row['other_seconds']:.4g} ms")
    return f"{task.name}: {', '.join(words)}"


def show(console: Console, results: Results) -> None:
    for table in page.tables(results.content):
        shown = Table(title=table.title, title_justify="left")
        for number, name in enumerate(table.header):
            shown.add_column(name, justify="left" if number < 2 else "right", overflow="fold")
        for cells in table.rows:
            shown.add_row(*(cell.replace("**", "") for cell in cells))
        console.print(shown)
    if results.wrong:
        console.print(f"{len(results.wrong)} rows are wrong", style="bold red")


if __name__ == "__main__":
    sys.exit(main())
