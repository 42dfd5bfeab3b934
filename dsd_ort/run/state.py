"""The state of a run: its arena on a device and how far it is, begun from the model, kept in files, taken up from them.

Files in the run folder::

    checkpoint.safetensors          the whole state, replaced at the end of each epoch and every few minutes
    phases/1-dense.safetensors      weights and statistics at the end of a phase
    phases/1-dense.best.safetensors those of its best epoch, by the recipe's ``monitor``

A run that is saved and resumed goes on as if it had never stopped (law 6).
"""

from __future__ import annotations

import stat
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from dsd_ort.errors import RunError
from dsd_ort.file import regular
from dsd_ort.graph.program import Program
from dsd_ort.recipe import Phase, Recipe, Rise
from dsd_ort.run import checkpoint, keeping
from dsd_ort.run.arena import Arena
from dsd_ort.run.criteria import Norms
from dsd_ort.run.engine import Engine
from dsd_ort.run.execution import Execution
from dsd_ort.run.journal import Journal
from dsd_ort.run.position import Position, Progress
from dsd_ort.run.prune import Pruner
from dsd_ort.run.queued_steps import Pending, bad_weights
from dsd_ort.run.ranks import Ranks, refuse_what_differs
from dsd_ort.run.schedule import sparsity


class State:
    """What training changes of a run.

    Args:
        program: the prepared run.
        journal: its record, of which a checkpoint says how many events count.
        execution: on what, and how.
        ranks: the processes that all have it; the first of them writes.
        recipe: with the batches that it is trained in.
        norms: measures what meets the weights, see :class:`dsd_ort.run.prune.Pruner`.
        keep: how many checkpoints stay, the last one among them.
    """

    def __init__(
        self,
        program: Program,
        journal: Journal,
        execution: Execution,
        *,
        ranks: Ranks,
        recipe: Recipe,
        norms: Callable[[], Norms],
        keep: int = 1,
    ) -> None:
        self.program, self.journal, self.execution, self.ranks, self.recipe = program, journal, execution, ranks, recipe
        self.keep = keep
        self.arena = Arena.of(program)
        self.engine = Engine(program, self.arena, execution, ranks=ranks, recipe=recipe, tell=self._tell_note)
        self.pruner = Pruner(recipe.prune, recipe.seed, program.source, norms)
        self.position, self.progress = Position(), Progress()
        self.pending = Pending(self.engine)
        self.saved_at = time.monotonic()

    def begin(self) -> None:
        """The model's own weights; nothing is saved yet.

        Raises:
            RunError: the run was trained before.
        """
        path = self.program.folder / keeping.CHECKPOINT
        if regular.is_there(path):
            raise RunError(
                "this run has been trained already, wholly or in part",
                where=str(path),
                fix="go on with --resume, or prepare the model into a new folder",
            )
        if self.journal.count:  # of a training whose checkpoint somebody removed
            self.journal.resume(0, 0)
        self.arena.fill_from(self.program.source())
        self.engine.upload()

    def resume(self) -> None:
        """What the checkpoint holds.

        Raises:
            RunError: there is none, or it is another run's, or had batches of another size.
        """
        path = self.program.folder / keeping.CHECKPOINT
        record = checkpoint.load(path, self.arena, self.program, state=True)
        size = record.get("batch_size", self.program.recipe.batch_size)
        if size != self.recipe.batch_size:
            raise RunError(
                f"the run was trained in batches of {size}, and would go on in batches of {self.recipe.batch_size}",
                where=str(path),
                fix=f"go on with --micro-batch {size}",
            )
        self.position, self.progress = Position(**record["position"]), Progress(**record["progress"])
        self.engine.upload()
        state = record.get("update", {})
        if record.get("precision") != self.execution.precision:  # a scale is one precision's
            state = {name: value for name, value in state.items() if name in ("done", "skipped")}
        self.engine.updates.restore(state, self.position.step)
        self.journal.resume(self.position.step, min(record["events"], self.journal.count), **self.execution.record())

    def enter(self, phase: Phase, first: float) -> None:
        """Prunes, in a sparse phase to its *first* sparsity; in a dense one the pruned weights are simply free again.

        They begin there with 0.0.  Where the file's zeros are kept, these are pruned in both.
        """
        self.progress = Progress()
        if self.pruner.is_masked(phase):
            self._prune(phase, first)

    def prune_further(self, phase: Phase, steps: int) -> None:
        """New masks where the sparsity of *phase*, of *steps* updates, rises with the update that comes now."""
        step = self.position.phase_step
        if isinstance(phase.sparsity, Rise) and step:
            now = sparsity(phase, step, steps=steps)
            if now != sparsity(phase, step - 1, steps=steps):
                self._prune(phase, now)
                self.journal.write("masks", self.position.step, phase=self.position.phase + 1, sparsity=now)

    def _prune(self, phase: Phase, wanted: float) -> None:
        self.engine.download()
        self.pruner.prune(self.arena, phase, wanted)
        self.engine.upload()

    def collect(self, culprit: Callable[[], str] | None = None) -> None:
        """Adds the losses of the steps that are done to the progress; see :meth:`Pending.collect`."""
        self.pending.collect(self.progress, self.position.phase + 1, culprit)

    def save(self) -> None:
        """The checkpoint, unless the weights went bad: then the last good one stays.

        Raises:
            DivergedError: losses or weights are not finite.
        """
        self.collect()
        self.engine.download()
        bad = next((name for name, value in self.arena.moving().items() if not np.isfinite(value).all()), None)
        if bad is not None:
            raise bad_weights(bad, self.position.step)
        if self.ranks.size > 1:
            step = f"the weights after update {self.position.step}, as processors of two kinds compute them"
            refuse_what_differs(self.ranks, **{step: zlib.crc32(self.arena.weights.view(np.uint8).data)})
        self.saved_at = time.monotonic()
        if self.ranks.rank:
            return
        record = {
            "program": self.program.digest,
            "position": asdict(self.position),
            "progress": asdict(self.progress),
            "events": self.journal.count,
            "precision": self.execution.precision,
            "on_nan": self.execution.on_nan,
            "batch_size": self.recipe.batch_size,
            "update": self.engine.updates.state(),
        }
        self.journal.sync()
        checkpoint.save(self.program.folder / keeping.CHECKPOINT, self.arena, record, keep=self.keep)

    def save_weights(self, phase: Phase, metrics: dict[str, float], *, best: bool = False) -> None:
        """Weights and statistics of *phase*, with what they measured: at its end, or of its *best* epoch so far."""
        regular.require(self.program.folder, self.program.folder / "phases", kind=stat.S_IFDIR)
        path = keeping.weights_file(self.program.folder, self.position.phase, phase.kind, best=best)
        if self.ranks.rank:
            return
        self.engine.download(training=False)
        checkpoint.save(path, self.arena, {"program": self.program.digest, "metrics": metrics}, training=False)

    def _tell_note(self, text: str) -> None:
        self.journal.tell({"event": "note", "text": text})
