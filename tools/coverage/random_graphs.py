"""Gradients of random graphs: how many are right, refused, or (a defect) wrong.

    python -m tools.coverage.random_graphs --examples 5000 --json docs/random_graphs.json

Each graph has up to six operators with random shapes, attributes and opsets (tests/graph/fuzz/graphs.py), and is judged
in a process of its own (tests/graph/fuzz/judge.py).  Exit status 1 if one is wrong or ends the process; it is printed.
The file has what each ONNX Runtime found that was tried.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path

import click
import numpy as np
import onnx
import onnx.printer
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.graph.fuzz.graphs import graphs
from tests.graph.fuzz.judge import CONSTANT, KINK, REFUSED, RIGHT, UNLIKE, Judge
from tools.coverage.runtime import onnx_runtime

FINE = {RIGHT, REFUSED, KINK, CONSTANT, UNLIKE}


@click.command(help=__doc__)
@click.option("--examples", default=5000, show_default=True)
@click.option("--seed", "first_seed", default=0, show_default=True)
@click.option("--json", "path", type=click.Path(path_type=Path))
def main(examples: int, first_seed: int, path: Path | None) -> None:
    judge, began = Judge(), time.monotonic()
    kinds: Counter[str] = Counter()
    operators: dict[str, Counter[str]] = {}
    reasons: Counter[str] = Counter()
    wrong: list[str] = []

    @seed(first_seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(graph=graphs())
    def each(graph: tuple[onnx.ModelProto, dict[str, np.ndarray]]) -> None:
        model, inputs = graph
        kind, remark = judge(model.SerializeToString(), inputs)
        kinds[kind] += 1
        for node in model.graph.node:
            operators.setdefault(node.op_type, Counter())[kind] += 1
        if kind in (REFUSED, UNLIKE):
            reasons[f"{kind}: {remark.splitlines()[0][:120]}"] += 1
        if kind not in FINE:
            wrong.append(f"{kind}: {remark}\n{onnx.printer.to_text(model)}")
            print(wrong[-1], flush=True)
        if sum(kinds.values()) % 250 == 0:
            print(f"{sum(kinds.values())} graphs, {time.monotonic() - began:.0f} s: {dict(kinds)}", flush=True)

    each()
    judge.close()
    print(dict(kinds))
    if path:
        result = {
            "command": f"python -m tools.coverage.random_graphs --examples {examples} --seed {first_seed}",
            "graphs": sum(kinds.values()),
            "verdicts": dict(kinds.most_common()),
            "wrong": len(wrong),
            "nodes": {name: dict(counts) for name, counts in sorted(operators.items())},
            "reasons": dict(reasons.most_common(40)),
        }
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(known | {onnx_runtime(): result}, indent=1) + "\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
