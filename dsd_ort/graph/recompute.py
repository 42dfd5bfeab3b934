"""Forward values that gradients read, computed again on the way back instead of kept until then.

Let R be the values of the forward pass that the backward pass reads.  Of each setting, what is kept:

``none``    R.
``cheap``   R without what operators of about one pass over memory compute from other values that are kept.
``blocks``  the forward pass is cut into k blocks where few bytes are alive (Chen et al. 2016, arXiv 1604.06174).  Kept
            are the values that cross a cut, and R of the last block; the others are computed again, block by block.
            Of n equal layers that is about k + n/k values, least at k = √n, for the time of one more forward pass.

Requires a sorted step graph.  Ensures the same outputs, to the bit.  What is computed again is computed by copies of
nodes that read what is kept through a barrier, so that none runs before the way back has come to it, or is merged with
its original::

    x' = Reshape(x, Size(d) · [0, …, 0])        x itself, as soon as the gradient d is there: a 0 stands for x's length

Dropout is not drawn again, nor are a batch's statistics computed again (:data:`FROM_RESULTS`).  Nodes with bodies are
not copied; what bodies read is kept, and so are numbers and vectors.

So that ONNX Runtime fuses in the forward pass what it fused when the backward pass read its values, and no more, the
barriers read the size of each value that is not kept.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Sequence
from itertools import accumulate
from math import isqrt, prod
from typing import NamedTuple

import onnx_ir as ir

from dsd_ort.graph.differentiate.step_graph import seeds
from dsd_ort.recipe.names import RecomputeName
from dsd_ort.rewrite.flow import behind
from dsd_ort.rewrite.names import Names
from dsd_ort.rewrite.nodes import Nodes
from dsd_ort.rewrite.operators import Does, facts, key
from dsd_ort.rewrite.parts import bodies, inner_nodes, reads

LEAST = 1 << 18
"""Bytes, with :data:`OPEN`: less is kept, as a node takes some microseconds however little it computes."""
OPEN = 32
"""What a length that the graph leaves open counts as."""


def recompute(model: ir.Model, gradients: Collection[str], loss: str, how: RecomputeName) -> None:
    """Does what the module says, in place.

    Args:
        model: a step graph.
        gradients: the names of those of its outputs that are gradients; the others belong to the forward pass.
        loss: the name of the output that was differentiated.
        how: what is kept.
    """
    if how == "none":
        return
    graph = model.graph
    passes = _passes(graph, gradients)
    seed = set(seeds(graph, loss))
    begins = {node for node in passes.backward if not seed.isdisjoint(node.inputs)}
    gradients_of = behind(passes.backward, begins)
    kept, arrived = PLANS[how](passes) | _fixed(passes, begins), None
    again = _Again(graph, passes, kept)
    for node in passes.backward:
        for i, value in enumerate(node.inputs):
            if value in passes.read and arrived is not None and not _takes_size(node):
                node.replace_input_with(i, again(value, arrived))
        again.new.put_before(node)
        arrived = next((value for value in node.outputs if value.name and value in gradients_of), arrived)
    if again.copies:
        graph.opset_imports.setdefault("com.microsoft", 1)


class _Passes(NamedTuple):
    forward: list[ir.Node]
    backward: list[ir.Node]
    read: dict[ir.Value, int]
    """R, and about how many bytes each takes."""


def _passes(graph: ir.Graph, gradients: Collection[str]) -> _Passes:
    needed: set[ir.Value | None] = {value for value in graph.outputs if value.name not in gradients}
    forward, backward = [], []
    for node in reversed(graph):
        if needed.isdisjoint(node.outputs):
            backward.append(node)
        else:
            forward.append(node)
            needed.update(reads(node))
    forward, backward = forward[::-1], backward[::-1]
    behind_it = {node for node in backward if not _takes_size(node)}
    values = [value for node in forward for value in node.outputs if _size(value)]
    return _Passes(forward, backward, {v: _size(v) for v in values if any(use.node in behind_it for use in v.uses())})


def _fixed(passes: _Passes, begins: Collection[ir.Node]) -> set[ir.Value | None]:
    """What is kept by any plan: what bodies read, and where the way back begins there is no time to forget."""
    found: set[ir.Value | None] = {value for node in passes.backward for x in inner_nodes(node) for value in x.inputs}
    for node in passes.backward:
        found.update(node.inputs)
        if node in begins:
            break
    return found


def _takes_size(node: ir.Node) -> bool:
    """Does it read a shape alone?  ONNX Runtime runs such nodes at once, so that nothing is kept for them."""
    return key(node) in ("Shape", "Size")


def _size(value: ir.Value) -> int:
    """About how many bytes it takes; 0 for what is not worth a second computation."""
    if value.shape is None or len(value.shape) < 2 or value.dtype is None:
        return 0
    size = prod(size if isinstance(size, int) else OPEN for size in value.shape) * value.dtype.bitwidth // 8
    return size if size >= LEAST else 0


def _maker(value: ir.Value) -> ir.Node | None:
    """The node that would compute it again; None where that cannot be, or would draw other numbers."""
    node = value.producer()
    if node is None or bodies(node) or _anchor(node) is None:
        return None
    if key(node) in FROM_RESULTS:
        results = [node.outputs[i] if i < len(node.outputs) else None for i in FROM_RESULTS[key(node)].results]
        there = _anchor(node) == 0 and all(result and result.name for result in results)
        return node if there and value is node.outputs[0] else None
    return None if Does.RANDOM in facts(node).does else node


def _anchor(node: ir.Node) -> int | None:
    """The input that a copy waits with: it has a rank."""
    return next((i for i, x in enumerate(node.inputs) if x is not None and x.shape is not None), None)


def _cheap(passes: _Passes) -> set[ir.Value]:
    """What is kept so that all else in R is a cheap operator away, or several."""
    inside, there, computed = set(passes.forward), set(passes.read), set[ir.Value]()
    for node in passes.forward:
        given = (x is None or x.producer() not in inside or not _size(x) or x in there for x in node.inputs)
        if _is_cheap(node) and all(given):
            found = {value for value in node.outputs if _maker(value)}
            there |= found
            computed |= found
    return set(passes.read) - computed


def _is_cheap(node: ir.Node) -> bool:
    does = facts(node).does
    return bool(does & (Does.ENTRYWISE | Does.MOVES | Does.QUICK)) and Does.SLOW not in does


def _blocks(passes: _Passes) -> set[ir.Value]:
    """What is kept by the number of blocks, up to 2√n, for which the least is alive at once."""
    forward, read = passes.forward, passes.read
    made = {value: i for i, node in enumerate(forward) for value in node.outputs if _size(value)}
    last = {value: i for i, node in enumerate(forward) for value in reads(node) if value in made}
    change = [0] * (len(forward) + 1)
    for value, until in last.items():
        change[made[value] + 1] += _size(value)
        change[until + 1] -= _size(value)
    crossing = list(accumulate(change))  # bytes, in front of each node
    passed = list(accumulate((sum(read.get(v, 0) for v in node.outputs) for node in forward), initial=0))

    def cut(target: float, reach: float) -> int:
        low, high = (bisect_left(passed, target + side) for side in (-reach, reach))
        return min(range(low, max(high, low + 1)), key=lambda i: (crossing[i], abs(passed[i] - target)))

    def plan(count: int) -> tuple[int, set[ir.Value]]:
        part = passed[-1] / count
        cuts = sorted({cut(part * i, part / 2) for i in range(1, count)})
        block = {value: bisect_right(cuts, i) for value, i in made.items()}
        kept = {value for value, until in last.items() if block[value] < bisect_right(cuts, until)}
        inner = [0] * (len(cuts) + 1)
        for value, size in read.items():
            inner[block[value]] += 0 if value in kept else size
        return sum(map(_size, kept)) + max(inner), kept | {value for value in read if block[value] == len(cuts)}

    counts = range(1, 2 * isqrt(len(read)) + 2)
    return min((plan(count) for count in counts), key=lambda found: found[0])[1]


PLANS: dict[str, Callable[[_Passes], set[ir.Value]]] = {"cheap": _cheap, "blocks": _blocks}
"""From both passes to what is kept."""


class _Again:
    """Values computed again, each once, from those that are *kept*; what it writes is in ``new``."""

    def __init__(self, graph: ir.Graph, passes: _Passes, kept: Collection[ir.Value | None]) -> None:
        self.names, self.kept = Names(graph), kept
        self.new = Nodes("again", opset=graph.opset_imports.get("", 18), names=self.names)
        self.place = {node: i for i, node in enumerate(passes.forward)}
        self.copies: dict[ir.Value, ir.Value] = {}
        self.sizes = [self._behind(value) for value in passes.read if self._maker(value)]
        self.zeros: dict[int, ir.Value] = {}

    def __call__(self, value: ir.Value, arrived: ir.Value) -> ir.Value:
        """*value*, or a copy that is computed after *arrived*."""
        for node in self._needed(value):
            inputs = [None if x is None else self.copies.get(x, x) for x in node.inputs]
            if inputs == list(node.inputs):
                anchor = _anchor(node)
                assert anchor is not None
                inputs[anchor] = self._barrier(node.inputs[anchor], arrived)
            self._copy(node, inputs)
        return self.copies.get(value, value)

    def _behind(self, value: ir.Value) -> ir.Value:
        """Its size, right behind it."""
        size = self.new.Size(value)
        self.new.put_behind(value)
        return size

    def _maker(self, value: ir.Value) -> ir.Node | None:
        node = None if value in self.kept or not _size(value) else _maker(value)
        return node if node in self.place else None

    def _needed(self, value: ir.Value) -> list[ir.Node]:
        """The nodes that have to be copied for it, in order."""
        found, stack = set[ir.Node](), [value]
        while stack:
            x = stack.pop()
            node = None if x in self.copies else self._maker(x)
            if node is not None and node not in found:
                found.add(node)
                stack.extend(v for v in node.inputs if v is not None)
        return sorted(found, key=self.place.__getitem__)

    def _barrier(self, value: ir.Value | None, arrived: ir.Value) -> ir.Value:
        assert value is not None and value.shape is not None
        rank = len(value.shape)
        if rank not in self.zeros:
            self.zeros[rank] = self.new.Mul(self.new.Max(*self.sizes), [0] * rank)
        return _alike(self.new.Reshape(value, self.new.Mul(self.zeros[rank], self.new.Size(arrived))), value)

    def _copy(self, node: ir.Node, inputs: Sequence[ir.Value | None]) -> None:
        if key(node) in FROM_RESULTS:
            way = FROM_RESULTS[key(node)]
            y = way.write(self.new, inputs, [node.outputs[i] for i in way.results])
            self.copies[node.outputs[0]] = _alike(y, node.outputs[0])
            return
        outputs = self.new.copy(node, inputs, self.names.free("again"))
        for old, output in zip(node.outputs, outputs, strict=True):
            output.name = output.name if old.name else ""
        self.copies |= zip(node.outputs, outputs, strict=True)


class _FromResults(NamedTuple):
    results: Sequence[int]
    """Outputs of the first pass that say how its first output follows from its inputs."""
    write: Callable[[Nodes, Sequence[ir.Value | None], Sequence[ir.Value]], ir.Value]


def _masked(new: Nodes, inputs: Sequence[ir.Value | None], results: Sequence[ir.Value]) -> ir.Value:
    """Y = X · mask / (1 - ratio), which is what DropoutGrad does to a gradient."""
    x, *ratio_and_mode = inputs
    return new.op("com.microsoft.DropoutGrad", x, *results, *ratio_and_mode)


def _normalized(new: Nodes, inputs: Sequence[ir.Value | None], results: Sequence[ir.Value]) -> ir.Value:
    """Y = X · γr + (β - μ · γr), as kernels compute it, with the batch's mean μ and r = 1/√(σ² + ε)."""
    (x, gamma, beta, *_), (mean, inverse) = inputs, results
    assert x is not None and x.shape is not None
    column = [-1, *[1] * (len(x.shape) - 2)]
    scale = new.Mul(inverse, gamma)
    shift = new.Sub(beta, new.Mul(mean, scale))
    return new.Add(new.Mul(x, new.Reshape(scale, column)), new.Reshape(shift, column))


FROM_RESULTS = {
    "Dropout": _FromResults([1], _masked),
    "com.microsoft.BatchNormInternal": _FromResults([3, 4], _normalized),
}
"""Operators that are not computed again by copies, which would draw other numbers or update a statistic twice."""


def _alike(new: ir.Value, old: ir.Value) -> ir.Value:
    new.type, new.shape = old.type, old.shape
    return new
