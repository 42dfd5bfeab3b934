"""How good the table's choice of forms is: convolutions of a step, computed in every form on their real shapes.

    .venv-oracle/bin/python -m tools.benchmarks.forms --json docs/bench_forms.json
    .venv-oracle/bin/python -m tools.benchmarks.forms resnet50 --batch 1 --clock processor --threads 1

Of each convolution and each of its gradients there are up to three forms: the node *as it is*, what the *table*
(:data:`dsd_ort.device.lower.FORMS`) makes of it, and everything in MLAS's *blocks* that can be, pointwise kernels too.
*Best* is what a step would take that had measured all of them beforehand, as a share of what it takes by the table:
what a choice by measurement could gain.  By itself a node pays for all of its reordering, which in a step it shares
with others, so blocks look a little worse here than they are.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from dsd_ort import runtime
from dsd_ort.device.lower import lower
from dsd_ort.device.lower.blocked import Layout
from dsd_ort.device.lower.convolution import Convolution
from dsd_ort.graph.program import open_program
from dsd_ort.rewrite.operators import key
from tools.benchmarks.pytorch import networks, sides
from tools.benchmarks.turns import CLOCKS, take_turns
from tools.measuring.machine import cpu

CONVOLUTIONAL = (
    *("lenet", "resnet18", "resnet50", "vgg16", "googlenet", "mobilenet_v2", "mobilenet_v3_large"),
    *("efficientnet_b0", "densenet121", "convnext_tiny"),
)
REST = 0.03
"""Seconds in front of a turn: threads of another session look for work that long, and take a core meanwhile."""
KINDS = ("Conv", "com.microsoft.ConvGrad")
Shapes = tuple[tuple[int, ...], ...]


class Node(NamedTuple):
    """A convolution or its gradient, by what its time depends on."""

    kind: str
    shapes: Shapes
    """Of its inputs."""
    attributes: tuple[tuple[str, tuple[int, ...]], ...]
    outputs: tuple[bool, ...]
    """Which of them are read."""

    def model(self) -> ir.Model:
        """A graph of nothing else."""
        inputs = [_value(f"x{i}", shape) for i, shape in enumerate(self.shapes)]
        domain, _, name = self.kind.rpartition(".")
        attributes = {k: v[0] if k == "group" else list(v) for k, v in self.attributes}
        node = ir.node(name, inputs, attributes, domain=domain, num_outputs=len(self.outputs), name="n")
        for i, (output, read) in enumerate(zip(node.outputs, self.outputs, strict=True)):
            output.name, output.type = f"y{i}" if read else "", ir.TensorType(ir.DataType.FLOAT)
        read = [output for output in node.outputs if output.name]
        graph = ir.Graph(inputs, read, nodes=[node], opset_imports={"": 17, "com.microsoft": 1}, name="g")
        return ir.Model(graph, ir_version=8)


def _value(name: str, shape: tuple[int, ...]) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shape))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(CONVOLUTIONAL), help=", ".join(CONVOLUTIONAL))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="processor: with --threads 1 alone (wall)")
    parser.add_argument("--json", type=Path, help="write the rows to this file; others stay in it")
    options = parser.parse_args()
    rows = json.loads(options.json.read_text()) if options.json and options.json.is_file() else []
    known: dict[Node, dict[str, float]] = {}
    for name in options.networks:
        row = {"network": name, "batch": options.batch, "threads": options.threads, "clock": options.clock}
        rows = [r for r in rows if r | row != r]
        rows.append(row | {"cpu": cpu()} | measure(name, known, options))
        print(_line(rows[-1]), flush=True)
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1) + "\n")


def measure(name: str, known: dict[Node, dict[str, float]], options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of all convolutions of a step, by form; and the nodes where another than the table's is best."""
    totals, others = dict.fromkeys(("as it is", "table", "best"), 0.0), []
    for node in nodes(name, options.batch):
        if node not in known:
            known[node] = times(node, options)
        found = known[node]
        best = min(found, key=lambda form: found[form])
        totals["as it is"] += found["as it is"]
        totals["table"] += found["table"]
        totals["best"] += found[best]
        if found[best] < 0.9 * found["table"]:
            others.append({"node": f"{node.kind} {node.shapes}", "best": best} | _rounded(found))
    others.sort(key=lambda row: row[row["best"]] - row["table"])
    return {"milliseconds": _rounded(totals), "gain": round(1 - totals["best"] / totals["table"], 3), "others": others}


def nodes(name: str, batch: int) -> Iterator[Node]:
    """The convolutions of a step of a network, and their gradients."""
    with tempfile.TemporaryDirectory() as folder:
        sides.prepare(name, networks.write(name, Path(folder) / "model.onnx"), Path(folder) / "run")
        program = open_program(Path(folder) / "run")
        graph = ir.load(program.graph_path("step")).graph
        for node in graph:
            if key(node) in KINDS:
                shapes = tuple(_sizes(x, batch) for x in node.inputs if x is not None)
                attributes = tuple((a.name, _numbers(a)) for a in node.attributes.values() if a.name != "auto_pad")
                read = tuple(map(_is_read, node.outputs))
                yield Node(key(node), shapes, attributes, read)


def _is_read(value: ir.Value) -> bool:
    return bool(value.name) and (bool(value.uses()) or value.is_graph_output())


def _sizes(value: ir.Value, batch: int) -> tuple[int, ...]:
    assert value.shape is not None, value.name
    return tuple(dim if isinstance(dim, int) else batch for dim in value.shape)


def _numbers(attribute: ir.Attr) -> tuple[int, ...]:
    return tuple(attribute.as_ints()) if attribute.type == ir.AttributeType.INTS else (attribute.as_int(),)


def times(node: Node, options: argparse.Namespace) -> dict[str, float]:
    """Form → milliseconds, the median of turns."""
    models = {"as it is": node.model(), "table": node.model(), "blocks": node.model()}
    lower(models["table"])
    suits, Layout.suits = Layout.suits, _can_be_blocked  # type: ignore[method-assign]
    try:
        lower(models["blocks"])
    finally:
        Layout.suits = suits  # type: ignore[method-assign]
    random = np.random.default_rng(0)
    feeds = {f"x{i}": random.standard_normal(shape, np.float32) for i, shape in enumerate(node.shapes)}
    texts = {form: ir.to_proto(model).SerializeToString(deterministic=True) for form, model in models.items()}
    runs: dict[bytes, Any] = {}
    for text, model in zip(texts.values(), models.values(), strict=True):
        if text not in runs:
            session = runtime.session(ir.to_proto(model), runtime.session_options(options.threads))
            runs[text] = lambda session=session: session.run(None, feeds)
    seconds = take_turns([*runs.values()], options.rounds, CLOCKS[options.clock], rest=REST)
    medians = dict(zip(runs, (1e3 * statistics.median(each) for each in seconds), strict=True))
    return {form: medians[text] for form, text in texts.items()}


def _can_be_blocked(layout: Layout, conv: Convolution) -> bool:
    whole = conv.out_channels % layout.block == 0 and conv.in_channels % layout.block == 0
    return layout.block > 1 and len(conv.kernel) == 2 and conv.group == 1 and whole


def _rounded(numbers: dict[str, float]) -> dict[str, float]:
    return {name: round(number, 2) for name, number in numbers.items()}


def _line(row: dict[str, Any]) -> str:
    ms = "  ".join(f"{form} {number:.0f} ms" for form, number in row["milliseconds"].items())
    return f"{row['network']}: {ms}; best less than the table by {row['gain']:.1%}"


if __name__ == "__main__":
    main()
