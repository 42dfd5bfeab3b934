"""A training step in float64: the gradients without float32's rounding.

What training runs is rounded to float32, and of a gradient that is small beside what it is a sum of (behind a saturated
Softmax, in front of a normalisation) nothing right may be left, though the graph that computes it is.  So the same step
graph, with training operators as standard ones (:mod:`dsd_ort.device.portable`), is computed by ONNX's reference
evaluator too.  In float64, its gradients are what is compared with the slopes of the loss; and those of training with
them, up to what is lost in float32 here too.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dsd_ort.device import portable
from dsd_ort.graph import masks
from dsd_ort.graph.program import Program
from dsd_ort.proof import operators
from dsd_ort.proof.evaluator import Evaluator
from dsd_ort.proof.reference import in_double
from dsd_ort.rewrite import names
from dsd_ort.rewrite.operators import key
from dsd_ort.rewrite.path import Path

Array = npt.NDArray[Any]


_OWN = {"com.microsoft.ConvGrad"}
"""Training operators that the evaluator has, as windows in a graph take memory."""


class Step:
    """The step of a *program*.

    Args:
        program: whose.
        double: in float64; otherwise in float32, by nothing that training runs.
        still: inputs that stay in float32, see :func:`dsd_ort.proof.reference.looked_up`.
    """

    def __init__(self, program: Program, *, double: bool, still: Collection[str] = ()) -> None:
        self.seconds = 0.0
        self.pieces = program.manifest.trained
        model = ir.load(program.graph_path("step"))
        masks.strip_weights(model)
        _expand(model)
        proto = ir.to_proto(model)
        wanted = [program.manifest.step_loss, *(piece.successor for piece in self.pieces)]
        dtype = np.float64 if double else np.float32
        proto = in_double(proto, still) if double else proto
        self.evaluator = Evaluator(proto, wanted, operators.ALWAYS, dtype, kept=np.float32)

    def __call__(self, inputs: Mapping[str, Array], *, limit: float) -> tuple[float, dict[str, Array]]:
        """The loss, and parameter → its gradient; their last digits are float32's.

        Raises:
            TooSlow: it takes more than *limit* seconds.
        """
        began = time.monotonic()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loss, *found = self.evaluator(inputs, limit=limit)
        self.seconds = time.monotonic() - began
        gradients = zip(self.pieces, found, strict=True)
        return float(loss), {piece.name: gradient.reshape(piece.shape) for piece, gradient in gradients}


def _expand(model: ir.Model) -> None:
    """Training operators as standard ones, in place."""
    model.graph.sort()
    path = Path(model.graph, [], [])
    for node in list(model.graph.all_nodes()):
        if key(node) not in _OWN and (rule := portable.RULES.get(key(node))) is not None:
            portable.replace(node, rule, path)
    names.make_unique(model)
