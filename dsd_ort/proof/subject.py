"""What is checked: a model and its graphs, as :mod:`dsd_ort.graph.prepare` makes them, and programs of them.

A training graph of ONNX Runtime's is checked like a model: its own step, against its own evaluate graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import onnx
import onnx.numpy_helper

from dsd_ort.errors import RecipeError
from dsd_ort.graph.adapt import adapted
from dsd_ort.graph.default_loss import fitted
from dsd_ort.graph.evaluation import Evaluation
from dsd_ort.graph.inference import is_training, to_inference
from dsd_ort.graph.legalize import to_supported
from dsd_ort.graph.manifest import Manifest
from dsd_ort.graph.new_program import write_program
from dsd_ort.graph.prepare import assemble, build, build_exported, differentiated
from dsd_ort.graph.program import Program
from dsd_ort.model import artifacts
from dsd_ort.model import source as source_files
from dsd_ort.model.source import Source
from dsd_ort.proof import weights
from dsd_ort.proof.report import Request
from dsd_ort.recipe import LossName, Phase, Recipe


@dataclass(frozen=True)
class Subject:
    """A model, its graphs by name (:data:`dsd_ort.graph.program.GRAPHS`), and the weights to check it at."""

    source: Source
    recipe: Recipe
    manifest: Manifest
    graphs: dict[str, onnx.ModelProto]
    weights: weights.Weights
    notes: tuple[str, ...]
    exported: bool
    """Whether it is ONNX Runtime's training graph."""

    @property
    def shipped(self) -> Evaluation:
        m = self.manifest
        return Evaluation(
            self.graphs["evaluate"], m.inputs, m.labels, m.outputs, m.loss, axes=m.axes or {}, held=m.held or None
        )

    @property
    def loss(self) -> str:
        return "its own loss" if self.exported else " + ".join(loss.name for loss in self.recipe.losses)

    @property
    def has_dropout(self) -> bool:
        return any(node.op_type == "Dropout" for node in _nodes(self.graphs["step"].graph))

    @property
    def by_batch(self) -> bool:
        """Whether a step normalises by the statistics of the batch."""
        return any(s.successor for s in self.manifest.statistics)

    def without_dropout(self) -> Subject:
        """The same, but dropout keeps all."""
        return replace(self, graphs={**self.graphs, "step": without_dropout(self.graphs["step"])})

    def frozen(self) -> Subject:
        """The same with batch norm by the running statistics, also where the file itself is in training mode."""
        recipe = msgspec.structs.replace(self.recipe, batch_norm="frozen")
        start = adapted(self.source, recipe)
        if any(is_training(node) for node in start.model.graph.all_nodes()):
            start = start._replace(model=to_supported(start.model))
            to_inference(start.model)
        manifest, graphs = assemble(self.source, recipe, differentiated(self.source, recipe, start), self.shipped)
        return replace(self, manifest=manifest, graphs=graphs)

    def program(self, folder: Path) -> Program:
        """It as the new run folder *folder*."""
        return write_program(folder, self.source, self.manifest, self.graphs, linked=True)


@contextmanager
def opened(request: Request, tell: Callable[[str], None]) -> Iterator[Subject]:
    """What *request* is about, while the context is open.

    Raises:
        DsdError: it cannot be read or trained.
    """
    tell("reading the model")
    recipe = Recipe.from_dict(request.recipe)
    files = artifacts.find(request.model)
    if files is None:
        source = source_files.load(request.model, recipe.parameters)
        if request.fit:
            recipe = fitted(recipe, source, name=cast(LossName | None, request.loss), output=request.output)
            recipe = _dense(recipe)
        tell("making the training graphs")
        yield _subject(source, recipe, *build(source, recipe), exported=False)
        return
    if request.loss or request.output:
        what = "a training graph of ONNX Runtime's has a loss of its own, so none can be chosen"
        raise RecipeError(
            what, where=str(files.training), fix="leave out --loss and --output, or give the model itself"
        )
    with artifacts.shipped_source(files, recipe.parameters) as source:
        recipe = _dense(recipe) if request.fit else recipe
        tell("making the training graphs")
        yield _subject(source, recipe, *build_exported(files, source, recipe), exported=True)


def _subject(
    source: Source, recipe: Recipe, manifest: Manifest, graphs: dict[str, onnx.ModelProto], *, exported: bool
) -> Subject:
    values, notes = weights.of(source)
    return Subject(source, recipe, manifest, graphs, values, notes, exported)


def _dense(recipe: Recipe) -> Recipe:
    """Where nothing can be pruned, nothing need be."""
    return msgspec.structs.replace(recipe, phase=(Phase(kind="dense", learning_rate=1e-3, steps=1),))


def without_dropout(step: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a step graph in which every dropout keeps all."""
    step = onnx.ModelProto.FromString(step.SerializeToString())
    ratios = {"Dropout": 1, "DropoutGrad": 2}
    used = [node for node in _nodes(step.graph) if node.op_type in ratios]
    for node in used:
        node.input[ratios[node.op_type]] = "dsd_ort_check/ratio"
    if used:
        step.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0), "dsd_ort_check/ratio"))
    return step


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Those of *graph*, and those inside of them."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)
