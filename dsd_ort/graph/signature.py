"""Input that nobody gave, made up from a model's signature.

Sizes: an axis that the file fixes has its size; symbolic ones come from ladders by what they seem to be (batch, side of
an image, length of a sequence), equal names get equal sizes, and names that are sums or products (``past + 1``) are
computed.  Which rung is right, plain inference says: :func:`candidates` are tried in turn.

Values: floats are normal numbers; integers are indices within the tables that they look up, or lengths of sequences,
all or most of what there is; masks are mostly true.
"""

from __future__ import annotations

import ast
import itertools
import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dsd_ort.errors import DataError, nearest
from dsd_ort.fields import Field
from dsd_ort.rewrite.operators import Does, facts

Arrays = dict[str, npt.NDArray[np.generic]]
Shapes = dict[str, tuple[int, ...]]

LADDERS: dict[str, tuple[int, ...]] = {
    "batch": (3, 1, 2, 4),
    "channels": (3, 1, 4),
    "side": (64, 48, 224, 128, 32, 96, 256, 299, 320, 640, 512),
    "length": (8, 16, 32, 1, 5, 64, 100, 128, 256, 400, 512, 1000, 2048, 16000),
}
"""Sizes that are tried for a symbolic axis, by its kind; not the smallest first, as a pool without a window ends the
process."""
ATTEMPTS = 60
_OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.floordiv,
}


def candidates(fields: Sequence[Field], given: Mapping[str, Sequence[int]]) -> Iterator[Shapes]:
    """Shapes of all *fields*, likely ones first; *given* are those of single inputs that the user wants.

    Raises:
        DataError: *given* names no input, or does not fit it.
    """
    known = _bound(fields, given)
    kinds = {key: kind for key, kind in _kinds(fields).items() if key not in known}
    seen = set()
    for sizes in itertools.islice(_assignments(kinds), 50 * ATTEMPTS):
        shapes = {f.name: tuple(given.get(f.name) or _shape(f, {**known, **sizes})) for f in fields}
        if tuple(shapes.items()) not in seen and all(min(shape, default=1) > 0 for shape in shapes.values()):
            seen.add(tuple(shapes.items()))
            yield shapes
        if len(seen) == ATTEMPTS:
            return


def _assignments(kinds: Mapping[str, str]) -> Iterator[dict[str, int]]:
    """Sizes of the symbolic axes: the same rung for all, then for each batch anew, then any rungs."""
    longest = max((len(LADDERS[kind]) for kind in kinds.values() if kind != "batch"), default=1)
    for rung, batch in itertools.product(range(longest), LADDERS["batch"][:2]):
        yield {k: batch if kind == "batch" else _rung(kind, rung) for k, kind in kinds.items()}
    random = np.random.default_rng(0)
    while kinds:
        yield {k: int(random.choice(LADDERS[kind][:8])) for k, kind in kinds.items()}


def _rung(kind: str, rung: int) -> int:
    return LADDERS[kind][min(rung, len(LADDERS[kind]) - 1)]


def _keys(field: Field) -> list[str | int]:
    """A name or a size for each axis; unnamed ones are called by their place, and the batch is one for all."""
    return [
        dim if dim and (isinstance(dim, str) or dim > 0) else ("batch" if axis == 0 else f"{field.name}[{axis}]")
        for axis, dim in enumerate(field.shape)
    ]


def _kinds(fields: Sequence[Field]) -> dict[str, str]:
    """Axis name → a key of :data:`LADDERS`, for the names that are not computed from others."""
    kinds: dict[str, str] = {}
    plain = {key for field in fields for key in _keys(field)}
    for field in fields:
        for axis, key in enumerate(_keys(field)):
            if isinstance(key, int):
                continue
            for name in _names(key, plain):
                kind = _kind(field, axis) if name == key else "length"
                if kinds.get(name) != "batch":
                    kinds[name] = kind
    return kinds


def _kind(field: Field, axis: int) -> str:
    rank = len(field.shape)
    if axis == 0:
        return "batch"
    if rank < 4 or np.dtype(field.dtype).kind not in "fu":
        return "length"
    last = field.shape[-1]
    channel = rank - 1 if isinstance(last, int) and last <= 4 else 1
    return "channels" if axis == channel else "side"


def _names(key: str, plain: set[str | int]) -> list[str]:
    """The names in an axis such as ``past + 1``; itself, where it is a mere name (``batch-size`` is one)."""
    try:
        nodes = list(ast.walk(ast.parse(key, mode="eval")))
    except SyntaxError:
        return [key]
    names = [node.id for node in nodes if isinstance(node, ast.Name)]
    numbers = any(isinstance(node, ast.Constant) for node in nodes)
    computed = (numbers or all(name in plain for name in names)) and _value(key, dict.fromkeys(names, 1)) is not None
    return names if names and computed else [key]


def _value(key: str, sizes: Mapping[str, int]) -> int | None:
    """What ``past + 1`` is; None for what is no such expression."""

    def value(node: ast.expr) -> int:
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return node.value
        if isinstance(node, ast.Name):
            return sizes[node.id]
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](value(node.left), value(node.right))
        raise ValueError(key)

    try:
        return value(ast.parse(key, mode="eval").body)
    except (SyntaxError, ValueError, KeyError, ZeroDivisionError):
        return None


def _shape(field: Field, sizes: Mapping[str, int]) -> tuple[int, ...]:
    shape = []
    for key in _keys(field):
        size = key if isinstance(key, int) else sizes.get(key, _value(key, sizes))
        shape.append(1 if size is None else size)
    return tuple(shape)


def _bound(fields: Sequence[Field], given: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """The named axes whose size follows from *given*."""
    known: dict[str, int] = {}
    by_name = {field.name: field for field in fields}
    for name, shape in given.items():
        if name not in by_name:
            fix = nearest(name, by_name) or f"the inputs are {', '.join(by_name)}"
            raise DataError(f"the model has no input {name!r}", where=f"the shape given for {name!r}", fix=fix)
        keys = _keys(by_name[name])
        if len(keys) != len(shape) or any(isinstance(k, int) and k != n for k, n in zip(keys, shape, strict=False)):
            raise DataError(
                f"the shape {list(shape)} does not fit the input {name!r}",
                where=f"input {name!r}: {by_name[name].dtype}[{', '.join(map(str, keys))}]",
                fix="give a size for each axis, the fixed ones as they are",
            )
        known |= {key: n for key, n in zip(keys, shape, strict=True) if isinstance(key, str)}
    return known


def index_limits(graph: ir.Graph) -> dict[str, int]:
    """Integer input → the length of the shortest table that it looks up, directly or in another shape."""
    limits: dict[str, int] = {}
    for value in graph.inputs:
        if value.dtype is not None and value.dtype.is_integer():
            found = [_table_length(node, slot) for node, slot in _uses(value, Does.MOVES | Does.PASSES)]
            if known := [length for length in found if length is not None]:
                limits[str(value.name)] = min(known)
    return limits


def lengths(graph: ir.Graph) -> set[str]:
    """The integer inputs ``[N]`` that recurrent layers or a ctc take for lengths of sequences, or make lengths of."""
    return {
        str(value.name)
        for value in graph.inputs
        if value.dtype is not None and value.dtype.is_integer() and value.shape is not None and value.shape.rank() == 1
        if any(facts(node).lengths == slot for node, slot in _uses(value, Does.MOVES | Does.PASSES | Does.ENTRYWISE))
    }


def _uses(value: ir.Value, passing: Does) -> Iterator[tuple[ir.Node, int]]:
    """The nodes that read *value*, and where; so too for what operators that do one of *passing* make of it."""
    seen, stack = {value}, [value]
    while stack:
        for use in stack.pop().uses():
            yield use.node, use.idx
            known = facts(use.node)
            entrywise = Does.ENTRYWISE in known.does & passing
            if entrywise or (known.does & passing and use.idx in known.data(len(use.node.inputs))):
                new = set(use.node.outputs) - seen
                seen |= new
                stack.extend(new)


def _table_length(node: ir.Node, slot: int) -> int | None:
    axis = node.attributes.get_int("axis", 0) if node.op_type.startswith("Gather") else 0
    table: ir.Value | None = None
    if node.op_type in ("Gather", "GatherElements") and slot == 1:
        table = node.inputs[0]
    elif node.op_type == "EmbedLayerNormalization" and slot in (0, 1) and len(node.inputs) > 4:
        table = node.inputs[2 if slot == 0 else 4]
    if table is None or table.shape is None:
        return None
    length = table.shape[axis]
    return length if isinstance(length, int) else None


def values(
    fields: Sequence[Field],
    shapes: Shapes,
    limits: Mapping[str, int],
    lengths: Collection[str] = (),
    *,
    cautious: bool = False,
) -> Arrays:
    """Arrays of *shapes*; *cautious* ones hold only indices 0, full masks and full lengths.

    Args:
        fields: the inputs.
        shapes: theirs.
        limits: see :func:`index_limits`.
        lengths: the inputs that are lengths.
        cautious: see above.
    """
    random = np.random.default_rng(0)
    return {
        field.name: _lengths(field, fields, shapes, random, cautious)
        if field.name in lengths and field.name not in limits
        else _array(field, shapes[field.name], limits, random, cautious)
        for field in fields
    }


def _lengths(
    field: Field, fields: Sequence[Field], shapes: Shapes, random: np.random.Generator, cautious: bool
) -> npt.NDArray[np.generic]:
    """Lengths of sequences: the first is all of the shortest axis that may be of another size, or of the first axis,
    beside the batch in any input; the others are three quarters of it or more.
    """
    batch = _keys(field)[0]
    beside = [_without(batch, _keys(other), shapes[other.name]) for other in fields]
    free = [size for axes in beside for key, size in axes if isinstance(key, str)]
    longest = min(free or [axes[0][1] for axes in beside if axes][:1] or [1])
    found = random.integers(longest - longest // 4, longest + 1, shapes[field.name])
    found[:1] = longest
    return np.asarray(np.full_like(found, longest) if cautious else found, field.dtype)


def _without(batch: str | int, keys: Sequence[str | int], shape: Sequence[int]) -> list[tuple[str | int, int]]:
    """The other axes where one is the *batch*, otherwise none."""
    axes = list(zip(keys, shape, strict=True))
    return [axis for i, axis in enumerate(axes) if i != keys.index(batch)] if batch in keys else []


def _array(
    field: Field, shape: tuple[int, ...], limits: Mapping[str, int], random: np.random.Generator, cautious: bool
) -> npt.NDArray[np.generic]:
    dtype = np.dtype(field.dtype)
    mask = "mask" in field.name.lower()
    if dtype.kind not in "fiub":
        raise DataError(
            f"no {dtype} input can be made up", where=f"input {field.name!r}", fix="give real examples with --data"
        )
    if mask or dtype.kind == "b":
        array = random.random(shape) < 0.8
        if cautious or not shape:
            array = np.ones(shape, bool)
        elif shape[-1]:
            array[..., 0] = True  # a softmax over nothing is no number
        return np.asarray(array, dtype)
    if dtype.kind == "f":
        return np.asarray(random.standard_normal(shape), dtype)
    if field.name in limits:
        return np.asarray(random.integers(0, 1 if cautious else limits[field.name], shape), dtype)
    high = 256 if dtype == np.uint8 and len(shape) >= 3 else 2
    return np.asarray(random.integers(0, 1 if cautious else high, shape), dtype)
