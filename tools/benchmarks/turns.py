"""Two sides in one process, taking turns, so that what else the machine does meets both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

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


def ratio(a: Sequence[float], b: Sequence[float]) -> float:
    """The median of the ratios of turns that follow each other."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))
