from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch

from dsd_ort import runtime
from dsd_ort.device import forms
from tools.benchmarks import depthwise
from tools.benchmarks.depthwise.shapes import NETWORKS, Shape
from tools.benchmarks.pytorch import networks, sides
from tools.benchmarks.turns import CLOCKS, ratio, take_turns
from tools.measuring.machine import cpu

Arrays = dict[str, np.ndarray]
SOURCE = Path(__file__).with_name("kernels.c")
FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=depthwise.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), help=", ".join(NETWORKS))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="processor: with --threads 1 alone (wall)")
    parser.add_argument("--steps", action="store_true", help="measure whole steps too")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    wanted = {shape for name in options.networks for shape in NETWORKS[name]}
    with tempfile.TemporaryDirectory() as folder:
        kernel = compiled(Path(folder))
        measured = {shape: measure(shape, kernel, options) for shape in sorted(wanted)}
    rows = [shape._asdict() | row for shape, row in measured.items()]
    steps = [whole(name, measured, options) for name in options.networks]
    machine = {"cpu": cpu(), "threads": options.threads, "batch": options.batch, "clock": options.clock}
    machine |= {"torch": torch.__version__, "cc": _version(), "flags": " ".join(FLAGS), "rounds": options.rounds}
    if options.json:
        document = {"machine": machine, "shapes": rows, "networks": steps}
        options.json.write_text(json.dumps(document, indent=1) + "\n")


def compiled(folder: Path) -> Callable[..., int]:
    """The C function, see ``kernels.c``."""
    library = folder / "kernels.so"
    subprocess.run(["cc", *FLAGS, "-o", library, SOURCE], check=True)
    function = ctypes.CDLL(str(library)).depthwise_gradient
    function.argtypes = [ctypes.c_void_p] * 5 + [ctypes.c_long] * 4 + [ctypes.c_int] * 3
    return function


def _version() -> str:
    return subprocess.run(["cc", "--version"], check=True, capture_output=True, text=True).stdout.splitlines()[0]


def measure(shape: Shape, kernel: Callable[..., int], options: argparse.Namespace) -> dict[str, Any]:
    """Medians in milliseconds, ratios of turns that follow each other, and how far C's numbers are from PyTorch's."""
    rng, n, threads = np.random.default_rng(0), options.batch, options.threads
    c, size, k, s = shape
    given = {
        "dY": rng.standard_normal((n, c, shape.out_size, shape.out_size), np.float32),
        "X": rng.standard_normal((n, c, size, size), np.float32),
        "W": rng.standard_normal((c, 1, k, k), np.float32),
    }
    found = {"dX": np.empty_like(given["X"]), "dW": np.empty_like(given["W"])}
    tensors = [torch.from_numpy(array) for array in given.values()]
    addresses = [array.ctypes.data for array in (*given.values(), *found.values())]
    both = ([s, s], [k // 2] * 2, [1, 1], False, [0, 0], c, [True, True, False])

    def theirs() -> Any:
        return torch.ops.aten.convolution_backward(*tensors, None, *both)

    def in_c() -> None:
        status = kernel(*addresses, n, c, size, size, k, s, threads)
        assert status == 0, status

    session = ours(shape, given, threads)
    in_c()
    wanted = dict(zip(found, theirs(), strict=False))
    wrong = {f"{name}_error": _distance(found[name], wanted[name].numpy()) for name in found}
    times = take_turns([session, in_c, theirs], options.rounds, CLOCKS[options.clock])
    seconds = statistics.median(times[1])
    row = {
        **{f"{side}_ms": 1000 * statistics.median(t) for side, t in zip(("ours", "c", "torch"), times, strict=True)},
        "ours_to_torch": ratio(times[0], times[2]),
        "c_to_torch": ratio(times[1], times[2]),
        "c_to_ours": ratio(times[1], times[0]),
        "GFLOPS": 4 * given["dY"].size * k * k / seconds / 1e9,
        "GB/s": sum(a.nbytes for a in (given["dY"], given["X"], found["dX"])) / seconds / 1e9,
        **wrong,
    }
    print("  ".join(f"{key} {value:.3g}" for key, value in (shape._asdict() | row).items()), flush=True)
    return row


def _distance(got: np.ndarray, wanted: np.ndarray) -> float:
    """The length of the difference, of what it is a difference from."""
    return float(np.linalg.norm(got.astype(np.float64) - wanted) / np.linalg.norm(wanted))


def ours(shape: Shape, given: Arrays, threads: int) -> Callable[[], None]:
    """ConvGrad in the form that a step's session gives it, bound to arrays as a step binds gradients."""
    k, s = shape.kernel, shape.stride
    sizes = {name: list(array.shape) for name, array in given.items()}
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>
        gradient (float{sizes["dY"]} dY, float{sizes["X"]} X, float{sizes["W"]} W)
            => (float{sizes["X"]} dX, float{sizes["W"]} dW) {{
            dX, dW = com.microsoft.ConvGrad <kernel_shape = [{k}, {k}], strides = [{s}, {s}], dilations = [1, 1],
                pads = [{k // 2}, {k // 2}, {k // 2}, {k // 2}], group = {shape.channels}> (dY, X, W)
        }}""")
    form = ir.from_proto(model)
    forms.for_session(form)
    session = runtime.session(ir.to_proto(form), runtime.session_options(threads))
    binding, kept = session.io_binding(), [given]
    for name, array in given.items():
        binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
    for name, like in {"dX": "X", "dW": "W"}.items():
        array = np.empty_like(given[like])
        binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        kept.append({name: array})

    def run() -> None:
        assert kept
        session.run_with_iobinding(binding)

    return run


def whole(name: str, measured: dict[Shape, dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """What all depthwise gradients of a network take, in milliseconds, and with ``--steps`` a step of it."""
    row: dict[str, Any] = {"network": name}
    for side in ("ours_ms", "c_ms", "torch_ms"):
        row[side] = sum(count * measured[shape][side] for shape, count in NETWORKS[name].items())
    if options.steps:
        with tempfile.TemporaryDirectory() as folder:
            sides.prepare(name, networks.write(name, Path(folder) / "model.onnx"), Path(folder) / "run")
            batch = networks.NETWORKS[name].batch(options.batch)
            step = sides.ours(Path(folder) / "run", batch, options.threads)
            (times,) = take_turns([step], options.rounds, CLOCKS[options.clock])
        row["step_ms"] = 1000 * statistics.median(times)
        row["step_with_c"] = 1 - (row["ours_ms"] - row["c_ms"]) / row["step_ms"]
    print("  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
    return row


if __name__ == "__main__":
    main()
