"""What share of a training step its update takes, and what share memory alone would ask for.

    .venv/bin/python -m tools.benchmarks.update --json docs/bench_update.json

An update of SGD with momentum has to read weight, gradient and momentum, and to write weight and momentum: 20 bytes a
parameter; Adam 28.  At the rate at which this machine adds one array of 1 GB to another, measured in the same run, that
takes the time of ``limit``.  Step and update take turns, as in a training; of Adam and plain SGD with a table of 50,000
times 256, of which a step looks up 512 rows, ``MB`` is what would be moved if no row were left alone.  Medians; *one
thread* is the same update by one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper

import dsd_ort
from dsd_ort.graph.program import open_program
from dsd_ort.run.arena import Arena
from dsd_ort.run.engine import Engine
from dsd_ort.run.execution import Execution
from graphs import NETWORKS
from tools.benchmarks.turns import CLOCKS, take_turns
from tools.measuring.machine import cpu

ENTRIES = 128 * 1024 * 1024
"""Of each of two arrays, 1 GB together."""
RATE = 1e-4
MOMENTUM = {"momentum": 0.9, "weight_decay": 1e-4}


class Case(NamedTuple):
    network: str
    batch: int
    optimizer: dict[str, Any]


CASES = (
    Case("vgg16", 4, MOMENTUM),
    Case("resnet18", 1, MOMENTUM),
    Case("resnet18", 8, MOMENTUM),
    Case("resnet18", 1, {"name": "adam"}),
    Case("table", 8, MOMENTUM),
    Case("table", 8, {"momentum": 0.0}),
    Case("table", 8, {"name": "adam"}),
)
TABLE = """<ir_version: 8, opset_import: ["": 17]> table (int64[N, 64] tokens) => (float[N, 10] logits) {
    rows = Gather (E, tokens)  mean = ReduceMean <axes = [1], keepdims = 0> (rows)
    hidden = MatMul (mean, W1)  positive = Relu (hidden)  logits = MatMul (positive, W2)
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=sorted({case.network for case in CASES}))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="processor: where others compute too (wall)")
    parser.add_argument("--json", type=Path, help="write machine and rows to this file")
    arguments = parser.parse_args()
    machine: dict[str, Any] = {"cpu": cpu(), "threads": arguments.threads, "clock": arguments.clock}
    found = bandwidth(arguments.threads, arguments.clock)
    machine["gigabytes_per_second"] = found
    print(machine)
    rows = []
    for case in CASES:
        if case.network in arguments.networks:
            row = measure(case, arguments.rounds, arguments.threads, arguments.clock)
            row |= compare(row, max(found.values()))
            rows.append(row)
            print("  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


def bandwidth(threads: int, clock: str) -> dict[str, float]:
    """GB/s of copying one array into another, and of adding it there, by one thread and by all: the best of seven."""
    a, b = np.ones(ENTRIES, np.float32), np.ones(ENTRIES, np.float32)
    works: dict[str, tuple[int, Callable[[slice], object]]] = {
        "copy": (8, lambda part: np.copyto(b[part], a[part])),
        "add": (12, lambda part: np.add(b[part], a[part], out=b[part])),
    }
    found = {}
    with ThreadPoolExecutor(threads) as pool:
        for count in sorted({1, threads}):
            parts = [slice(ENTRIES * i // count, ENTRIES * (i + 1) // count) for i in range(count)]
            for name, (width, work) in works.items():
                (seconds,) = take_turns([partial(_all, pool, work, parts)], 7, CLOCKS[clock])
                each = min(seconds) / (count if clock == "processor" else 1)
                found[f"{name}, threads {count}"] = round(width * ENTRIES / each / 1e9, 1)
    return found


def _all(pool: ThreadPoolExecutor, work: Callable[[slice], object], parts: list[slice]) -> None:
    list(pool.map(work, parts))


def measure(case: Case, rounds: int, threads: int, clock: str) -> dict[str, Any]:
    """Medians in seconds; of the processor's, which several threads spend, a thread's."""
    with tempfile.TemporaryDirectory() as folder:
        model, run = Path(folder) / "model.onnx", Path(folder) / "run"
        feeds = write_table(model, case.batch) if case.network == "table" else write_network(model, *case[:2])
        phase = {"kind": "dense", "steps": 1, "learning_rate": RATE}
        dsd_ort.prepare(model, run, dsd_ort.Recipe.from_dict({"optimizer": case.optimizer, "phase": [phase]}))
        both, alone = new_engine(run, threads), new_engine(run, 1)
        alone.step(feeds, sparse=False, seed=0)
        steps, updates, by_one = take_turns(
            [
                lambda: both.step(feeds, sparse=False, seed=0),
                lambda: both.update(RATE, 2),
                lambda: alone.updates.run(RATE, 2, 1.0),
            ],
            rounds,
            CLOCKS[clock],
        )
    parameters, buffers = both.arena.weights.size, 3 + 2 * len(both.slots)
    several = threads if clock == "processor" else 1
    return {
        "network": case.network,
        "batch": case.batch,
        "optimizer": case.optimizer,
        "parameters": parameters,
        "MB": 4e-6 * buffers * parameters,
        "step_seconds": statistics.median(steps) / several,
        "update_seconds": statistics.median(updates) / several,
        "one_thread_seconds": statistics.median(by_one),
        "rounds": rounds,
    }


def compare(row: dict[str, Any], gigabytes_per_second: float) -> dict[str, Any]:
    """The update's share of step and update together, and what it would be if memory alone decided."""
    step, update, limit = row["step_seconds"], row["update_seconds"], row["MB"] / 1e3 / gigabytes_per_second
    return {"share": update / (step + update), "limit_seconds": limit, "limit_share": limit / (step + limit)}


def new_engine(run: Path, threads: int) -> Engine:
    program = open_program(run)
    arena = Arena.of(program)
    arena.fill_from(program.source())
    return Engine(program, arena, Execution(threads=threads))


def write_network(path: Path, network: str, batch: int) -> dict[str, Any]:
    """One of ``graphs`` at full size, and a batch for it."""
    ir.save(NETWORKS[network](), path)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch, 3, 224, 224), np.float32)
    return {"image": images, "label": rng.integers(0, 1000, batch)}


def write_table(path: Path, batch: int) -> dict[str, Any]:
    """A table that is looked up, and two small layers."""
    model, rng = onnx.parser.parse_model(TABLE), np.random.default_rng(0)
    for name, shape in {"E": (50_000, 256), "W1": (256, 256), "W2": (256, 10)}.items():
        values = 0.05 * rng.standard_normal(shape, np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    onnx.save(model, path)
    return {"tokens": rng.integers(0, 50_000, (batch, 64)), "label": rng.integers(0, 10, batch)}


if __name__ == "__main__":
    main()
