"""What ranks gain and what they cost; writes docs/scaling.json and docs/scaling.md.

    python -m pip install "dsd-ort[mpi]"
    python -m tools.benchmarks.scaling --turns --exchange --throttled --steps     # all, about ten minutes
    python -m tools.benchmarks.scaling --page                                     # the page again, from the JSON

``--turns``: an update by 2 ranks of one thread against one process of two threads, taking turns, an update at a time.
``--exchange``: the sum of gradients by shares, beside MPI's own Allreduce.  ``--throttled``: the same over TCP on a
loopback of a network namespace that ``tc`` slows down (Linux, root), beside what the model says.  ``--steps``: a step
of the paper's networks on this processor, for the model.  What is not measured stays as the JSON has it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

import dsd_ort
from dsd_ort.graph.program import open_program
from dsd_ort.run.arena import Arena
from dsd_ort.run.engine import Engine
from dsd_ort.run.execution import Execution
from dsd_ort.run.ranks import Team, together
from graphs import NETWORKS
from tools.benchmarks.turns import WARM_UP, ratio
from tools.measuring.machine import cpu

DOCS = Path(__file__).parents[2] / "docs"
MPIEXEC = str(Path(sys.executable).parent / "mpiexec")
OVER_TCP = {"MPIR_CVAR_NOLOCAL": "1", "MPIR_CVAR_CH4_NETMOD": "ofi", "FI_PROVIDER": "tcp"}
UPDATES = {"lenet": 64, "resnet18": 4, "deepspeech2": 4}
"""Network → examples of a batch; an update takes two of these."""
MEGABYTES = (0.1, 1, 10, 100)
RATES = (0.1, 1.0, 4.0)
"""Gbit/s of the throttled loopback, both ways together."""
FULL = {"resnet50": 8, "vgg16": 8, "deepspeech2": 4}
NETS = {
    "10 Gbit/s": (1.25e9, 50e-6),
    "25 Gbit/s": (3.125e9, 30e-6),
    "100 Gbit/s": (12.5e9, 5e-6),
    "NVLink": (300e9, 5e-6),
}
"""Bytes a second that a rank sends, and seconds that a message takes beside; assumed, not measured."""
MEMORY = 8e9
"""Bytes a second at which a rank adds up; assumed."""


def exchange_seconds(size: float, ranks: int, bandwidth: float, latency: float) -> float:
    """The model: seconds to add up the gradients of *ranks* batches, *size* bytes each, and to hand all the sum.

    Each rank sends n - 1 shares of G/n to add up, and n - 1 of what is added up; two small messages go before.
    """
    if ranks == 1:
        return 0.0
    messages = 2 * (ranks - 1) + 2 * math.ceil(math.log2(ranks))
    return messages * latency + 2 * (ranks - 1) / ranks * size / bandwidth + size / MEMORY


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("turns", "exchange", "throttled", "steps", "page"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=Path, default=DOCS)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve[0], arguments.serve[1])
        return
    path = arguments.output / "scaling.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    measures = {"turns": turns, "exchange": exchange, "throttled": throttled, "steps": steps}
    for name, measure in measures.items():
        if getattr(arguments, name):
            found[name] = {"cpu": cpu(), "rows": measure(arguments.rounds)}
            path.write_text(json.dumps(found, indent=1) + "\n")
    from tools.benchmarks.scaling_page import page

    (arguments.output / "scaling.md").write_text(page(found))


def prepare(name: str, folder: Path, batch: int, *, small: bool) -> Path:
    """A run whose updates take two batches."""
    options = {"resnet18": {"size": 112}, "deepspeech2": {"maps": 8, "width": 128, "bands": 40}}.get(name, {})
    ir.save(NETWORKS[name](**(options if small else {})), folder / f"{name}.onnx")
    loss: dict[str, Any] = {"output": "logits"}
    if name == "deepspeech2":
        loss |= {"name": "ctc", "lengths": "frames"}
    table = {"batch_size": batch, "loss": loss, "optimizer": {"momentum": 0.9, "accumulate": 2}, "metrics": ["loss"]}
    table["phase"] = [{"kind": "dense", "steps": 1, "learning_rate": 0.001}]
    dsd_ort.prepare(folder / f"{name}.onnx", folder / name, dsd_ort.Recipe.from_dict(table))
    return folder / name


def made_up(run: Path, batch: int) -> dict[str, np.ndarray]:
    """A batch for *run*."""
    program, rng = open_program(run), np.random.default_rng(0)
    found = {}
    for field in (*program.manifest.inputs, *program.manifest.labels):
        shape = [batch, *(n if isinstance(n, int) else 100 for n in field.shape[1:])]
        if field.label and field.classes:
            shape = shape if len(shape) == 1 else [batch, 20]
            found[field.name] = rng.integers(1, field.classes, shape)
        elif field.dtype == "int64":
            found[field.name] = np.full(shape, 100)
        else:
            found[field.name] = rng.standard_normal(shape, np.float32)
    return found


def serve(what: str, argument: str) -> None:
    """One rank of a side: for each line that the first rank reads, what it names, and its seconds as a line."""
    with together() as ranks:
        if what == "exchange":
            assert isinstance(ranks, Team)
            _serve_exchange(ranks, float(argument))
            return
        program = open_program(argument)
        arena = Arena.of(program)
        arena.fill_from(program.source())
        threads = int(what)
        engine = Engine(program, arena, Execution(threads=threads), ranks=ranks)
        batch = engine.memory.send(made_up(Path(argument), program.recipe.batch_size))
        step = 0
        while _next(ranks):
            began, step = time.perf_counter(), step + 1
            if ranks.size == 1:
                for _ in range(2):
                    engine.queue(batch, sparse=False, seed=0)
                stepped = time.perf_counter()
            else:
                left = engine.leave(batch, sparse=False, seed=0)
                stepped = time.perf_counter()
                engine.put_together(ranks.gather(left))
            engine.losses()
            engine.update(1e-4, step)
            if ranks.rank == 0:
                ended = time.perf_counter()
                print(json.dumps([ended - began, ended - stepped, 4 * arena.gradients.size]), flush=True)


def _serve_exchange(ranks: Team, megabytes: float) -> None:
    from mpi4py import MPI

    gradient = np.random.default_rng(ranks.rank).standard_normal(int(megabytes * 2.5e5), np.float32)
    total = np.empty_like(gradient)
    share = ranks.share(total)
    while _next(ranks):
        ranks.gather(None)
        began = time.perf_counter()
        first, *others = ranks.shares(gradient, ranks.size)
        share[...] = first
        for other in others:
            share += other
        ranks.whole(total)
        ours = time.perf_counter() - began
        ranks.gather(None)
        began = time.perf_counter()
        ranks.communicator.Allreduce(gradient, total, op=MPI.SUM)
        if ranks.rank == 0:
            print(json.dumps([ours, time.perf_counter() - began]), flush=True)


def _next(ranks: Any) -> bool:
    """Whether there is another turn.  The other ranks sleep meanwhile: waiting in MPI takes all of a core."""
    goes_on = bool(sys.stdin.readline().strip()) if ranks.rank == 0 else False
    if ranks.size == 1:
        return goes_on
    message = np.array([goes_on])
    request = ranks.communicator.Ibcast(message)
    while not request.Test():
        time.sleep(1e-3)
    return bool(message[0])


class Side:
    """Processes that :func:`serve`."""

    def __init__(self, *arguments: str, ranks: int = 1, prefix: tuple[str, ...] = (), **environment: str) -> None:
        command = [sys.executable, "-m", "tools.benchmarks.scaling", "--serve", *arguments]
        command = [*prefix, *([MPIEXEC, "-n", str(ranks)] if ranks > 1 else []), *command]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, text=True, env=os.environ | environment, **pipes)  # type: ignore[call-overload]

    def turn(self) -> list[float]:
        """What one turn took."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        found: list[float] = json.loads(self.process.stdout.readline())
        return found

    def end(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.close()
        self.process.wait()


def turns(rounds: int) -> list[dict[str, Any]]:
    rows = []
    for name, batch in UPDATES.items():
        with tempfile.TemporaryDirectory() as folder:
            run = str(prepare(name, Path(folder), batch, small=True))
            sides = [Side("1", run, ranks=2), Side("2", run)]
            found = [[side.turn() for side in sides] for _ in range(WARM_UP + rounds)][WARM_UP:]
            for side in sides:
                side.end()
        two, one = ([turn[i][0] for turn in found] for i in (0, 1))
        ratios = sorted(x / y for x, y in zip(two, one, strict=True))
        row = {
            "network": name,
            "batch": batch,
            "two_ranks": statistics.median(two),
            "two_threads": statistics.median(one),
            "ratio": ratio(two, one),
            "spread": [ratios[0], ratios[-1]],
            "exchange_and_update": statistics.median(turn[0][1] for turn in found),
            "update": statistics.median(turn[1][1] for turn in found),
            "bytes": int(found[0][0][2]),
        }
        rows.append(row)
        print(row, flush=True)
    return rows


def exchange(rounds: int, *prefix: str, sizes: Sequence[float] = MEGABYTES, **environment: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for megabytes in sizes:
        for ranks in (2,) if prefix else (2, 4):
            side = Side("exchange", str(megabytes), ranks=ranks, prefix=prefix, **environment)
            found = [side.turn() for _ in range(WARM_UP + rounds)][WARM_UP:]
            side.end()
            ours, library = (statistics.median(turn[i] for turn in found) for i in (0, 1))
            rows.append({"megabytes": megabytes, "ranks": ranks, "shares": ours, "allreduce": library})
            print(rows[-1], flush=True)
    return rows


def throttled(rounds: int) -> list[dict[str, Any]]:
    rows = []
    for gigabits in RATES:
        slow = f"tc qdisc add dev lo root tbf rate {gigabits * 1000:.0f}mbit burst 256kb latency 1000ms"
        # A packet that is longer than the burst would be dropped.
        prefix = ("unshare", "-n", "sh", "-c", f'ip link set lo mtu 9000 up && {slow} && exec "$@"', "sh")
        for row in exchange(min(rounds, 5), *prefix, sizes=(1, 10), **OVER_TCP):
            # Both ranks send through the one loopback.
            row["model"] = exchange_seconds(row["megabytes"] * 1e6, 2, gigabits * 1e9 / 8 / 2, 50e-6)
            rows.append({"gigabits": gigabits, **row})
            print(rows[-1], flush=True)
    return rows


def steps(rounds: int) -> list[dict[str, Any]]:
    rows = []
    for name, batch in FULL.items():
        with tempfile.TemporaryDirectory() as folder:
            side = Side("0", str(prepare(name, Path(folder), batch, small=False)))
            found = [side.turn() for _ in range(3)][1:]
            side.end()
        step, update = (statistics.median(values) for values in zip(*((t[0] - t[1], t[1]) for t in found), strict=True))
        rows.append({"network": name, "batch": batch, "step": step / 2, "update": update, "bytes": int(found[0][2])})
        print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    main()
