"""Where ONNX Runtime's CUDA provider would run each node of prepared graphs: python -m tests.cuda.placement RUN…

With the stubs of :mod:`tests.cuda.stubs` in LD_LIBRARY_PATH it tells that without a GPU: the provider places nodes and
inserts copies, nothing computes.  It is a process of its own, as libraries cannot be exchanged in one.  For each graph,
its subgraphs included, a line of JSON: ``{"run", "graph", "nodes", "cpu": [operators], "memcpy": copies, "error"}``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import onnx_ir as ir

from dsd_ort.graph import masks
from dsd_ort.graph.optimizer.guard import guarded
from dsd_ort.graph.optimizer.scaler import scaler_graph
from dsd_ort.graph.program import GRAPHS, Program, open_program
from dsd_ort.run.execution import PRECISIONS, Execution
from dsd_ort.run.sessions import evaluated, trained
from dsd_ort.runtime import Device

SIZES = {"N": 4, "T": 12}
"""Of dimensions that a run leaves open; those without a name are UNNAMED."""
UNNAMED = 3
ROOT = Path(__file__).parents[2]

Shapes = Mapping[str, Sequence[int]]


class Placement(NamedTuple):
    """What became of a graph: its nodes, the operators among them that the CPU computes, and copies between devices."""

    nodes: int
    cpu: list[str]
    memcpy: int
    error: str = ""

    @property
    def whole(self) -> bool:
        """Is all of it on CUDA?"""
        return self.nodes > 0 and not (self.cpu or self.memcpy or self.error)


def forms(
    program: Program, name: str, shapes: Shapes, device: str = "cuda", precision: Any = "fp32", **options: Any
) -> ir.Model:
    """The graph *name* of *program* as a session on *device* gets it."""
    if name == "update":
        return ir.from_proto(guarded(program.recipe.optimizer))
    if name == "scaler":
        return ir.from_proto(scaler_graph())
    model = ir.load(program.graph_path(name))
    if device == "as prepared":
        if name != "evaluate":
            masks.strip_weights(model)
        return model
    execution = Execution(Device(device), precision=precision, **options)
    fixed = {key: tuple(shape) for key, shape in shapes.items()}
    if name == "evaluate":
        evaluated(model, execution, fixed)
    else:
        trained(model, execution, fixed, loss=program.manifest.step_loss)
    return model


def shapes_of(program: Program, sizes: Mapping[str, int] = SIZES) -> dict[str, list[int]]:
    """One shape for each array of a batch."""
    fields = (*program.manifest.inputs, *program.manifest.labels)
    return {
        field.name: [n if isinstance(n, int) else sizes.get(str(n), UNNAMED) for n in field.shape] for field in fields
    }


def place(model: onnx.ModelProto) -> Placement:
    """Opens a session on CUDA and reads from ONNX Runtime's log and optimised model what it did."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.log_verbosity_level = 0, 1
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "model.onnx")
        log, stderr = Path(folder) / "log", os.dup(2)
        with log.open("wb") as file:
            os.dup2(file.fileno(), 2)
            try:
                onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CUDAExecutionProvider"])
            except Exception as error:  # the native exception types are private to the extension module
                return Placement(0, [], 0, str(error)[:300])
            finally:
                os.dup2(stderr, 2)
                os.close(stderr)
        nodes, cpu = _placed(log.read_text(errors="replace"))
        return Placement(nodes, cpu, _copies(onnx.load(options.optimized_model_filepath).graph))


def _placed(log: str) -> tuple[int, list[str]]:
    """How many nodes there are, and the operators that are not on CUDA; (0, []) if the log does not tell."""
    provider, nodes, others = "", 0, []
    for line in log.splitlines():
        if found := re.search(r"(All nodes|Node\(s\)) placed on \[(\w+)\]\. Number of nodes: (\d+)", line):
            provider, nodes = found[2], nodes + int(found[3])
            if found[1] == "All nodes" and provider != "CUDAExecutionProvider":
                others += ["everything"]
        elif provider not in ("", "CUDAExecutionProvider") and (found := re.search(r"\]\s+(\w+) \(.*\)\s*$", line)):
            others.append(found[1])
        elif provider and "VerifyEachNode" not in line:
            provider = ""
    return nodes, others


def _copies(graph: onnx.GraphProto) -> int:
    inner = [attribute.g for node in graph.node for attribute in node.attribute if attribute.type == attribute.GRAPH]
    return sum(node.op_type.startswith("Memcpy") for node in graph.node) + sum(map(_copies, inner))


def in_a_process(stubs: Path, runs: Sequence[Path], *options: str) -> Iterator[tuple[tuple[str, str], Placement]]:
    """Run and graph → placement, by a process that has the *stubs* for CUDA's libraries."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(stubs), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.cuda.placement", *options, *map(str, runs)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(done.stderr[-2000:])
    for line in done.stdout.splitlines():
        found = json.loads(line)
        yield (found.pop("run"), found.pop("graph")), Placement(**found)


def main(arguments: Sequence[str]) -> None:
    """RUN… are run folders, or models to be taken as they are; N=16 gives a dimension its size.

    --as-prepared takes the graphs of run folders as they are, --deterministic those that repeat to the bit.
    """
    flags = {argument for argument in arguments if argument.startswith("--")}
    pairs = [argument.partition("=") for argument in arguments if re.fullmatch(r"\w+=\d+", argument)]
    sizes = SIZES | {name: int(size) for name, _, size in pairs}
    device = "as prepared" if "--as-prepared" in flags else "cuda"
    options: dict[str, Any] = {"deterministic": True} if "--deterministic" in flags else {}
    options["precision"] = next((name for name in PRECISIONS if f"--{name}" in flags), "fp32")
    for run in (argument for argument in arguments if argument not in flags and "=" not in argument):
        if run.endswith(".onnx"):
            report(run, "", place(onnx.load(run)))
            continue
        program = open_program(run)
        for name in (*GRAPHS, "scaler"):
            model = forms(program, name, shapes_of(program, sizes), device, **options)
            report(run, name, place(ir.to_proto(model)))


def report(run: str, graph: str, placement: Placement) -> None:
    print(json.dumps({"run": Path(run).name, "graph": graph, **placement._asdict()}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # the stubs have no state to take down, and the provider's own teardown is not what is tested
