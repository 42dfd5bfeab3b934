"""The profile of a step, of which ``docs/performance.md`` has a table."""

from __future__ import annotations

from typing import Any

import pytest

from tools.benchmarks.pytorch.profile import KERNEL, STEPS, behind_the_first_step

pytestmark = pytest.mark.oracle


def test_the_first_step_does_not_count_nor_does_a_node_with_a_body() -> None:
    def ran(name: str, kind: str, at: int, duration: int) -> dict[str, Any]:
        return {"cat": "Node", "name": name + KERNEL, "ts": at, "dur": duration, "args": {"op_name": kind}}

    events = [ran("scan", "Scan", 100 * step, 50) for step in range(STEPS + 1)]
    for step in reversed(range(STEPS + 1)):  # a profile has them in the order in which they ended
        events.append(ran("product", "MatMul", 100 * step, 3 if step else 90))
        events += [ran("inside", "Add", 100 * step + i, 2 if step else 80) for i in (1, 2)]
    found = behind_the_first_step(events)
    assert sorted(event["dur"] for event in found) == [2] * 2 * STEPS + [3] * STEPS
