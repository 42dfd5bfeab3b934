"""Forward graph with a loss → training step graph with a gradient output per parameter.

In: a legalized graph.  Out: the same with gradients: its outputs are the old ones followed by one gradient each, in the
order of the parameters.  There are two ways to them, :data:`BUILDERS`: reverse mode by a table of rules
(:mod:`.reverse`, :mod:`.table`), and ONNX Runtime's own builder (:mod:`.native`), which only a training build has.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from dsd_ort.graph.differentiate import judge, native, reverse
from dsd_ort.graph.differentiate.step_graph import StepGraph, seed
from dsd_ort.recipe.names import BuilderName

__all__ = ["BUILDERS", "REACHES", "StepGraph", "differentiate", "seed"]

BUILDERS = {"own": reverse.differentiate, "ort": native.differentiate}
REACHES = {"own": judge.by_rules, "ort": judge.by_native_builder}
"""Builder → how far it takes a gradient through a node."""


def differentiate(
    model: ir.Model, trainable: Sequence[str], *, loss: str = "loss", builder: BuilderName = "own"
) -> StepGraph:
    """The gradients of the scalar output *loss* with respect to the graph inputs *trainable*.

    Raises:
        UnsupportedError: the builder has no gradient of a node between them.
        InstallationError: the builder is ONNX Runtime's, and this environment's has none.
    """
    return BUILDERS[builder](model, trainable, loss=loss)
