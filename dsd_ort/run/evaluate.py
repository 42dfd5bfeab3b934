"""Metrics of a model over data, measured on the graph that ships: the source itself with its weights as inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from dsd_ort.data import Batches, Dataset, check_batch_size, prefetch
from dsd_ort.errors import DataError
from dsd_ort.graph.program import Program
from dsd_ort.recipe import Recipe
from dsd_ort.run import metrics
from dsd_ort.run.execution import Execution
from dsd_ort.run.memory import Memory, Sent, Tensor
from dsd_ort.run.metrics import Meter, default_metrics
from dsd_ort.run.sessions import Graph, Opened, evaluated


class Evaluator:
    """An evaluate graph and its weights.

    Args:
        load: makes the model.
        weights: what its inputs other than data are fed with, on the device; they are read anew at each call.
        outputs: output that a loss reads → that loss's label; the metrics are of the first.
        loss: the output that holds the loss.
        lengths: the input or output that holds the lengths of what the first loss reads, if there is one.
        recipe: batch size, losses and metrics.
        execution: on what; it is always computed in float32, as what ships is.
        memory: of that device.
    """

    def __init__(
        self,
        load: Callable[[], ir.Model],
        weights: Mapping[str, Tensor],
        *,
        outputs: Mapping[str, str],
        loss: str,
        lengths: str | None = None,
        recipe: Recipe,
        execution: Execution,
        memory: Memory,
    ) -> None:
        self.recipe, self.loss, self.lengths = recipe, loss, lengths
        self.metrics = list(dict.fromkeys([*(recipe.metrics or default_metrics(recipe.losses)), recipe.monitor]))
        metrics.require_packages(self.metrics)
        self.output, self.label = next(iter(outputs.items()))
        self.weights, self.memory = weights, memory
        execution = replace(execution, precision="fp32", cuda_graphs=False)
        self.graph = Graph(load, evaluated, self._bind, execution=execution, memory=memory, where="the evaluate graph")

    @classmethod
    def of_program(
        cls, program: Program, weights: Mapping[str, Tensor], *, execution: Execution, memory: Memory
    ) -> Evaluator:
        """The evaluator of a run folder."""
        path = program.graph_path("evaluate")
        return cls(
            lambda: ir.load(path),
            weights,
            outputs=program.manifest.outputs,
            loss=program.manifest.loss,
            lengths=program.manifest.lengths,
            recipe=program.recipe,
            execution=execution,
            memory=memory,
        )

    def __call__(self, data: Dataset) -> dict[str, float]:
        """The recipe's metrics over all of *data*."""
        meter = Meter(self.metrics, self.recipe.losses[0], self.recipe.data.alphabet)
        with closing(prefetch(self.memory.send(batch) for batch in self.batches(data))) as stream:
            for sent in stream:
                batch = sent.arrays
                found = {**batch, **self.run(sent)}
                lengths = None if self.lengths is None else found[self.lengths]
                meter.add(found[self.output], batch[self.label], float(found[self.loss]), lengths)
        return meter.result()

    def batches(self, data: Dataset) -> Batches:
        """All of *data* in its order.

        Raises:
            DataError: the model fixes another batch size than the recipe's, or one that leaves examples over.
        """
        size = self.recipe.batch_size
        if data.examples is not None and (rest := data.examples % size):
            try:
                check_batch_size(data.fields, rest, what="the last batch's size")
            except DataError as error:
                fix = f"evaluate on a multiple of {size} examples, or export the model with a symbolic batch"
                raise DataError(error.what, where=error.where, fix=fix) from error
        return Batches(data, size, shuffle=False)

    def run(self, batch: Sent) -> dict[str, npt.NDArray[Any]]:
        """The output that the metrics are of, the loss, and lengths where they are an output, for one batch."""
        opened = self.graph({name: array.shape for name, array in batch.arrays.items()})
        for name, tensor in self.memory.stage(batch).items():
            opened.read(name, tensor)
        fetched = [name for name in (self.output, self.loss, self.lengths or "") if name in opened.outputs]
        for name in fetched:
            opened.binding.bind_output(name, "cpu")
        opened.run(where="the model in evaluation")
        opened.binding.synchronize_outputs()
        return dict(zip(fetched, opened.binding.copy_outputs_to_cpu(), strict=True))

    def _bind(self, opened: Opened) -> None:
        for name, tensor in self.weights.items():
            opened.read(name, tensor)
