"""How long the masks of one million weights take, of every pattern and criterion.

    .venv/bin/python -m tools.benchmarks.masks --json docs/bench_masks.json

A matrix of 1024 times 1024, and a kernel of 256 outputs, 432 inputs and a window of 3 times 3: from
the weights in the arena to the masks in it, as a phase does it.  Medians of processor time; NumPy takes one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np

from dsd_ort.graph.manifest import Slice
from dsd_ort.recipe import CriterionName, Prune
from dsd_ort.run.arena import Arena
from dsd_ort.run.prune import write_masks
from tools.measuring.machine import cpu

SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, int], str]] = {
    "matrix": ((1024, 1024), (1, 0), "matrix"),
    "kernel": ((256, 432, 3, 3), (0, 1), "kernel"),
}
PATTERNS = ("unstructured", "rows", "2:4", "1:4", "4:8", "2:16", "1x4", "4x1", "8x8", "channels")
SPARSITY = 0.75


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    rows = [
        measure(shape, pattern, criterion, arguments.rounds)
        for shape in SHAPES
        for pattern in PATTERNS
        for criterion in get_args(CriterionName)
    ]
    print(f"the slowest: {max(rows, key=lambda row: row['milliseconds'])}")
    if arguments.json:
        arguments.json.write_text(json.dumps([row | {"cpu": cpu()} for row in rows], indent=1) + "\n")


def measure(name: str, pattern: str, criterion: CriterionName, rounds: int) -> dict[str, Any]:
    """The median, in milliseconds."""
    shape, axes, role = SHAPES[name]
    size = int(np.prod(shape))
    where: dict[str, Any] = {"name": "w", "shape": shape, "offset": 0, "size": size, "layer": "w", "role": role}
    piece = Slice(**where, prunable=True, trained=True, axes=axes)
    arena = Arena([piece], [], [])
    arena.weights[:size] = np.random.default_rng(0).standard_normal(size)
    norms = {"w": np.linspace(0.5, 2, shape[axes[1]], dtype=np.float32)}
    rules, seconds = Prune(pattern=pattern, criterion=criterion), []
    for _ in range(rounds):
        began = time.process_time()
        write_masks(arena, SPARSITY, rules, norms=norms)
        seconds.append(time.process_time() - began)
    row = {"weight": name, "weights": size, "pattern": pattern, "criterion": criterion}
    row["milliseconds"] = round(1000 * statistics.median(seconds), 2)
    print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return row


if __name__ == "__main__":
    main()
