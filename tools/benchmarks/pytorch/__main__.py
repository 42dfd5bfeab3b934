"""The command; see the package."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tools.benchmarks.pytorch as package
from tools.benchmarks.pytorch import page
from tools.benchmarks.pytorch.measured import SIDES, Wanted, alone, measure, write, write_cheap
from tools.benchmarks.pytorch.networks import NETWORKS
from tools.benchmarks.turns import CLOCKS
from tools.measuring.children import Died, each
from tools.measuring.machine import cpu

JSON = Path("docs/bench_pytorch.json")
PATIENCE = 1800
"""Seconds of one measurement, at most."""


def main() -> None:
    parser = argparse.ArgumentParser(description=package.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"by default all: {', '.join(NETWORKS)}")
    parser.add_argument("--batches", type=int, nargs="+", help="by default all of a network")
    parser.add_argument("--sides", nargs="+", choices=SIDES[1:], default=["eager"], help="beside ours")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side that count")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="processor, with one thread: a busy machine")
    parser.add_argument("--missing", action="store_true", help="only what has fewer than --runs measurements here")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="only the memory of steps: the machine may be busy")
    parser.add_argument("--json", type=Path, default=JSON)
    parser.add_argument("--page", action="store_true", help="only write docs/performance.md")
    parser.add_argument(
        "--profile", action="store_true", help="only our step's time by operator, by ONNX Runtime's own profile"
    )
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.networks if name not in NETWORKS]:
        parser.error(f"no such network: {', '.join(unknown)}")
    if arguments.page:
        page.write(arguments.json)
        return
    chosen = arguments.networks or list(NETWORKS)
    sizes = [(name, size) for name in chosen for size in arguments.batches or NETWORKS[name].batches]
    sides = tuple(side for side in SIDES if side == "ours" or side in arguments.sides)
    wanted = [Wanted(name, size, sides, arguments.rounds, arguments.threads, arguments.clock) for name, size in sizes]
    if arguments.missing:
        wanted = [item for item in wanted if _measured(arguments.json, item) < arguments.runs]
    if arguments.memory:
        _measure_memory(wanted)
        return
    if arguments.profile:
        _profile(wanted)
        return
    for item, row in zip(wanted, _rows(wanted), strict=True):
        print(_line(item, row), flush=True)
        if "ratios" in row:
            rows = _there(arguments.json)
            rows.append({**row, "cpu": cpu(), "when": time.strftime("%Y-%m-%d %H:%M")})
            arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


def _measure_memory(wanted: list[Wanted]) -> None:
    """Each side alone in a process; what was measured before of the same is replaced."""
    for item in wanted:
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            for work in (write, write_cheap):
                _child(work, (item.network, folder))
            found = {side: _child(alone, (item, side, folder)) for side in page.SIDES}
        if ended := [f"{side}: {peak.how}" for side, peak in found.items() if isinstance(peak, Died)]:
            print(f"{item.network} {item.batch}: the process ended: {', '.join(ended)}")
            continue
        print(f"{item.network} {item.batch}: " + "  ".join(f"{side} {peak:.2f} GB" for side, peak in found.items()))
        when = time.strftime("%Y-%m-%d %H:%M")
        row = {"network": item.network, "batch": item.batch, "gigabytes": found, "cpu": cpu(), "when": when}
        rows = {(old["network"], old["batch"], old["cpu"]): old for old in [*_there(page.MEMORY), row]}
        page.MEMORY.write_text(json.dumps([*rows.values()], indent=1) + "\n")


def _profile(wanted: list[Wanted]) -> None:
    """Where our step's time goes; what was seen before of the same is replaced."""
    from tools.benchmarks.pytorch.profile import lines, profile

    for item in wanted:
        found = _child(profile, item)
        if isinstance(found, Died):
            print(f"{item.network} {item.batch}: the process ended: {found.how}")
            continue
        print(lines(found), flush=True)
        row = {key: value for key, value in found.items() if key != "nodes"}
        row |= {"cpu": cpu(), "when": time.strftime("%Y-%m-%d %H:%M")}
        rows = {(old["network"], old["batch"], old["cpu"]): old for old in [*_there(page.PROFILE), row]}
        page.PROFILE.write_text(json.dumps([*rows.values()], indent=1) + "\n")


def _rows(wanted: list[Wanted]) -> Iterator[dict[str, Any]]:
    """Each step in a process of its own, so that nothing is left from what came before."""
    for item in wanted:
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            written = _child(write, (item.network, folder))
            row = written if isinstance(written, Died) else _child(measure, (item, folder))
            if isinstance(row, Died):
                yield {"died": row.how}
                continue
            yield row


def _child(work: Callable[[Any], Any], item: Any) -> Any:
    return next(each(work, [item], seconds=PATIENCE))


def _there(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return rows


def _measured(path: Path, item: Wanted) -> int:
    here = (item.network, item.batch, item.threads, item.clock, cpu())
    same = [r for r in _there(path) if (*(r[k] for k in ("network", "batch", "threads", "clock", "cpu")),) == here]
    return sum(set(item.sides[1:]) <= {*row["ratios"], *row["refused"]} for row in same)


def _line(item: Wanted, row: dict[str, Any]) -> str:
    if "died" in row:
        return f"{item.network} {item.batch}: the process ended: {row['died']}"
    ratios = "  ".join(f"{side} {ratio:.2f}" for side, ratio in row["ratios"].items())
    refused = "".join(f"  {side}: {why}" for side, why in row["refused"].items())
    return f"{item.network} {item.batch}: {ratios}  {row['seconds']['ours']:.4f} s{refused}"


if __name__ == "__main__":
    main()
