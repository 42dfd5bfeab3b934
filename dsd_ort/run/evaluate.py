"""Metrics of a model over data, measured on the graph that ships: the source itself with its weights as inputs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from dsd_ort import runtime
from dsd_ort.data import Batches, Dataset, check_batch_size, prefetch
from dsd_ort.errors import DataError
from dsd_ort.graph.program import Program
from dsd_ort.recipe import Recipe
from dsd_ort.run import metrics
from dsd_ort.run.metrics import Meter, default_metrics


class Evaluator:
    """An evaluate graph and its weights.

    Args:
        graph: the model, or the file of it.
        weights: what its inputs other than data are fed with; the arrays are read anew at each call.
        outputs: output that a loss reads → that loss's label; the metrics are of the first.
        loss: the output that holds the loss.
        lengths: the input or output that holds the lengths of what the first loss reads, if there is one.
        recipe: batch size, losses and metrics.
        threads: of ONNX Runtime; 0 means one a core.
    """

    def __init__(
        self,
        graph: onnx.ModelProto | str,
        weights: Mapping[str, npt.NDArray[np.float32]],
        *,
        outputs: Mapping[str, str],
        loss: str,
        lengths: str | None = None,
        recipe: Recipe,
        threads: int = 0,
    ) -> None:
        self.recipe, self.loss, self.lengths = recipe, loss, lengths
        self.metrics = list(dict.fromkeys([*(recipe.metrics or default_metrics(recipe.losses)), recipe.monitor]))
        metrics.require_packages(self.metrics)
        self.output, self.label = next(iter(outputs.items()))
        self.session = runtime.session(graph, runtime.session_options(threads), where="the evaluate graph")
        wanted = {value.name for value in self.session.get_inputs()}
        self.fetched = [self.output, self.loss, *([lengths] if lengths is not None and lengths not in wanted else [])]
        self.weights = {name: value for name, value in weights.items() if name in wanted}

    @classmethod
    def of_program(
        cls, program: Program, weights: Mapping[str, npt.NDArray[np.float32]], *, threads: int = 0
    ) -> Evaluator:
        """The evaluator of a run folder."""
        return cls(
            str(program.graph_path("evaluate")),
            weights,
            outputs=program.manifest.outputs,
            loss=program.manifest.loss,
            lengths=program.manifest.lengths,
            recipe=program.recipe,
            threads=threads,
        )

    def __call__(self, data: Dataset) -> dict[str, float]:
        """The recipe's metrics over all of *data*."""
        meter = Meter(self.metrics, self.recipe.losses[0], self.recipe.data.alphabet)
        with closing(prefetch(self.batches(data))) as stream:
            for batch in stream:
                found = {**batch, **self.run(batch)}
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

    def run(self, batch: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """The output that the metrics are of, the loss, and lengths where they are an output, for one batch."""
        binding = self.session.io_binding()
        for name, array in {**self.weights, **batch}.items():
            binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for name in self.fetched:
            binding.bind_output(name, "cpu")
        runtime.run(self.session, binding, where="the model in evaluation")
        return dict(zip(self.fetched, binding.copy_outputs_to_cpu(), strict=True))
