"""Appends nodes to a graph under names that are free in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from dsd_ort.rewrite.autograd import DOMAIN, Operator


class Builder:
    """``build("Sub", x, t)`` is the difference, a new node's first output."""

    def __init__(self, model: ir.Model) -> None:
        self.graph, self.opset = model.graph, model.opset_imports[""]
        self.operators: dict[str, Operator] = {}
        """Those that were called: the caller puts them into the model."""
        graph = self.graph
        values = [*graph.inputs, *graph.initializers.values()]
        for inner in graph.subgraphs():
            values += [*inner.inputs, *inner.initializers.values()]
        for node in graph.all_nodes():
            values += node.outputs
        self._taken = {value.name for value in values}

    def __call__(self, operator: str, *inputs: ir.Value, outputs: int = 1, **attributes: Any) -> ir.Value:
        name = self.free(f"loss/{operator}")
        node = ir.node(operator, inputs, attributes, num_outputs=outputs, name=name)
        for i, value in enumerate(node.outputs):
            value.name = name if i == 0 else self.free(f"{name}/{i}")
        self.graph.append(node)
        return node.outputs[0]

    def call(self, operator: Operator, *inputs: ir.Value) -> Sequence[ir.Value]:
        """The outputs of a new node of an operator with a backward of its own."""
        self.operators[operator.name] = operator
        name = self.free(f"loss/{operator.name}")
        node = ir.node(operator.name, inputs, domain=DOMAIN, num_outputs=len(operator.forward.output), name=name)
        for value, output in zip(node.outputs, operator.forward.output, strict=True):
            value.name = self.free(f"{name}/{output}")
        self.graph.append(node)
        return node.outputs

    def constant(self, value: Any, dtype: Any = np.float32) -> ir.Value:
        return self("Constant", value=ir.tensor(np.asarray(value, dtype)))

    def free(self, name: str) -> str:
        """*name*, with a number behind it if it is taken; taken from now on."""
        names = (name if i == 0 else f"{name}_{i}" for i in range(len(self._taken) + 1))
        chosen = next(n for n in names if n not in self._taken)
        self._taken.add(chosen)
        return chosen
