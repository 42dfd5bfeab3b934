"""A prepared training step against PyTorch eager: forward, backward and update of ResNet-18 at 224².

    .venv-oracle/bin/python -m tools.benchmarks.step --json docs/bench_step.json

Both sides train batch norm, with SGD (momentum 0.9, weight decay 1e-4) and the same number of threads, on the same
batch, in one process, taking turns.  Printed are medians and, for each pair of turns, ratios (ours / theirs), of which
the median counts.  Needs PyTorch; make oracle makes the environment.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

import dsd_ort
from dsd_ort.run.arena import Arena
from dsd_ort.run.engine import Engine
from dsd_ort.run.execution import Execution
from dsd_ort.run.prune import write_masks
from tests.oracle.networks import ResNet18, export, randomise_norms
from tools.benchmarks.turns import ratio, take_turns
from tools.measuring.machine import cpu, peak_memory, reset_peak

SIZE = 224
RATE = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 32], help="batch sizes")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each side that count")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    network = randomise_norms(ResNet18())
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        model = export(network, (3, SIZE, SIZE), Path(folder) / "resnet18.onnx")
        preparation = measure_preparation(model, Path(folder) / "run")
        for batch in arguments.batches:
            row = measure(network, Path(folder) / "run", batch, arguments.rounds, arguments.threads)
            rows.append({"network": "resnet18", "batch": batch, **row, **preparation})
            print("  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in rows[-1].items()))
    if arguments.json:
        machine = {"cpu": cpu(), "threads": arguments.threads, "torch": torch.__version__}
        rows = [row | machine for row in rows]
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


def measure_preparation(model: Path, run: Path) -> dict[str, Any]:
    """Seconds, and the peak of memory over what was there before, in times of the model's size."""
    process = psutil.Process()
    recipe = dsd_ort.Recipe.from_dict(
        {
            "optimizer": {"momentum": 0.9, "weight_decay": 1e-4},
            "phase": [
                {"kind": "dense", "steps": 1, "learning_rate": RATE},
                {"kind": "sparse", "sparsity": 0.3, "steps": 1, "learning_rate": RATE},
            ],
        }
    )
    reset_peak()
    before, began = process.memory_info().rss, time.perf_counter()
    dsd_ort.prepare(model, run, recipe)
    seconds = time.perf_counter() - began
    return {"prepare_seconds": seconds, "prepare_memory": (peak_memory() - before) / model.stat().st_size}


def measure(network: torch.nn.Module, run: Path, batch: int, rounds: int, threads: int) -> dict[str, Any]:
    """Medians in seconds, and medians of the ratios of turns that follow each other."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch, 3, SIZE, SIZE), np.float32)
    labels = rng.integers(0, 1000, batch)
    engine = new_engine(run, threads)
    feeds = {"image": images, "label": labels}
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=0.9, weight_decay=1e-4)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)

    def theirs() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()

    def ours(sparse: bool) -> None:
        engine.step(feeds, sparse=sparse, seed=0)
        engine.update(RATE, 2)

    against = take_turns([lambda: ours(False), theirs], rounds)
    masked = take_turns([lambda: ours(True), lambda: ours(False)], rounds)
    steps, updates = take_turns(
        [lambda: engine.step(feeds, sparse=False, seed=0), lambda: engine.update(RATE, 2)], rounds
    )
    whole = [s + u for s, u in zip(steps, updates, strict=True)]
    return {
        "ratio": ratio(*against),
        "sparse_to_dense": ratio(*masked),
        "update_share": ratio(updates, whole),
        "seconds": statistics.median(against[0]),
        "torch_seconds": statistics.median(against[1]),
        "rounds": rounds,
    }


def new_engine(run: Path, threads: int) -> Engine:
    """An engine with the model's own weights and the masks of a sparse phase."""
    from dsd_ort.graph.program import open_program

    program = open_program(run)
    arena, source = Arena.of(program), program.source()
    arena.fill_from(source)
    write_masks(arena, 0.3, program.recipe.prune)
    return Engine(program, arena, Execution(threads=threads))


if __name__ == "__main__":
    main()
