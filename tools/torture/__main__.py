"""Kills, stops, starves and damages runs, and does them again: exit status 0 only if nothing was lost.

    python -m tools.torture --kills 200 --terms 50 --full 100 --damage 50 --mutated 5000 --json docs/torture.json

Each number is how many trials there are to be in the end (of damage: places in each file of a run folder; mutated are
folders with values that somebody chose); what the JSON file has already is not done again.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tools.measuring import machine
from tools.torture import page, trials
from tools.torture.bench import Bench
from tools.torture.mutated import mutated


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.torture", description=__doc__)
    for name in ("kills", "terms", "full", "damage", "mutated"):
        parser.add_argument(f"--{name}", type=int, default=0, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="results, which a second call goes on from")
    parser.add_argument("--page", type=Path, help="a page whose table is written anew from them")
    options = parser.parse_args()
    done: dict[str, Any] = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    done = {"trials": {}, "counts": {}, "lost": [], **done}
    done["machine"] = {"cpu": machine.cpu(), "python": platform.python_version()}
    folder, began = Path(tempfile.mkdtemp(prefix="torture.")), time.monotonic()
    try:
        _torture(folder, options, done)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.page:
        page.write(options.page, done)
    print("\n".join(page.table(done)))
    print(f"{time.monotonic() - began:.0f} s, {len(done['lost'])} lost")
    for lost in done["lost"]:
        print(f"LOST {lost}", file=sys.stderr)
    return 1 if done["lost"] else 0


def _torture(folder: Path, options: argparse.Namespace, done: dict[str, Any]) -> None:
    def left(name: str, most: int) -> range:
        return range(done["counts"].get(name, 0), most)

    kinds = {"kills": trials.kill, "terms": trials.term, "full": trials.full}
    if not options.damage and not any(left(name, getattr(options, name)) for name in (*kinds, "mutated")):
        return
    bench = Bench(folder)
    for name, trial in kinds.items():
        for number in left(name, getattr(options, name)):
            rng = np.random.default_rng([options.seed, len(name), number])
            _count(done, name, trial(bench, number, rng), number, options.json)
    state = trials.half_trained(bench)
    for number in left("mutated", options.mutated):
        rng = np.random.default_rng([options.seed, 99, number])
        _count(done, "mutated", mutated(bench, state, number, rng), number, options.json)
    for file in trials.files(state / "run") if options.damage else ():
        for number in left(f"damage {file}", options.damage):
            found = trials.damaged(bench, state, file, np.random.default_rng([options.seed, number, *file.encode()]))
            _count(done, f"damage {file}", found._replace(what=f"one bit of {file}"), number, options.json)


def _count(done: dict[str, Any], name: str, trial: trials.Trial, number: int, path: Path | None) -> None:
    row = done["trials"].setdefault(trial.what, {"tried": 0, "reached": 0, "lost": 0})
    row["tried"] += 1
    row["reached"] += trial.reached
    row["lost"] += bool(trial.lost)
    done["counts"][name] = number + 1
    if trial.lost:
        done["lost"].append(f"{name} {number}, {trial.what}: {trial.lost}")
        print(done["lost"][-1], file=sys.stderr, flush=True)
    if path:
        path.write_text(json.dumps(done, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
