"""How long it takes until something happens: ``dsd-ort inspect`` of ResNet-50, and the first step of a run of it.

    .venv/bin/python -m tools.benchmarks.start --json docs/bench_start.json

Each time is that of a process of its own, from its start on, imports included: the clock's, and the processor's
seconds of all its threads, which other work on the machine changes little; medians count, and the least is beside them.
Rows of other processors that are in the JSON stay.
``first step begins`` is when the first batch could be computed, with weights read and the first checkpoint on disk;
``first step`` is when its update is done, by ``batch`` pictures of 224 × 224, the opening of sessions included.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
import onnxruntime
import psutil

import dsd_ort
from graphs import NETWORKS
from tools.measuring.machine import cpu, rows_of_others

NETWORK, BATCH = "resnet50", 8


class Took(NamedTuple):
    wall: float
    processor: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--first-step-of", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.first_step_of:
        first_step(arguments.first_step_of)
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(Path(folder), arguments.rounds)
    for row in rows:
        print(row, flush=True)
    if arguments.json:
        machine = {"cpu": cpu(), "cores": psutil.cpu_count(), "onnxruntime": onnxruntime.__version__}
        load = {"load": round(os.getloadavg()[1], 1)}
        rows = [*rows_of_others(arguments.json), *(row | machine | load for row in rows)]
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


def measured(folder: Path, rounds: int) -> list[dict[str, Any]]:
    ir.save(NETWORKS[NETWORK](), folder / "model.onnx")
    phase = {"kind": "dense", "steps": 1, "learning_rate": 1e-3}
    recipe = {"batch_size": BATCH, "optimizer": {"momentum": 0.9}, "data": {"mean": [0.5]}, "phase": [phase]}
    dsd_ort.prepare(folder / "model.onnx", folder / "prepared", dsd_ort.Recipe.from_dict(recipe))
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (2 * BATCH, 3, 224, 224), np.uint8)
    np.savez(folder / "data.npz", image=images, label=random.integers(0, 1000, len(images)))
    commands = {
        "an import of NumPy": lambda: process(["-c", "import numpy"]),
        "help": lambda: process(["-m", "dsd_ort", "--help"]),
        "inspect": lambda: process(["-m", "dsd_ort", "inspect", str(folder / "model.onnx")]),
    }
    times: dict[str, list[Took]] = {}
    for _ in range(rounds):
        for name, command in commands.items():
            times.setdefault(name, []).append(command())
        for name, took in begun(folder).items():
            times.setdefault(name, []).append(took)
    return [
        {
            "until": name,
            "network": NETWORK,
            "batch": BATCH,
            "seconds": round(statistics.median(took.wall for took in found), 2),
            "processor seconds": round(statistics.median(took.processor for took in found), 2),
            "least seconds": round(min(took.wall for took in found), 2),
            "rounds": rounds,
        }
        for name, found in times.items()
    ]


def process(arguments: list[str]) -> Took:
    """A Python with these arguments, from its start to its end."""
    began, worked = time.perf_counter(), children()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return Took(time.perf_counter() - began, children() - worked)


def begun(folder: Path) -> dict[str, Took]:
    """A run of its own, until its first step begins, and until it is done."""
    shutil.rmtree(folder / "run", ignore_errors=True)
    shutil.copytree(folder / "prepared", folder / "run")
    os.sync()
    command = [sys.executable, "-m", "tools.benchmarks.start", "--first-step-of", str(folder)]
    began = time.time()
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(told.splitlines()[-1])
    return {name: Took(at - began, worked) for name, (at, worked) in found.items()}


def first_step(folder: Path) -> None:
    """In a process of its own, which ends with the step."""
    found: dict[str, tuple[float, float]] = {}
    moments = {"phase-steps": "first step begins", "tick": "first step"}

    def listen(event: dict[str, Any]) -> None:
        if (name := moments.get(event["event"])) is not None:
            found[name] = time.time(), time.process_time()
        if event["event"] == "tick":
            print(json.dumps(found), flush=True)
            os._exit(0)

    dsd_ort.train(folder / "run", folder / "data.npz", listener=listen)


def children() -> float:
    """Seconds of the processor of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
