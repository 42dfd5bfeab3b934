"""A recurrent layer's forward and backward pass, prepared by dsd-ort, against PyTorch's own module.

    .venv-oracle/bin/python -m tools.benchmarks.recurrent --json docs/bench_recurrent.json

One layer of each kind with biases, and the gradients of Σ U·Y, U fixed normal numbers, by the inputs and all weights.
Both sides compute from the same numbers in one process, taking turns.  Printed are medians and, for each pair of turns,
ratios (ours / theirs), of which the median counts; and the bytes that a first step takes over sequences of this length,
and of four times this length.  On a machine that does other work too, wall times of several threads say little;
--clock processor with --threads 1 says how much work either side is.  Needs PyTorch; make oracle makes the environment.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import psutil
import torch

from dsd_ort import runtime
from dsd_ort.device.lower import lower
from dsd_ort.graph.differentiate import differentiate
from dsd_ort.graph.legalize import legalize
from tools.benchmarks.turns import CLOCKS, command_line, ratio, take_turns
from tools.measuring.machine import cpu, peak_memory, reset_peak

KINDS = {
    "LSTM": (torch.nn.LSTM, 4, ""),
    "GRU": (torch.nn.GRU, 3, ", linear_before_reset = 1"),
    "RNN": (torch.nn.RNN, 1, ""),
}
"""PyTorch's module, the number of gates, and what ONNX needs to mean the same."""
GATES = {"LSTM": [0, 3, 1, 2], "GRU": [1, 0, 2], "RNN": [0]}
"""ONNX's order of the gates in terms of PyTorch's."""
PARAMETERS = ["x", "W", "R", "B"]


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--steps", type=int, default=100, help="length of the sequences")
    parser.add_argument("--batch", type=int, default=16, help="number of sequences")
    parser.add_argument("--units", type=int, default=512, help="of the layer and of its input")
    parser.add_argument("--directions", type=int, default=1, choices=[1, 2])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for kind in arguments.kinds:
        sizes = {"steps": arguments.steps, "batch": arguments.batch, "units": arguments.units}
        sizes |= {"directions": arguments.directions}
        row = measure(kind, **sizes, rounds=arguments.rounds, threads=arguments.threads, clock=CLOCKS[arguments.clock])
        row["memory"] = [memory(kind, steps, arguments) for steps in (arguments.steps, 4 * arguments.steps)]
        rows.append({"layer": kind, **sizes, **row, "clock": arguments.clock})
        print("  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in rows[-1].items()))
    if arguments.json:
        machine = {"cpu": cpu(), "threads": arguments.threads, "torch": torch.__version__}
        arguments.json.write_text(json.dumps([row | machine for row in rows], indent=1) + "\n")


def measure(
    kind: str,
    *,
    steps: int,
    batch: int,
    units: int,
    directions: int,
    rounds: int,
    threads: int,
    clock: Callable[[], float],
) -> dict[str, Any]:
    """Medians in seconds, the median of the ratios, and the greatest difference of a gradient, relative to its norm."""
    torch.manual_seed(0)
    module = KINDS[kind][0](units, units, bidirectional=directions == 2)
    feeds = weights_of(module, kind, directions)
    rng = np.random.default_rng(0)
    feeds["x"] = rng.standard_normal((steps, batch, units), np.float32)
    feeds["u"] = rng.standard_normal((steps, directions, batch, units), np.float32)
    ours = step(kind, units, directions, feeds, threads)
    x = torch.from_numpy(feeds["x"]).requires_grad_()
    u = torch.from_numpy(feeds["u"].transpose(0, 2, 1, 3).reshape(steps, batch, -1).copy())

    def theirs() -> None:
        x.grad = None
        module.zero_grad()
        (module(x)[0] * u).sum().backward()

    theirs()
    expected = weights_of(module, kind, directions, gradients=True) | {"x": x.grad.numpy()}
    found = dict(zip(PARAMETERS, ours(), strict=True))
    error = max(np.linalg.norm(found[k] - expected[k]) / np.linalg.norm(expected[k]) for k in PARAMETERS)
    mine, other = take_turns([ours, theirs], rounds, clock)
    return {
        "ratio": ratio(mine, other),
        "seconds": statistics.median(mine),
        "torch_seconds": statistics.median(other),
        "difference": float(error),
        "rounds": rounds,
    }


def memory(kind: str, steps: int, arguments: argparse.Namespace) -> int:
    """Bytes that a first step over sequences of *steps* takes beyond what the session has: linear in *steps*."""
    torch.manual_seed(0)
    units, directions = arguments.units, arguments.directions
    feeds = weights_of(KINDS[kind][0](units, units, bidirectional=directions == 2), kind, directions)
    feeds["x"] = np.zeros((steps, arguments.batch, units), np.float32)
    feeds["u"] = np.zeros((steps, directions, arguments.batch, units), np.float32)
    ours = step(kind, units, directions, feeds, arguments.threads)
    before = psutil.Process().memory_info().rss
    reset_peak()
    ours()
    return peak_memory() - before


def weights_of(
    module: torch.nn.RNNBase, kind: str, directions: int, *, gradients: bool = False
) -> dict[str, np.ndarray]:
    """W, R and B as ONNX has them, or their gradients."""

    def of(name: str) -> np.ndarray:
        """[directions, K·H, …], gates in ONNX's order."""
        arrays = []
        for suffix in ("", "_reverse")[:directions]:
            value = getattr(module, f"{name}_l0{suffix}")
            gates = np.split((value.grad if gradients else value.detach()).numpy(), KINDS[kind][1])
            arrays.append(np.concatenate([gates[i] for i in GATES[kind]]))
        return np.stack(arrays)

    return {
        "W": of("weight_ih"),
        "R": of("weight_hh"),
        "B": np.concatenate([of("bias_ih"), of("bias_hh")], axis=1),
    }


def step(
    kind: str, units: int, directions: int, feeds: dict[str, np.ndarray], threads: int
) -> Callable[[], list[np.ndarray]]:
    """A function that runs forward and backward, and returns the gradients of :data:`PARAMETERS`."""
    types = ", ".join(f"float{list(v.shape) if k in 'WRB' else '[T, N, I]'} {k}" for k, v in feeds.items() if k != "u")
    direction = ["forward", "bidirectional"][directions - 1]
    layer = f'{kind} <hidden_size = {units}, direction = "{direction}"{KINDS[kind][2]}> (x, W, R, B)'
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 18]> g ({types}, float[T, {directions}, N, {units}] u) => (float L) '
        f"{{ y = {layer} p = Mul (y, u) L = ReduceSum <keepdims = 0> (p) }}"
    )
    legal = legalize(ir.from_proto(proto), PARAMETERS, outputs=["L"]).model
    graph = differentiate(legal, PARAMETERS, loss="L")
    lower(graph.model)
    session = runtime.session(ir.to_proto(graph.model), runtime.session_options(threads))
    names = [graph.gradients[name] for name in PARAMETERS]
    return lambda: session.run(names, feeds)


if __name__ == "__main__":
    main()
