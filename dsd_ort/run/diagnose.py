"""Where a NaN came from: the step graph run once more with every value as an output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from dsd_ort import runtime
from dsd_ort.device import portable
from dsd_ort.graph.program import Program


def first_bad_value(program: Program, feeds: Mapping[str, npt.NDArray[Any]], threads: int = 0) -> str:
    """Names the first value of the step graph, in the order of computation, that holds a NaN or an infinity.

    Args:
        program: whose dense step graph is run.
        feeds: all of its inputs; others are ignored.
        threads: of ONNX Runtime; 0 means one a core.
    """
    graph = ir.load(program.graph_path("step"))
    if not runtime.trains():
        portable.expand(graph)
    model = ir.to_proto(graph)
    known = {output.name for output in model.graph.output}
    produced = [(node, name) for node in model.graph.node for name in node.output if name]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for _, name in produced if name not in known)
    session = runtime.session(model, runtime.session_options(threads), where="the step graph")
    inputs = {value.name for value in session.get_inputs()}
    names = [name for _, name in produced]
    values = session.run(names, {name: value for name, value in feeds.items() if name in inputs})
    for (node, name), value in zip(produced, values, strict=True):
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not np.isfinite(value).all():
            return f"{name!r}, the output of {node.op_type} {node.name!r}"
    return "the update: all values of the step itself are finite"
