"""A graph as ONNX Runtime fuses it, with its nodes in the order of the file.

Of nodes that could run, ONNX Runtime takes those last that it made itself.  In a step graph the masks of all ReLUs,
which read the forward pass alone, are so computed before the first fused product of the backward pass, and wait for
their turn: 0.3 of the 2.7 GB that a step of VGG-16 takes.
"""

from __future__ import annotations

import heapq
import logging
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import onnx
import onnx_ir as ir

from dsd_ort import runtime
from dsd_ort.errors import ModelError
from dsd_ort.rewrite.parts import reads

log = logging.getLogger(__name__)


def fused(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """*model* with what ONNX Runtime makes of it for this processor, in an order that is that of *model*.

    What it made of several nodes stands where the last of them stood; what it added, in front of what first reads it.
    Nothing is left to be done for a session of it: :func:`dsd_ort.runtime.session_options` has ``optimized``.

    None where ONNX Runtime refuses the graph, or cannot write it to a temporary file, which is the only way to get it;
    a session of *model* computes the same.
    """
    stood = {name: place for place, node in enumerate(model.graph.node) for name in node.output if name}
    options = runtime.session_options(1, spinning=False)
    try:
        with tempfile.TemporaryDirectory() as folder:
            options.optimized_model_filepath = str(Path(folder) / "fused.onnx")
            runtime.session(model, options)
            made = ir.load(options.optimized_model_filepath)
    except (ModelError, OSError) as error:
        log.debug("the nodes that ONNX Runtime makes run last: %s", error)
        return None
    _sort(made.graph, stood)
    return ir.to_proto(made)


def _sort(graph: ir.Graph, stood: Mapping[str | None, int]) -> None:
    """Sorts the nodes of *graph*, which is sorted, by where their outputs *stood*, as far as edges allow."""
    nodes = list(graph)
    number = {node: i for i, node in enumerate(nodes)}
    makers = {node: {maker for value in reads(node) if (maker := value.producer()) in number} for node in nodes}
    readers: dict[ir.Node | None, list[ir.Node]] = defaultdict(list)
    place: dict[ir.Node, tuple[float, int]] = {}
    for node in reversed(nodes):
        known = [stood[value.name] for value in node.outputs if value.name in stood]
        first = min((place[reader][0] for reader in readers[node]), default=len(stood))
        place[node] = max(known) if known else first - 0.5, number[node]
        for maker in makers[node]:
            readers[maker].append(node)
    ready = [(place[node], node) for node in nodes if not makers[node]]
    heapq.heapify(ready)
    graph.remove(nodes)
    while ready:
        _, node = heapq.heappop(ready)
        graph.append(node)
        for reader in readers[node]:
            makers[reader].remove(node)
            if not makers[reader]:
                heapq.heappush(ready, (place[reader], reader))
