"""Calibration: the norm of each input that a weight meets, over some examples of the training data.

A function of the weights, the data, and the recipe's seed: a resumed run finds the same norms.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dsd_ort.data import Batches, Dataset, counted
from dsd_ort.data.subset import Counted, split
from dsd_ort.errors import DataError
from dsd_ort.graph import input_norms
from dsd_ort.graph.manifest import Slice
from dsd_ort.run.criteria import Norms
from dsd_ort.run.evaluate import Evaluator


def norms(evaluator: Evaluator, weights: Sequence[Slice], data: Dataset) -> Norms:
    """‖x_j‖ of every input j that each of *weights* meets, f32[inputs].

    Args:
        evaluator: of the network, with the weights that it has now.
        weights: what is pruned.
        data: that is trained on.

    Raises:
        DataError: it is a stream, or fills no batch.
        RecipeError: what a weight meets is not known.
    """
    recipe, outputs, load = evaluator.recipe, dict[str, str](), evaluator.graph.load

    def measuring() -> ir.Model:
        model = load()
        outputs.update(input_norms.attach(model, weights))
        return model

    other = evaluator.with_graph(measuring)
    sums = {weight.name: np.zeros(1) for weight in weights}
    part = sample(data, recipe.prune.calibration, recipe.batch_size, recipe.seed)
    for batch in Batches(part, recipe.batch_size, workers=other.execution.workers):
        found = other.fetch(other.memory.send(batch))
        for name, output in outputs.items():
            sums[name] = sums[name] + found[output].astype(np.float64)
    return {name: np.sqrt(total).astype(np.float32) for name, total in sums.items()}


def sample(data: Dataset, examples: int, batch_size: int, seed: int) -> Counted:
    """About so many *examples* of *data*, in whole batches where there are that many: the same of each class.

    Raises:
        DataError: *data* is a stream.
    """
    try:
        whole = counted(data)
    except DataError as error:
        raise DataError(
            "examples are taken off the data to look at, and a function that yields batches has no numbers for them",
            where=error.where,
            fix=error.fix,
        ) from error
    wanted = -(-examples // batch_size) * batch_size
    return whole if wanted >= whole.examples else split(whole, wanted / whole.examples, seed).part
