"""Scan and Loop of ONNX's reference evaluator with all that ONNX lets them have.

Its own Scan goes along first axes, from the first step on; its own Loop wants a condition, and joins what it stacks up
along an axis that is there already.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx.reference.ops import op_loop, op_scan

Array = npt.NDArray[Any]
_FLAGS = ("scan_input_axes", "scan_input_directions", "scan_output_axes", "scan_output_directions")


class Scan(op_scan.Scan):
    """Along any axes, from either end: the evaluator's own is given sequences with the steps in front, in order."""

    op_domain = ""
    num_scan_inputs: int

    def __init__(self, onnx_node: onnx.NodeProto, run_params: dict[str, Any]) -> None:
        plain = onnx.NodeProto.FromString(onnx_node.SerializeToString())
        given = {a.name: list(a.ints) for a in plain.attribute}
        kept = [attribute for attribute in plain.attribute if attribute.name not in _FLAGS]
        del plain.attribute[:]
        plain.attribute.extend(kept)
        super().__init__(plain, run_params)  # type: ignore[no-untyped-call]
        stacked = len(onnx_node.output) - len(onnx_node.input) + self.num_scan_inputs
        counts = [self.num_scan_inputs] * 2 + [stacked] * 2
        pairs = zip(_FLAGS, counts, strict=True)
        self.flags: list[list[int]] = [given.get(name) or [0] * count for name, count in pairs]

    def _run(self, *inputs: Array, **context: Any) -> tuple[Array, ...]:
        input_axes, input_turned, output_axes, output_turned = self.flags
        count = len(inputs) - len(input_axes)
        flags = zip(inputs[count:], input_axes, input_turned, strict=True)
        sequences = [np.moveaxis(x, axis, 0)[:: -1 if turned else 1] for x, axis, turned in flags]
        outputs = super()._run(*inputs[:count], *sequences, **context)  # type: ignore[no-untyped-call]
        flags = zip(outputs[count:], output_axes, output_turned, strict=True)
        stacked = [np.moveaxis(y[:: -1 if turned else 1], 0, axis) for y, axis, turned in flags]
        return (*outputs[:count], *stacked)


class Loop(op_loop.Loop):
    """With a condition or without, a number of steps or none."""

    op_domain = ""
    body: Any
    _run_body: Any

    def _run(  # type: ignore[override]
        self, steps: Array | None, going_on: Array | None = None, *states: Any, context: Any = None, **more: Any
    ) -> tuple[Any, ...]:
        more.pop("body", None)
        stacked: list[list[Array]] = [[] for _ in self.body.output_names[1 + len(states) :]]
        on, number = going_on is None or bool(going_on), 0
        while on and (steps is None or number < int(steps)):
            given = (np.asarray(number), np.asarray(True), *states)
            inputs = {**(context or {}), **dict(zip(self.body.input_names, given, strict=True))}
            going_on, *found = self._run_body(inputs, **more)
            on, number, states = bool(going_on), number + 1, tuple(found[: len(states)])
            for sequence, step in zip(stacked, found[len(states) :], strict=True):
                sequence.append(step)
        return (*states, *(np.stack(sequence) for sequence in stacked))
