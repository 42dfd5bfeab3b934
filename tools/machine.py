"""The machine that a benchmark ran on."""

from __future__ import annotations

import platform
from pathlib import Path


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
