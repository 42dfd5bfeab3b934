"""Matrix products alone: ONNX Runtime's beside PyTorch's, in the sizes and forms that steps have.

    .venv-oracle/bin/python -m tools.benchmarks.products --json docs/bench_products.json

What is left in a step of a transformer is mostly such products, so their ratio is what its ratio can come to.  X is
[rows, in], W [in, out], and dY [rows, out]; a forward pass takes X·W, a backward pass dY·Wᵀ and Xᵀ·dY.  The two sides
take turns in one process, with a rest in front of each turn, and medians count.  Rows of other processors that are in
the JSON stay.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import onnx.parser
import torch

from dsd_ort import runtime
from tools.benchmarks.turns import CLOCKS, command_line, ratio, take_turns
from tools.measuring.machine import cpu, rows_of_others

SIZES = {
    "ViT-B/16, 8 pictures": (1576, 768, 3072),
    "decoder, 8 texts": (1024, 256, 1024),
    "decoder, 1 text": (128, 256, 1024),
    "VGG-16, 8 pictures": (8, 25088, 4096),
    "a step of NeuralTalk's LSTM, 8 captions": (8, 512, 2048),
    "a step of NeuralTalk's LSTM, 1 caption": (1, 512, 2048),
}
"""Rows, in, out."""
SHORTEST, REST = 0.02, 0.05
"""Seconds of a turn, about, which is several products where they are small; and in front of it."""


class Form(NamedTuple):
    """Which two of X, W and dY are multiplied, and which of them is transposed."""

    factors: tuple[str, str]
    transposed: tuple[bool, bool]


FORMS = {
    "X·W": Form(("X", "W"), (False, False)),
    "dY·Wᵀ": Form(("dY", "W"), (False, True)),
    "Xᵀ·dY": Form(("X", "dY"), (True, False)),
}


def main() -> None:
    arguments = command_line(__doc__).parse_args()
    torch.set_num_threads(arguments.threads)
    machine = {"clock": arguments.clock, "threads": arguments.threads, "cpu": cpu(), "torch": torch.__version__}
    rows = rows_of_others(arguments.json) if arguments.json else []
    for size, form in itertools.product(SIZES, FORMS):
        rows.append({"size": size, "form": form, **measure(SIZES[size], FORMS[form], arguments), **machine})
        found = rows[-1]
        print(f"{size}, {form}: {found['ratio']:.2f}, {found['gflops']:.0f} GFLOP/s of {found['torch_gflops']:.0f}")
        if arguments.json:
            arguments.json.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


def measure(sizes: tuple[int, int, int], form: Form, arguments: argparse.Namespace) -> dict[str, Any]:
    """The ratio (ours / PyTorch's), and the speed of each side."""
    rows, into, out = sizes
    shapes = {"X": (rows, into), "W": (into, out), "dY": (rows, out)}
    rng = np.random.default_rng(0)
    factors = [rng.standard_normal(shapes[name], np.float32) for name in form.factors]
    ours = _ours(factors, form.transposed, arguments.threads)
    theirs = _theirs(factors, form.transposed)
    np.testing.assert_allclose(ours(), theirs(), rtol=1e-3, atol=1e-2)
    work = 2.0 * math.prod(sizes)
    [once] = take_turns([ours], 3, CLOCKS["wall"])
    count = max(1, round(SHORTEST / statistics.median(once)))

    def several(product: Callable[[], object]) -> Callable[[], object]:
        return lambda: [product() for _ in range(count)]

    clock = CLOCKS[arguments.clock]
    mine, other = take_turns([several(ours), several(theirs)], arguments.rounds, clock, rest=REST)
    return {
        "ratio": ratio(mine, other),
        "gflops": work * count / statistics.median(mine) / 1e9,
        "torch_gflops": work * count / statistics.median(other) / 1e9,
        "products": count,
        "rounds": arguments.rounds,
    }


def _ours(factors: list[np.ndarray], transposed: tuple[bool, bool], threads: int) -> Callable[[], np.ndarray]:
    left, right = map(int, transposed)
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18, "com.microsoft" : 1]> g (float[M, K] a, float[P, Q] b) => '
        f"(float[R, S] y) {{ y = com.microsoft.FusedMatMul <transA = {left}, transB = {right}> (a, b) }}"
    )
    session = runtime.session(model, runtime.session_options(threads))
    binding = session.io_binding()
    for name, factor in zip("ab", factors, strict=True):
        binding.bind_cpu_input(name, factor)
    [result] = session.run(None, dict(zip("ab", factors, strict=True)))
    binding.bind_output("y", "cpu", 0, np.float32, result.shape, result.ctypes.data)

    def product() -> np.ndarray:
        session.run_with_iobinding(binding)
        return result

    return product


def _theirs(factors: list[np.ndarray], transposed: tuple[bool, bool]) -> Callable[[], torch.Tensor]:
    a, b = (torch.from_numpy(f).T if t else torch.from_numpy(f) for f, t in zip(factors, transposed, strict=True))
    result = torch.empty(a.shape[0], b.shape[1])
    return lambda: torch.mm(a, b, out=result)


if __name__ == "__main__":
    main()
