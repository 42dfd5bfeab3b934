"""How long ``dsd-ort report`` takes, and how large its page is: 10,000 updates of the demo's network, and VGG-16.

    .venv/bin/python -m tools.benchmarks.report --json docs/bench_report.json

Each time is that of a process of its own, from its start to its end, imports included: the clock's and the processor's;
medians count.  VGG-16 is at
full size, through phases of one update: its 138 million weights at four borders are what a report has to read.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

import dsd_ort
from dsd_ort.recipe import Recipe
from graphs import NETWORKS
from tools.measuring.machine import cpu

UPDATES, ROUNDS = 10_000, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("runs", nargs="*", default=[*RUNS], help=", ".join(RUNS))
    arguments = parser.parse_args()
    rows = []
    for name in arguments.runs:
        with tempfile.TemporaryDirectory() as folder:
            RUNS[name](Path(folder))
            rows.append({"run": name, **measured(Path(folder) / "run"), **machine()})
        print(rows[-1], flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


def demo(folder: Path) -> None:
    """10,000 updates, of which four tenths are sparse."""
    bundled = files("dsd_ort.demo")
    steps = [UPDATES // 2, UPDATES * 4 // 10, UPDATES // 10]
    model, data, test = (str(bundled / name) for name in ("digits_mlp.onnx", "digits-train.npz", "digits-test.npz"))
    train(folder, model, data, test, steps)


def vgg16(folder: Path) -> None:
    ir.save(NETWORKS["vgg16"](), folder / "model.onnx")
    random = np.random.default_rng(0)
    data = {"image": random.standard_normal((1, 3, 224, 224), np.float32), "label": np.zeros(1, np.int64)}
    train(folder, str(folder / "model.onnx"), data, None, [1, 1, 1])


RUNS = {"demo": demo, "vgg16": vgg16}


def train(folder: Path, model: str, data: Any, eval_data: Any, steps: list[int]) -> None:
    kinds = ({"kind": "dense"}, {"kind": "sparse", "sparsity": 0.9}, {"kind": "dense"})
    phases = [{**kind, "steps": count, "learning_rate": 1e-3} for kind, count in zip(kinds, steps, strict=True)]
    dsd_ort.prepare(model, folder / "run", Recipe.from_dict({"batch_size": 16, "phase": phases}))
    dsd_ort.train(folder / "run", data, eval_data=eval_data)


def measured(run: Path) -> dict[str, Any]:
    times, spent = [], []
    for _ in range(ROUNDS):
        began, before = time.perf_counter(), processor()
        subprocess.run([sys.executable, "-m", "dsd_ort", "report", str(run)], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
        spent.append(processor() - before)
    found = {"seconds": round(statistics.median(times), 2), "processor seconds": round(statistics.median(spent), 2)}
    return {**found, "bytes": (run / "report.html").stat().st_size}


def machine() -> dict[str, Any]:
    """Which processor, and how many wanted it on the way: a clock tells little where they are more than its cores."""
    return {"cpu": cpu(), "cores": os.cpu_count(), "load": round(os.getloadavg()[1], 1)}


def processor() -> float:
    """Seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
