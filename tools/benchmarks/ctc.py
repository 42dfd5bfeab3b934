"""CTC's loss and gradient, as dsd-ort prepares them, against PyTorch's ``ctc_loss``.

    .venv-oracle/bin/python -m tools.benchmarks.ctc --json docs/bench_ctc.json

Both sides take log-softmax, the mean loss and its gradient by the logits from the same numbers in one process, taking
turns.  Printed are medians and the median of the ratios of each pair of turns (ours / theirs).  Needs PyTorch; make
oracle makes the environment.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import torch

from dsd_ort import runtime
from dsd_ort.graph.differentiate import differentiate
from dsd_ort.graph.loss import attach
from dsd_ort.recipe import Loss
from tools.benchmarks.turns import CLOCKS, command_line, ratio, take_turns
from tools.measuring.machine import cpu

SIZES = ((200, 8, 50, 30), (1000, 4, 100, 40), (400, 32, 60, 30), (150, 16, 20, 1000))
"""Frames, sequences, labels, classes."""


def main() -> None:
    arguments = command_line(__doc__).parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for sizes in SIZES:
        named = dict(zip(("frames", "sequences", "labels", "classes"), sizes, strict=True))
        rows.append(named | measure(*sizes, arguments) | {"clock": arguments.clock})
        print("  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in rows[-1].items()))
    if arguments.json:
        machine = {"cpu": cpu(), "threads": arguments.threads, "torch": torch.__version__}
        arguments.json.write_text(json.dumps([row | machine for row in rows], indent=1) + "\n")


def measure(frames: int, sequences: int, labels: int, classes: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Medians in seconds, the median of the ratios, and the greatest difference of a gradient from float64's."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((frames, sequences, classes)).astype(np.float32)
    y, n = rng.integers(1, classes, (sequences, labels)), rng.integers(2 * labels + 1, frames + 1, sequences)
    shape = f"float[T, N, {classes}]"
    model = ir.from_proto(
        onnx.parser.parse_model(
            f'<ir_version: 8, opset_import: ["" : 18]> g ({shape} x, int64[N] n) => ({shape} logits) '
            "{ logits = Identity (x) }"
        )
    )
    loss = attach(model, [Loss(name="ctc", time_axis=0, lengths="n")]).loss
    step = differentiate(model, ["x"], loss=loss)
    session = runtime.session(ir.to_proto(step.model), runtime.session_options(arguments.threads))
    names = [loss, step.gradients["x"]]
    logits = torch.tensor(x, requires_grad=True)

    def ours() -> list[np.ndarray]:
        found: list[np.ndarray] = session.run(names, {"x": x, "n": n, "label": y})
        return found

    def theirs(logits: torch.Tensor = logits) -> torch.Tensor:
        logits.grad = None
        lengths = torch.full((sequences,), labels)
        value = torch.nn.functional.ctc_loss(logits.log_softmax(-1), torch.tensor(y), torch.tensor(n), lengths)
        value.backward()
        return value

    exact = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    theirs(exact)
    theirs()
    assert exact.grad is not None and logits.grad is not None
    size = exact.grad.abs().max()
    mine, other = take_turns([ours, theirs], arguments.rounds, CLOCKS[arguments.clock])
    return {
        "ratio": ratio(mine, other),
        "seconds": statistics.median(mine),
        "torch_seconds": statistics.median(other),
        "difference": float((torch.from_numpy(ours()[1]) - exact.grad).abs().max() / size),
        "torch_difference": float((logits.grad - exact.grad).abs().max() / size),
        "rounds": arguments.rounds,
    }


if __name__ == "__main__":
    main()
