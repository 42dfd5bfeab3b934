"""What a file or a run's weights are worth, and what they say: evaluate, predict."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dsd_ort import runtime
from dsd_ort.api.recipes import fitting_recipe, refuse_beside_recipe, usage_note
from dsd_ort.api.runs import weights_at
from dsd_ort.data import Dataset, open_data
from dsd_ort.graph.program import open_program
from dsd_ort.model import source as source_files
from dsd_ort.recipe import LossName, Recipe
from dsd_ort.run import memory
from dsd_ort.run.evaluate import Evaluator
from dsd_ort.run.execution import Execution
from dsd_ort.run.predict import Predicted
from dsd_ort.run.predict import predict as predictions


def evaluate(
    model: str | Path,
    data: Any,
    recipe: Recipe | None = None,
    *,
    loss: LossName | None = None,
    output: str | None = None,
    phase: int | None = None,
    best: bool = False,
    device: str = "auto",
    threads: int = 0,
    listener: Callable[[str], None] = lambda text: None,
) -> dict[str, float]:
    """Metrics of an ONNX file, or of a run's weights, over *data*.

    Args:
        model: an ONNX file or a run folder.
        data: see :func:`train`.
        recipe: loss, metrics, batch size and data section, for a file; by default :func:`default_recipe`, which
            takes them from the file beside an exported one.  A run has its own.
        loss: without a recipe, the kind of loss.
        output: without a recipe, the output that the loss reads; by default the one that most weights lead to.
        phase: of a run, from 1; by default the last one that is complete.
        best: take that phase's best epoch.
        device: see :func:`train`.
        threads: of ONNX Runtime; 0 means one a core.
        listener: is told what people should know of the recipe and the data.

    Raises:
        ModelError, RunError, DataError: see :func:`train`.
    """
    runtime.require_runtime()
    evaluator = evaluator_of(
        model,
        recipe,
        loss=loss,
        output=output,
        phase=phase,
        best=best,
        execution=Execution(runtime.choose_device(device), threads),
        listener=listener,
    )
    return evaluator(_told(open_data(data, evaluator.fields, evaluator.recipe.data), listener))


def predict(
    model: str | Path,
    data: Any,
    recipe: Recipe | None = None,
    *,
    loss: LossName | None = None,
    output: str | None = None,
    phase: int | None = None,
    best: bool = False,
    device: str = "auto",
    threads: int = 0,
    listener: Callable[[str], None] = lambda text: None,
) -> Predicted:
    """What an ONNX file, or a run's weights, say of each example of *data*, which need have no labels.

    Args:
        model: an ONNX file or a run folder.
        data: see :func:`train`; labels are passed over.
        recipe: data section, batch size and the loss by which outputs are understood, as for :func:`evaluate`.
        loss: as for :func:`evaluate`.
        output: as for :func:`evaluate`.
        phase: as for :func:`evaluate`.
        best: as for :func:`evaluate`.
        device: see :func:`train`.
        threads: of ONNX Runtime; 0 means one a core.
        listener: is told what people should know of the recipe and the data.

    Raises:
        ModelError, RunError, DataError: see :func:`train`.
    """
    runtime.require_runtime()
    evaluator = evaluator_of(
        model,
        recipe,
        loss=loss,
        output=output,
        phase=phase,
        best=best,
        execution=Execution(runtime.choose_device(device), threads),
        listener=listener,
    )
    fields = [field for field in evaluator.fields if not field.label]
    return predictions(evaluator, _told(open_data(data, fields, evaluator.recipe.data), listener))


def evaluator_of(
    model: str | Path,
    recipe: Recipe | None,
    *,
    loss: LossName | None,
    output: str | None,
    phase: int | None,
    best: bool,
    execution: Execution,
    listener: Callable[[str], None],
) -> Evaluator:
    """What measures a file, or the weights of a run; arguments as those of :func:`evaluate`."""
    refuse_beside_recipe(recipe, loss, output)
    place = memory.of(execution.device)
    if Path(model).is_dir():
        program = open_program(model)
        refuse_beside_recipe(program.recipe, loss, output)
        arrays = weights_at(program, phase, best, sparse=False).values()
        evaluator = Evaluator.of_program(program, place.place(arrays), execution=execution, memory=place)
        evaluator.arrays = arrays
        return evaluator
    source = source_files.load(model)
    if recipe is None:
        recipe = fitting_recipe(source, loss=loss, output=output)
        for note in usage_note(model, own_loss=bool(loss or output)):
            listener(note.words)
    return Evaluator.of_source(source, recipe, execution=execution, memory=place)


def _told(data: Dataset, listener: Callable[[str], None]) -> Dataset:
    """*data*, whose notes *listener* is told."""
    for text in data.notes:
        listener(f"data: {text}")
    return data
