"""Memory against time: a training step by what the recipe lets the backward pass compute again.

    .venv/bin/python -m tools.benchmarks.recompute --json docs/bench_recompute.json

ResNet-50 as in the paper with 8 pictures of 224², and a transformer of 6 layers of 256 with 16 sequences of 128 words
(:mod:`tools.benchmarks.decoder`).  Of each setting of ``recompute`` are printed the nodes of the step graph, constants
aside; the megabytes that a step takes beside weights and gradients, which is the greatest resident set of a process of
its own less what was resident before, with the session in it; a step's seconds, forward and backward; and both over
those of ``none``.  For times the settings take turns in one process, there and back; time is the processor's, of one
thread, and medians count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

import dsd_ort
from dsd_ort import runtime
from dsd_ort.graph.program import open_program
from dsd_ort.recipe.names import RecomputeName
from dsd_ort.run.arena import Arena
from dsd_ort.run.engine import Engine
from dsd_ort.run.execution import Execution
from graphs import NETWORKS
from tools.benchmarks.decoder import decoder
from tools.benchmarks.turns import CLOCKS, ratio, take_turns
from tools.measuring.children import Died, each
from tools.measuring.machine import cpu, peak_memory, reset_peak

Arrays = dict[str, np.ndarray]

SETTINGS: tuple[RecomputeName, ...] = get_args(RecomputeName)
PICTURES, SIZE, CLASSES = 8, 224, 1000
SEQUENCES, WORDS, VOCABULARY = 16, 128, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("networks", nargs="*", default=list(SUBJECTS), help=", ".join(SUBJECTS))
    arguments = parser.parse_args()
    rows = []
    for name in arguments.networks:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(name, Path(folder), arguments.rounds)
        for row in found:
            print("  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
        rows += [{**row, "onnxruntime": onnxruntime.__version__, "cpu": cpu()} for row in found]
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


def resnet50() -> tuple[ir.Model, dict[str, Any], Arrays]:
    """The model, its loss, and a batch."""
    random = np.random.default_rng(0)
    images, labels = (
        random.standard_normal((PICTURES, 3, SIZE, SIZE), np.float32),
        random.integers(0, CLASSES, PICTURES),
    )
    return NETWORKS["resnet50"](size=SIZE, classes=CLASSES), {"output": "logits"}, {"image": images, "label": labels}


def transformer() -> tuple[ir.Model, dict[str, Any], Arrays]:
    """The same of a transformer."""
    words = np.random.default_rng(0).integers(0, VOCABULARY, (SEQUENCES, WORDS + 1))
    model = decoder(words=WORDS, vocabulary=VOCABULARY)
    return model, {"output": "logits", "class_axis": -1}, {"words": words[:, :-1].copy(), "label": words[:, 1:].copy()}


SUBJECTS = {"resnet50-224": resnet50, "transformer": transformer}


def measure(name: str, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """A row for each setting."""
    model, loss, batch = SUBJECTS[name]()
    ir.save(model, folder / "model.onnx")
    np.savez(folder / "batch.npz", **batch)
    phase = {"kind": "dense", "steps": 1, "learning_rate": 0.01}
    recipe = dsd_ort.Recipe.from_dict({"loss": loss, "metrics": ["loss"], "phase": [phase]})
    for setting in SETTINGS:
        dsd_ort.prepare(folder / "model.onnx", folder / setting, msgspec.structs.replace(recipe, recompute=setting))
    taken = dict(zip(SETTINGS, [memory(folder / setting) for setting in SETTINGS], strict=True))
    engines = {setting: engine(folder / setting) for setting in SETTINGS}
    for each_engine in engines.values():
        each_engine.step(batch, sparse=False, seed=0)
    gradients = {setting: made.arena.gradients.copy() for setting, made in engines.items()}
    there = [lambda e=e: e.step(batch, sparse=False, seed=0) for e in engines.values()]
    times = take_turns([*there, *there[::-1]], rounds, CLOCKS["processor"])
    pairs = zip(SETTINGS, times, times[::-1], strict=False)
    seconds = {setting: [a + b for a, b in zip(out, back, strict=True)] for setting, out, back in pairs}
    return [
        {
            "network": name,
            "recompute": setting,
            "megabytes": taken[setting] / 1e6,
            "memory": taken[setting] / taken["none"],
            "seconds": statistics.median(seconds[setting]) / 2,
            "time": ratio(seconds[setting], seconds["none"]),
            "nodes": nodes(folder / setting),
            "same_gradients": bool(np.array_equal(gradients[setting], gradients["none"])),
            "rounds": rounds,
        }
        for setting in SETTINGS
    ]


def nodes(run: Path) -> int:
    return sum(node.op_type != "Constant" for node in onnx.load(run / "graphs" / "step.onnx").graph.node)


def engine(run: Path) -> Engine:
    program = open_program(run)
    arena = Arena.of(program)
    arena.fill_from(program.source())
    return Engine(program, arena, Execution(threads=1))


def memory(run: Path) -> int:
    """The bytes that a step takes in a process of its own."""
    found = next(each(step_memory, [run], seconds=600))
    if isinstance(found, Died):
        sys.exit(f"{run.name}: the process ended: {found.how}")
    return int(found)


def step_memory(run: Path) -> int:
    runtime.session(str(run / "graphs" / "update.onnx"))  # ONNX Runtime itself is there
    made = engine(run)
    batch: Mapping[str, np.ndarray] = dict(np.load(run.parent / "batch.npz"))
    for buffer in (made.arena.gradients, made.arena.next_statistics):
        buffer.fill(0)  # takes its pages
    reset_peak()
    before = peak_memory()
    made.step(batch, sparse=False, seed=0)
    return peak_memory() - before


if __name__ == "__main__":
    main()
