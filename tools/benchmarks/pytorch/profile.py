"""Where the time of our step goes: ONNX Runtime's own profile, by operator and by node."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import onnxruntime

from dsd_ort import runtime
from tools.benchmarks.pytorch import networks, sides

STEPS = 5
OPERATORS, NODES = 14, 12
"""How many lines of each."""


def profile(name: str, size: int, threads: int) -> None:
    """Prints milliseconds of a step by operator, and the nodes that take most."""
    options = runtime.session_options
    sessions, numbers = list[Any](), count()

    def profiled(*arguments: Any, **named: Any) -> Any:
        made = options(*arguments, **named)
        made.enable_profiling = True
        made.profile_file_prefix = str(Path(text) / f"profile-{next(numbers)}")
        return made

    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        sides.prepare(name, networks.write(name, folder / "model.onnx"), folder / "run")
        runtime.session_options = profiled
        session = onnxruntime.InferenceSession

        class Kept(session):  # type: ignore[misc, valid-type]
            def __init__(self, *arguments: Any, **named: Any) -> None:
                super().__init__(*arguments, **named)
                sessions.append(self)

        onnxruntime.InferenceSession = Kept
        try:
            step = sides.ours(folder / "run", networks.NETWORKS[name].batch(size), threads)
            for _ in range(STEPS + 1):
                step()
        finally:
            runtime.session_options, onnxruntime.InferenceSession = options, session
        events = [event for one in sessions for event in json.loads(Path(one.end_profiling()).read_text())]
    operators, nodes, counts = Counter[str](), Counter[str](), Counter[str]()
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            kind, shapes = event["args"]["op_name"], json.dumps(event["args"].get("input_type_shape"))
            operators[kind] += event["dur"]
            counts[kind] += 1
            nodes[f"{kind} {event['name'].removesuffix('_kernel_time')[-40:]} {shapes[:150]}"] += event["dur"]
    steps = STEPS + 1
    print(
        f"{name}, batch {size}: {sum(operators.values()) / steps / 1e3:.2f} ms in {sum(counts.values()) // steps} nodes"
    )
    for kind, micro in operators.most_common(OPERATORS):
        print(f"  {micro / steps / 1e3:9.2f} ms  {counts[kind] / steps:6.1f}×  {kind}")
    for node, micro in nodes.most_common(NODES):
        print(f"    {micro / steps / 1e3:9.2f} ms  {node}")
