"""What a long training takes of memory, with data that do not fit into it, and what checkpoints cost.

    python -m tools.benchmarks.memory --json docs/bench_memory.json

A process that may have 1 GB of memory of its own trains 10,000 updates on 4 GB of images; what it has is noted on the
way.  A checkpoint is written of as many weights as ResNet-50's, with Adam's two slots.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import safetensors.numpy

import dsd_ort
from dsd_ort.graph.manifest import Slice
from dsd_ort.run import checkpoint, keeping
from dsd_ort.run.arena import Arena
from dsd_ort.run.journal import Event
from tools.measuring import machine

MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 1, 64, 64] image) => (float[N, 3] scores)
{
    a = Conv <strides = [2, 2]> (image, kernel)
    b = Relu (a)
    c = GlobalAveragePool (b)
    d = Flatten (c)
    scores = MatMul (d, matrix)
}
"""
LIMIT = 1 << 30
EXAMPLES = 1 << 18
"""Of 16 KB: 4 GB."""
STEPS = 10_000
EVERY = 500
WEIGHTS = 25_557_032
"""Of ResNet-50."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.benchmarks.memory", description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--in-folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_folder:
        print(json.dumps(_train(options.in_folder)))
        return
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder))
        command = [sys.executable, "-m", "tools.benchmarks.memory", "--in-folder", folder]
        found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        found["checkpoint"] = _checkpoints(Path(folder))
    found["machine"] = {"cpu": machine.cpu(), "python": platform.python_version()}
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def _write(folder: Path) -> None:
    model = onnx.parser.parse_model(MODEL)
    rng = np.random.default_rng(0)
    for name, shape in (("kernel", (4, 1, 3, 3)), ("matrix", (4, 3))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(rng.standard_normal(shape, np.float32), name))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "data").mkdir()
    images = np.lib.format.open_memmap(folder / "data" / "image.npy", "w+", np.float32, (EXAMPLES, 1, 64, 64))
    for start in range(0, EXAMPLES, EXAMPLES // 64):  # the rest are holes, which take no disk
        images[start : start + 256] = rng.standard_normal((256, 1, 64, 64), np.float32)
    np.save(folder / "data" / "label.npy", rng.integers(0, 3, EXAMPLES))


def _train(folder: Path) -> dict[str, Any]:
    """In a process of its own."""
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    phase = {"kind": "dense", "steps": STEPS, "learning_rate": 1e-3}
    recipe = dsd_ort.Recipe.from_dict({"batch_size": 8, "phase": [phase]})
    dsd_ort.prepare(folder / "model.onnx", folder / "run", recipe)
    taken: dict[int, float] = {}

    def listen(event: Event) -> None:
        if event["event"] == "tick" and event["done"] % EVERY == 0:
            taken[event["done"]] = round(_own() / 1e6, 1)

    began = time.monotonic()
    dsd_ort.train(folder / "run", str(folder / "data"), threads=1, listener=listen, checkpoint_seconds=5.0)
    later = [size for step, size in taken.items() if step > STEPS // 10]
    return {
        "data, GB": round(EXAMPLES * 64 * 64 * 4 / 1e9, 1),
        "memory that it may have, GB": round(LIMIT / 1e9, 1),
        "updates": STEPS,
        "seconds": round(time.monotonic() - began, 1),
        "own memory, MB, by update": taken,
        "growth behind the first tenth, MB": round(later[-1] - later[0], 1),
    }


def _own() -> int:
    """Bytes that are the process's own; what it has mapped of the data, the system takes back as it likes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) * 1024


def _checkpoints(folder: Path) -> dict[str, Any]:
    piece = {"name": "w", "shape": (WEIGHTS,), "offset": 0, "size": WEIGHTS, "role": "matrix", "layer": ""}
    arena = Arena([Slice(**piece, trained=True, prunable=True, successor="g")], [], ["moment1", "moment2"])
    arena.weights[:] = np.random.default_rng(0).standard_normal(WEIGHTS, np.float32)
    path = folder / keeping.CHECKPOINT
    ways = {
        "with a digest": lambda: checkpoint.save(path, arena, {"program": ""}),
        "without": lambda: _plain(path, arena),
    }
    taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(7):
        for way, write in ways.items():
            os.sync()
            began, worked = time.monotonic(), time.process_time()
            write()
            taken[way].append((time.monotonic() - began, time.process_time() - worked))
    found: dict[str, Any] = {"MB": round(path.stat().st_size / 1e6, 1)}
    for way, pairs in taken.items():
        wall, work = (statistics.median(each) for each in zip(*pairs, strict=True))
        found[way] = {"seconds": round(wall, 2), "of the processor": round(work, 2), "of a minute": round(work / 60, 4)}
    return found


def _plain(path: Path, arena: Arena) -> None:
    """As it was before there were digests."""
    buffers = {"weights/w": arena.weights, **arena.slots, "masks/w": arena.masks.astype(np.uint8)}
    temporary = path.with_name("plain")
    safetensors.numpy.save_file(buffers, temporary)
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


if __name__ == "__main__":
    main()
