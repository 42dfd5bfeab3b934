"""A case: a small graph, and what legalize makes of it; and the graphs that many cases share.

``expected`` is the output in terms of the inputs (:func:`tests.graph.expression.expression`) where a rule rewrites it,
None where it stays as it is.  ``original`` computes the same by other operators, where the reference evaluator's own
version works in single precision or has a bug; outputs and gradients are then compared with its.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import onnx
import onnx.checker
import onnx.shape_inference

from tests.graph.gradient import model
from tests.session import RELEASE

OPSETS = (13, 17, 18, 21)
"""Where every operator is tried."""


class Case(NamedTuple):
    text: str
    expected: str | None = None
    opset: int = 18
    original: str | None = None
    given: Mapping[str, Any] | None = None
    untrained: tuple[str, ...] = ()
    runs: bool = True
    """False where ONNX Runtime 1.19 cannot run it, or not as ONNX defines it."""
    path: str | None = None
    """The operators on the gradient path, in order, where ``expected`` would fill a page."""
    tolerance: float | None = None
    """Where float32 itself is less exact than a few roundings."""
    elsewhere: bool = True
    """False where the same node means something else, though it is valid, at other opsets."""

    @property
    def reference(self) -> str | None:
        """``original``; not where it divides by the size of the kernel, and ONNX Runtime from 1.29 on as ONNX does."""
        counted = "ceil_mode = 1" in self.text and "count_include_pad = 1" in self.text
        return None if counted and RELEASE >= (1, 29) else self.original

    @property
    def runs_here(self) -> bool:
        """Whether it ``runs``; ONNX Runtime from 1.30 on pads these two by nothing less than 0."""
        shifted = self.original is not None and any(f"{op} <" in self.text for op in ("AveragePool", "MaxPool"))
        return self.runs and not (shifted and 'auto_pad = "SAME' in self.text and RELEASE >= (1, 30))

    @property
    def proto(self) -> onnx.ModelProto:
        return model(self.text, self.opset)

    def everywhere(self) -> list[Case]:
        """The case at its own opset, and at each of :data:`OPSETS` that has the operator in the same form."""
        if not self.elsewhere:
            return [self]
        others = [self._replace(opset=opset) for opset in OPSETS if opset != self.opset]
        return [self, *(other for other in others if other._is_valid())]

    def _is_valid(self) -> bool:
        context = onnx.checker.C.CheckerContext()
        context.ir_version, context.opset_imports = 8, {"": self.opset, "com.microsoft": 1}
        try:
            for node in self.proto.graph.node:
                onnx.checker.check_node(node, context)
            onnx.shape_inference.infer_shapes(self.proto, check_type=True, strict_mode=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
            return False
        return True

    def __str__(self) -> str:
        return f"{self.text.rpartition('{ ')[2].rstrip(' }')} / {self.opset}"


def unary(node: str, expected: str | None = None, **more: Any) -> Case:
    constants = "<float low = {-0.5}, float high = {0.5}>"
    return Case(f"(float[N, 7] x) => (float[N, 7] y) {constants} {{ y = {node} }}", expected, **more)


def binary(node: str, expected: str | None = None, other: str = "float[7] z", **more: Any) -> Case:
    return Case(f"(float[N, 7] x, {other}) => (float[N, 7] y) {{ y = {node} }}", expected, **more)


def moved(node: str, expected: str | None = None, constants: str = "int64 none = {0}", **more: Any) -> Case:
    """Of operators that change the shape."""
    return Case(f"(float[N, 3, 4] x) => (float[] y) <{constants}> {{ y = {node} }}", expected, **more)


def image(node: str, expected: str | None = None, size: str = "6, 5", inputs: str = "", **more: Any) -> Case:
    return Case(f"(float[N, 4, {size}] x{inputs}) => (float[] y) {{ y = {node} }}", expected, **more)
