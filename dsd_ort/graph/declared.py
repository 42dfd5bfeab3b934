"""What a file declares of the shapes of its values, and what they are: what runs is right, whatever is declared.

Declarations of values that no inference reaches, ONNX Runtime's neither, are all there is, and stay; but for the ranks
of outputs, which a run on made-up input tells (:mod:`dsd_ort.graph.any_batch`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from dsd_ort import runtime
from dsd_ort.errors import ModelError, UnsupportedError
from dsd_ort.fields import shown
from dsd_ort.model.source import Source
from dsd_ort.notes import Note
from dsd_ort.rewrite.autograd import OPSET
from dsd_ort.rewrite.names import place
from dsd_ort.rewrite.nodes import Nodes, constant_value
from dsd_ort.rewrite.parts import all_values
from dsd_ort.rewrite.shapes import dims_of, infer

Dims = tuple[int | str | None, ...]

_AXES_AS_INPUT = 13
"""The first opset in which Squeeze reads its axes."""


def correct(model: ir.Model) -> None:
    """Gives the values of *model* whose shapes are declared those that inference has for them, in place, with the
    declared sizes and names where these do not contradict it.

    Raises:
        UnsupportedError: a declared type that is none of what the node gives: ONNX Runtime does not run such a file.
    """
    made = [value for node in model.graph.all_nodes() for value in node.outputs]
    declared = {value: (value.type, value.shape) for value in made}
    if all(shape is None for _, shape in declared.values()) and not any(map(_names_no_axes, model.graph)):
        return
    for value in declared:
        value.type = value.shape = None
    _infer(model, {value for value, (_, shape) in declared.items() if shape is not None})
    sizes = {size for value in model.graph.inputs for size in dims_of(value) or () if isinstance(size, str)}
    for value, (says, shape) in declared.items():
        found, dims, value.type, value.shape = value.type, value.shape, says, shape
        if not isinstance(says, ir.TensorType):
            continue  # of sequences, and of what is not declared
        if isinstance(found, ir.TensorType) and found != says:
            raise _wrong_type(value, found, says)
        if shape is None or dims is None or _contradict(_dims(shape), _dims(dims), sizes):
            value.shape = dims or shape
        else:
            value.shape = ir.Shape([a if isinstance(a, int) else b for a, b in zip(dims, shape, strict=True)])


def _infer(model: ir.Model, declared: Collection[ir.Value]) -> None:
    """By ONNX, then by our rules, and where that leaves *declared* ones, by ONNX Runtime."""
    ShapeInferencePass(check_type=False, strict_mode=False)(model)
    for node in list(model.graph):
        if any(value.shape is None for value in node.outputs):
            _name_axes(node, model.graph)
            infer(node, constant_value, model.opset_imports.get("", OPSET))
            _by_length(node)
    left = [value for node in model.graph for value in node.outputs if value in declared and value.shape is None]
    if left:
        for value, dims in _by_runtime(model, left).items():
            value.shape = ir.Shape(dims)


def _names_no_axes(node: ir.Node) -> bool:
    return (node.domain, node.op_type, len(node.inputs)) == ("", "Squeeze", 1) and "axes" not in node.attributes


def _name_axes(node: ir.Node, graph: ir.Graph) -> None:
    """Lets a Squeeze that names no axes name those of one entry: it would take the axis of a batch of one, too.

    Whoever exports ``x.squeeze()`` with one example has a file that declares, and for one example gives, an axis less.
    """
    x = node.inputs[0] if _names_no_axes(node) else None
    if x is None or not (axes := [axis for axis, size in enumerate(dims_of(x) or ()) if size == 1]):
        return
    if graph.opset_imports.get("", OPSET) < _AXES_AS_INPUT:
        node.attributes["axes"] = ir.AttrInt64s("axes", axes)
        return
    new = Nodes.of(graph, f"{node.outputs[0].name}/axes")
    named = new.constant(axes)
    new.put_before(node)
    node.resize_inputs(2)
    node.replace_input_with(1, named)


def _by_length(node: ir.Node) -> None:
    """Of a Reshape to sizes that are computed, how many these are: the rank, which no schema tells."""
    if node.op_type != "Reshape" or node.domain or node.outputs[0].shape is not None or node.inputs[1] is None:
        return
    length = dims_of(node.inputs[1])
    if length is not None and len(length) == 1 and isinstance(length[0], int):
        node.outputs[0].shape = ir.Shape([None] * length[0])


def _by_runtime(model: ir.Model, values: Sequence[ir.Value]) -> dict[ir.Value, Dims]:
    """The shapes that ONNX Runtime knows of *values*, before anything is run."""
    asked = model.clone()
    names = {value.name for value in values}
    asked.graph.outputs[:] = [value for node in asked.graph for value in node.outputs if value.name in names]
    for value in [value for node in asked.graph.all_nodes() for value in node.outputs]:
        value.type = value.shape = None
    try:
        session = runtime.session(ir.to_proto(asked), runtime.session_options(0))
    except ModelError:
        return {}  # what does not run is told elsewhere
    known = {output.name: tuple(output.shape) for output in session.get_outputs()}
    return {value: dims for value in values if (dims := known.get(value.name))}


def notes(source: Source, copy: ir.Model) -> tuple[Note, ...]:
    """Which declarations of *source* its training copy contradicts."""
    return tuple(Note(kind="file", words=words) for words in _contradictions(source.model, copy))


def corrected(model: ir.Model, ranks: Mapping[str, int]) -> Iterator[Note]:
    """Gives the outputs of *model* the *ranks* that came out when it ran, where others are declared, and notes it.

    Those are left that no inference reaches.
    """
    for value in model.graph.outputs:
        says, rank = dims_of(value), ranks.get(str(value.name))
        if says is not None and rank is not None and len(says) != rank:
            value.shape = ir.Shape([None] * rank)
            yield Note(kind="file", words=_told(value, says, dims_of(value) or ()))


def _told(value: ir.Value, says: Dims, is_: Dims) -> str:
    kind = "output" if value.is_graph_output() else "value"
    return f"the file declares the {kind} {value.name!r} as {shown(says)}, and what runs is {shown(is_)}"


def _contradictions(model: ir.Model, copy: ir.Model) -> Iterator[str]:
    right = {value.name: dims_of(value) for value in all_values(copy.graph) if value.producer() is not None}
    sizes = {size for value in copy.graph.inputs for size in dims_of(value) or () if isinstance(size, str)}
    for node in model.graph.all_nodes():
        for value in node.outputs:
            says, is_ = dims_of(value), right.get(value.name)
            if says is not None and is_ is not None and _contradict(says, is_, sizes):
                yield _told(value, says, is_)


def _contradict(declared: Dims, inferred: Dims, sizes: set[str]) -> bool:
    """Whether they cannot both be, *sizes* being names of any size."""
    if len(declared) != len(inferred):
        return True
    pairs = zip(declared, inferred, strict=True)
    return any(isinstance(a, int) and a >= 0 and a != b and (isinstance(b, int) or b in sizes) for a, b in pairs)


def _dims(shape: ir.Shape) -> Dims:
    return tuple(size if isinstance(size, int) else size.value for size in shape)


def _wrong_type(value: ir.Value, gives: ir.TensorType, declared: ir.TensorType) -> UnsupportedError:
    node = value.producer()
    says, is_ = (kind.dtype.name.lower() for kind in (declared, gives))
    return UnsupportedError(
        f"the file declares {value.name!r} as {says}, and it is {is_}: ONNX Runtime runs no such file",
        where=None if node is None else place(node),
        fix="export the model again, or correct the declaration in graph.output or remove it from graph.value_info",
    )
