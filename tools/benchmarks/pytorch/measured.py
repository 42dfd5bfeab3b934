"""One measurement, in pieces that are processes of their own: files, turns of the sides, and the memory of each."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch

from tools.benchmarks.pytorch import networks, sides
from tools.benchmarks.turns import CLOCKS, ratio, take_turns
from tools.measuring.machine import peak_memory, reset_peak

REST = 0.5
"""Seconds in front of a turn: threads of the other side look for work for a while after theirs is done, and take a core
meanwhile.  In one trial of ResNet-50 a rest took 15 % off our time and nothing off PyTorch's, in others it made no
difference."""
SHORTEST = 0.2
"""Seconds of a turn, about: of a small network it is several steps."""
SIDES = ("ours", "eager", "compiled", "ort")
RUNS = {"ours": "run", "cheap": "cheap"}
"""The folders of our runs: as the recipe is, and with ``recompute = "cheap"``."""


class Wanted(NamedTuple):
    """One measurement, and the sides that take part in it."""

    network: str
    batch: int
    sides: tuple[str, ...]
    rounds: int
    threads: int
    clock: str


def write(item: tuple[str, Path]) -> None:
    """The model and its run folder."""
    name, folder = item
    sides.prepare(name, networks.write(name, folder / "model.onnx"), folder / RUNS["ours"])


def write_cheap(item: tuple[str, Path]) -> None:
    """Another one, whose steps compute again what is cheap."""
    name, folder = item
    sides.prepare(name, folder / "model.onnx", folder / RUNS["cheap"], recompute="cheap")


def measure(given: tuple[Wanted, Path]) -> dict[str, Any]:
    """Seconds of each side, and the ratios ours / theirs of turns that follow each other."""
    item, folder = given
    torch.set_num_threads(item.threads)
    batch = networks.NETWORKS[item.network].batch(item.batch)
    makers: dict[str, Callable[[], sides.Step]] = {
        "ours": lambda: sides.ours(folder / RUNS["ours"], batch, item.threads),
        "eager": lambda: sides.eager(item.network, batch),
        "compiled": lambda: sides.eager(item.network, batch, compiled=True),
        "ort": lambda: sides.ort_api(folder / "model.onnx", batch, folder),
    }
    steps: dict[str, sides.Step] = {"ours": makers["ours"](), "eager": makers["eager"]()}
    refused = dict[str, str]()
    for side in item.sides:
        if side not in steps:
            made = _first(makers[side])
            if isinstance(made, str):
                refused[side] = made
            else:
                steps[side] = made
    steps["ours"]()  # the first one opens sessions
    began = time.perf_counter()
    steps["ours"]()
    count = max(1, round(SHORTEST / (time.perf_counter() - began)))
    turns = [partial(_several, step, count) for step in steps.values()]
    spent = take_turns(turns, item.rounds, CLOCKS[item.clock], rest=REST)
    times = {side: [seconds / count for seconds in of] for side, of in zip(steps, spent, strict=True)}
    return {
        "network": item.network,
        "batch": item.batch,
        "ratios": {side: ratio(times["ours"], times[side]) for side in times if side != "ours"},
        "seconds": {side: statistics.median(seconds) for side, seconds in times.items()},
        "refused": refused,
        "flops": sides.flops(item.network, batch),
        **sides.machine(item.clock),
        "rounds": item.rounds,
        "rest": REST,
        "threads": item.threads,
        "clock": item.clock,
        "torch": torch.__version__,
    }


def _several(step: sides.Step, count: int) -> None:
    for _ in range(count):
        step()


def _first(make: Callable[[], sides.Step]) -> sides.Step | str:
    """A step that was taken once, or what keeps this side from taking part."""
    try:
        step = make()
        step()
    except Exception as error:  # whatever it is, it stands in the row
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
    return step


def alone(given: tuple[Wanted, str, Path]) -> float:
    """GB that three steps of one side take, over what the process had before it was made."""
    item, side, folder = given
    torch.set_num_threads(item.threads)
    batch = networks.NETWORKS[item.network].batch(item.batch)
    before = psutil.Process().memory_info().rss
    reset_peak()
    eager = side == "eager"
    step = sides.eager(item.network, batch) if eager else sides.ours(folder / RUNS[side], batch, item.threads)
    for _ in range(3):
        step()
    return (peak_memory() - before) / 1e9
