"""Executes a Program's graphs over an arena: step and update, on the CPU or on a GPU.

Nothing is copied between them: sessions read parameters and write gradients where they stand in the flat buffers,
through I/O binding.  The step graph never writes over what it reads, so new statistics go to a second buffer.

On a GPU the host only queues: a step returns before it is done, and what it leaves behind stays on the device until
somebody asks for it (:mod:`dsd_ort.run.step_results`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial

import numpy as np
import onnx_ir as ir

from dsd_ort import runtime
from dsd_ort.device.lower.dropout import SEED, seed_numbers
from dsd_ort.device.narrow import Left, channels_left, narrow
from dsd_ort.errors import RunError
from dsd_ort.graph import masks
from dsd_ort.graph.momenta import momentum
from dsd_ort.graph.program import Program
from dsd_ort.recipe import Recipe
from dsd_ort.run import diagnose, memory
from dsd_ort.run.arena import Arena, Array, aligned_zeros, view
from dsd_ort.run.execution import Execution
from dsd_ort.run.memory import Arrays, Buffer, Sent, Tensor, at, cell
from dsd_ort.run.metrics import weight_of
from dsd_ort.run.pieces import threads
from dsd_ort.run.ranks import Alone, Ranks
from dsd_ort.run.sessions import Graph, Opened, trained
from dsd_ort.run.step_results import Buffers, HostCollector, new_collector
from dsd_ort.run.updates import new_update


class Engine:
    """Sessions bound to one arena.

    Args:
        program: what to run.
        arena: its buffers; they may not be reallocated afterwards.
        execution: on what, and how.
        ranks: the processes that share the batches of an update.
        recipe: by default the program's; one with other batches takes as many examples an update.
        tell: see :class:`dsd_ort.run.sessions.Graph`.

    Raises:
        RunError: an update takes several batches, and the step graph does not say how its statistics follow them.
    """

    def __init__(
        self,
        program: Program,
        arena: Arena,
        execution: Execution | None = None,
        *,
        ranks: Ranks | None = None,
        recipe: Recipe | None = None,
        tell: Callable[[str], None] = lambda note: None,
    ) -> None:
        self.program, self.arena, self.execution, self.tell = program, arena, execution or Execution(), tell
        self.ranks, self.recipe = ranks or Alone(), recipe or program.recipe
        self.memory = memory.of(self.execution.device)
        new = self.memory.buffer
        self.weights, self.gradients = new(arena.weights), new(arena.gradients)
        self.slots = {name: new(slot) for name, slot in arena.slots.items()}
        self.statistics, self.next_statistics = new(arena.statistics), new(arena.next_statistics)
        self.loss = new(aligned_zeros(1))
        several = self.recipe.optimizer.accumulate > 1
        total = new(aligned_zeros(arena.gradients.size)) if several else self.gradients
        self.total = total
        momenta = new(self._momenta() if several else aligned_zeros(0))
        written = Buffers(self.loss, self.gradients, total, self.statistics, self.next_statistics, momenta)
        self.collector = new_collector(written, self.execution, self.memory, self.ranks)
        updated = {"weight": self.weights, "gradient": total, **self.slots}
        self.updates = new_update(program, arena.segments(), updated, self.execution, self.memory)
        self._graphs: dict[str, Graph] = {}
        self._left: Left = {}
        self._batch, self._staged = Sent({}), dict[str, Tensor]()

    def step(self, batch: Arrays, *, sparse: bool, seed: int) -> float:
        """Forward and backward of one batch: gradients into the arena, new statistics, the loss returned.

        With a loss that is not finite, statistics stay as they were.

        Args:
            batch: the model's inputs and labels.
            sparse: whether the masks are in the graph.
            seed: of the dropout masks.
        """
        self.queue(batch, sparse=sparse, seed=seed)
        return self.losses()[-1]

    def leave(self, batch: Sent, *, sparse: bool, seed: int) -> tuple[float, float]:
        """:meth:`step` of one rank's batch: its loss and weight, with which :meth:`put_together` is to be called."""
        assert isinstance(self.collector, HostCollector)
        self._run(batch, sparse=sparse, seed=seed)
        weight = self._weight()
        return self.collector.leave(weight), weight

    def put_together(self, done: Sequence[tuple[float, float]]) -> None:
        """On every rank, what :meth:`leave` gave on the first of them, in their order."""
        assert isinstance(self.collector, HostCollector)
        self.collector.put_together(done)

    def queue(self, batch: Arrays | Sent | None, *, sparse: bool, seed: int) -> None:
        """:meth:`step`, but a GPU may still be at it, and :meth:`losses` tells its loss.

        *batch* may have been sent ahead: ``memory.send(batch)``; None is the one before once more, where it is.
        """
        self._run(batch, sparse=sparse, seed=seed)
        self.collector.take(self._weight())

    def _weight(self) -> float:
        """Of the batch in an update of several: what its loss is the mean over, for each example of a whole batch.

        Where the recipe has several losses, what the first one is the mean over.
        """
        optimizer, loss = self.recipe.optimizer, self.recipe.losses[0]
        if optimizer.accumulate == 1 or loss.label not in self._batch.arrays:
            return 1.0
        return weight_of(loss, self._batch.arrays[loss.label]) / self.recipe.batch_size

    def _run(self, batch: Arrays | Sent | None, *, sparse: bool, seed: int) -> None:
        if batch is not None:
            self._batch = batch if isinstance(batch, Sent) else self.memory.send(batch)
            self._staged = self.memory.stage(self._batch)
        opened = self._graph("sparse" if sparse else "step")({name: t.shape for name, t in self._staged.items()})
        runtime.seed(seed)
        for name, tensor in self._staged.items():
            opened.read(name, tensor)
        if SEED in opened.inputs:
            opened.read(SEED, self.memory.give(SEED, seed_numbers(seed)))
        opened.run(where="the training graph")

    def expect(self, *, same_masks: bool) -> None:
        """What comes: steps under the masks that the arena has now, or under others too.

        On the CPU convolutions are then computed without the channels that these leave empty.  Which ones depends on
        the masks alone, so a resumed run does the same.
        """
        kernels = [piece for piece in self.arena.prunable if piece.role == "kernel"] if same_masks else []
        masks_of = {piece.name: view(self.arena.masks, piece) for piece in kernels} if self.execution.on_cpu else {}
        left, now = channels_left(masks_of), self._left
        if left.keys() != now.keys() or not all(np.array_equal(left[name], now[name]) for name in left):
            self._graphs.pop("sparse", None)
            self._left = left

    def losses(self) -> list[float]:
        """Those of the steps since the last call, in their order."""
        return self.collector.losses()

    def update(self, learning_rate: float, step: int) -> None:
        """One update with the gradient of the mean over all examples since the last one; *step* is 1 for the first."""
        self.collector.finish()
        self.updates.run(learning_rate, step, self.collector.weight)
        self.collector.weight = 0.0

    def silent(self, names: frozenset[str] | None) -> frozenset[str]:
        """Those of *names*, by default all, whose gradients in the last update were zero; none on a GPU.

        Of a few that learn nothing, each call looks at their gradients, and of the others at none.
        """
        if names is None:
            return frozenset(p.name for p in self.arena.trained if p.size) if self.execution.on_cpu else frozenset()
        found = ((p, view(self.total.host, p)) for p in self.arena.trained if p.name in names) if names else ()
        return frozenset(piece.name for piece, gradient in found if not gradient.any())

    def upload(self) -> None:
        """What the arena holds, to the device; other masks may be among it."""
        self.expect(same_masks=False)
        pruned = () if self.arena.unmasked else (self.masks,)
        for buffer in (self.weights, *pruned, self.statistics, *self.slots.values()):
            buffer.upload()

    def download(self, *, training: bool = True) -> None:
        """What the device holds, to the arena: weights and statistics, with *training* also the slots."""
        for buffer in (self.weights, self.statistics, *(self.slots.values() if training else ())):
            buffer.download()

    def values(self) -> dict[str, Tensor]:
        """All parameters and statistics by name, where the device has them."""
        named = {piece.name: at(self.weights, piece) for piece in self.arena.trained}
        return (
            self._frozen[1] | named | {piece.name: at(self.statistics, piece) for piece in self.arena.statistic_slices}
        )

    def _momenta(self) -> Array:
        """How much of each running statistic a step keeps, f32 of the buffer's size."""
        found = aligned_zeros(self.arena.statistics.size)
        moving = [piece for piece in self.arena.statistic_slices if piece.successor]
        if moving:
            path = self.program.graph_path("step")
            model = ir.load(path)
        for piece in moving:
            kept = momentum(model, piece.name, piece.successor)
            if kept is None:
                raise RunError(
                    f"the statistic {piece.name!r} follows the batches in a way that those of one update cannot share",
                    where=str(path),
                    fix='set optimizer.accumulate = 1, or batch_norm = "frozen", and prepare the model anew',
                )
            view(found, piece)[...] = kept
        return found

    @cached_property
    def masks(self) -> Buffer:
        """Those that the arena has.  No dense step reads them, so that until a sparse one does they take no memory."""
        return self.memory.buffer(self.arena.masks)

    @cached_property
    def _frozen(self) -> tuple[Arrays, dict[str, Tensor]]:
        """The arena's arrays, which the sessions keep reading, and where the device has them."""
        return self.arena.frozen, self.memory.place(self.arena.frozen)

    def first_bad_tensor(self, batch: Arrays, *, seed: int) -> str:
        """Names the first tensor, in the order of computation, that is not finite in the step that was just done."""
        for name, array in batch.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                return f"the data's array {name!r}"
        self.download(training=False)
        for name, value in self.arena.moving().items():
            if not np.isfinite(value).all():
                return f"the weight {name!r}"
        runtime.seed(seed)
        return diagnose.first_bad_value(self.program, {**self.arena.values(), **batch}, self.execution.threads)

    def _graph(self, name: str) -> Graph:
        """The sessions of a step graph; on a GPU those of the other one are closed, as their memory is wanted."""
        if name not in self._graphs:
            if not self.execution.on_cpu:
                self._graphs.clear()
            self._graphs[name] = Graph(
                lambda: self._load(name),
                partial(trained, loss=self.program.manifest.step_loss),
                self._bind,
                execution=self.execution,
                memory=self.memory,
                where=str(self.program.folder / "graphs" / f"{name}.onnx"),
                tell=self.tell,
                ordered=True,
                # Threads that go on looking for work would keep those of the update from theirs.
                resting=threads(self.execution, self.arena.weights.size) > 1,
            )
        return self._graphs[name]

    def _load(self, name: str) -> ir.Model:
        model = ir.from_proto(self.program.graph(name))
        if name == "sparse" and self._left:
            masks.strip_weights(model)  # the arena's weights are masked already
            narrow(model, self._left)
        return model

    def _bind(self, opened: Opened) -> None:
        """All but the batch."""
        arena = self.arena
        inputs = self.values() | self.updates.step_inputs()
        of_masks = {masks.mask_name(piece.name): piece for piece in arena.prunable}
        inputs |= {name: at(self.masks, piece) for name, piece in of_masks.items() if name in opened.inputs}
        for name, tensor in inputs.items():
            opened.read(name, tensor)
        for piece in arena.trained:
            opened.write(piece.successor, at(self.gradients, piece))
        for piece in arena.statistic_slices:
            old, new = at(self.statistics, piece), at(self.next_statistics, piece)
            if piece.successor:
                opened.write(piece.successor, new)
            else:
                self.memory.copy(new.address, old.address, piece.size)
        opened.write(self.program.manifest.step_loss, cell(self.loss))
