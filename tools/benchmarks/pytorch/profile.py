"""Where the time of our step goes: ONNX Runtime's own profile, by operator and by node."""

from __future__ import annotations

import json
import tempfile
from collections import Counter, defaultdict
from itertools import count
from pathlib import Path
from typing import Any

import onnxruntime

from dsd_ort import runtime
from tools.benchmarks.pytorch import networks, sides
from tools.benchmarks.pytorch.measured import Wanted

STEPS = 5
OPERATORS, NODES = 14, 12
"""How many lines of each are printed."""
KERNEL, BODIES = "_kernel_time", ("Scan", "Loop", "If")
"""How the profile's event of a node that ran is called, and nodes whose time is that of others inside."""


def profile(item: Wanted) -> dict[str, Any]:
    """Milliseconds of a step by operator and by node, the longest first; the update is not among them.

    The first step, in which memory is touched for the first time, does not count.
    """
    options = runtime.session_options
    sessions, numbers = list[Any](), count()

    def profiled(*arguments: Any, **named: Any) -> Any:
        made = options(*arguments, **named)
        made.enable_profiling = True
        made.profile_file_prefix = str(Path(text) / f"profile-{next(numbers)}")
        return made

    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        sides.prepare(item.network, networks.write(item.network, folder / "model.onnx"), folder / "run")
        runtime.session_options = profiled
        session = onnxruntime.InferenceSession

        class Kept(session):  # type: ignore[misc, valid-type]
            def __init__(self, *arguments: Any, **named: Any) -> None:
                super().__init__(*arguments, **named)
                sessions.append(self)

        onnxruntime.InferenceSession = Kept
        try:
            step = sides.ours(folder / "run", networks.NETWORKS[item.network].batch(item.batch), item.threads)
            for _ in range(STEPS + 1):
                step()
        finally:
            runtime.session_options, onnxruntime.InferenceSession = options, session
        profiles = [behind_the_first_step(json.loads(Path(one.end_profiling()).read_text())) for one in sessions]
    events = max(profiles, key=lambda events: len({event["name"] for event in events}))  # the others make updates
    operators, counts, nodes = Counter[str](), Counter[str](), Counter[str]()
    for event in events:
        kind, shapes = event["args"]["op_name"], json.dumps(event["args"].get("input_type_shape"))
        milliseconds = event["dur"] / STEPS / 1e3
        operators[kind] += milliseconds
        counts[kind] += 1
        nodes[f"{kind} {event['name'].removesuffix(KERNEL)[-40:]} {shapes[:150]}"] += milliseconds
    return {
        "network": item.network,
        "batch": item.batch,
        "threads": item.threads,
        "operators": {kind: round(spent, 4) for kind, spent in operators.most_common()},
        "counts": {kind: number // STEPS for kind, number in counts.items()},
        "nodes": dict(nodes.most_common(NODES)),
    }


def behind_the_first_step(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What ran behind the first step: all nodes but those with bodies, whose nodes are there themselves."""
    found = defaultdict[str, list[dict[str, Any]]](list)
    for event in sorted(events, key=lambda event: int(event["ts"])):
        if event["cat"] == "Node" and event["name"].endswith(KERNEL) and event["args"]["op_name"] not in BODIES:
            found[event["name"]].append(event)
    return [event for runs in found.values() for event in runs[len(runs) // (STEPS + 1) :]]


def lines(row: dict[str, Any]) -> str:
    """What is printed of a profile."""
    operators, counts = row["operators"], row["counts"]
    total = f"{sum(operators.values()):.2f} ms in {sum(counts.values())} nodes"
    said = [f"{row['network']}, batch {row['batch']}: {total}"]
    said += [f"  {ms:9.2f} ms  {counts[kind]:4}×  {kind}" for kind, ms in [*operators.items()][:OPERATORS]]
    said += [f"    {ms:9.2f} ms  {node}" for node, ms in row["nodes"].items()]
    return "\n".join(said)
