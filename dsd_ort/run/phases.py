"""Dense → sparse → dense: the training loop, from a Program and data to trained weights.

The position in a run is six counters (:class:`Position`); everything random is a function of them and the seed.  A
checkpoint holds the position and the arena, so training goes on from one as if it had never stopped (law 6).

Files in the run folder::

    checkpoint.safetensors          the whole state, replaced at the end of each epoch and every few minutes
    phases/1-dense.safetensors      weights and statistics at the end of a phase
    phases/1-dense.best.safetensors those of its best epoch, by the recipe's ``monitor``
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, replace
from typing import TypeVar

import numpy as np

from dsd_ort.data import Dataset, prefetch, with_last
from dsd_ort.errors import RecipeError, RunError
from dsd_ort.graph.program import GRAPHS, Program
from dsd_ort.recipe import Phase
from dsd_ort.run import checkpoint
from dsd_ort.run.arena import Arena
from dsd_ort.run.engine import Engine
from dsd_ort.run.epoch import batches_left, updates_of_epoch
from dsd_ort.run.evaluate import Evaluator
from dsd_ort.run.execution import Execution
from dsd_ort.run.journal import Journal, read
from dsd_ort.run.memory import Sent
from dsd_ort.run.metrics import better
from dsd_ort.run.position import Position, Progress
from dsd_ort.run.prune import write_masks
from dsd_ort.run.queued_steps import Pending, bad_weights
from dsd_ort.run.schedule import learning_rate

T = TypeVar("T")

PROGRESS_EVERY = 20
"""Updates between two progress events in the journal."""


class Stopped(Exception):  # noqa: N818 - it is no error
    """The user asked to stop; the state is saved."""


class Trainer:
    """Trains one run.

    Args:
        program: a prepared run.
        data: to train on.
        eval_data: evaluated after each epoch.
        journal: is told all that happens.
        stop: asked after each update; when it says yes, the state is saved and :class:`Stopped` raised.
        checkpoint_seconds: the longest time between two checkpoints.
        execution: on what, and how.

    Raises:
        RecipeError: the recipe's monitor needs evaluation data.
    """

    def __init__(
        self,
        program: Program,
        data: Dataset,
        eval_data: Dataset | None,
        journal: Journal,
        *,
        stop: Callable[[], bool] = lambda: False,
        checkpoint_seconds: float = 300.0,
        execution: Execution | None = None,
    ) -> None:
        self.program, self.recipe = program, program.recipe
        self.data, self.eval_data, self.journal, self.stop = data, eval_data, journal, stop
        self.checkpoint_seconds, self.saved_at = checkpoint_seconds, time.monotonic()
        if eval_data is None and self.recipe.monitor != "loss":
            raise RecipeError(
                f"monitor = {self.recipe.monitor!r} needs data to evaluate on",
                fix='give --eval-data, or set monitor = "loss"',
            )
        self.arena = Arena.of(program)
        self.execution = execution or Execution()
        self.engine = Engine(program, self.arena, self.execution, tell=self._tell_note)
        self.evaluator = Evaluator.of_program(
            program, self.engine.values(), execution=self.execution, memory=self.engine.memory
        )
        self.position, self.progress = Position(), Progress()
        self.pending = Pending(self.engine)
        self._refuse_what_cannot_begin()

    def run(self, *, resume: bool = False, until: int | None = None) -> None:
        """All phases, or with *resume* what the checkpoint has left of them.

        Args:
            resume: go on from the checkpoint.
            until: the phase to end after, from 1; by default the last.

        Raises:
            RunError: there is a checkpoint and *resume* is false, or none and it is true, or it is another run's.
            DivergedError: loss or weights are not finite; the last good checkpoint is kept.
            Stopped: *stop* said so.
        """
        if resume:
            self._resume()
        else:
            self._start()
        for phase in self.recipe.phase[self.position.phase : until]:
            self._phase(phase)
        complete = self.position.phase == len(self.recipe.phase)
        if complete and not any(event["event"] == "end" for event in read(self.program.folder)):
            self.journal.write("end", self.position.step)

    def _refuse_what_cannot_begin(self) -> None:
        """All that would end the run at its first step or evaluation, before anything is written."""
        for name in GRAPHS:
            self.program.graph_path(name)
        for phase in self.recipe.phase:
            updates_of_epoch(self.recipe, self.data, phase, self.position)
        if self.eval_data is not None:
            self.evaluator.batches(self.eval_data)

    def _start(self) -> None:
        path = self.program.folder / checkpoint.FILE
        if path.exists():
            raise RunError(
                "this run has been trained already, wholly or in part",
                where=str(path),
                fix="go on with --resume, or prepare the model into a new folder",
            )
        if self.journal.count:  # of a training whose checkpoint somebody removed
            self.journal.resume(0, 0)
        self.arena.fill_from(self.program.source())
        self.engine.upload()
        self._save()

    def _resume(self) -> None:
        record = checkpoint.load(self.program.folder / checkpoint.FILE, self.arena, self.program.digest)
        self.position, self.progress = Position(**record["position"]), Progress(**record["progress"])
        self.engine.upload()
        state = record.get("update", {})
        if record.get("precision") != self.execution.precision:  # a scale is one precision's
            state = {name: value for name, value in state.items() if name in ("done", "skipped")}
        self.engine.updates.restore(state, self.position.step)
        self.journal.resume(self.position.step, min(record["events"], self.journal.count))

    def _phase(self, phase: Phase) -> None:
        """One phase, from its beginning or from where the position is in it."""
        if self.position.begins_phase:
            self._begin(phase)
        self.steps_per_epoch = updates_of_epoch(self.recipe, self.data, phase, self.position)
        self.steps = phase.steps if phase.steps is not None else math.ceil((phase.epochs or 0) * self.steps_per_epoch)
        self.journal.tell({"event": "phase-steps", "done": self.position.phase_step, "steps": self.steps})
        while not (reason := self._complete(phase)):
            began = time.monotonic()
            self._epoch(phase)
            self.progress.seconds += time.monotonic() - began
            self._after_epoch(phase)
        self._end(phase, reason)

    def _begin(self, phase: Phase) -> None:
        """Prunes, in a sparse phase; in a dense one the pruned weights are simply free again, from 0.0."""
        self.progress = Progress()
        if phase.kind == "sparse":
            self.engine.download()
            write_masks(self.arena, phase.sparsity or 0.0, self.recipe.prune)
            self.arena.apply_masks()
            self.engine.upload()
        length = {"epochs": phase.epochs} if phase.epochs is not None else {"steps": phase.steps}
        self.journal.write(
            "phase",
            self.position.step,
            phase=self.position.phase + 1,
            phases=len(self.recipe.phase),
            kind=phase.kind,
            sparsity=phase.sparsity,
            **length,
        )

    def _complete(self, phase: Phase) -> str:
        """Why the phase is over, or an empty string."""
        if phase.patience is not None and self.progress.stale_epochs >= phase.patience:
            return "converged"
        if self.position.phase_step < self.steps:
            return ""
        return "epochs" if phase.steps is None else "steps"

    def _epoch(self, phase: Phase) -> None:
        """The batches that are left of this epoch, or of the phase's steps."""
        accumulate = self.recipe.optimizer.accumulate
        began, examples = time.monotonic(), self.progress.examples
        send = self.engine.memory.send
        with closing(
            prefetch(
                (send(batch), last) for batch, last in with_last(batches_left(self.recipe, self.data, self.position))
            )
        ) as stream:
            for batch, last in stream:
                self._forward_backward(batch, sparse=phase.kind == "sparse")
                self.position = replace(self.position, batch=self.position.batch + 1)
                if self.position.batch % accumulate and not last:
                    continue
                rate = learning_rate(
                    phase.schedule, self.position.phase_step, steps=self.steps, steps_per_epoch=self.steps_per_epoch
                )
                self.engine.update(rate, self.position.step + 1)
                self.position = replace(
                    self.position, step=self.position.step + 1, phase_step=self.position.phase_step + 1
                )
                if self.position.phase_step % PROGRESS_EVERY == 0:
                    self._collect()
                speed = (self.progress.examples - examples) / (time.monotonic() - began)
                self._tell_progress(rate, speed)
                if self.position.phase_step == self.steps:
                    break
                self._save_if_due()
        self._collect()

    def _forward_backward(self, batch: Sent, *, sparse: bool) -> None:
        seeds = np.random.SeedSequence([self.recipe.seed, self.position.epochs, self.position.batch])
        seed = int(seeds.generate_state(1)[0] >> 1)
        self.engine.queue(batch, sparse=sparse, seed=seed)
        self.pending.add(len(next(iter(batch.arrays.values()))), self.position.step + 1)
        if self.execution.on_cpu:
            self._collect(lambda: self.engine.first_bad_tensor(batch.arrays, seed=seed))

    def _collect(self, culprit: Callable[[], str] | None = None) -> None:
        self.pending.collect(self.progress, self.position.phase + 1, culprit)

    def _tell_note(self, text: str) -> None:
        self.journal.tell({"event": "note", "text": text})

    def _tell_progress(self, rate: float, speed: float) -> None:
        content = {
            "phase": self.position.phase + 1,
            "epoch": self.position.epoch + 1,
            "loss": self.pending.loss,
            "learning_rate": rate,
            "examples_per_second": round(speed, 1),
        }
        if self.position.phase_step % PROGRESS_EVERY == 0:
            self.journal.write("progress", self.position.step, **content)
        self.journal.tell({"event": "tick", "done": self.position.phase_step, **content})

    def _after_epoch(self, phase: Phase) -> None:
        """Evaluates, keeps the best weights, and saves."""
        train_loss = self.progress.loss_sum / max(self.progress.examples, 1)
        metrics = self.progress.metrics = self._evaluate()
        value = metrics.get(self.recipe.monitor, train_loss)
        best = better(self.recipe.monitor, value, self.progress.best)
        self.position = replace(self.position, epoch=self.position.epoch + 1, batch=0, epochs=self.position.epochs + 1)
        self.progress.loss_sum, self.progress.examples = 0.0, 0
        self.progress.stale_epochs = 0 if best else self.progress.stale_epochs + 1
        if best:
            self.progress.best = value
            self._save_weights(phase, ".best", metrics)
        self.journal.write(
            "epoch",
            self.position.step,
            phase=self.position.phase + 1,
            epoch=self.position.epoch,
            train_loss=train_loss,
            metrics=metrics,
            best=best,
        )
        self._save()

    def _evaluate(self) -> dict[str, float]:
        return self.evaluator(self.eval_data) if self.eval_data is not None else {}

    def _end(self, phase: Phase, reason: str) -> None:
        metrics, state = self.progress.metrics or self._evaluate(), self.engine.updates.state()
        self._save_weights(phase, "", metrics)
        self.journal.write(
            "phase-end",
            self.position.step,
            phase=self.position.phase + 1,
            kind=phase.kind,
            reason=reason,
            metrics=metrics,
            density=self.arena.density(),
            seconds=round(self.progress.seconds, 3),
            **({"overflows": int(state["skipped"])} if self.execution.mixed else {}),
        )
        self.position = Position(phase=self.position.phase + 1, step=self.position.step, epochs=self.position.epochs)
        self._save()

    def _save_if_due(self) -> None:
        stopping = self.stop()
        if stopping or time.monotonic() - self.saved_at > self.checkpoint_seconds:
            self._save()
        if stopping:
            raise Stopped

    def _save(self) -> None:
        """The checkpoint, unless the weights went bad: then the last good one stays."""
        self._collect()
        self.engine.download()
        bad = next((name for name, value in self.arena.values().items() if not np.isfinite(value).all()), None)
        if bad is not None:
            raise bad_weights(bad, self.position.step)
        record = {
            "program": self.program.digest,
            "position": asdict(self.position),
            "progress": asdict(self.progress),
            "events": self.journal.count,
            "precision": self.execution.precision,
            "update": self.engine.updates.state(),
        }
        self.journal.sync()
        checkpoint.save(self.program.folder / checkpoint.FILE, self.arena, record)
        self.saved_at = time.monotonic()

    def _save_weights(self, phase: Phase, suffix: str, metrics: dict[str, float]) -> None:
        path = checkpoint.weights_file(self.program.folder, self.position.phase, phase.kind, suffix)
        self.engine.download(training=False)
        checkpoint.save(path, self.arena, {"program": self.program.digest, "metrics": metrics}, training=False)
