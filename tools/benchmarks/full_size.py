"""The paper's networks at full size, each through the whole flow: prepare, a step of each phase, export, verify.

    .venv/bin/python -m tools.benchmarks.full_size --json docs/full_size.json

Every network goes through its paper recipe with phases of one step, on random data, in a process of its own, whose
greatest memory is what the row says.  Times are seconds of one run, for orientation.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import onnx_ir as ir

import dsd_ort
from dsd_ort.recipe import Recipe
from graphs import NETWORKS
from graphs.__main__ import count_parameters
from tools.measuring.children import Died, each
from tools.measuring.machine import cpu


class Size(NamedTuple):
    """Examples of a batch, and for sequences frames or words."""

    batch: int
    steps: int = 0


SIZES = {
    "vgg16": Size(8),
    "googlenet": Size(8),
    "resnet18": Size(8),
    "resnet50": Size(8),
    "neuraltalk": Size(16, 20),
    "deepspeech": Size(8, 300),
    "deepspeech2": Size(4, 300),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(SIZES), help=", ".join(SIZES))
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.networks:
        row = next(each(measure, [name], seconds=1800))
        if isinstance(row, Died):
            sys.exit(f"{name}: the process ended: {row.how}")
        rows.append(row)
        print("  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([row | {"cpu": cpu()} for row in rows], indent=1) + "\n")
        arguments.json.with_suffix(".md").write_text(page(rows), "utf-8")


def page(rows: list[dict[str, Any]]) -> str:
    """The rows as a table for people."""
    columns = ["network", "parameters", "batch", "steps", "phases", "verified", "GB"]
    columns += ["prepare", "train", "export", "verify"]
    lines = [
        "# The paper's networks at full size",
        "",
        "Measured by `python -m tools.benchmarks.full_size`, which writes this page, on two cores of",
        f"{cpu()}: every network through its paper recipe with phases of one step, on",
        "random pictures of 224×224 pixels, or sequences of so many words, or frames of 10 ms. Times are seconds of",
        "one run, for orientation: `train` opens the sessions, takes the steps, and writes checkpoints and the weights",
        "of each phase. GB is the most memory that the process had, from writing the network's file to verifying the",
        "exported one.",
        "",
        f"| {' | '.join(columns)} |",
        f"|---|{'---:|' * (len(columns) - 1)}",
    ]
    for row in rows:
        times = " | ".join(f"{row[f'{verb}_seconds']:.1f}" for verb in ("prepare", "train", "export", "verify"))
        verified = "yes" if row["verified"] else "**no**"
        cells = [row["network"], f"{row['parameters']:,}", row["batch"], row["steps"] or "", row["phases"], verified]
        lines.append(f"| {' | '.join(map(str, cells))} | {row['gigabytes']:.1f} | {times} |")
    return "\n".join(lines) + "\n"


def measure(name: str) -> dict[str, Any]:
    """One network's row."""
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path, run, final = (Path(folder) / part for part in ("model.onnx", "run", "final.onnx"))

        def timed(what: str, verb: Any, *arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            result = verb(*arguments, **options)
            seconds[what] = time.perf_counter() - began
            return result

        model = NETWORKS[name]()
        timed("write", ir.save, model, path)
        count = count_parameters(model)
        del model
        program = timed("prepare", dsd_ort.prepare, path, run, one_step_each(name))
        data = made_up(program.manifest, SIZES[name])
        phases = timed("train", dsd_ort.train, run, data)
        timed("export", dsd_ort.export, run, final)
        same = timed("verify", dsd_ort.verify, path, final).same
    return {
        "network": name,
        "parameters": count,
        "batch": SIZES[name].batch,
        "steps": SIZES[name].steps,
        "phases": "/".join(str(phase["kind"]) for phase in phases),
        "verified": same,
        "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        **{f"{what}_seconds": value for what, value in seconds.items()},
    }


def one_step_each(name: str) -> Recipe:
    """The network's paper recipe with phases of one step, and a batch that fits."""
    recipe = Recipe.load(f"paper/{name}")
    phases = tuple(msgspec.structs.replace(phase, epochs=None, steps=1) for phase in recipe.phase)
    return msgspec.structs.replace(recipe, phase=phases, batch_size=SIZES[name].batch)


def made_up(manifest: Any, size: Size) -> dict[str, np.ndarray]:
    """A batch of random numbers; lengths are those of all frames, labels a tenth as long."""
    rng = np.random.default_rng(0)
    data = {}
    for field in (*manifest.inputs, *manifest.labels):
        shape = (size.batch, *(axis if isinstance(axis, int) else size.steps for axis in field.shape[1:]))
        if field.blank is not None:
            data[field.name] = rng.integers(1, field.classes, (size.batch, size.steps // 10))
        elif field.label:
            data[field.name] = rng.integers(0, field.classes, shape)
        elif np.dtype(field.dtype).kind == "f":
            data[field.name] = rng.standard_normal(shape).astype(field.dtype)
        elif len(shape) == 1:
            data[field.name] = np.full(shape, size.steps, field.dtype)
        else:
            data[field.name] = rng.integers(0, 100, shape).astype(field.dtype)
    return data


if __name__ == "__main__":
    main()
