"""The tasks of speed: two processes on one device take turns, and ratios are of turns that follow each other.

One of the two is prepared training by an ONNX Runtime, dense, with CUDA graphs, its batch on the device.  The other is

============== ==================================================================== =========================
eager          PyTorch, eager                                                       goal: ratio ≤ 1
sparse         the same ONNX Runtime under the masks of a sparse phase              goal: at most 1 % slower
launches       … without CUDA graphs
compile        PyTorch, ``torch.compile``
channels-last  PyTorch, eager, pictures in channels-last format
cudnn-rnn      PyTorch, eager, DeepSpeech 2 with recurrent layers that clip nothing
stock          the stock ONNX Runtime, where the one is the training build
host           PyTorch, eager; both copy the host's batch to the device each step
============== ==================================================================== =========================

A process is asked for 2 steps that do not count, then for rounds of as many steps as fill ``--round-seconds`` on the
slower side.  Memory is what the device has less after that than before the process began, whatever it is for, the same
for all sides; on the CPU it is the peak of the process.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from tools.gpu_check import networks as tables
from tools.gpu_check.bench import Bench, Options, Task
from tools.gpu_check.pipe import Side
from tools.gpu_check.results import Row

TORCH = ("eager", "compile", "channels-last", "cudnn-rnn", "host")
FIRST = ("eager", "sparse", "launches")
AGAINST = (*FIRST, "stock", "compile", "channels-last", "cudnn-rnn", "host")
PRECISIONS = ("fp16", "tf32", "fp32", "bf16")
MOST_STEPS = 100


class Runner(NamedTuple):
    """A side that takes steps."""

    side: Side
    loss: float
    memory: int


def tasks(options: Options, names: Sequence[str], precisions: Sequence[str], wanted: Sequence[str]) -> list[Task]:
    """First the training build against eager in fp16 and TF32 with masks and CUDA graphs, then stock, then the rest."""
    found = []
    for side in ("training", "stock"):
        for precision in precisions:
            for name in names:
                for against in wanted:
                    if side not in options.pythons or not _makes_sense(options, side, name, precision, against):
                        continue
                    about = {"part": "speed", "side": side, "network": name, "precision": precision, "against": against}
                    first = against in FIRST and PRECISIONS.index(precision) < 2
                    within = (precisions.index(precision), names.index(name), wanted.index(against))
                    order = (1 if first else 3, side == "stock", *within)
                    task = f"speed: {side} {name} {precision} against {against}"
                    found.append(Task(order, task, about, _work(side, name, precision, against)))
    return found


def _makes_sense(options: Options, side: str, name: str, precision: str, against: str) -> bool:
    if against in TORCH and "torch" not in options.pythons:
        return False
    if against == "stock" and (side == "stock" or "stock" not in options.pythons):
        return False
    if against == "launches" and options.on_cpu:
        return False
    recurrent = name == "deepspeech2"
    # A loop over hundreds of frames in seven layers is what torch.compile unrolls.
    return recurrent if against == "cudnn-rnn" else not (recurrent and against in ("compile", "channels-last"))


def _work(side: str, name: str, precision: str, against: str) -> Callable[[Bench], list[Row]]:
    def work(bench: Bench) -> list[Row]:
        options = bench.options
        bench.prepare(options.sizes, name, tensors="torch" in options.pythons)
        bench.close()  # the sides that prepare and check
        common = {"open": options.sizes, "name": name, "folder": str(options.folder.resolve())}
        common |= {"device": options.device, "threads": options.threads, "precision": precision}
        size = tables.SETS[options.sizes][name]
        host = against == "host"
        ours = {**common, "host": host}
        others: dict[str, tuple[str, dict[str, Any]]] = {
            "sparse": (side, {"sparse": True}),
            "launches": (side, {"cuda_graphs": False}),
            "stock": ("stock", {}),
            "host": ("torch", {"how": "eager", "host": True, "arguments": size.arguments}),
        }
        other, more = others.get(against, ("torch", {"how": against, "arguments": size.arguments}))
        one = base(bench, side, ours)
        with runner(bench, other, {**common, **more}) as two:
            row = take_turns(bench, one.side, two.side)
            row |= {"loss": one.loss, "other_loss": two.loss, "memory": one.memory, "other_memory": two.memory}
        return [{"batch": size.batch, "length": size.length, **row}]

    return work


class Base(NamedTuple):
    """The one that stays open while others come and go."""

    side: str
    question: dict[str, Any]
    runner: Runner


def base(bench: Bench, side: str, question: dict[str, Any]) -> Runner:
    """The one of the last task, if it is the same."""
    kept: Base | None = bench.base
    if kept and kept[:2] == (side, question):
        process = kept.runner.side
        if not process.failed and process.process.poll() is None:
            return kept.runner
    close_base(bench)
    started = start(bench, side, question)
    bench.base = Base(side, question, started)
    return started


def close_base(bench: Bench) -> None:
    if bench.base is not None:
        bench.base.runner.side.close()
        bench.base = None


@contextmanager
def runner(bench: Bench, side: str, question: dict[str, Any]) -> Iterator[Runner]:
    """A process that ends behind the block."""
    started = start(bench, side, question)
    try:
        yield started
    finally:
        started.side.close()


def start(bench: Bench, side: str, question: dict[str, Any]) -> Runner:
    """A process of its own that has taken its first steps."""
    free = bench.free_memory()
    process = bench.start(side)
    try:
        loss = bench.ask(process, **question)["loss"]
        bench.ask(process, run=2)
        peak = bench.ask(process, memory=True)["peak"]
    except BaseException:
        process.close()
        raise
    return Runner(process, loss, free - bench.free_memory() if free else peak)


def take_turns(bench: Bench, one: Side, two: Side) -> Row:
    """Seconds of a step on both sides, and the ratio."""
    options = bench.options
    slower = max(bench.ask(side, run=1)["seconds"] for side in (one, two))
    steps = min(MOST_STEPS, max(1, round(options.round_seconds / slower)))
    turns = [[bench.ask(side, run=steps)["seconds"] / steps for side in (one, two)] for _ in range(options.rounds)]
    ratios = [a / b for a, b in turns]
    return {
        "seconds": statistics.median(a for a, _ in turns),
        "other_seconds": statistics.median(b for _, b in turns),
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "rounds": options.rounds,
        "steps_a_round": steps,
    }
