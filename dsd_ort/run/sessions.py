"""Sessions of a prepared graph, in the form that this device and this ONNX Runtime are fastest in.

Prepared graphs are portable: float32, symbolic sizes, masks on weights and gradients.  What a machine wants is done to
them when a session opens, each step a rewrite of :mod:`dsd_ort.device`; the run folder stays as it is::

    masks.strip_weights ─ forms.for_session ─ mixed.mix ─ unroll ─ session

On the CPU one session serves batches of all shapes.  On CUDA each shape has its own, in which no size is left to be
computed: nothing of it runs on the CPU, cuDNN's choice of algorithms holds, and the kernels can be recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeAlias

import onnx_ir as ir

from dsd_ort import runtime
from dsd_ort.device import determinism, forms
from dsd_ort.device.mixed import mix, scale_loss
from dsd_ort.device.ordered import fused
from dsd_ort.device.recording import obstacles
from dsd_ort.device.unroll import unroll
from dsd_ort.errors import ModelError
from dsd_ort.graph import masks
from dsd_ort.run.execution import Execution
from dsd_ort.run.memory import Memory, Tensor
from dsd_ort.runtime.device import Device

log = logging.getLogger(__name__)

Shapes: TypeAlias = "dict[str, tuple[int, ...]]"

LARGE = 5000
"""Nodes: from here on opening a session takes seconds."""
SHAPES = 8
"""Shapes of batch that have sessions of their own on CUDA; all others share one that computes sizes as it goes."""


class Opened:
    """A session with a binding of its own.

    Args:
        session: an ``InferenceSession``.
        device: whose tensors are bound.
        recorded: whether CUDA records the first run, and replays it.
        number: of this binding among those of the session, each of which is recorded for itself.
    """

    def __init__(self, session: Any, device: Device, *, recorded: bool = False, number: int = 1) -> None:
        self.session, self.device, self.recorded, self.number = session, device, recorded, number
        self.binding = session.io_binding()
        self.inputs = {value.name for value in session.get_inputs()}
        self.outputs = {value.name for value in session.get_outputs()}
        self.options = runtime.run_options({} if device.kind == "cpu" else self._entries())

    def _entries(self) -> dict[str, str]:
        queued = {"disable_synchronize_execution_providers": "1"}
        return queued | ({"gpu_graph_id": str(self.number)} if self.recorded else {})

    def again(self) -> Opened:
        """Another binding of the same session."""
        return Opened(self.session, self.device, recorded=self.recorded, number=self.number + 1)

    def read(self, name: str, tensor: Tensor) -> None:
        """Binds an input to *tensor*; nothing if there is no such input."""
        if name in self.inputs:
            place = (self.device.kind, self.device.index)
            self.binding.bind_input(name, *place, tensor.dtype, tensor.shape, tensor.address)

    def write(self, name: str, tensor: Tensor) -> None:
        """Binds an output to *tensor*."""
        place = (self.device.kind, self.device.index)
        self.binding.bind_output(name, *place, tensor.dtype, tensor.shape, tensor.address)

    def run(self, *, where: str) -> None:
        """Runs on what is bound; on a GPU this returns before it is done.

        Raises:
            DataError: as :func:`dsd_ort.runtime.run`.
        """
        runtime.run(self.session, self.binding, where=where, options=self.options)


class Graph:
    """The sessions of one graph.

    Args:
        load: makes the prepared graph.
        rewrite: :func:`trained` or :func:`evaluated`.
        bind: binds all that stays the same from batch to batch.
        execution: for what.
        memory: of its device.
        where: for messages.
        tell: is told what takes long, and what keeps it from repeating to the bit, if that was asked for.
        ordered: whether its nodes run in the order of the file also where ONNX Runtime fuses them, on the CPU.
        resting: see :func:`dsd_ort.runtime.session_options`.
    """

    def __init__(
        self,
        load: Callable[[], ir.Model],
        rewrite: Callable[[ir.Model, Execution, Shapes], list[str]],
        bind: Callable[[Opened], None],
        *,
        execution: Execution,
        memory: Memory,
        where: str,
        tell: Callable[[str], None] = lambda note: None,
        ordered: bool = False,
        resting: bool = False,
    ) -> None:
        self.load, self.rewrite, self.bind, self.tell, self.resting = load, rewrite, bind, tell, resting
        self.ordered = ordered and execution.on_cpu
        self.execution, self.memory, self.where = execution, memory, where
        self._opened: dict[tuple[tuple[str, tuple[int, ...]], ...], Opened] = {}

    def __call__(self, shapes: Shapes) -> Opened:
        """The session for batches of *shapes*, opened at the first of them."""
        key = () if self.execution.on_cpu else tuple(sorted(shapes.items()))
        if key not in self._opened and len(self._opened) >= SHAPES:
            key = ()
            if key not in self._opened:
                self.tell(
                    f"batches of more than {SHAPES} shapes: the others train slowly; data.pad_to makes them fewer"
                )
        if key not in self._opened:
            opened = self._open(dict(key))
            self.bind(opened)
            self._opened[key] = opened
        return self._opened[key]

    def _open(self, shapes: Shapes) -> Opened:
        model = self.load()
        for note in self.rewrite(model, self.execution, shapes):
            log.debug("%s: %s", self.where, note)
        if self.execution.deterministic:
            for note in determinism.nondeterministic(model, self.execution.device.kind):
                self.tell(f"does not repeat to the bit: {note}")
        if len(model.graph) > LARGE:
            self.tell(
                f"a graph of {len(model.graph):,} nodes is opened for a new shape of batch; that takes a while, once"
            )
        recorded = bool(shapes) and self.execution.records
        if recorded and (reasons := obstacles(model)):
            recorded = False
            log.debug("%s: not recorded: %s", self.where, "; ".join(reasons))
        proto, kept = ir.to_proto(model), (self.execution, self.memory)
        try:
            made = fused(proto) if self.ordered else None
            return open_session(
                proto if made is None else made,
                *kept,
                where=self.where,
                recorded=recorded,
                resting=self.resting,
                optimized=made is None,
            )
        except ModelError:
            if not recorded:
                raise
            self.tell("the step is not recorded, as the CPU computes what CUDA has no kernels for in it")
            return open_session(proto, *kept, where=self.where)


def trained(model: ir.Model, execution: Execution, shapes: Shapes, *, loss: str) -> list[str]:
    """A step graph for *execution*, in place; what was done, in lines.

    Args:
        model: as it was prepared.
        execution: for what.
        shapes: of the batch; none if they are left symbolic.
        loss: its output that was differentiated.
    """
    device = execution.device.kind
    masks.strip_weights(model)  # the arena's weights are masked already
    if execution.mixed:
        scale_loss(model, loss)
    notes = [*forms.for_session(model, device, shapes, deterministic=execution.deterministic)]
    if execution.precision in ("fp16", "bf16"):
        notes += mix(model, execution.precision, device)
    return notes if execution.on_cpu else [*notes, *unroll(model)]


def evaluated(model: ir.Model, execution: Execution, shapes: Shapes) -> list[str]:
    """The evaluate graph: what ships, as it is; only CUDA wants another form of what it has no kernels for."""
    if execution.on_cpu:
        return []
    notes = forms.for_session(model, execution.device.kind, shapes, deterministic=execution.deterministic)
    return [*notes, *unroll(model)]


def open_session(
    model: Any,
    execution: Execution,
    memory: Memory,
    *,
    where: str,
    recorded: bool = False,
    threads: int | None = None,
    resting: bool = False,
    optimized: bool = True,
) -> Opened:
    """A session of *model*, as *execution* says, and an empty binding."""
    threads = execution.threads if threads is None else threads
    options = runtime.session_options(threads, resting=resting, optimized=optimized)
    options.use_deterministic_compute = execution.deterministic
    provider: dict[str, str] = {}
    if not execution.on_cpu:
        provider = {
            **memory.provider_options,
            "use_tf32": str(int(execution.precision != "fp32")),
            "cudnn_conv_algo_search": "DEFAULT" if execution.deterministic else "EXHAUSTIVE",
            "cudnn_conv_use_max_workspace": "1",
            "arena_extend_strategy": "kSameAsRequested",
            "enable_cuda_graph": str(int(recorded)),
        }
    session = runtime.session(model, options, where=where, device=execution.device, provider_options=provider)
    return Opened(session, execution.device, recorded=recorded)
