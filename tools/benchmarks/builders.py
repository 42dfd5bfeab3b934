"""Our own gradients against those of ONNX Runtime's builder: the same model, prepared by both, in the same runtime.

    python -m tools.benchmarks.builders --json docs/bench_builders.json
    python -m tools.benchmarks.builders full/resnet50 full/vgg16 mobilenet_v2.onnx --json docs/bench_builders.json

A network is one of the eight small siblings, by its name, a network of the paper at full size (``full/NAME``, in
batches of tools/benchmarks/full_size.py), or an ONNX file of pictures.  Printed are the nodes of the step graph
(constants aside), the seconds of preparing, the median of a step's seconds (forward and backward, without the update),
the median of the ratios own / ort, and how far the gradients are apart.  The sides take turns in one process, as own,
ort, ort, own, so that what comes second has no advantage.  Time is the processor's, of one thread: other work on the
machine does not count.  Rows that are in the JSON already, of other networks, stay.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

import dsd_ort
from dsd_ort.graph.program import Program, open_program
from dsd_ort.run.arena import Arena
from dsd_ort.run.engine import Engine
from dsd_ort.run.execution import Execution
from graphs import NETWORKS
from tests.stock import siblings
from tools.benchmarks import full_size
from tools.benchmarks.turns import CLOCKS, ratio, take_turns
from tools.measuring.machine import cpu

BUILDERS = ("own", "ort")
PICTURES = 4
"""Of a batch, for an ONNX file."""
SHORTEST = 0.05
"""Seconds of a turn, about: small networks make several steps in one."""


class Side(NamedTuple):
    """A model as one builder prepared it."""

    nodes: int
    seconds: float
    """Of preparing."""
    step: Callable[[], float]
    arena: Arena


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("networks", nargs="*", help="by default all")
    arguments = parser.parse_args()
    rows = {row["network"]: row for row in _there(arguments.json)}
    for name in arguments.networks or siblings.SIBLINGS:
        with tempfile.TemporaryDirectory() as folder:
            row = {
                "network": Path(name).stem if name.endswith(".onnx") else name,
                **measure(name, Path(folder), arguments.rounds),
            }
        rows[row["network"]] = {**row, "onnxruntime": onnxruntime.__version__, "cpu": cpu()}
        print("  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(list(rows.values()), indent=1) + "\n")


def _there(path: Path | None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path and path.exists() else []
    return rows


def subject(name: str, folder: Path) -> tuple[Path, dsd_ort.Recipe, Callable[[Program], dict[str, np.ndarray]]]:
    """The network in a file, a recipe for it, and what makes a batch."""
    path = folder / "model.onnx"
    if name.startswith("full/"):
        name = name.removeprefix("full/")
        ir.save(NETWORKS[name](), path)
        return path, full_size.one_step_each(name), lambda run: full_size.made_up(run.manifest, full_size.SIZES[name])
    if name.endswith(".onnx"):
        size = full_size.Size(PICTURES)
        return Path(name), dsd_ort.default_recipe(name), lambda run: full_size.made_up(run.manifest, size)
    siblings.write(name, path)
    batch = {key: a[: siblings.BATCH] for key, a in siblings.data(name).items()}
    return path, siblings.recipe(name), lambda run: batch


def measure(name: str, folder: Path, rounds: int) -> dict[str, Any]:
    model, recipe, make = subject(name, folder)
    batch = make(dsd_ort.prepare(model, folder / "first", recipe))  # what is imported then, is there
    own, ort = (
        prepared(model, folder, msgspec.structs.replace(recipe, builder=builder), batch) for builder in BUILDERS
    )
    losses = own.step(), ort.step()
    gradients = own.arena.gradients.astype(np.float64), ort.arena.gradients.astype(np.float64)
    began = time.process_time()
    own.step()
    steps = max(1, round(SHORTEST / (time.process_time() - began)))

    def turn(side: Side) -> Callable[[], object]:
        return lambda: [side.step() for _ in range(steps)]

    sides = [turn(side) for side in (own, ort, ort, own)]
    first, second, third, last = take_turns(sides, rounds, CLOCKS["processor"])
    ours, theirs = ([a + b for a, b in zip(*pair, strict=True)] for pair in ((first, last), (second, third)))
    return {
        "ratio": ratio(ours, theirs),
        "seconds": statistics.median(ours) / steps / 2,
        "ort_seconds": statistics.median(theirs) / steps / 2,
        "nodes": own.nodes,
        "ort_nodes": ort.nodes,
        "prepare_seconds": own.seconds,
        "ort_prepare_seconds": ort.seconds,
        "loss_difference": abs(losses[0] - losses[1]) / abs(losses[1]),
        "gradient_difference": float(np.linalg.norm(gradients[0] - gradients[1]) / np.linalg.norm(gradients[1])),
        "batch": len(next(iter(batch.values()))),
        "rounds": rounds,
    }


def prepared(model: Path, folder: Path, recipe: dsd_ort.Recipe, batch: Mapping[str, np.ndarray]) -> Side:
    run = folder / recipe.builder
    began = time.perf_counter()
    dsd_ort.prepare(model, run, recipe)
    seconds = time.perf_counter() - began
    nodes = [node for node in onnx.load(run / "graphs" / "step.onnx").graph.node if node.op_type != "Constant"]
    program = open_program(run)
    arena = Arena.of(program)
    arena.fill_from(program.source())
    engine = Engine(program, arena, Execution(threads=1))
    return Side(len(nodes), seconds, lambda: engine.step(batch, sparse=False, seed=0), arena)


if __name__ == "__main__":
    main()
