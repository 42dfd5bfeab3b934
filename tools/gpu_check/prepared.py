"""The folder that everything is in: run folders, what the CPU computes, and what PyTorch is to compute with.

::

    small/NAME/run          a prepared run; its source is left out when it travels, and drawn anew from the seed
    small/NAME/dropout      … of the network with dropout, where it has some
    small/NAME/cpu.npz      what the CPU computes in float32: see tools.gpu_check.checks
    full/NAME/run           … and for the timings
    full/NAME/tensors.json  name → [file, type, shape, begin] of the batch and the weights, for PyTorch
    full/NAME/batch.bin, weights.bin
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

import dsd_ort
from dsd_ort.graph.program import Program, open_program
from tools.gpu_check import networks

MODEL = "model.onnx"
DSD_STEPS = 20
"""Of each phase."""


def prepare(folder: Path, kind: str, name: str) -> Path:
    """The folder of a network with all that this environment can make of what is not there yet."""
    place = folder / kind / name
    runs = {"run": {}}
    if kind == "small" and name in networks.DROPPING:
        runs["dropout"] = {"dropout": networks.DROPPING[name]}
    for run, arguments in runs.items():
        if (place / run / "manifest.json").exists():
            model = place / run / "source" / MODEL
            if not model.exists():
                networks.write(kind, name, model, **arguments)
            continue
        shutil.rmtree(place / run, ignore_errors=True)
        networks.write(kind, name, place / MODEL, **arguments)
        dsd_ort.prepare(place / MODEL, place / run, networks.recipe(kind, name, DSD_STEPS))
        (place / MODEL).unlink()
    return place


def lighten(folder: Path) -> None:
    """Leaves out what a seed brings back."""
    for name in ("tensors.json", "batch.bin", "weights.bin"):
        for found in folder.glob(f"*/*/{name}"):
            found.unlink()
    for source in folder.glob("*/*/*/source"):
        shutil.rmtree(source)


def write_tensors(place: Path, kind: str, name: str) -> None:
    """The batch and the source's weights, in a form that takes nothing but PyTorch to read."""
    if (place / "tensors.json").exists():
        return
    index: dict[str, list[Any]] = {}
    program = open_program(place / "run")
    source = program.source()
    names = [piece.name for piece in (*program.manifest.parameters, *program.manifest.statistics)]
    groups = {"batch": networks.data(kind, name), "weights": {key: source.value(key) for key in names}}
    for group, arrays in groups.items():
        with (place / f"{group}.bin").open("wb") as file:
            for key, array in arrays.items():
                index[key] = [group, str(array.dtype), array.shape, file.tell()]
                file.write(np.ascontiguousarray(array).tobytes())
    (place / "tensors.json").write_text(json.dumps(index))


def values(program: Program) -> dict[str, np.ndarray]:
    """The source's parameters and statistics by name."""
    source, manifest = program.source(), program.manifest
    return {piece.name: source.value(piece.name) for piece in (*manifest.parameters, *manifest.statistics)}
