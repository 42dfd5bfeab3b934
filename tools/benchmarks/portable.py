"""A step of a prepared run on an ONNX Runtime without training, against the training build's own step.

    make stock                                             # both environments
    .venv/bin/python -m tools.benchmarks.portable --stock .venv-stock/bin/python --json docs/bench_portable.json

Each side is a process in its environment that opens the same run folder and feeds the same batch; they take turns, one
step at a time.  Printed are the medians of the seconds of a step (forward and backward, without the update), the median
of the ratios of turns that follow each other (stock / training build), how far the losses are apart, and the bytes that
steps take over what the process took before.  ResNet-18 is the paper's, with 1000 classes and batch norm in training;
DeepSpeech 2 is a small one, with CTC.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

import dsd_ort
from dsd_ort.graph.program import open_program
from dsd_ort.run.arena import Arena
from dsd_ort.run.engine import Engine
from dsd_ort.run.execution import Execution
from graphs import NETWORKS
from tools.benchmarks.turns import WARM_UP, ratio
from tools.measuring.machine import cpu, peak_memory, reset_peak

BATCH, FRAMES, BANDS, CLASSES = 8, 100, 40, 29


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stock", help="the other environment's Python")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sizes", type=int, nargs="*", default=[64, 128, 224])
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.threads)
        return
    rows = []
    for name, size in [*(("resnet18", size) for size in arguments.sizes), ("deepspeech2", FRAMES)]:
        with tempfile.TemporaryDirectory() as folder:
            run = prepare(name, size, Path(folder))
            row = measure(run, (sys.executable, arguments.stock), arguments.rounds, arguments.threads)
        rows.append({"network": name, "size": size, "batch": BATCH, **row, "cpu": cpu(), "threads": arguments.threads})
        print(
            "  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in rows[-1].items()), flush=True
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


def prepare(name: str, size: int, folder: Path) -> Path:
    """The run folder of a network, and ``batch.npz`` in it; *size* is that of a picture, or the frames of speech."""
    rng = np.random.default_rng(0)
    loss: dict[str, Any] = {"output": "logits"}
    if name == "resnet18":
        model = NETWORKS[name](size=size)
        batch = {
            "image": rng.standard_normal((BATCH, 3, size, size), np.float32),
            "label": rng.integers(0, 1000, BATCH),
        }
    else:
        model = NETWORKS[name](bands=BANDS, classes=CLASSES, width=128, maps=8, depth=3)
        features = rng.standard_normal((BATCH, size, BANDS), np.float32)
        label = rng.integers(1, CLASSES, (BATCH, size // 5))
        batch = {"features": features, "lengths": np.full(BATCH, size), "label": label}
        loss |= {"name": "ctc", "lengths": "frames"}
    ir.save(model, folder / "model.onnx")
    phase = {"kind": "dense", "steps": 1, "learning_rate": 0.01}
    recipe = dsd_ort.Recipe.from_dict({"loss": loss, "metrics": ["loss"], "phase": [phase]})
    dsd_ort.prepare(folder / "model.onnx", folder / "run", recipe)
    np.savez(folder / "run" / "batch.npz", **batch)
    return folder / "run"


def measure(run: Path, pythons: Sequence[str], rounds: int, threads: int) -> dict[str, Any]:
    command = ["-m", "tools.benchmarks.portable", "--serve", str(run), "--threads", str(threads)]
    sides = [
        subprocess.Popen([python, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for python in pythons
    ]
    versions = [_ask(side) for side in sides]
    turns = [[json.loads(_ask(side)) for side in sides] for _ in range(rounds + WARM_UP)][WARM_UP:]
    for side in sides:
        side.communicate()
    seconds = [[turn[i]["seconds"] for turn in turns] for i in range(2)]
    (native, portable), (ours, theirs) = ([turns[0][i]["loss"] for i in range(2)], seconds)
    return {
        "ratio": ratio(theirs, ours),
        "training_seconds": statistics.median(ours),
        "stock_seconds": statistics.median(theirs),
        "training_bytes": turns[-1][0]["bytes"],
        "stock_bytes": turns[-1][1]["bytes"],
        "loss_difference": abs(portable - native) / abs(native),
        "training": versions[0],
        "stock": versions[1],
    }


def _ask(side: subprocess.Popen[str]) -> str:
    assert side.stdin is not None and side.stdout is not None
    side.stdin.write("\n")
    side.stdin.flush()
    return side.stdout.readline().strip()


def serve(run: Path, threads: int) -> None:
    """Answers the first line with ONNX Runtime's version, and every other with a step."""
    import onnxruntime

    program = open_program(run)
    arena, source = Arena.of(program), program.source()
    arena.fill_from(source)
    engine, batch = Engine(program, arena, Execution(threads=threads)), dict(np.load(run / "batch.npz"))
    reset_peak()
    before = peak_memory()
    sys.stdin.readline()
    print(onnxruntime.__version__, flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        loss = engine.step(batch, sparse=False, seed=0)
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "loss": loss, "bytes": peak_memory() - before}), flush=True)


if __name__ == "__main__":
    main()
