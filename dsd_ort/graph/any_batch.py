"""A batch of any size, whether the file fixes it, or says that it does not and holds one all the same.

Where the operators do not show it by themselves (:mod:`dsd_ort.graph.row_by_row`), two batches of different size are
run, on made-up input.  A size that the file fixes or holds is freed
(:mod:`dsd_ort.graph.batch_size`), and the result compared with the file: the weights are read for it, and three batches
computed.  What cannot be freed is refused, with the node, unless the recipe's batch size is the file's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import onnx_ir as ir

from dsd_ort.errors import UnsupportedError
from dsd_ort.graph import batch_size, batch_statistics, declared, row_by_row, trial
from dsd_ort.graph.legalize import to_supported
from dsd_ort.model.source import Source
from dsd_ort.notes import Note
from dsd_ort.recipe import Recipe
from dsd_ort.rewrite.fold import fold
from dsd_ort.rewrite.nodes import constant_value
from dsd_ort.rewrite.shapes import dims_of

_FEW, _MANY = 2, 4
"""Both even: there are models that take pairs."""
_HELD = 64
"""The greatest batch size that is looked for in a file."""
_HOLDS = {"Reshape", "Expand"}
"""Operators whose second input may hold a batch size."""


class AnyBatch(NamedTuple):
    """A model that takes a batch of any size."""

    model: ir.Model
    ends: Mapping[str, int]
    """Output → its axis of the batch, as far as known."""
    notes: tuple[Note, ...] = ()
    held: int | None = None
    """The batch size that the file holds, where it says that it takes any."""


def with_any_batch(model: ir.Model, source: Source, recipe: Recipe) -> AnyBatch:
    """*model*, changed, a training copy of *source* whose data inputs have the batch first, with a symbolic one.

    Raises:
        UnsupportedError: a batch size that is fixed and is not the recipe's.
    """
    data = _data(model, source)
    if (size := batch_size.fixed_batch(data)) is not None:
        return _freed(model, source, recipe, size)
    batches = {shape[0] for value in data if (shape := dims_of(value)) and isinstance(shape[0], str | None)}
    if batches and row_by_row.keeps_rows(model, data):
        return AnyBatch(model, dict.fromkeys((str(value.name) for value in model.graph.outputs), 0))
    if not batches or (tried := trial.opened(model, source)) is None:
        return AnyBatch(model, _named(model, batches))
    few, many = tried(_FEW), tried(_MANY)
    notes = tuple(declared.corrected(model, {name: found.ndim for name, found in (few or {}).items()}))
    if few is None or many is None:
        found = tried.error, tried.where
        held = _FEW if few is not None else next((k for k in _held(model) if tried(k) is not None), None)
    else:
        ends = _named(model, batches) | trial.following(few, many, _FEW, _MANY)
        held = 1 if any(_stays(few[name], many[name]) for name in few.keys() - ends.keys()) else None
        found = "an output has one row, whatever is given", ""
    if held is None:
        return AnyBatch(model, ends if few and many else _named(model, batches), notes)
    return _mended(model, source, recipe, held, found)


def _mended(model: ir.Model, source: Source, recipe: Recipe, k: int, found: tuple[str, str]) -> AnyBatch:
    """*model*, whose inputs say that any batch will do, as if only *k* would; *found*: what another does, and where."""
    why, where = found
    for value in _data(model, source):
        if value.shape is not None and not isinstance(value.shape[0], int):
            value.shape = ir.Shape([k, *value.shape[1:]])
    says = f"the file says that it takes any batch, and holds a batch of {k}"
    try:
        freed = _freed(model, source, recipe, k)
    except UnsupportedError as error:
        raise UnsupportedError(f"{says}: {why}", where=where or error.where, fix=error.fix) from error
    words = f"{says} ({why}); it is trained and measured with any, and ships as it was"
    return freed._replace(notes=(Note(kind="file", words=words),), held=k)


def _freed(model: ir.Model, source: Source, recipe: Recipe, k: int) -> AnyBatch:
    """*model*, whose batch size is *k*, with a symbolic one; as it is, where that cannot be and the recipe's is k."""
    static = model.clone()
    try:
        for norm in batch_statistics.places(source):
            raise UnsupportedError(
                f"the batch size is fixed at {k}, and {norm} normalises by the batch: another gives something else",
                where=norm,
                fix=batch_size.fix(k),
            )
        fold(model, shapes=False)
        model = to_supported(model)
        data = [value for value in _data(model, source) if value.shape is not None and value.shape[0] == k]
        names = {str(value.name) for value in data}
        ends = batch_size.free(model, data, k)
        if not _same(static, model, source, k, ends, batched=names):
            raise UnsupportedError(
                f"the batch size is fixed at {k}, and with another the model computes something else",
                where=str(source.path),
                fix=batch_size.fix(k),
            )
    except UnsupportedError:
        if recipe.batch_size == k:
            return AnyBatch(static, {})
        raise
    return AnyBatch(model, ends)


def _same(
    static: ir.Model, freed: ir.Model, source: Source, k: int, ends: Mapping[str, int], *, batched: Collection[str]
) -> bool:
    """Whether *freed* computes from 2 · *k* examples what *static* does from twice k, on random numbers.

    Args:
        static: the model with the batch size k.
        freed: what became of it.
        source: it is a copy of this one.
        k: its batch size.
        ends: output → its axis of the batch.
        batched: the inputs that have the batch.
    """
    weights = trial.weights_of(source)
    once, both = trial.opened(static, source, weights), trial.opened(freed, source, weights)
    if once is None or both is None or once(k) is None:
        return False
    both.sizes = once.sizes
    data = trial.drawn(both, 2 * k)
    parts = [{n: a[part] if n in batched else a for n, a in data.items()} for part in (slice(k), slice(k, None))]
    return trial.agree(both.run(data), [once.run(part) for part in parts], ends)


def _data(model: ir.Model, source: Source) -> list[ir.Value]:
    """The inputs that have an example's part for each example."""
    own = {p.name for p in (*source.parameters, *source.statistics)}
    values = (value for value in model.graph.inputs if value.name not in own)
    return [value for value in values if value.shape is not None and value.shape.rank()]


def _named(model: ir.Model, batches: set[str | None]) -> dict[str, int]:
    """Output → the axis that is called like the batch of an input."""
    names = {name for name in batches if isinstance(name, str)}
    places = {str(value.name): _places(dims_of(value) or (), names) for value in model.graph.outputs}
    return {name: axes[0] for name, axes in places.items() if axes}


def _places(shape: Sequence[int | str | None], names: set[str]) -> list[int]:
    return [axis for axis, size in enumerate(shape) if size in names]


def _stays(few: trial.Array, many: trial.Array) -> bool:
    """Whether an output has one row for some examples, and one for more."""
    return few.shape[:1] == many.shape[:1] == (1,)


def _held(model: ir.Model) -> list[int]:
    """Batch sizes that the model may hold: 1, and what its targets begin with."""
    nodes = (node for node in model.graph.all_nodes() if node.op_type in _HOLDS and len(node.inputs) > 1)
    targets = (constant_value(node.inputs[1]) for node in nodes)
    first = {int(target[0]) for target in targets if target is not None and target.ndim == 1 and target.size}
    return [1, *sorted(first & {*range(2, _HELD + 1)})]
