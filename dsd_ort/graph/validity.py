"""What holds of every manifest, and of it and its graphs, before a buffer is made or bound by what it says.

A run folder may be damaged, or somebody else's, so nothing in it is believed:

* slices stand one behind the other as :mod:`dsd_ort.graph.layout` lays them, on cache lines, masked ones first, then
  other trained ones, then frozen ones; each has the size of its shape, and a name of its own;
* the model is a file in ``source/``, and not a path to anywhere;
* the graphs hold no data that stand elsewhere, and read and give what the manifest says, in its types and shapes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import onnx

from dsd_ort.errors import RunError
from dsd_ort.fields import Field
from dsd_ort.graph.layout import ALIGNMENT
from dsd_ort.graph.manifest import Manifest, Slice
from dsd_ort.graph.masks import mask_name
from dsd_ort.model.roles import ROLES
from dsd_ort.notes import listing
from dsd_ort.recipe import Recipe

_FIX = "prepare the model anew into another folder; do not trust this one if you do not know where it is from"
_LARGEST = 1 << 40
"""Elements of all parameters together."""


def refuse_bad_manifest(manifest: Manifest, where: str) -> None:
    """Raises RunError where *manifest* says what none can, by itself."""
    for wrong in (*_names(manifest), *_slices(manifest.parameters), *_slices(manifest.statistics), *_fields(manifest)):
        raise RunError(f"the manifest is damaged: {wrong}", where=where, fix=_FIX)


def refuse_bad_graph(name: str, graph: onnx.ModelProto, manifest: Manifest, recipe: Recipe, where: str) -> None:
    """Raises RunError where the graph *name* is none that *manifest* and *recipe* describe."""
    wanted = {
        "step": lambda: _step(manifest, masked=False),
        "sparse": lambda: _step(manifest, masked=True),
        "update": lambda: _update(recipe),
        "evaluate": lambda: _evaluate(manifest),
    }[name]()
    for wrong in (*_elsewhere(graph), *_unlabelled(manifest), *_differing(graph, wanted)):
        raise RunError(f"the graph {name!r} does not fit the manifest: {wrong}", where=where, fix=_FIX)


def _names(manifest: Manifest) -> Iterator[str]:
    model = manifest.model
    if not model or model in (".", "..") or set(model) & {"/", "\\", "\0", ":"}:
        yield f"the model is called {model!r}, and may be the name of a file in source/ only"
    slices = [piece.name for piece in (*manifest.parameters, *manifest.statistics)]
    fields = [field.name for field in (*manifest.inputs, *manifest.labels)]
    for what, names in (("parameters", slices), ("inputs and labels", fields)):
        if twice := sorted({name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else ()):
            yield f"two of its {what} are called {listing(twice)}"
        if "" in names:
            yield f"one of its {what} has no name"
    if not manifest.outputs:
        yield "no loss reads an output"
    successors = [p.successor for p in (*manifest.trained, *manifest.statistics) if p.successor]
    if len(set(successors)) < len(successors):
        yield "two parameters have one gradient"
    digests = {} if manifest.file_digests is None or not manifest.file_digests else manifest.file_digests
    if bad := [name for name in digests if name.startswith("/") or {"..", ""} & set(name.split("/")) or "\\" in name]:
        yield f"a file is called {bad[0]!r}, which is none in the run folder"


def _slices(slices: Sequence[Slice]) -> Iterator[str]:
    """The law of :func:`dsd_ort.graph.layout._lay_out`, and what a slice is by itself."""
    offset, rank = 0, (False, False)
    for piece in slices:
        own = (not piece.trained, not piece.prunable)
        if any(size < 0 for size in piece.shape) or math.prod(piece.shape) != piece.size:
            yield f"{piece.name!r} has the shape {list(piece.shape)}, and {piece.size} elements"
        elif piece.offset != offset or piece.size > _LARGEST - offset:
            yield f"{piece.name!r} begins at {piece.offset} of its buffer, and the one before ends at {offset}"
        elif own < rank:
            yield f"{piece.name!r} stands behind parameters that it has to stand before"
        elif piece.role not in {*ROLES, "statistic"}:
            yield f"{piece.name!r} has the role {piece.role!r}, which there is not"
        elif piece.prunable and not piece.trained:
            yield f"{piece.name!r} has a mask, and is not trained"
        elif piece.trained != bool(piece.successor) and piece.role != "statistic":
            yield f"{piece.name!r} is {'' if piece.trained else 'not '}trained: its gradient is {piece.successor!r}"
        elif not all(math.isfinite(v) and v >= 0 for v in (piece.weight_decay, piece.learning_rate_factor)):
            yield f"{piece.name!r} has weight decay {piece.weight_decay}, rate times {piece.learning_rate_factor}"
        rank = own
        offset += -(-max(piece.size, 0) // ALIGNMENT) * ALIGNMENT


def _fields(manifest: Manifest) -> Iterator[str]:
    for field in (*manifest.inputs, *manifest.labels):
        try:
            known = np.dtype(field.dtype).kind in "biufOUST"
        except TypeError:
            known = field.dtype in ("bfloat16", "str")
        if not known:
            yield f"{field.name!r} is of the type {field.dtype!r}, which there is not"
        if any(isinstance(size, int) and size < 0 for size in field.shape):
            yield f"{field.name!r} has the shape {list(field.shape)}"
        if field.classes is not None and field.classes < 1:
            yield f"{field.name!r} has {field.classes} classes"
    axes = manifest.axes or {}
    if any(axis < 0 for axis in axes.values()):
        yield "the batch is in an axis below 0"
    if manifest.held and manifest.held < 0:
        yield f"the file holds a batch of {manifest.held}"


_Shapes: TypeAlias = "dict[str, tuple[int, ...] | None]"
"""By name; None is any."""


class _Wanted(NamedTuple):
    """What a graph reads and gives."""

    reads: _Shapes
    gives: _Shapes
    feeds: frozenset[str] = frozenset()
    """What it may read beside that."""
    required: frozenset[str] = frozenset()
    """What it has to read."""


def _weights(manifest: Manifest) -> _Shapes:
    return {piece.name: piece.shape for piece in (*manifest.parameters, *manifest.statistics)}


def _step(manifest: Manifest, *, masked: bool) -> _Wanted:
    gives: _Shapes = {piece.successor: piece.shape for piece in manifest.trained}
    gives |= {piece.successor: piece.shape for piece in manifest.statistics if piece.successor}
    reads = _weights(manifest)
    if masked:
        reads |= {mask_name(piece.name): piece.shape for piece in manifest.prunable}
    return _Wanted(reads, gives | {manifest.step_loss: None}, frozenset(field.name for field in _data(manifest)))


def _evaluate(manifest: Manifest) -> _Wanted:
    gives: _Shapes = dict.fromkeys([manifest.loss, *manifest.outputs])
    feeds = frozenset(field.name for field in _data(manifest))
    if manifest.lengths is not None and manifest.lengths not in feeds:
        gives[manifest.lengths] = None
    return _Wanted(_weights(manifest), gives, feeds)


def _update(recipe: Recipe) -> _Wanted:
    from dsd_ort.graph.optimizer.update import OPTIMIZERS  # with onnxscript, which takes long to import

    slots = OPTIMIZERS[recipe.optimizer.name].slots
    gives: _Shapes = dict.fromkeys(f"{name}_new" for name in ("weight", *slots))
    return _Wanted({}, gives, required=frozenset({"weight", "gradient", *slots}))


def _data(manifest: Manifest) -> list[Field]:
    return [*manifest.inputs, *manifest.labels]


def _differing(graph: onnx.ModelProto, wanted: _Wanted) -> Iterator[str]:
    inputs = {value.name: value for value in graph.graph.input}
    outputs = {value.name: value for value in graph.graph.output}
    for name, value in inputs.items():
        if name in wanted.reads:
            yield from _other_shape(value, wanted.reads[name])
        elif wanted.reads and name not in wanted.feeds:
            yield f"it reads {name!r}, which nothing feeds"
    for name, shape in wanted.gives.items():
        if name not in outputs:
            yield f"it does not give {name!r}"
        else:
            yield from _other_shape(outputs[name], shape)
    if missing := sorted(wanted.required - set(inputs)):
        yield f"it does not read {listing(missing)}"


def _other_shape(value: onnx.ValueInfoProto, shape: tuple[int, ...] | None) -> Iterator[str]:
    tensor = value.type.tensor_type
    if shape is None or not tensor.elem_type:  # an output need not say
        return
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        yield f"{value.name!r} is no tensor of float32"
    if tensor.HasField("shape"):
        dims = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
        if len(dims) != len(shape) or any(a not in (None, b) for a, b in zip(dims, shape, strict=True)):
            yield f"{value.name!r} has the shape {['?' if d is None else d for d in dims]}, not {list(shape)}"


def _unlabelled(manifest: Manifest) -> Iterator[str]:
    known = {field.name for field in _data(manifest)}
    for output, label in manifest.outputs.items():
        if label not in known:
            yield f"the loss of {output!r} reads the label {label!r}, which there is not"


def _elsewhere(graph: onnx.ModelProto) -> Iterator[str]:
    """Tensors whose numbers are in other files, and functions, which prepared graphs have none of."""
    if graph.functions:
        yield f"it has the function {graph.functions[0].name!r}"
    waiting = [graph.graph]
    while waiting:
        inner = waiting.pop()
        tensors = [*inner.initializer]
        for node in inner.node:
            for attribute in node.attribute:
                tensors += [attribute.t, *attribute.tensors]
                waiting += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
        for tensor in tensors:
            if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
                yield f"the numbers of {tensor.name!r} are said to be in another file"
