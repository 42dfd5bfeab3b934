"""Model file → Program: the graph half of the project, read from top to bottom.

source → adapt → fold → legalize → loss → differentiate → recompute → masks → update, and the layout of the buffers.
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import NamedTuple

import msgspec
import onnx
import onnx_ir as ir

from dsd_ort import runtime
from dsd_ort.errors import RecipeError, UnsupportedError
from dsd_ort.graph import chosen_parameters, ends, exported, input_norms, layout, masks, patterns
from dsd_ort.graph import loss as losses
from dsd_ort.graph.adapt import Adapted, adapted
from dsd_ort.graph.differentiate import differentiate
from dsd_ort.graph.evaluation import Evaluation, evaluation
from dsd_ort.graph.legalize import legalize
from dsd_ort.graph.manifest import Manifest
from dsd_ort.graph.new_program import refuse_existing, write_program
from dsd_ort.graph.program import Program
from dsd_ort.graph.recompute import recompute
from dsd_ort.graph.remarks import remarks
from dsd_ort.model import artifacts
from dsd_ort.model import source as source_files
from dsd_ort.model.source import Source
from dsd_ort.notes import Note
from dsd_ort.recipe import Loss, Recipe
from dsd_ort.rewrite.fold import fold


def prepare(model: str | Path, run: str | Path, recipe: Recipe) -> Program:
    """Prepares the ONNX file *model* for training with *recipe* and writes the new run folder *run*.

    *model* may also be a training graph of ONNX Runtime's (:mod:`dsd_ort.model.artifacts`): its folder, or its
    training_model.onnx.  It brings its own loss, and the recipe's is not used.

    Raises:
        ModelError: the file cannot be read.
        UnsupportedError: an operator between the parameters and the loss cannot be trained.
        RecipeError: the recipe does not fit the model.
        DataError: its list of examples cannot be read.
        RunError: the folder exists.
        InstallationError: this environment's ONNX Runtime is none that can prepare.
    """
    runtime.require_runtime()
    refuse_existing(Path(run))
    files, without = artifacts.find(model), listed(recipe)
    if files is None:
        source = source_files.load(model, recipe.parameters)
        return write_program(Path(run), source, *build(source, recipe), without=without)
    with artifacts.shipped_source(files, recipe.parameters) as source:
        graphs = build_exported(files, source, recipe)
        return write_program(Path(run), source, *graphs, artifacts=files.files, without=without)


def listed(recipe: Recipe) -> bytes | None:
    """The list of examples that *recipe* leaves out: a run folder holds it, and no longer needs the file.

    Raises:
        DataError: it cannot be read.
    """
    if recipe.data.without is None:
        return None
    from dsd_ort.data.source_forms import reading  # of all that comes with it, a model needs nothing

    with reading(recipe.data.without, "the list of examples in data.without"):
        return Path(recipe.data.without).read_bytes()


def build(source: Source, recipe: Recipe) -> tuple[Manifest, dict[str, onnx.ModelProto]]:
    """The manifest and the four graphs, in memory; raises what :func:`prepare` does."""
    start = adapted(source, recipe)
    return assemble(source, recipe, differentiated(source, recipe, start.clone()), evaluation(source, recipe, start))


def build_exported(
    files: artifacts.Artifacts, source: Source, recipe: Recipe
) -> tuple[Manifest, dict[str, onnx.ModelProto]]:
    """What :func:`build` does, of a training graph that somebody else exported and its inference model *source*."""
    _refuse_kept(source)
    statistics = [p.name for p in source.statistics]
    graph = exported.training_graph(files, statistics)
    trained = {p.name for p in source.parameters} - chosen_parameters.frozen(source, recipe)
    gradients = {name: gradient for name, gradient in graph.gradients.items() if name in trained}
    kept = {graph.loss, *gradients.values(), *graph.statistics.values()}
    _keep_outputs(graph.model, kept)
    measured = exported.evaluation_graph(files, source)
    label = graph.labels[0]
    loss = Loss(
        name="mse" if label.classes is None else "cross-entropy", label=label.name, ignore_index=label.ignore_index
    )
    metrics = recipe.metrics if label.classes is not None else recipe.metrics or ("loss",)
    training = Training(graph.model, gradients, graph.statistics, graph.loss, graph.notes)
    outputs = dict.fromkeys(measured.outputs, label.name)
    shipped = Evaluation(measured.graph, measured.inputs, graph.labels, outputs, measured.loss)
    return assemble(source, msgspec.structs.replace(recipe, loss=loss, metrics=metrics), training, shipped)


def _refuse_kept(source: Source) -> None:
    """A graph that somebody else made has no place for entries that training leaves as they are."""
    for p in source.parameters:
        if (kept := source.kept(p.name)).size:
            raise UnsupportedError(
                f"the weight {p.name!r} holds numbers that are not finite ({kept.size} of {p.size})",
                where=p.layer,
                fix="train the model itself, which leaves them as they are, or export the training graph without",
            )


class Training(NamedTuple):
    """A step graph: the loss, a gradient a trained parameter and a new value a statistic, all outputs."""

    model: ir.Model
    gradients: dict[str, str]
    """Parameter → the output that holds its gradient."""
    statistics: dict[str, str]
    """Running statistic → the output that holds its value after the step."""
    loss: str
    notes: tuple[Note, ...]


def differentiated(source: Source, recipe: Recipe, start: Adapted) -> Training:
    """Fold → legalize → loss → differentiate → recompute.  The model of *start* is changed."""
    model = start.model
    fold(model)
    wanted = [losses.output_of(model, loss) for loss in recipe.losses]
    trained, notes = chosen_parameters.trained(source, model, wanted, recipe)
    outputs = {value.name for value in model.graph.outputs}
    read = [name for name in losses.values_read(model, recipe.losses) if name in outputs]
    frozen = chosen_parameters.frozen(source, recipe)
    builder = recipe.builder
    legal = legalize(model, trained, outputs=read, batch_norm=recipe.batch_norm, frozen=frozen, builder=builder)
    loss = losses.attach(legal.model, recipe.losses, legal.logits).loss
    _keep_outputs(legal.model, {loss, *legal.statistics.values()})
    told = [*source.notes, *start.notes, *notes]
    told += [*remarks(source, legal.trained, keep_zeros=recipe.prune.keep_zeros), *ends.notes(source.model, wanted)]
    told += legal.notes
    step = differentiate(legal.model, legal.trained, loss=loss, builder=builder)
    recompute(step.model, step.gradients.values(), loss, recipe.recompute)
    return Training(step.model, step.gradients, legal.statistics, loss, tuple(told))


def assemble(
    source: Source, recipe: Recipe, training: Training, shipped: Evaluation
) -> tuple[Manifest, dict[str, onnx.ModelProto]]:
    """The manifest and the four graphs of a step graph, and of what is measured and shipped."""
    from dsd_ort.graph.optimizer.update import update_graph  # with onnxscript, which takes long to import

    with_gradients = [p for p in source.parameters if p.name in training.gradients]
    prunable = chosen_parameters.prunable(with_gradients, recipe, source.constants)
    sparsely = any(phase.kind == "sparse" for phase in recipe.phase)
    if sparsely:
        patterns.refuse_misfits(source.parameters, prunable, recipe)
    masked = prunable | (_with_zeros(source, training.gradients) if recipe.prune.keep_zeros else set())
    slices = layout.parameter_slices(source.parameters, training.gradients, prunable, masked, recipe)
    if sparsely and recipe.prune.criterion == "wanda":
        input_norms.attach(ir.from_proto(shipped.graph), [p for p in slices if p.name in prunable])  # refuses
    sparse = training.model.clone()
    masks.insert(sparse, {name: gradient for name, gradient in training.gradients.items() if name in masked})
    manifest = Manifest(
        model=source.path.name,
        source_digest=source.digest,
        recipe=recipe.to_dict(),
        inputs=shipped.inputs,
        labels=shipped.labels,
        outputs=shipped.outputs,
        step_loss=training.loss,
        loss=shipped.loss,
        lengths=shipped.lengths,
        axes=dict(shipped.axes) or msgspec.UNSET,
        held=shipped.held or msgspec.UNSET,
        parameters=slices,
        statistics=layout.statistic_slices(source.statistics, training.statistics),
        notes=[*training.notes, *shipped.notes],
        graph_digests={},
    )
    graphs = {
        "step": ir.to_proto(training.model),
        "sparse": ir.to_proto(sparse),
        "update": update_graph(recipe.optimizer),
        "evaluate": shipped.graph,
    }
    return manifest, graphs


def _with_zeros(source: Source, trained: Container[str]) -> set[str]:
    """The trained kernels and matrices that have zeros in the file.

    Raises:
        RecipeError: there are none.
    """
    found = {p.name for p in source.parameters if p.prunable and p.name in trained and source.numbers[p.name].zeros}
    if not found:
        raise RecipeError(
            "prune.keep_zeros = true, but no weight of the file that could be pruned is zero",
            where=str(source.path),
            fix="leave keep_zeros out, or give the file that was pruned",
        )
    return found


def _keep_outputs(model: ir.Model, names: set[str]) -> None:
    """Removes other outputs, and what only they need: the loss reads the logits, so a final Softmax goes."""
    model.graph.outputs[:] = [value for value in model.graph.outputs if value.name in names]
    for node in reversed(model.graph):  # onnx_ir's own pass also drops outputs that gradients read
        if not any(output.uses() or output.is_graph_output() for output in node.outputs):
            model.graph.remove(node, safe=True)
