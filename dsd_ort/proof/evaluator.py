"""A graph in ONNX's reference evaluator, operator by operator in NumPy, in float64 or on complex numbers.

On numbers x + iε·d with a tiny ε, a loss L comes out as L(x) + iε·⟨∇L, d⟩: the slope along d to the last digits, with
no step to choose and no difference to round (the complex step; Squire and Trapp, SIAM Review 40, 1998).  It holds of
operators that are analytic, or are so piece by piece and choose by the real part; those of NumPy that are not are
written out in :mod:`~dsd_ort.proof.analytic`, and whatever drops an imaginary part is refused.

Values are let go of behind their last reader, inputs made wide when they are read, and outputs made narrow, where that
is wished, when nothing else reads them: a run holds no more than it has to, however many weights there are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from dsd_ort.proof import analytic
from dsd_ort.rewrite.flow import cut_to

Array = npt.NDArray[Any]
Lazy = Callable[[], Array]
WIDE, COMPLEX = np.dtype(np.float64), np.dtype(np.complex128)


class TooSlow(Exception):  # noqa: N818 - it is no error
    """One evaluation takes longer than it may."""


class NotAnalytic(Exception):  # noqa: N818 - it is no error
    """An operator has dropped an imaginary part."""


class Evaluator:
    """*outputs* of a *graph* in its own precision, with operators of our *own* where the evaluator's do not serve.

    They come as numbers of the type *kept*, if there is one.
    """

    def __init__(
        self,
        graph: onnx.ModelProto,
        outputs: Sequence[str],
        own: Sequence[type[OpRun]],
        dtype: type = np.float64,
        kept: type | None = None,
    ) -> None:
        self.dtype, self.kept = dtype, kept
        graph = ir.to_proto(cut_to(ir.from_proto(graph), outputs))  # what nobody reads costs time too
        narrow = onnx.TensorProto.FLOAT
        self.narrow = {v.name: v.type.tensor_type.elem_type == narrow for v in graph.graph.input}
        """Input → whether it is read in float32."""
        self.outputs, self.deadline = list(outputs), math.inf
        self._evaluator = ReferenceEvaluator(graph, new_ops=[*own])
        self._last = _last_readers(graph.graph)
        for evaluator in _with_inner(self._evaluator):
            for node in evaluator.rt_nodes_:
                node.run = self._watched(node, node.run)

    def __call__(self, inputs: Mapping[str, Array | Lazy], *, limit: float = math.inf) -> list[Array]:
        """The outputs for *inputs*, of which those that the graph does not have are left out; a function makes one.

        Raises:
            TooSlow: it takes more than *limit* seconds.
            NotAnalytic: inputs are complex, and an operator makes real numbers of them.
        """
        self.deadline = time.monotonic() + limit
        known: dict[str, Any] = {"": None, **self._evaluator.rt_inits_}
        for name, value in inputs.items():
            if name in self.narrow:
                known[name] = value if self.narrow[name] or callable(value) else partial(self._made, value)
        with np.errstate(all="ignore"):
            for number, node in enumerate(self._evaluator.rt_nodes_):
                given = [_value(known[name]) for name in node.input]
                context = {"context": {k: _value(v) for k, v in known.items()}} if node.need_context() else {}
                known |= zip(node.output, node.run(*given, **context), strict=False)
                for name in self._last.get(number, ()):
                    if name not in self.outputs:
                        known.pop(name, None)
                    elif self.kept is not None:
                        known[name] = np.asarray(_value(known[name]), self.kept)
        return [_value(known[name]) for name in self.outputs]

    def _made(self, array: Array) -> Array:
        return array.astype(self.dtype) if array.dtype.kind == "f" else array

    def _watched(self, node: Any, run: Any) -> Any:
        """The node's own *run*, on time, and on complex numbers as it has to be."""
        kind = node.op_type
        of_complex = analytic.OPERATORS.get(kind)

        def watched(*inputs: Any, **context: Any) -> Any:
            if time.monotonic() > self.deadline:
                raise TooSlow
            if not any(_is(x, COMPLEX) for x in inputs):
                return run(*inputs, **context)
            if kind in analytic.CHOOSING:
                return run(*(x.real if _is(x, COMPLEX) else x for x in inputs), **context)
            if kind in analytic.UNKNOWN:
                raise NotAnalytic(kind)
            inputs = tuple(x.astype(COMPLEX) if _is(x, WIDE) else x for x in inputs)
            found = run(*inputs, **context) if of_complex is None else of_complex(node, *inputs)
            if any(getattr(y, "dtype", COMPLEX).kind == "f" for y in found):
                raise NotAnalytic(kind)
            return found

        return watched


def _is(value: Any, dtype: np.dtype[Any]) -> bool:
    return getattr(value, "dtype", None) == dtype


def _value(value: Any) -> Any:
    return value() if callable(value) else value


def _with_inner(evaluator: Any) -> list[Any]:
    """*evaluator*, and those of the bodies of its nodes; a node may know the one that it is in."""
    found = [evaluator]
    for known in found:
        bodies = (body for node in known.rt_nodes_ for body in vars(node).values())
        found += [body for body in bodies if isinstance(body, ReferenceEvaluator) and body not in found]
    return found


def _last_readers(graph: onnx.GraphProto) -> dict[int, list[str]]:
    """Number of a node of the main graph → the values that no node behind it reads."""
    last: dict[str, int] = {}
    for number, node in enumerate(graph.node):
        for name in (*node.output, *_read(node)):
            last[name] = number
    found: dict[int, list[str]] = {}
    for name, number in last.items():
        if name:
            found.setdefault(number, []).append(name)
    return found


def _read(node: onnx.NodeProto) -> Iterator[str]:
    """The names that *node* reads, and what is inside of it."""
    yield from node.input
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            for inner in body.node:
                yield from _read(inner)
            yield from (value.name for value in body.output)
