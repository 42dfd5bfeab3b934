"""Metrics of a model over data, measured on the graph that ships: the source itself with its weights as inputs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from copy import copy
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from dsd_ort.data import Batches, Dataset, check_batch_size, prefetch
from dsd_ort.errors import DataError
from dsd_ort.fields import Field
from dsd_ort.graph.evaluation import evaluation
from dsd_ort.graph.loss import value_read
from dsd_ort.graph.program import Program
from dsd_ort.model.source import Source
from dsd_ort.recipe import Loss, Recipe
from dsd_ort.rewrite.nodes import Nodes, named
from dsd_ort.run import metrics
from dsd_ort.run.execution import Execution
from dsd_ort.run.memory import Arrays, Memory, Sent, Tensor
from dsd_ort.run.metrics import Answers, Meter, default_metrics
from dsd_ort.run.ranks import Alone, Ranks
from dsd_ort.run.sessions import Graph, Opened, evaluated

LOGITS = "dsd_ort/logits"
"""The output that :meth:`Evaluator.of_logits` adds."""


class Evaluator:
    """An evaluate graph and its weights.

    Args:
        load: makes the model.
        weights: what its inputs other than data are fed with, on the device; they are read anew at each call.
        fields: what data must have: inputs and labels.
        outputs: output that a loss reads → that loss's label; the metrics are of the first.
        loss: the output that holds the loss.
        lengths: the input or output that holds the lengths of what the first loss reads, if there is one.
        recipe: batch size, losses and metrics.
        execution: on what; it is always computed in float32, as what ships is.
        memory: of that device.
        ranks: the processes that share the batches of data.
    """

    def __init__(
        self,
        load: Callable[[], ir.Model],
        weights: Mapping[str, Tensor],
        *,
        fields: Sequence[Field],
        outputs: Mapping[str, str],
        loss: str,
        lengths: str | None = None,
        recipe: Recipe,
        execution: Execution,
        memory: Memory,
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks or Alone()
        self.recipe, self.loss, self.lengths, self.fields = recipe, loss, lengths, fields
        self.metrics = list(dict.fromkeys([*(recipe.metrics or default_metrics(recipe.losses)), recipe.monitor]))
        metrics.require_packages(self.metrics)
        self.output, self.label = next(iter(outputs.items()))
        self.weights, self.memory = weights, memory
        self.arrays: Arrays = {}
        """What the weights are in, where nobody else keeps it."""
        self.execution = replace(execution, precision="fp32", cuda_graphs=False)
        self.graph = self.sessions(load)

    @classmethod
    def of_program(
        cls,
        program: Program,
        weights: Mapping[str, Tensor],
        *,
        execution: Execution,
        memory: Memory,
        ranks: Ranks | None = None,
    ) -> Evaluator:
        """The evaluator of a run folder."""
        program.graph("evaluate")
        return cls(
            lambda: ir.from_proto(program.graph("evaluate")),
            weights,
            fields=[*program.manifest.inputs, *program.manifest.labels],
            outputs=program.manifest.outputs,
            loss=program.manifest.loss,
            lengths=program.manifest.lengths,
            recipe=program.recipe,
            execution=execution,
            memory=memory,
            ranks=ranks,
        )

    @classmethod
    def of_source(cls, source: Source, recipe: Recipe, *, execution: Execution, memory: Memory) -> Evaluator:
        """The evaluator of a model's file, with its own weights.

        Raises:
            RecipeError: the recipe's losses do not fit the model.
        """
        parts = evaluation(source, recipe)
        arrays = {p.name: source.start(p.name) for p in (*source.parameters, *source.statistics)}
        evaluator = cls(
            lambda: ir.from_proto(parts.graph),
            memory.place(arrays),
            fields=[*parts.inputs, *parts.labels],
            outputs=parts.outputs,
            loss=parts.loss,
            lengths=parts.lengths,
            recipe=recipe,
            execution=execution,
            memory=memory,
        )
        evaluator.arrays = arrays
        return evaluator

    def of_logits(self) -> Evaluator:
        """The same, but the output is what the first loss reads, in float32: the logits, where the model hides them."""
        load, loss, output = self.graph.load, self.recipe.losses[0], self.output

        def showing() -> ir.Model:
            model = load()
            model.graph.outputs.append(shown_value(model, loss, output))
            return model

        other = self.with_graph(showing)
        other.output = LOGITS
        return other

    def with_graph(self, load: Callable[[], ir.Model]) -> Evaluator:
        """The same weights on another graph, which gives more."""
        other = copy(self)
        other.graph = other.sessions(load)
        return other

    def __call__(self, data: Dataset) -> dict[str, float]:
        """The recipe's metrics over all of *data*; batch b is that of rank b mod n, and sums are in their order."""
        meter, ranks = Meter(self.metrics, self.recipe.losses[0], self.recipe.data.alphabet), self.ranks
        with closing(self.answers(data, lambda number: number % ranks.size == ranks.rank)) as stream:
            own = [meter.of(answers) for answers in stream]
        for turn in zip_longest(*ranks.gather(own)):
            for sums in turn:
                if sums is not None:
                    meter.take(sums)
        return meter.result()

    def answers(self, data: Dataset, mine: Callable[[int], bool] = lambda number: True) -> Generator[Answers]:
        """What the model says of each batch of *data* whose number is *mine*, in its order."""
        batches = (batch for batch in self.batches(data).turns(mine) if batch is not None)
        with closing(prefetch(self.memory.send(batch) for batch in batches)) as stream:
            for sent in stream:
                batch = sent.arrays
                found = {**batch, **self.run(sent)}
                yield Answers(
                    found[self.output],
                    batch[self.label],
                    self.recipe.losses[0],
                    float(found[self.loss]),
                    None if self.lengths is None else found[self.lengths],
                    self.recipe.data.alphabet,
                )

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
        return Batches(data, size, shuffle=False, workers=self.execution.workers)

    def run(self, batch: Sent) -> dict[str, npt.NDArray[Any]]:
        """The output that the metrics are of, the loss, and lengths where they are an output, for one batch."""
        return self.fetch(batch, (self.output, self.loss, self.lengths or ""))

    def fetch(self, batch: Sent, names: Sequence[str] | None = None) -> dict[str, npt.NDArray[Any]]:
        """Those of the outputs *names* that there are, by default all, for one batch."""
        opened = self.graph({name: array.shape for name, array in batch.arrays.items()})
        for name, tensor in self.memory.stage(batch).items():
            opened.read(name, tensor)
        fetched = [name for name in names or opened.outputs if name in opened.outputs]
        for name in fetched:
            opened.binding.bind_output(name, "cpu")
        opened.run(where="the model in evaluation")
        opened.binding.synchronize_outputs()
        return dict(zip(fetched, opened.binding.copy_outputs_to_cpu(), strict=True))

    def sessions(self, load: Callable[[], ir.Model]) -> Graph:
        """Sessions on another graph with these weights."""
        where = "the evaluate graph"
        return Graph(load, evaluated, self._bind, execution=self.execution, memory=self.memory, where=where)

    def _bind(self, opened: Opened) -> None:
        for name, tensor in self.weights.items():
            opened.read(name, tensor)


def shown_value(model: ir.Model, loss: Loss, output: str) -> ir.Value:
    """What *loss* reads at *output*, in float32: a new value of *model*, :data:`LOGITS`."""
    new = Nodes()
    shown = named(new.Cast(value_read(model, loss, output), to=ir.DataType.FLOAT.value), LOGITS)
    shown.type = ir.TensorType(ir.DataType.FLOAT)
    new.append_to(model.graph)
    return shown
