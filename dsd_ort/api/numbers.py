"""Metrics and times as text: with their units, and side by side with as many digits as tell them apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from dsd_ort.recipe.names import PERCENTAGES
from dsd_ort.run.metrics import HIGHER_IS_BETTER
from dsd_ort.statistics import Paired

BEST = " *"
"""Behind the best of a column."""
DECIMALS: dict[str, int] = {**dict.fromkeys(PERCENTAGES, 2), "perplexity": 2}
USUAL, MOST = 4, 7
"""Decimals of other metrics, and the most of any."""
EXACT = 9
"""Digits that a mean of measurements has; what differs in later ones only was rounded differently."""


def format_value(metric: str, value: float, decimals: int | None = None) -> str:
    """With its unit."""
    decimals = DECIMALS.get(metric, USUAL) if decimals is None else decimals
    return f"{100 * value:.{decimals}f} %" if metric in PERCENTAGES else f"{value:.{decimals}f}"


def format_metrics(metrics: dict[str, Any], where: str = "") -> str:
    """``loss 0.1234  top-1 98.12 %``; *where* they were measured comes in front of each name."""
    return "  ".join(f"{where}{name} {format_value(name, value)}" for name, value in metrics.items())


def format_column(metric: str, values: Sequence[float | None]) -> list[str]:
    """All to as many decimals as the two that are nearest need, and the best marked; empty for None."""
    there = [value for value in values if value is not None]
    decimals = decimals_for(metric, there)
    choose = max if HIGHER_IS_BETTER.get(metric, False) else min
    best = format_value(metric, choose(there), decimals) if len(there) > 1 else None
    texts = ["" if value is None else format_value(metric, value, decimals) for value in values]
    return [text + (BEST if text == best else "") for text in texts]


def decimals_for(metric: str, values: Sequence[float]) -> int:
    """Two digits of the smallest difference, of percentages one, and no fewer than usual."""
    least: int = DECIMALS.get(metric, USUAL)
    scale, digits = (100, 1) if metric in PERCENTAGES else (1, 2)
    finite = sorted({float(f"{scale * value:.{EXACT}g}") for value in values if math.isfinite(value)})
    gap = min((high - low for low, high in pairwise(finite)), default=0.0)
    return least if gap <= 0 else max(least, min(MOST, math.ceil(-math.log10(gap)) + digits - 1))


def format_difference(paired: Paired, monitor: str) -> str:
    """The mean, and its 95 % interval."""
    scale, digits = (100, ".2f") if monitor in PERCENTAGES else (1, ".4f")
    mean = f"{scale * paired.mean:+{digits}}"
    if paired.interval is None:
        return mean
    low, high = (f"{scale * end:+{digits}}" for end in paired.interval)
    return f"{mean} ({low} … {high})"


def heading(metric: str) -> str:
    """Its name, and which way is better: ``top-1 ↑``."""
    return f"{metric} {'↑' if HIGHER_IS_BETTER.get(metric, False) else '↓'}"


def duration(seconds: float) -> str:
    """``40 s``, ``12 min`` or ``3.5 h``."""
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )


def amount(size: float) -> str:
    """Bytes: ``340 kB``, ``1.2 MB``, ``57 GB``."""
    unit, scale = next(((u, s) for u, s in (("kB", 1e3), ("MB", 1e6)) if size < 999.5 * s), ("GB", 1e9))
    return f"{size / scale:.{0 if size >= 9.95 * scale else 1}f} {unit}"
