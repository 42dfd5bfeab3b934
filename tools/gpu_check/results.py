"""The JSON that grows row by row.

::

    {"device": {name, kind, driver, memory, capability}, "cpu": …, "command": …, "commit": …,
     "sides": {training | stock | torch: versions}, "missing": {side: why},
     "rows": [{"task": …, "part": "correctness" | "speed", …}]}

A row of correctness has side, network, check, value, limit, ok, where, detail; one of speed has side, network,
precision, batch, against, seconds and other_seconds a step, ratio (the median of seconds / other_seconds of
neighbouring rounds), memory and other_memory in bytes, loss and other_loss of the first step.  A task that failed has
one row with ``error``.
"""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def without_folders(text: str) -> str:
    """*text* with the names of files only: results are committed, and folders are this machine's."""
    return re.sub(r"(?<![\w.])/(?:[^\s/'\":]+/)+", "", text)


class OtherDevice(Exception):  # noqa: N818
    """The file has the results of another device."""


class Results:
    """Rows, and the file that they are written to."""

    def __init__(self, path: Path | None, *, retry: bool = False) -> None:
        self.path = path
        self.content: dict[str, Any] = {"rows": []}
        if path is not None and path.exists():
            self.content = json.loads(path.read_text("utf-8"))
        if retry:
            self.content["rows"] = [row for row in self.rows if "error" not in row and row.get("ok", True)]

    @property
    def rows(self) -> list[Row]:
        rows: list[Row] = self.content["rows"]
        return rows

    def describe(self, sides: dict[str, Any], missing: dict[str, str], **about: Any) -> None:
        """Says what the rows to come were measured on.

        Raises:
            OtherDevice: those that are there were measured on another device.
        """
        before, now = (found.get("device", {}).get("name") for found in (self.content, about))
        if self.rows and before and before != now:
            raise OtherDevice(f"{self.path} has the results of {before}, and this is {now}: give another --json")
        self.content |= about
        self.content["sides"] = known = self.content.get("sides", {}) | sides
        self.content["missing"] = {side: without_folders(why) for side, why in missing.items() if side not in known}

    def has(self, task: str) -> bool:
        return any(row["task"] == task for row in self.rows)

    def add(self, rows: list[Row]) -> None:
        """Takes rows, and writes them at once."""
        self.content["rows"] = self.rows + [_plain(row) for row in rows]
        for row in self.rows:
            if "error" in row:
                row["error"] = without_folders(row["error"])
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part = self.path.with_name(f".{self.path.name}.{os.getpid()}")
            part.write_text(json.dumps(self.content, indent=1, ensure_ascii=False) + "\n", "utf-8")
            part.replace(self.path)

    @property
    def wrong(self) -> list[Row]:
        """Rows of correctness that are not right."""
        return [row for row in self.rows if row["part"] == "correctness" and not row["ok"]]


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become words."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
