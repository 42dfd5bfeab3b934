"""Dense → sparse → dense: the training loop, from a Program and data to trained weights.

The position in a run is six counters (:mod:`~dsd_ort.run.position`); everything random is a function of them and the
seed.  So training goes on from a saved :class:`~dsd_ort.run.state.State` as if it had never stopped (law 6).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

from dsd_ort.data import Dataset, check_batch_size, counted, prefetch, with_last
from dsd_ort.errors import RecipeError, Stopped
from dsd_ort.graph.program import Program
from dsd_ort.recipe import Phase, Rise
from dsd_ort.run.calibration import norms
from dsd_ort.run.epoch import (
    Waiting,
    batches_left,
    in_parts,
    refuse_idle_ranks,
    updates_of_epoch,
    updates_of_phase,
)
from dsd_ort.run.evaluate import Evaluator
from dsd_ort.run.examples import Examples
from dsd_ort.run.execution import Execution
from dsd_ort.run.journal import AS_IT_CAME, Journal, read
from dsd_ort.run.metrics import better
from dsd_ort.run.position import MeasuredOn, Position
from dsd_ort.run.ranks import Alone, Ranks
from dsd_ort.run.rounds import Rounds, Wish
from dsd_ort.run.schedule import learning_rate, sparsity
from dsd_ort.run.state import State
from dsd_ort.run.suspects import find

PROGRESS_EVERY = 20
"""Updates between two progress events in the journal."""


class Trainer:
    """Trains one run.

    Args:
        program: a prepared run.
        examples: to train on.
        eval_data: evaluated before the first step, and after each epoch.
        journal: is told all that happens.
        stop: asked after each update; when it says yes, the state is saved and :class:`Stopped` raised.
        checkpoint_seconds: the longest time between two checkpoints.
        keep_checkpoints: how many of them stay.
        measure_first: whether the model as it came is evaluated too.
        execution: on what, and how.
        ranks: the processes that train it together; of these only the first writes.
        micro_batch: batches of this size, as many an update as make up as many examples as the recipe says.

    Raises:
        RecipeError: the recipe's monitor needs evaluation data; its batches are not of micro-batches, or too few for
            the ranks.
    """

    def __init__(
        self,
        program: Program,
        examples: Examples,
        eval_data: Dataset | None,
        journal: Journal,
        *,
        stop: Callable[[], bool] = lambda: False,
        checkpoint_seconds: float = 300.0,
        keep_checkpoints: int = 1,
        measure_first: bool = True,
        execution: Execution | None = None,
        ranks: Ranks | None = None,
        micro_batch: int | None = None,
    ) -> None:
        self.program, self.ranks = program, ranks or Alone()
        self.recipe = in_parts(program.recipe, micro_batch)
        refuse_idle_ranks(self.recipe, self.ranks)
        self.examples, self.eval_data, self.journal, self.stop = examples, eval_data, journal, stop
        self.checkpoint_seconds, self.measure_first = checkpoint_seconds, measure_first
        if eval_data is None and self.recipe.monitor != "loss":
            raise RecipeError(
                f"monitor = {self.recipe.monitor!r} needs data to evaluate on",
                fix='give --eval-data, or set monitor = "loss"',
            )
        self.execution = execution or Execution()
        self.state = State(
            program,
            journal,
            self.execution,
            ranks=self.ranks,
            recipe=self.recipe,
            norms=lambda: norms(self.evaluator, program.manifest.prunable, examples.left),
            keep=keep_checkpoints,
        )
        self.engine = self.state.engine
        self.evaluator = Evaluator.of_program(
            program, self.engine.values(), execution=self.execution, memory=self.engine.memory, ranks=self.ranks
        )
        self.rounds = Rounds(self.state, self.ranks, self.recipe, self._wish)
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
            self.state.resume()
            self._say_what_is_no_longer_measured()
        else:
            self.state.begin()
        if self.state.position == Position():
            self._before_the_first_step()
        else:
            self.examples.refuse_others()
        for phase in self.recipe.phase[self.state.position.phase : until]:
            self._phase(phase)
        complete = self.state.position.phase == len(self.recipe.phase)
        if complete and not any(event["event"] == "end" for event in read(self.program.folder)):
            self.journal.write("end", self.state.position.step)

    def _before_the_first_step(self) -> None:
        """Records what the run begins with, behind a first checkpoint: whoever goes on from that comes here again."""
        self.examples.keep()
        self.state.save()
        held_out = None if self.eval_data is None else self.eval_data.where
        self.examples.record(self.journal, eval_data=held_out, **self.execution.record())
        if self.measure_first and self.eval_data is not None:
            self.journal.write("measured", 0, name=AS_IT_CAME, metrics=self._evaluate())

    def _say_what_is_no_longer_measured(self) -> None:
        left = self.state.position.phase < len(self.recipe.phase)
        if left and self.eval_data is None and any(event.get("metrics") for event in read(self.program.folder)):
            text = "the run was evaluated so far, and goes on without evaluation data: best epochs are by training loss"
            self.journal.tell({"event": "note", "text": text})

    def _refuse_what_cannot_begin(self) -> None:
        """All that would end the run at its first step or evaluation, before anything is written."""
        if self.recipe.prune.criterion == "wanda" and any(phase.kind == "sparse" for phase in self.recipe.phase):
            counted(self.examples.left)
        for phase in self.recipe.phase:
            updates_of_epoch(self.recipe, self.examples.left, phase, self.state.position)
            if phase.drop_suspects:
                self._refuse_what_cannot_be_dropped()
        if self.eval_data is not None:
            self.evaluator.batches(self.eval_data)

    def _refuse_what_cannot_be_dropped(self) -> None:
        """A stream's examples; and any where the model fixes the batch size, as nobody knows how many will be left."""
        left = counted(self.examples.left)
        self.evaluator.batches(left)
        if not self.recipe.data.drop_last:
            check_batch_size(left.fields, 1, what="the last batch's size")

    def _phase(self, phase: Phase) -> None:
        """One phase, from its beginning or from where the position is in it."""
        if self.state.position.begins_phase:
            self._begin(phase)
        self.data = self.examples.of_phase(self.state.position.phase + 1)
        self.steps_per_epoch = updates_of_epoch(self.recipe, self.data, phase, self.state.position)
        self.steps = updates_of_phase(self.recipe, self.data, phase, self.state.position)
        self.journal.tell({"event": "phase-steps", "done": self.state.position.phase_step, "steps": self.steps})
        while not (reason := self._complete(phase)):
            began = time.monotonic()
            self._epoch(phase)
            self.state.progress.seconds += time.monotonic() - began
            self._after_epoch(phase)
        self._end(phase, reason)

    def _begin(self, phase: Phase) -> None:
        self.ranks.gather(None)  # what the first wrote of the phase before is there
        # Only a dense phase drops examples as it begins, so a sparse one has all that are left.
        rising = isinstance(phase.sparsity, Rise)
        steps = updates_of_phase(self.recipe, self.examples.left, phase, self.state.position) if rising else 0
        first = sparsity(phase, 0, steps=steps)
        self.state.enter(phase, first)
        rises = {} if first == (phase.final_sparsity or 0) else {"sparsity_from": first}
        length = {"epochs": phase.epochs} if phase.epochs is not None else {"steps": phase.steps}
        self.journal.write(
            "phase",
            self.state.position.step,
            phase=self.state.position.phase + 1,
            phases=len(self.recipe.phase),
            kind=phase.kind,
            sparsity=phase.final_sparsity,
            **rises,
            **length,
        )
        if phase.drop_suspects:
            self._drop_suspects()
            self.ranks.gather(None)

    def _drop_suspects(self) -> None:
        """What the phase that begins does without, by the last sparse phase's weights at its end."""
        position, examples = self.state.position, self.examples
        sparse = max(i for i, phase in enumerate(self.recipe.phase[: position.phase], 1) if phase.kind == "sparse")
        whole, numbers = counted(examples.whole), examples.numbers
        found = find(self.program, sparse, whole, numbers, execution=self.execution)
        examples.drop(position.phase + 1, found, self.journal, position.step)

    def _complete(self, phase: Phase) -> str:
        """Why the phase is over, or an empty string."""
        if phase.patience is not None and self.state.progress.stale_epochs >= phase.patience:
            return "converged"
        if self.state.position.phase_step < self.steps:
            return ""
        return "epochs" if phase.steps is None else "steps"

    def _epoch(self, phase: Phase) -> None:
        """The batches that are left of this epoch, or of the phase's steps."""
        state, send, sparse = self.state, self.engine.memory.send, self.state.pruner.is_masked(phase)
        if sparse:
            self.engine.expect(same_masks=not isinstance(phase.sparsity, Rise))
        began, examples = time.monotonic(), state.progress.examples
        self.silent = self.engine.silent(None) if state.position.batch == 0 else frozenset()
        batches = batches_left(self.recipe, self.data, state.position, self.execution.workers)
        left = with_last(batches.turns(self.rounds.mine))
        ahead = ((None if batch is None else send(batch), last) for batch, last in left)
        with closing(prefetch(ahead)) as stream:
            waiting = Waiting(stream)
            for batch, last in waiting:
                if state.position.batch % self.recipe.optimizer.accumulate == 0:
                    state.prune_further(phase, self.steps)
                if not self.rounds.take(batch, sparse=sparse, last=last):
                    continue
                rate = learning_rate(
                    phase.schedule, state.position.phase_step, steps=self.steps, steps_per_epoch=self.steps_per_epoch
                )
                self.engine.update(rate, state.position.step + 1)
                self.silent = self.engine.silent(self.silent)
                state.position = state.position.after_update()
                if state.position.phase_step % PROGRESS_EVERY == 0:
                    state.collect()
                passed = time.monotonic() - began
                self._tell_progress(rate, (state.progress.examples - examples) / passed, waiting.seconds / passed)
                if state.position.phase_step == self.steps:
                    break
                self._save_if_due()
        state.collect()

    def _tell_progress(self, rate: float, speed: float, waiting: float) -> None:
        position = self.state.position
        content = {
            "phase": position.phase + 1,
            "epoch": position.epoch + 1,
            "loss": self.state.pending.loss,
            "learning_rate": rate,
            "examples_per_second": round(speed, 1),
            "waiting": round(waiting, 3),
            "done": position.phase_step,
            "of": self.steps,
        }
        if position.phase_step % PROGRESS_EVERY == 0:
            self.journal.write("progress", position.step, **content)
        self.journal.tell({"event": "tick", **content})

    def _save_if_due(self) -> None:
        wish = self.rounds.wish()
        if wish.stop or wish.save:
            self.state.save()
        if wish.stop:
            raise Stopped

    def _wish(self) -> Wish:
        return Wish(self.stop(), time.monotonic() - self.state.saved_at > self.checkpoint_seconds)

    def _after_epoch(self, phase: Phase) -> None:
        """Evaluates, keeps the best weights, and saves."""
        state, progress = self.state, self.state.progress
        train_loss = progress.loss_sum / max(progress.examples, 1)
        metrics = progress.metrics = self._evaluate()
        value = metrics.get(self.recipe.monitor, train_loss)
        measured_on: MeasuredOn = "evaluation" if self.recipe.monitor in metrics else "training"
        done = max(0, state.position.phase_step - 1)  # the last update; a network on its way is no sparse one
        there = not isinstance(phase.sparsity, Rise) or sparsity(phase, done, steps=self.steps) == phase.final_sparsity
        best = there and better(self.recipe.monitor, value, progress.best if progress.best_on == measured_on else None)
        state.position = state.position.after_epoch()
        progress.loss_sum, progress.examples = 0.0, 0
        progress.stale_epochs = 0 if best or not there else progress.stale_epochs + 1
        if best:
            progress.best, progress.best_on = value, measured_on
            state.save_weights(phase, metrics, best=True)
        self.journal.write(
            "epoch",
            state.position.step,
            phase=state.position.phase + 1,
            epoch=state.position.epoch,
            train_loss=train_loss,
            metrics=metrics,
            best=best,
            **({"silent": sorted(self.silent)} if self.silent else {}),
            **self._skipped(),
        )
        state.save()

    def _skipped(self) -> dict[str, int]:
        """The updates that were left out so far, where that was asked for."""
        return {"skipped": int(self.engine.updates.state()["skipped"])} if self.execution.on_nan == "skip" else {}

    def _evaluate(self) -> dict[str, float]:
        return self.evaluator(self.eval_data) if self.eval_data is not None else {}

    def _end(self, phase: Phase, reason: str) -> None:
        state = self.state
        metrics, updates = state.progress.metrics or self._evaluate(), self.engine.updates.state()
        state.save_weights(phase, metrics)
        self.journal.write(
            "phase-end",
            state.position.step,
            phase=state.position.phase + 1,
            kind=phase.kind,
            reason=reason,
            metrics=metrics,
            density=state.arena.density(),
            densities={name: round(share, 6) for name, share in state.arena.densities().items()},
            seconds=round(state.progress.seconds, 3),
            **({"overflows": int(updates["skipped"])} if self.execution.mixed else {}),
            **self._skipped(),
        )
        state.position = state.position.after_phase()
        state.save()
