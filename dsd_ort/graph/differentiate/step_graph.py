"""A graph that computes gradients beside a loss."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dsd_ort.errors import UnsupportedError


@dataclass(frozen=True)
class StepGraph:
    """A differentiated graph: ``gradients`` maps a parameter to the graph output that holds ∂loss/∂parameter."""

    model: ir.Model
    gradients: dict[str, str]


def gradient_of(name: str) -> str:
    """What the gradient of the value *name* is called, where that is free: ``w_grad``."""
    return f"{name}_grad"


def seed(graph: ir.Graph, loss: str) -> ir.Value:
    """The initializer 1 that a step graph's gradients start from, ∂loss/∂loss.

    Raises:
        UnsupportedError: the graph has none.
    """
    found = seeds(graph, loss)
    if not found:
        raise UnsupportedError(
            f"the training graph holds no gradient of {loss!r} that could be scaled",
            fix="train in float32, or prepare the run again",
        )
    return found[-1]  # what the model itself calls so stands in front of it


def seeds(graph: ir.Graph, loss: str) -> list[ir.Value]:
    """The initializers that may be it: 1, called as the gradient of *loss*."""
    called = re.compile(rf"{re.escape(gradient_of(loss))}(_\d+)?")
    return [value for name, value in graph.initializers.items() if called.fullmatch(name) and _is_one(value)]


def _is_one(value: ir.Value) -> bool:
    return value.const_value is not None and np.array_equal(value.const_value.numpy().ravel(), [1.0])
