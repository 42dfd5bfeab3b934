"""Two sides in one process, taking turns, so that what else the machine does meets both."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
WARM_UP = 2
"""Turns of each side before those that count."""


def take_turns(
    sides: Sequence[Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
    *,
    rest: float = 0.0,
) -> list[list[float]]:
    """The seconds of each side in each round.

    Args:
        sides: what takes turns.
        rounds: that count.
        clock: by which.
        rest: seconds in front of each turn, in which the threads of the other side stop looking for work.
    """
    seconds: list[list[float]] = [[] for _ in sides]
    for turn in range(WARM_UP + rounds):
        for side, times in zip(sides, seconds, strict=True):
            time.sleep(rest)
            began = clock()
            side()
            if turn >= WARM_UP:
                times.append(clock() - began)
    return seconds


def command_line(text: str | None) -> argparse.ArgumentParser:
    """The options of a benchmark that is described by *text*: rounds, threads, clock, and where rows go."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11, help="turns of each side that count")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    return parser


def ratio(a: Sequence[float], b: Sequence[float]) -> float:
    """The median of the ratios of turns that follow each other."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))
