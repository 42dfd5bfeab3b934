"""What sparsity could save on a processor: how much is empty, and what a step takes without what is.

    .venv/bin/python -m tools.benchmarks.sparsity --json docs/bench_sparsity.json

*Empty*: the share of outputs, inputs, strips of 16 neighbours and blocks of 16 times 16 of a layer's weights, as a
matrix ``[outputs, inputs]``, that an unstructured mask leaves no weight: the mean over all layers that are pruned by
default, by their weights.  Of initial weights, and of networks for digits after some hundred updates.

*Steps*: a step under masks, with the update, against the same dense; with channels of masks, also with the empty output
channels of convolutions really left out (:mod:`dsd_ort.device.narrow`), copies that this asks for included.

*Kernels*: a product of a matrix of 1024 times 1024 with 256 columns by ONNX Runtime, dense; with a sparse initializer,
if it takes one; and by rows of SciPy's CSR, where it is installed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

import dsd_ort
from dsd_ort import runtime
from dsd_ort.graph.program import open_program
from dsd_ort.recipe import Prune
from dsd_ort.run.arena import Arena, view
from dsd_ort.run.engine import Engine
from dsd_ort.run.execution import Execution
from dsd_ort.run.prune import write_masks
from graphs import NETWORKS
from tools.benchmarks.turns import CLOCKS, ratio, take_turns
from tools.measuring.machine import cpu

Floats = npt.NDArray[np.float32]
EMPTY = ("digits-mlp", "digits-cnn", "resnet50", "vgg16")
STEPS = {"resnet18": 8, "resnet50": 8, "vgg16": 2}
"""Network → pictures a batch."""
SPARSITIES, CHANNELS, BLOCK = (0.9, 0.95, 0.98), (0.3, 0.5, 0.75), 16
RATE = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["empty", "kernels", "steps"], help="empty, kernels, steps")
    parser.add_argument("--networks", nargs="+", default=list(STEPS), help=f"of steps: {', '.join(STEPS)}")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="processor: where others compute too (wall)")
    parser.add_argument("--json", type=Path, help="write the rows to this file; parts that are not measured stay in it")
    options = parser.parse_args()
    known = json.loads(options.json.read_text()) if options.json and options.json.is_file() else {}
    document = {name: known.get(name, []) for name in ("empty", "kernels", "steps")}

    def save() -> None:
        if options.json:
            options.json.write_text(json.dumps(document, indent=1) + "\n")

    if "empty" in options.parts:
        document["empty"] = [row for name in EMPTY for row in empty(name)]
        save()
    if "kernels" in options.parts:
        document["kernels"] = [row | {"cpu": cpu(), "clock": options.clock} for row in kernels(options)]
        save()
    for name in options.networks if "steps" in options.parts else ():
        machine = {"cpu": cpu(), "threads": options.threads, "clock": options.clock, "rounds": options.rounds}
        others = [row for row in document["steps"] if row["network"] != name]
        document["steps"] = others + [row | machine for row in steps(name, options)]
        save()


def tell(row: dict[str, Any]) -> dict[str, Any]:
    print("  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
    return row


def prepare(network: str, folder: Path, pattern: str = "unstructured") -> Path:
    """A run folder of one of ``graphs`` with SGD."""
    model, run = folder / f"{network}.onnx", folder / f"{network}-{pattern}"
    ir.save(NETWORKS[network](), model)
    phase = {"kind": "sparse", "sparsity": 0.5, "steps": 1, "learning_rate": RATE}
    optimizer = {"momentum": 0.9, "weight_decay": 1e-4}
    table = {"optimizer": optimizer, "prune": {"pattern": pattern}, "phase": [phase]}
    dsd_ort.prepare(model, run, dsd_ort.Recipe.from_dict(table))
    return run


def new_arena(run: Path) -> Arena:
    program = open_program(run)
    arena = Arena.of(program)
    arena.fill_from(program.source())
    return arena


def empty(network: str) -> list[dict[str, Any]]:
    """A row for each sparsity; and one more of the trained network, where training takes seconds."""
    with tempfile.TemporaryDirectory() as folder:
        run = prepare(network, Path(folder))
        arenas = {"initial": new_arena(run)}
        if network.startswith("digits"):
            arenas["trained"] = trained(run)
    rows = []
    for weights, arena in arenas.items():
        for sparsity in SPARSITIES:
            write_masks(arena, sparsity, Prune())
            shares = [(piece.size, _empty(view(arena.masks, piece))) for piece in arena.prunable]
            total = sum(size for size, _ in shares)
            found = {kind: sum(size * share[kind] for size, share in shares) / total for kind in shares[0][1]}
            rows.append(tell({"network": network, "weights": weights, "sparsity": sparsity, **found}))
    return rows


def _empty(mask: Floats) -> dict[str, float]:
    """Of a kernel ``[M, C, …]`` or a matrix; which of a matrix's axes are rows does not matter for blocks."""
    matrix = mask.reshape(len(mask), -1) > 0
    high, wide = (-(-n // BLOCK) * BLOCK for n in matrix.shape)
    padded = np.zeros((high, wide), bool)
    padded[: matrix.shape[0], : matrix.shape[1]] = matrix
    blocks = padded.reshape(high // BLOCK, BLOCK, wide // BLOCK, BLOCK).any(axis=(1, 3))
    inputs = (mask > 0).any(axis=(0, *range(2, mask.ndim)))
    strips = padded.reshape(high, wide // BLOCK, BLOCK).any(axis=2)
    return {
        "outputs": 1 - float(matrix.any(axis=1).mean()),
        "inputs": 1 - float(inputs.mean()),
        "strips 1x16": 1 - float(strips.mean()),
        "blocks 16x16": 1 - float(blocks.mean()),
    }


def trained(run: Path, updates: int = 300) -> Arena:
    """After so many updates on scikit-learn's digits as the package brings them."""
    program, arena = open_program(run), new_arena(run)
    engine = Engine(program, arena, Execution(threads=1))
    with np.load(Path(dsd_ort.__file__).parent / "demo" / "digits-train.npz") as data:
        images, labels = (data["image"] / 16).astype(np.float32).reshape(-1, 1, 8, 8), data["label"].astype(np.int64)
    rng = np.random.default_rng(0)
    for step in range(1, updates + 1):
        some = rng.integers(0, len(labels), 32)
        engine.step({"image": images[some], "label": labels[some]}, sparse=False, seed=step)
        engine.update(0.05, step)
    return arena


def steps(network: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Medians of ratios of turns that follow each other."""
    rng, rows, batch = np.random.default_rng(0), [], STEPS[network]
    images = rng.standard_normal((batch, 3, 224, 224), np.float32)
    feeds = {"image": images, "label": rng.integers(0, 1000, batch)}
    patterns = [("unstructured", s) for s in SPARSITIES[:1]] + [("channels", s) for s in CHANNELS]
    with tempfile.TemporaryDirectory() as folder:
        runs = {pattern: prepare(network, Path(folder), pattern) for pattern in ("unstructured", "channels")}
        for pattern, sparsity in patterns:
            engines = {side: new_engine(runs[pattern], pattern, sparsity, options) for side in ("dense", "masked")}
            if pattern == "channels":
                engines["narrow"] = new_engine(runs[pattern], pattern, sparsity, options)
                engines["narrow"].expect(same_masks=True)
            sides = {side: _step(engine, feeds, sparse=side != "dense") for side, engine in engines.items()}
            times = dict(
                zip(sides, take_turns(list(sides.values()), options.rounds, CLOCKS[options.clock]), strict=True)
            )
            row = {"network": network, "batch": batch, "pattern": pattern, "sparsity": sparsity}
            row |= {f"{side}_seconds": statistics.median(seconds) for side, seconds in times.items()}
            row |= {f"{side}_to_dense": ratio(times[side], times["dense"]) for side in times if side != "dense"}
            rows.append(tell(row))
    return rows


def new_engine(run: Path, pattern: str, sparsity: float, options: argparse.Namespace) -> Engine:
    """One whose weights are pruned."""
    arena = new_arena(run)
    write_masks(arena, sparsity, Prune(pattern=pattern))
    arena.apply_masks()
    return Engine(open_program(run), arena, Execution(threads=options.threads))


def _step(engine: Engine, feeds: dict[str, Any], *, sparse: bool) -> Callable[[], None]:
    def step() -> None:
        engine.step(feeds, sparse=sparse, seed=0)
        engine.update(RATE, 2)

    return step


def kernels(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Milliseconds of W · X, W of 1024 times 1024 with so many zeros."""
    rng, size, columns = np.random.default_rng(0), 1024, 256
    x, rows = rng.standard_normal((size, columns), np.float32), []
    for sparsity in SPARSITIES:
        w = rng.standard_normal((size, size), np.float32) * (rng.random((size, size)) >= sparsity)
        dense, refused = _product(w.astype(np.float32), x, options.threads, sparse=False), ""
        sides: dict[str, Callable[[], object]] = {"dense": dense}
        try:
            sides["sparse initializer"] = _product(w.astype(np.float32), x, options.threads, sparse=True)
        except Exception as error:  # what ONNX Runtime says is the result
            refused = runtime.native_message(error)
        try:
            from scipy.sparse import csr_array
        except ImportError:
            pass
        else:
            matrix = csr_array(w.astype(np.float32))
            sides["scipy csr, one thread"] = lambda matrix=matrix: matrix @ x  # type: ignore[misc]
        times = take_turns(list(sides.values()), options.rounds, CLOCKS[options.clock])
        row = {"sparsity": sparsity} | {
            f"{s} ms": 1000 * statistics.median(t) for s, t in zip(sides, times, strict=True)
        }
        rows.append(tell(row | ({"refused": refused} if refused else {})))
    return rows


def _product(w: Floats, x: Floats, threads: int, *, sparse: bool) -> Callable[[], object]:
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["": 17]>
        product (float[{x.shape[0]}, {x.shape[1]}] X) => (float[{len(w)}, {x.shape[1]}] Y) {{ Y = MatMul (W, X) }}""")
    if sparse:
        places = np.flatnonzero(w)
        values = onnx.numpy_helper.from_array(w.reshape(-1)[places], "W")
        indices = onnx.numpy_helper.from_array(places.astype(np.int64), "W_places")
        model.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, w.shape))
    else:
        model.graph.initializer.append(onnx.numpy_helper.from_array(w, "W"))
    session = runtime.session(model, runtime.session_options(threads))
    return lambda: session.run(None, {"X": x})


if __name__ == "__main__":
    main()
