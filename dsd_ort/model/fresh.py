"""A model's weights drawn anew, as before any training: what somebody who can train from the start would begin with.

=============================  ====================================================================================
``kernel``, ``matrix``         normal, variance 2 / (inputs of an output): He et al. 2015
``recurrent``                  normal, variance 1 / (3 · inputs): PyTorch's variance
``embedding``                  normal, of the deviation that it has
``other``                      normal, of the mean and deviation that it has
``bias``, a shift, a mean      0
a scale, a variance            1; the slope of PRelu 1/4
=============================  ====================================================================================

Which axis holds the inputs, and whether a tensor scales or shifts, is read from the node that it comes to first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from dsd_ort.file.payload import Floats
from dsd_ort.model.parameters import Parameter
from dsd_ort.model.source import Source
from dsd_ort.rewrite.operators import facts


def drawn(source: Source, seed: int) -> Iterator[tuple[str, Floats]]:
    """Name and new value, f32 of its shape, of each parameter and running statistic; a function of *seed*."""
    values = {value.name: value for value in _values(source.model.graph)}
    for number, parameter in enumerate((*source.parameters, *source.statistics)):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
        node, slot = _reader(values.get(parameter.name))
        yield parameter.name, _draw(parameter, node, slot, source, rng)


def _draw(parameter: Parameter, node: ir.Node | None, slot: int, source: Source, rng: np.random.Generator) -> Floats:
    shape, role = parameter.shape, parameter.role
    if role in ("bias", "norm", "statistic"):
        return np.full(shape, _constant(role, node, slot), np.float32)
    if role in ("embedding", "other"):
        variance = float(np.var(source.start(parameter.name), dtype=np.float64))
    else:
        variance = (1 / 3 if role == "recurrent" else 2) / max(1, _inputs(parameter, node, slot))
    mean = float(np.mean(source.start(parameter.name), dtype=np.float64)) if role == "other" else 0.0
    values: Floats = (mean + math.sqrt(variance) * rng.standard_normal(shape)).astype(np.float32)
    return values


def _constant(role: str, node: ir.Node | None, slot: int) -> float:
    """Of two slots of a role, a normalisation's scale comes before its shift, and its mean before its variance."""
    if role == "bias" or node is None:
        return float(role == "norm")
    alike = [number for number, other in sorted(facts(node).weights.items()) if other == role]
    if slot not in alike:
        return 0.0 if node.op_type in ("Add", "Sub") else 1.0
    if len(alike) == 1 and node.op_type == "PRelu":
        return 0.25
    return float((alike.index(slot) > 0) == (role == "statistic"))


def _inputs(parameter: Parameter, node: ir.Node | None, slot: int) -> int:
    """How many numbers are added up to one output; PyTorch's order of axes where the node does not say."""
    shape = parameter.shape
    if len(shape) < 2:
        return parameter.size
    if parameter.role == "kernel":
        outputs = 1 if node is not None and node.op_type == "ConvTranspose" else 0
        return parameter.size // shape[outputs]
    columns = node is not None and (
        (node.op_type == "MatMul" and slot == 1)
        or (node.op_type == "Gemm" and slot == 1 and not node.attributes.get_int("transB", 0))
    )
    return shape[-2] if columns else shape[-1]


def _reader(value: ir.Value | None) -> tuple[ir.Node | None, int]:
    """The first node that reads *value*, seen through Identity, and which input it is."""
    while value is not None and (uses := value.uses()):
        use = next(iter(uses))
        if use.node.op_type != "Identity":
            return use.node, use.idx
        value = use.node.outputs[0]
    return None, 0


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.initializers.values()
    for node in graph.all_nodes():
        yield from node.outputs
