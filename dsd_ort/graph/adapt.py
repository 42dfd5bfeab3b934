"""The model as a recipe wants it: with the outputs that losses read, inputs that are fixed, the batch first and of any
size.

What is trained and what is measured both begin as this model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import onnx_ir as ir

from dsd_ort.graph import batch_axis, batch_statistics, declared
from dsd_ort.graph import loss as losses
from dsd_ort.graph.any_batch import with_any_batch
from dsd_ort.graph.ends import expose
from dsd_ort.graph.training_copy import training_copy
from dsd_ort.model import inputs
from dsd_ort.model.source import Source
from dsd_ort.notes import Note
from dsd_ort.recipe import Recipe


class Adapted(NamedTuple):
    """A training copy, and what people should know of the file that it is made of."""

    model: ir.Model
    axes: Mapping[str, int]
    """Input or output → the axis of the batch in the file, where that is not the first; in the copy it is."""
    notes: tuple[Note, ...]
    held: int | None = None
    """The batch size that the file holds, where it says that it takes any."""

    def clone(self) -> Adapted:
        """The same, with a copy of the model, which may be changed."""
        return self._replace(model=self.model.clone())


def adapted(source: Source, recipe: Recipe) -> Adapted:
    """A training copy of *source* in which only what the recipe's losses need is left.

    Raises:
        RecipeError: a loss or an input that the model does not have, or that does not fit.
        UnsupportedError: a batch size that is fixed and is not the recipe's.
    """
    model = training_copy(source)
    notes = [*declared.notes(source, model), *batch_statistics.notes(source)]
    own = {parameter.name for parameter in (*source.parameters, *source.statistics)}
    inputs.fix(model, recipe.input, own)
    expose(model, recipe.losses, own)
    inputs.keep_only(model, set(losses.values_read(model, recipe.losses)), own)
    axes = batch_axis.of_inputs(model, source, recipe)
    model = batch_axis.moved(model, axes)
    found = with_any_batch(model, source, recipe)
    ends = batch_axis.of_outputs(found.model, found.ends, recipe)
    batch_axis.move_outputs(found.model, ends)
    axes |= ends
    return Adapted(found.model, axes, (*notes, *found.notes, *batch_axis.notes(axes)), found.held)
