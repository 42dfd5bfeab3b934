"""The machine that a benchmark runs on, and the memory that it takes there."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def rows_of_others(path: Path) -> list[dict[str, Any]]:
    """The rows in the JSON at *path* that other processors measured; none, if there is no such file."""
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return [row for row in rows if row["cpu"] != cpu()]


def reset_peak() -> None:
    """Lets :func:`peak_memory` begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """The largest resident set since the reset, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
