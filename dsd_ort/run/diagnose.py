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
    """Names the first value of the step graph that holds a NaN or an infinity, and is made of finite ones.

    Constants may be infinite: a score of -inf hides a class.

    Args:
        program: whose dense step graph is run.
        feeds: all of its inputs; others are ignored.
        threads: of ONNX Runtime; 0 means one a core.
    """
    graph = ir.from_proto(program.graph("step"))
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
    bad = {name for name, value in zip(names, values, strict=True) if _is_bad(value)}
    bad |= {name for name, value in feeds.items() if _is_bad(value)}
    for node, name in produced:
        if name in bad and node.op_type != "Constant" and bad.isdisjoint(node.input):
            return f"{name!r}, the output of {node.op_type} {node.name!r}"
    if bad.isdisjoint(names):
        return "the update: all values of the step itself are finite"
    return "the loss: entries of the model that are infinite reach it, as the score of a label that they hide"


def _is_bad(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and not np.isfinite(value).all()
