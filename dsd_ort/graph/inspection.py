"""What is known of a model before anyone trains it: its parameters, what training rewrites, and what prevents it."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import onnx_ir as ir

from dsd_ort.errors import DsdError, RecipeError, UnsupportedError
from dsd_ort.file.payload import Floats
from dsd_ort.graph import chosen_parameters, exported, prepare
from dsd_ort.graph.adapt import adapted
from dsd_ort.graph.default_loss import fitted
from dsd_ort.graph.evaluation import evaluation
from dsd_ort.model import artifacts, usage
from dsd_ort.model import source as source_files
from dsd_ort.model.artifacts import Artifacts
from dsd_ort.model.parameters import Parameter
from dsd_ort.model.source import Source
from dsd_ort.notes import Note
from dsd_ort.recipe import Loss, LossName, Optimizer, Recipe
from dsd_ort.rewrite.shapes import dims_of


class Tensor(NamedTuple):
    """An input or output: ONNX's name of its type, and sizes, names or None for its axes; no shape, no rank."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None


class Untrained(NamedTuple):
    """A stored tensor that training leaves as it is."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    why: str
    reached: bool
    """Whether a gradient arrives at it: the recipe can have it trained."""


@dataclass(frozen=True)
class TrainingGraph:
    """What a training graph of ONNX Runtime's own exporter brings (:mod:`dsd_ort.model.artifacts`)."""

    files: Artifacts
    labels: tuple[str, ...]
    gradients: frozenset[str]
    """The parameters that it has gradients for."""
    optimizer: Optimizer | None
    """None where there is none in the folder."""


@dataclass(frozen=True)
class Inspection:
    """What :func:`inspect` found; nothing of it depends on the values of the weights."""

    path: Path
    source: Source | None
    """None where a weight is of a kind that cannot be trained; ``refusals`` say which."""
    ir_version: int
    opsets: Mapping[str, int]
    """Domain (``""`` is ONNX's own) → version."""
    producer: str
    inputs: tuple[Tensor, ...]
    """What data must feed."""
    outputs: tuple[Tensor, ...]
    loss: Loss | None
    """The loss that fits, and the output that it reads; None where there is none."""
    pruned: frozenset[str]
    """The parameters that a sparse phase of the recipe prunes."""
    notes: tuple[Note, ...]
    """What training does to it, nodes in the order of the graph; where it is refused, to the rest, as far as known."""
    refusals: tuple[DsdError, ...]
    """All that prevents training."""
    training_graph: TrainingGraph | None = None
    """Of an exported training graph, whose inference model all else is about."""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What gradients train."""
        return self.source.parameters if self.source else ()

    @property
    def statistics(self) -> tuple[Parameter, ...]:
        """Running statistics of batch norms."""
        return self.source.statistics if self.source else ()

    @property
    def constants(self) -> tuple[Untrained, ...]:
        """Stored tensors of floating-point numbers that training leaves as they are, and why; of those that no gradient
        arrives at, such with more than one number.
        """
        if self.source is None:
            return ()
        why = {constant.parameter.name: constant.why for constant in self.source.constants}
        trained = {name for p in (*self.parameters, *self.statistics) for name in (p.name, *p.aliases)}
        return tuple(
            Untrained(
                name,
                ir.DataType(place.dtype).name.lower(),
                place.dims,
                why.get(name, "no gradient arrives"),
                name in why,
            )
            for name, place in self.source.places.items()
            if name not in trained and ir.DataType(place.dtype).is_floating_point() and (place.size > 1 or name in why)
        )

    @property
    def rewrites(self) -> tuple[Note, ...]:
        """The nodes that training computes otherwise."""
        return tuple(note for note in self.notes if note.kind == "rewrite")

    @property
    def trainable(self) -> bool:
        return not self.refusals

    def value(self, name: str) -> Floats:
        """The weights of the parameter or statistic *name*, read from the file now: a read-only f32 array.

        Raises:
            RunError: the file changed after it was inspected.
        """
        if self.source is None:
            raise self.refusals[0]
        if self.training_graph is not None:
            with artifacts.shipped_source(self.training_graph.files) as source:
                return source.value(name)
        return self.source.value(name)


def inspect(path: str | Path, recipe: Recipe, *, loss: LossName | None = None, output: str | None = None) -> Inspection:
    """Inspects the ONNX file at *path* as *recipe* would train it, by the loss that fits *output*, or another kind.

    Raises:
        ModelError: the file is no sound ONNX file.
        RecipeError: there is no such output.
    """
    path = Path(path)
    if (files := artifacts.find(path)) is not None:
        return _exported(path, files, recipe, loss or output)
    refusals: list[DsdError] = []
    source: Source | None = None
    fits: Loss | None = None
    notes: tuple[Note, ...] = ()
    known: tuple[Note, ...] = ()
    trained: Container[str] | None = None
    try:
        source = source_files.load(path, recipe.parameters)
    except UnsupportedError as error:
        refusals += _all(error)
        model = source_files.outline(path)
    else:
        model = source.model
        try:
            recipe = fitted(recipe, source, name=loss, output=output)
            fits = recipe.losses[0]
            start = adapted(source, recipe)
            known = start.notes
            training = prepare.differentiated(source, recipe, start.clone())
            notes, trained = (*usage.note(path, own_loss=bool(loss or output)), *training.notes), training.gradients
            measured = evaluation(source, recipe, start)
            notes += tuple(note for note in measured.notes if note.kind == "recipe")
        except (UnsupportedError, RecipeError) as error:
            if output is not None and fits is None and isinstance(error, RecipeError):
                raise
            refusals += _all(error)
            notes = (*known, *(error.notes if isinstance(error, UnsupportedError) else ()))
    pruned = frozenset(chosen_parameters.pruned(source.parameters, recipe, source.constants)) if source else frozenset()
    if trained is not None:
        pruned = frozenset(name for name in pruned if name in trained)
    return _inspection(path, model, source, loss=fits, pruned=pruned, notes=notes, refusals=refusals)


def _exported(path: Path, files: Artifacts, recipe: Recipe, chosen: str | None) -> Inspection:
    """Of the training graph in *files*: its inference model, and what else it brings."""
    if chosen is not None:
        fix = "leave out --loss and --output, or give the model itself"
        raise RecipeError("a training graph of ONNX Runtime's has a loss of its own", where=str(path), fix=fix)
    refusals: list[DsdError] = []
    notes: tuple[Note, ...] = ()
    source: Source | None = None
    facts = TrainingGraph(files, tuple(artifacts.label_names(files)), frozenset(), None)
    try:
        with artifacts.shipped_source(files, recipe.parameters) as source:
            graph = exported.training_graph(files, [s.name for s in source.statistics])
            notes = graph.notes
            facts = replace(facts, gradients=frozenset(graph.gradients))
            facts = replace(facts, optimizer=artifacts.optimizer(files))
            prepare.build_exported(files, source, recipe)
    except (UnsupportedError, RecipeError) as error:
        refusals += _all(error)
    model = artifacts.inference_model(files) if source is None else source.model
    pruned = (
        facts.gradients & chosen_parameters.pruned(source.parameters, recipe, source.constants)
        if source
        else frozenset()
    )
    made = _inspection(path, model, source, loss=None, pruned=pruned, notes=notes, refusals=refusals)
    return replace(made, training_graph=facts)


def _inspection(
    path: Path,
    model: ir.Model,
    source: Source | None,
    *,
    loss: Loss | None,
    pruned: frozenset[str],
    notes: Sequence[Note],
    refusals: Sequence[DsdError],
) -> Inspection:
    graph = model.graph
    return Inspection(
        path=path,
        source=source,
        ir_version=model.ir_version,
        opsets={("" if domain == "ai.onnx" else domain): version for domain, version in model.opset_imports.items()},
        producer=" ".join(part for part in (model.producer_name, model.producer_version) if part),
        inputs=tuple(_tensor(value) for value in graph.inputs if value.name not in graph.initializers),
        outputs=tuple(_tensor(value) for value in graph.outputs),
        loss=loss,
        pruned=pruned,
        notes=tuple(notes),
        refusals=tuple(refusals),
    )


def _all(error: DsdError) -> list[DsdError]:
    """*error*, or what it stands for; each once."""
    causes = error.causes or (error,)
    return list({(cause.what, cause.where): cause for cause in causes}.values())


def _tensor(value: ir.Value) -> Tensor:
    dtype = value.dtype.name.lower() if value.dtype is not None else str(value.type or "unknown").lower()
    return Tensor(str(value.name), dtype, dims_of(value))
