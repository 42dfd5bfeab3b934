"""What many cases have come to: counts for the page."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tools.measuring.machine import cpu


def summary(done: Path) -> dict[str, Any]:
    """Of a file of cases, a line each: how many, how commands ended, and what ended as nothing must."""
    cases: Counter[str] = Counter()
    ends: dict[str, Counter[str]] = {}
    bad: list[dict[str, Any]] = []
    slowest = 0.0
    for line in map(json.loads, done.read_text("utf-8").splitlines()):
        kind = line["case"][0]
        cases[kind] += 1
        for command, status, seconds in line["ends"]:
            ends.setdefault(f"{kind}: {command}", Counter())[str(status)] += 1
            slowest = max(slowest, seconds)
        if line["bad"]:
            bad.append({"case": line["case"], "made": line["made"], "bad": line["bad"]})
    return {
        "machine": cpu(),
        "cases": dict(cases),
        "exit statuses": {name: dict(sorted(found.items())) for name, found in sorted(ends.items())},
        "most processor seconds of a command": slowest,
        "bad": bad,
    }
