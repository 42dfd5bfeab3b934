"""The whole check, in this process: made-up input, the loss, every gradient, a sparse step, the exported file.

Gradients are compared with the source in plain inference: batch norm by its running statistics, dropout off.  A model
that trains otherwise (batch norm by the batch, dropout) is compared once more as it trains: batch norm by the batch in
the reference too, dropout off; and with dropout on, the slope along the gradient is measured on the step graph itself.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import onnx.numpy_helper

from dsd_ort.errors import DataError
from dsd_ort.graph import source as source_files
from dsd_ort.graph.default_loss import fitted
from dsd_ort.graph.prepare import Evaluation, build
from dsd_ort.graph.program import Manifest, Program, write_program
from dsd_ort.graph.source import Source
from dsd_ort.proof import exported, gradients, made_up, reference
from dsd_ort.proof.report import Line, Report, Request, Row
from dsd_ort.recipe import LossName, Phase, Recipe
from dsd_ort.run.arena import Arena, view
from dsd_ort.run.engine import Engine
from dsd_ort.run.phases import new_arena
from dsd_ort.run.prune import write_masks

Array = npt.NDArray[Any]
Arrays = dict[str, Array]

SAME_LOSS = 1e-5
"""Relative difference of the step graph's loss and plain inference's."""
ALONG = 0.1
"""Relative error of a slope in float32, along the gradient."""
BESIDE = 1e-2
"""How far from the weights of the file, relative to their size, a point off their kinks is looked for."""
SPARSITY = 0.5
SEED = 7


def run(request: Request, tell: Callable[[str], None], data: Any = None) -> Report:
    """What :func:`dsd_ort.api.check` does; *data* is that of the request, or a Python object.

    Raises:
        DsdError: the model cannot be trained, or no input for it can be had.
    """
    began = time.monotonic()
    tell("reading the model")
    source = source_files.load(request.model)
    recipe = Recipe.from_dict(request.recipe)
    if request.fit:
        recipe = fitted(recipe, source, name=cast(LossName | None, request.loss), output=request.output)
        dense = Phase(kind="dense", learning_rate=1e-3, steps=1)  # where nothing can be pruned, nothing need be
        recipe = msgspec.structs.replace(recipe, phase=(dense,))
    tell("making the training graphs")
    built = build(source, recipe)
    manifest, graphs = built
    shipped = Evaluation(graphs["evaluate"], manifest.inputs, manifest.labels, manifest.outputs, manifest.loss)
    tell("looking for input that runs")
    batch = made_up.batch(
        source, shipped, recipe, request.data if data is None else data, request.shapes, threads=request.threads
    )
    with tempfile.TemporaryDirectory(prefix="dsd-ort-check-") as folder:
        prover = _Prover(source, recipe, shipped, batch.arrays, request, tell=tell, folder=Path(folder))
        rows, lines, notes = prover.prove(built)
    return Report(
        model=str(source.path),
        output=next(iter(shipped.outputs)),
        loss=" + ".join(loss.name for loss in recipe.losses),
        inputs={name: f"{a.dtype}{list(a.shape)}" for name, a in batch.arrays.items()},
        data=batch.origin,
        parameters=sum(p.size for p in manifest.trained),
        rows=rows,
        lines=lines,
        notes=[*batch.notes, *notes],
        seconds=round(time.monotonic() - began, 3),
    )


class _StepError(Exception):
    """A training step does not run."""


class _Prover:
    """The checks, each of which adds rows, lines and notes."""

    def __init__(
        self,
        source: Source,
        recipe: Recipe,
        shipped: Evaluation,
        batch: Arrays,
        settings: Request,
        *,
        tell: Callable[[str], None],
        folder: Path,
    ) -> None:
        self.source, self.recipe, self.shipped = source, recipe, shipped
        self.batch, self.settings, self.tell, self.folder = batch, settings, tell, folder
        self.rows: list[Row] = []
        self.lines: list[Line] = []
        self.notes: list[str] = []
        self.weights: Arrays = {p.name: source.value(p.name) for p in (*source.parameters, *source.statistics)}

    def prove(self, built: tuple[Manifest, dict[str, onnx.ModelProto]]) -> tuple[list[Row], list[Line], list[str]]:
        manifest, graphs = built
        has_dropout = any(node.op_type == "Dropout" for node in graphs["step"].graph.node)
        has_statistics = any(s.successor for s in manifest.statistics)
        program = write_program(self.folder / "run", self.source, manifest, graphs)
        try:
            self._prove(program, manifest, graphs, has_dropout=has_dropout, has_statistics=has_statistics)
        except _StepError as error:
            self.lines.insert(0, Line(what="step", passed=False, text=f"{error}, on input that plain inference takes"))
        return self.rows, self.lines, self.notes

    def _prove(
        self,
        program: Program,
        manifest: Manifest,
        graphs: dict[str, onnx.ModelProto],
        *,
        has_dropout: bool,
        has_statistics: bool,
    ) -> None:
        self._in_inference(program if not (has_dropout or has_statistics) else self._frozen())
        if has_statistics:
            self._in_training(self._variant("training", manifest, graphs) if has_dropout else program)
        if has_dropout:
            self._with_dropout(program)
        self._sparse_step_and_export(program)

    def _variant(self, name: str, manifest: Manifest, graphs: dict[str, onnx.ModelProto]) -> Program:
        """A program that differs from the recipe's in that dropout is off."""
        graphs = {**graphs, "step": without_dropout(graphs["step"])}
        return write_program(self.folder / name, self.source, manifest, graphs)

    def _frozen(self) -> Program:
        return self._variant("frozen", *build(self.source, msgspec.structs.replace(self.recipe, batch_norm="frozen")))

    def _engine(self, program: Program) -> tuple[Engine, Arena]:
        arena = new_arena(program)
        arena.fill(self.weights)
        return Engine(program, arena, threads=self.settings.threads), arena

    def _in_inference(self, program: Program) -> None:
        self.tell("loss and gradients at the weights of the file")
        engine, arena = self._engine(program)
        point = self._point(engine, arena, "inference")
        plain = reference.InRuntime(self.shipped.graph, self.shipped.loss, double=False, threads=self.settings.threads)
        expected = plain(point.inputs)
        best, why = self._reference(point, expected, training=False)
        assert best is not None, "plain inference is one"
        self._compare_loss(point, expected, best)
        if why:
            self.notes.append(f"no reference in float64: {why}")
        self._compare(point, best, engine)

    def _in_training(self, program: Program) -> None:
        self.tell("the same with batch norm in training mode")
        engine, arena = self._engine(program)
        point = self._point(engine, arena, "training")
        best, why = self._reference(point, point.loss, training=True)
        if best is not None:
            self._compare(point, best, engine)
            return
        self.notes.append(f"batch norm in training mode was compared with itself only: {why}")
        self._compare_with_itself("batch norm in training mode", engine, arena)

    def _with_dropout(self, program: Program) -> None:
        self.tell("the same with dropout on")
        engine, arena = self._engine(program)
        self._compare_with_itself("dropout, its masks held", engine, arena)

    def _step(self, engine: Engine, *, sparse: bool = False) -> float:
        try:
            return engine.step(self.batch, sparse=sparse, seed=SEED)
        except DataError as error:
            raise _StepError(error.what) from error

    def _point(self, engine: Engine, arena: Arena, mode: Literal["inference", "training"]) -> gradients.Point:
        inputs = {name: value.copy() for name, value in arena.values().items()} | self.batch
        loss = self._step(engine)
        found = {piece.name: view(arena.gradients, piece).copy() for piece in arena.trained}
        # Weights one rounding away: what changes in the gradients is noise.
        before = arena.weights.copy()
        arena.weights *= 1 + np.random.default_rng(0).choice([-1, 1], before.size).astype(np.float32) * 2.0**-23
        self._step(engine)
        noise = {
            p.name: float(np.linalg.norm((view(arena.gradients, p) - found[p.name]).astype(np.float64)))
            for p in arena.trained
        }
        arena.weights[...] = before
        return gradients.Point(inputs, loss, found, noise, mode)

    def _reference(
        self, point: gradients.Point, expected: float, *, training: bool
    ) -> tuple[reference.Reference | None, str]:
        limit = math.inf if self.settings.thorough else max(self.settings.seconds / 10, 1.0)
        return reference.best(
            self.shipped.graph,
            self.shipped.loss,
            point.inputs,
            expected,
            limit=limit,
            training=training,
            threads=self.settings.threads,
        )

    def _compare_loss(self, point: gradients.Point, expected: float, best: reference.Reference) -> None:
        scale = max(abs(expected), 1e-6)
        error, allowed = abs(point.loss - expected) / scale, SAME_LOSS
        if best.exact:  # plain inference is rounded too
            allowed = max(allowed, 4 * abs(best(point.inputs) - expected) / scale)
        text = f"{point.loss:.7g} in training, {expected:.7g} in plain inference: relative difference {error:.1e}"
        self.lines.append(Line(what="loss", passed=error <= allowed, text=f"{text}, up to {allowed:.0e} is the same"))

    def _compare(self, point: gradients.Point, best: reference.Reference, engine: Engine) -> None:
        def beside() -> gradients.Point:
            """The engine's weights moved by up to a hundredth of their size."""
            random = np.random.default_rng(2)
            before = engine.arena.weights.copy()
            for piece in engine.arena.parameters:
                weights = view(engine.arena.weights, piece)
                weights += BESIDE * gradients.size(weights) * random.uniform(-1, 1, piece.shape).astype(np.float32)
            moved = self._point(engine, engine.arena, point.mode)
            engine.arena.weights[...] = before
            return moved

        seconds = math.inf if self.settings.thorough else self.settings.seconds / 2
        trained = engine.program.manifest.trained
        rows = list(gradients.check(point, best, trained, seconds=seconds, tell=self.tell, beside=beside))
        self.rows += rows
        if len(rows) < len(trained):
            self.notes.append(
                f"in {point.mode}, {len(trained)} tensors were checked in {len(rows)} groups, to end in about "
                f"{seconds:.0f} s (--thorough checks each for itself)"
            )

    def _compare_with_itself(self, what: str, engine: Engine, arena: Arena) -> None:
        """The slope of the step graph's own loss along its gradient, which must be ‖gradient‖."""
        self._step(engine)
        before, gradient = arena.weights.copy(), arena.gradients.copy()
        norm = float(np.linalg.norm(gradient.astype(np.float64)))
        size = float(np.linalg.norm(before)) or 1.0
        errors = []
        for h in gradients.COARSE_STEPS:
            step = gradient * (h / 10 * size / norm) if norm else gradient
            losses = []
            for sign in (1, -1):
                arena.weights[...] = before
                arena.weights[: step.size] += sign * step
                losses.append(self._step(engine))
            travelled = float(np.linalg.norm(step.astype(np.float64)))
            slope = (losses[0] - losses[1]) / (2 * travelled) if travelled else 0.0
            errors.append(abs(slope - norm) / (norm or 1.0))
        arena.weights[...] = before
        text = f"the loss rises along the gradient as ‖gradient‖ = {norm:.3g} says, within {min(errors):.1e}"
        self.lines.append(Line(what=what, passed=min(errors) <= ALONG, text=f"{text} (up to {ALONG:g}, in float32)"))

    def _sparse_step_and_export(self, program: Program) -> None:
        self.tell("a sparse step and its update")
        engine, arena = self._engine(program)
        if arena.prunable:
            self._sparse_step(engine, arena)
        else:
            self._step(engine)
            engine.update(1e-6, 1)
            self.notes.append("no parameter of this model is pruned, so there was no sparse step")
        self.tell("the exported file")
        self.lines.append(
            exported.line(
                self.source,
                self.shipped,
                arena.values(),
                self.batch,
                self.recipe,
                folder=self.folder / "final",
                threads=self.settings.threads,
            )
        )

    def _sparse_step(self, engine: Engine, arena: Arena) -> None:
        write_masks(arena, SPARSITY, self.recipe.prune)
        arena.apply_masks()
        self._step(engine)
        dense = arena.gradients.copy()
        dense[: arena.masks.size] *= arena.masks
        loss = self._step(engine, sparse=True)
        change = float(np.linalg.norm((arena.gradients - dense).astype(np.float64)))
        error = change / (float(np.linalg.norm(dense.astype(np.float64))) or 1.0)
        before = arena.weights.copy()
        engine.update(1e-6, 1)
        pruned = np.concatenate([view(arena.weights, p)[view(arena.masks, p) == 0] for p in arena.prunable])
        moved = int(np.count_nonzero(arena.weights != before))
        stays = not pruned.any()
        masked = "equals" if error <= gradients.TOLERANCE[True] else f"differs by {error:.1e} from"
        text = (
            f"{pruned.size:,} pruned weights {'are exactly 0.0' if stays else 'MOVED'} after the update, {moved:,} "
            f"others moved; the gradient {masked} the masked dense one; loss {loss:.6g}"
        )
        passed = stays and error <= gradients.TOLERANCE[True] and math.isfinite(loss)
        self.lines.append(Line(what="sparse step", passed=passed, text=text))


def without_dropout(step: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a step graph in which every dropout keeps all."""
    step = onnx.ModelProto.FromString(step.SerializeToString())
    ratios = {"Dropout": 1, "DropoutGrad": 2}
    used = [node for node in step.graph.node if node.op_type in ratios]
    for node in used:
        node.input[ratios[node.op_type]] = "dsd_ort_check/ratio"
    if used:
        step.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0), "dsd_ort_check/ratio"))
    return step
