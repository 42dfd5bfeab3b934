"""The whole check, in this process: made-up input, the loss, every gradient, a sparse step, the exported file.

Gradients are compared with the source in plain inference: batch norm by its running statistics, dropout off.  A model
that trains otherwise (batch norm by the batch, dropout) is compared once more as it trains: batch norm by the batch in
the reference too, dropout off; and with dropout on, the slope along the gradient is measured on the step graph itself.
A training graph of ONNX Runtime's, whose batch norm cannot be frozen, is compared as it trains only.
"""

from __future__ import annotations

import gc
import math
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dsd_ort.graph.program import Program
from dsd_ort.model import usage
from dsd_ort.notes import Note
from dsd_ort.proof import compared, exported, gradients, made_up, reference, sparse_step, subject
from dsd_ort.proof.budget import Budget
from dsd_ort.proof.points import Points, StepError, step
from dsd_ort.proof.report import Line, Report, Request, Row
from dsd_ort.proof.subject import Subject
from dsd_ort.run.arena import Arena
from dsd_ort.run.engine import Engine
from dsd_ort.run.execution import Execution

Array = npt.NDArray[Any]
Arrays = dict[str, Array]

SAME_LOSS = 1e-5
"""Relative difference of the step graph's loss and plain inference's."""
SAME_LOSS_EXACTLY = 1e-4
"""Of the step graph's loss and one in float64."""
ALONG = 0.1
"""Relative error of a slope in float32, along the gradient."""
ALONG_STEPS = (*(h / 10 for h in gradients.COARSE_STEPS), 1e-5, 3e-6, 1e-6, 3e-7, 1e-7, 3e-8, 1e-8)
"""Relative to the size of the weights: along its gradient a loss curves most."""
TOLD = 1e-5
"""Relative difference of two losses of which a rounding is a hundredth."""
WIDE_STEP = 0.25
"""Of the time that is left, for a step in float64."""
EVALUATIONS = 4
"""Of a reference, that should fit into the time for a comparison: a slower one is not taken."""


def run(request: Request, tell: Callable[[str], None], data: Any = None) -> Report:
    """What :func:`dsd_ort.api.check` does; *data* is that of the request, or a Python object.

    Raises:
        DsdError: the model cannot be trained, or no input for it can be had.
    """
    began, budget = time.monotonic(), Budget(math.inf if request.thorough else request.seconds)
    data = request.data if data is None else data
    with subject.opened(request, tell) as checked, tempfile.TemporaryDirectory(prefix="dsd-ort-check-") as folder:
        shipped, threads = checked.shipped, request.threads
        tell("looking for input that runs")
        find = partial(made_up.batch, checked.source, shipped, checked.recipe, data, request.shapes)
        batch = find(threads=threads, weights=checked.weights)
        prover = _Prover(checked, batch.arrays, budget, threads=threads, tell=tell, folder=Path(folder) / "short")
        prover.prove()
        if data is None and prover.rows and not any(row.norm for row in prover.rows):
            tell("nothing depends on a weight here: looking for longer input")
            batch = find(threads=threads, weights=checked.weights, long=True)
            prover = _Prover(checked, batch.arrays, budget, threads=threads, tell=tell, folder=Path(folder) / "long")
            prover.prove()
        told = [note for note in checked.manifest.notes if isinstance(note, Note)]
        own_loss = bool(request.loss or request.output)
        used = usage.note(Path(request.model), own_loss=own_loss) if request.fit else ()
        of_weights = [note.words for note in told if note.kind in ("weights", "constants", "file")]
        return Report(
            model=str(request.model),
            output=next(iter(shipped.outputs)),
            loss=checked.loss,
            inputs={name: f"{a.dtype}{list(a.shape)}" for name, a in batch.arrays.items()},
            data=batch.origin,
            parameters=sum(p.size for p in checked.manifest.trained),
            rows=prover.rows,
            lines=prover.lines,
            notes=[*(note.words for note in used), *batch.notes, *checked.notes, *of_weights, *prover.notes],
            seconds=round(time.monotonic() - began, 3),
        )


class _Prover:
    """The checks, each of which adds rows, lines and notes."""

    def __init__(
        self,
        checked: Subject,
        batch: Arrays,
        budget: Budget,
        *,
        threads: int,
        tell: Callable[[str], None],
        folder: Path,
    ) -> None:
        self.checked, self.shipped, self.batch, self.budget = checked, checked.shipped, batch, budget
        self.threads, self.tell, self.folder = threads, tell, folder
        self.rows: list[Row] = []
        self.lines: list[Line] = []
        self.notes: list[str] = []

    def prove(self) -> None:
        """All of it; :attr:`rows`, :attr:`lines` and :attr:`notes` are what was found."""
        self.folder.mkdir()
        try:
            self._prove(self.checked.program(self.folder / "run"))
        except StepError as error:
            self.lines.insert(0, Line(what="step", passed=False, text=f"{error}, on input that plain inference takes"))

    def _prove(self, program: Program) -> None:
        checked, in_training = self.checked, self.checked.by_batch
        if not (in_training and checked.exported):
            plain = checked.frozen() if checked.has_dropout or in_training else None
            if plain is not None and plain.has_dropout:
                plain = plain.without_dropout()
            share = 0.45 if in_training else 0.9
            self._in_inference(program if plain is None else plain.program(self.folder / "frozen"), share)
        if in_training:
            still = checked.has_dropout
            self._in_training(checked.without_dropout().program(self.folder / "training") if still else program)
        if checked.has_dropout:
            self._with_dropout(program)
        self._sparse_step_and_export(program)

    @property
    def execution(self) -> Execution:
        return Execution(threads=self.threads)

    def _arena(self, program: Program) -> Arena:
        """One of its own, with the weights of the file."""
        gc.collect()  # an engine is part of cycles, and its buffers and sessions are what takes the memory
        arena = Arena.of(program)
        arena.fill(self.checked.weights)
        return arena

    def _engine(self, program: Program, arena: Arena | None = None) -> Engine:
        return Engine(program, self._arena(program) if arena is None else arena, self.execution)

    def _points(self, program: Program, mode: Literal["inference", "training"]) -> tuple[Points, gradients.Point]:
        """Points of *program*, and the one at the weights of the file."""
        frozen = {p.name for p in program.manifest.parameters if not p.trained}
        points = Points(
            program,
            lambda: self._engine(program),
            self.checked.weights,
            self.batch,
            mode,
            limit=self.budget.share(WIDE_STEP),
            still=reference.looked_up(self.shipped.graph, frozen),
        )
        return points, points.here()

    def _in_inference(self, program: Program, share: float) -> None:
        self.tell("loss and gradients at the weights of the file")
        points, point = self._points(program, "inference")
        plain = reference.InRuntime(self.shipped.graph, self.shipped.loss, double=False, threads=self.threads)
        expected = plain(point.inputs)
        budget = Budget(self.budget.share(share))
        best, why = self._reference(point, expected, budget, forward=plain.seconds, training=False)
        assert best is not None, "plain inference is one"
        self._compare_loss(point, expected, best)
        if why:
            self.notes.append(f"no reference in float64: {why}")
        self._compare(points, point, best, budget)

    def _in_training(self, program: Program) -> None:
        self.tell("the same with batch norm in training mode")
        points, point = self._points(program, "training")
        budget = Budget(self.budget.share(0.8))
        best, why = self._reference(point, point.loss, budget, forward=0.0, training=True)
        if best is not None:
            if self.checked.exported:
                self._compare_loss(point, best(point.inputs), best, best.name, SAME_LOSS_EXACTLY)
            self._compare(points, point, best, budget)
            return
        self.notes.append(f"batch norm in training mode was compared with itself only: {why}")
        self._compare_with_itself("batch norm in training mode", self._engine(program))

    def _with_dropout(self, program: Program) -> None:
        self.tell("the same with dropout on")
        self._compare_with_itself("dropout, its masks held", self._engine(program))

    def _reference(
        self, point: gradients.Point, expected: float, budget: Budget, *, forward: float, training: bool
    ) -> tuple[reference.Reference | None, str]:
        return reference.best(
            self.shipped.graph,
            self.shipped.loss,
            point.inputs,
            expected,
            wide=point.wide_loss,
            limit=budget.seconds / EVALUATIONS,
            forward=forward,
            training=training,
            threads=self.threads,
            still=frozenset(point.inputs) - frozenset(point.gradients) - frozenset(self.batch),
        )

    def _compare_loss(
        self,
        point: gradients.Point,
        expected: float,
        best: reference.Reference,
        by: str = "plain inference",
        allowed: float = SAME_LOSS,
    ) -> None:
        scale = max(abs(expected), 1e-6)
        error = abs(point.loss - expected) / scale
        if best.exact:  # plain inference is rounded too
            allowed = max(allowed, 4 * abs(best(point.inputs) - expected) / scale)
        text = f"{point.loss:.7g} in training, {expected:.7g} in {by}: relative difference {error:.1e}"
        self.lines.append(Line(what="loss", passed=error <= allowed, text=f"{text}, up to {allowed:.0e} is the same"))

    def _compare(self, points: Points, point: gradients.Point, best: reference.Reference, budget: Budget) -> None:
        trained = points.program.manifest.trained
        rows = list(gradients.check(point, best, trained, seconds=budget.left, tell=self.tell, beside=points.beside))
        self.rows += rows
        if (unseen := sum(len(row.tensors) for row in rows if row.verdict == "not checked")) > 0:
            self.notes.append(
                f"in {point.mode}, {unseen} of {len(trained)} gradients were not checked: no time was left "
                "(give more --seconds, or --thorough)"
            )
        elif len(rows) < len(trained):
            self.notes.append(
                f"in {point.mode}, {len(trained)} tensors were checked in {len(rows)} groups, to end in about "
                f"{self.budget.seconds:.0f} s (--thorough checks each for itself)"
            )

    def _compare_with_itself(self, what: str, engine: Engine) -> None:
        """The slope of the step graph's own loss along its gradient, which must be ‖gradient‖."""
        told, arena = TOLD * abs(step(engine, self.batch)), engine.arena
        gradient, moving = arena.gradients.copy(), arena.weights[: arena.gradients.size]
        norm = math.hypot(*map(compared.norm, compared.parts(gradient)))
        size = math.hypot(*map(compared.norm, compared.parts(arena.weights))) or 1.0
        errors: list[float] = []
        for h in ALONG_STEPS if norm else ():
            if errors and 2 * h * size * norm < told:
                break
            losses, reached = [], []
            for sign in (1, -1):
                arena.fill(self.checked.weights)
                for weights, slope in zip(compared.parts(moving), compared.parts(gradient), strict=True):
                    np.add(weights, sign * (h * size / norm) * slope, out=weights)
                reached.append(moving.copy())
                losses.append(step(engine, self.batch))
            said = compared.along(gradient, *reached)  # as far as rounded weights have moved
            errors.append(abs(losses[0] - losses[1] - said) / (said or 1.0))
            if errors[-1] <= (ALONG / 4 if self.budget.left > 0 else ALONG):
                break
        error = min(errors, default=0.0)
        text = f"the loss rises along the gradient as ‖gradient‖ = {norm:.3g} says, within {error:.1e}"
        self.lines.append(Line(what=what, passed=error <= ALONG, text=f"{text} (up to {ALONG:g}, in float32)"))

    def _sparse_step_and_export(self, program: Program) -> None:
        self.tell("a sparse step and its update")
        values, moving = self._trained(program)
        gc.collect()  # engine and gradients
        self.tell("the exported file")
        source, recipe, folder = self.checked.source, self.checked.recipe, self.folder / "final"
        self.lines.append(
            exported.line(
                source,
                self.shipped,
                values,
                self.batch,
                recipe,
                moving=moving,
                folder=folder,
                threads=self.threads,
            )
        )

    def _trained(self, program: Program) -> tuple[Arrays, list[str]]:
        """Weights and statistics behind an update, and which of them it may change."""
        arena = self._arena(program)
        if arena.prunable:
            weights, prune = self.checked.weights, self.checked.recipe.prune
            self.lines.append(
                sparse_step.line(program, arena, self.batch, weights, prune=prune, execution=self.execution)
            )
        else:
            engine = self._engine(program, arena)
            step(engine, self.batch)
            engine.update(1e-6, 1)
            self.notes.append("no parameter of this model is pruned, so there was no sparse step")
        return arena.values(), [*arena.moving()]
