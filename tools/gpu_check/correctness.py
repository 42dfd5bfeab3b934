"""The tasks of correctness: every check of :mod:`tools.gpu_check.checks`, by every ONNX Runtime, of every network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tools.gpu_check import checks
from tools.gpu_check.bench import Bench, Options, Task
from tools.gpu_check.results import Row


def tasks(options: Options, networks: Sequence[str], wanted: Sequence[str]) -> list[Task]:
    """Check by check, so that a run that is cut off has seen all networks; steps before speed, the rest behind."""
    found = []
    for number, check in enumerate(checks.CHECKS):
        for side in ("training", "stock"):
            for name in networks:
                if side not in options.pythons or check not in wanted or not checks.concerns(check, name):
                    continue
                about = {"part": "correctness", "side": side, "network": name}
                order = (0 if check in ("dense", "sparse") else 2, number, side == "stock")
                found.append(Task(order, f"correctness: {side} {name} {check}", about, _work(side, name, check)))
    return found


def _work(side: str, name: str, check: str) -> Callable[[Bench], list[Row]]:
    def work(bench: Bench) -> list[Row]:
        options = bench.options
        bench.prepare("small", name, cpu=True)
        question = {"check": check, "name": name, "folder": str(options.folder.resolve())}
        setting = {"device": options.device, "threads": options.threads, "steps": options.steps}
        answer = bench.ask(bench.side(side), **question, **setting)
        return [{"check": what, "ok": _right(found), **found} for what, found in answer["found"].items()]

    return work


def _right(found: Row) -> bool:
    return math.isfinite(found["value"]) and found["value"] <= found["limit"]
