"""One opset for all rules: 18, from whatever the file has.

18 is the first in which all reductions take their axes as an input.  It is not newer than needed, as ONNX Runtime uses
a kernel for an operator's latest definition only if it was written for exactly that one, and GPU kernels lag.

Older opsets are raised by ONNX's version converter.  From 19 on almost all that changed are the types that operators
accept, so a newer model is lowered by declaring the older opset, after each node was checked against it: the operator
and all its attributes exist there (others may have their default value), or :data:`NEWER` rewrites it.  Functions of
the file, and operators that ONNX defines as functions, are inlined before.
"""

from __future__ import annotations

import onnx
import onnx.defs
import onnx.inliner
import onnx.shape_inference
import onnx.version_converter
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.legalize import activation, normalization, pooling, shape
from dsd_ort.graph.legalize.names import make_unique
from dsd_ort.graph.legalize.path import Path
from dsd_ort.graph.legalize.site import Replacement, Rule, Site, apply, place

TARGET = 18
IR_VERSION = 10

_OLDEST_RUNNABLE, _NEWEST_RUNNABLE = 13, 21
_SCHEMA_FUNCTIONS = ("Attention", "RMSNormalization", "RotaryEmbedding")


def to_supported(model: ir.Model) -> ir.Model:
    """*model* as ONNX Runtime can run it: opset 13 to 21, IR version 10, functions inlined; changed in place.

    Raises:
        UnsupportedError: an operator that cannot be expressed so.
    """
    opset = model.opset_imports.get("", TARGET)
    return to_opset(model, TARGET if opset < _OLDEST_RUNNABLE else min(opset, _NEWEST_RUNNABLE))


def to_opset(model: ir.Model, target: int = TARGET) -> ir.Model:
    """*model* in opset *target* and IR version 10, with functions inlined and shapes inferred; changed in place.

    Raises:
        UnsupportedError: an operator that cannot be expressed in that opset.
    """
    opset = model.opset_imports.get("", target)
    model.graph = ir.from_proto(_inlined_and_raised(ir.to_proto(model), opset, target)).graph
    model.functions.clear()
    model.ir_version = IR_VERSION
    if opset > target:
        _lower(model.graph, opset, target)
    if opset < 13:
        _restore_softmax(model.graph)
    model.opset_imports[""] = target
    model.opset_imports.setdefault("com.microsoft", 1)
    make_unique(model)
    ShapeInferencePass(check_type=False, strict_mode=False)(model)
    return model


def _inlined_and_raised(proto: onnx.ModelProto, opset: int, target: int) -> onnx.ModelProto:
    try:
        if proto.functions:
            proto = onnx.inliner.inline_local_functions(proto, convert_version=True)
        if opset > target and any(node.op_type in _SCHEMA_FUNCTIONS for node in proto.graph.node):
            names = [("", name) for name in _SCHEMA_FUNCTIONS]
            proto = onnx.inliner.inline_selected_functions(proto, names, inline_schema_functions=True)
        if opset < target:
            proto = onnx.version_converter.convert_version(proto, target)
        return onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except (RuntimeError, onnx.version_converter.ConvertError) as error:
        why = str(error).rpartition("failed: ")[2]  # What is in front is a place in C++.
        raise UnsupportedError(
            f"the model cannot be converted from opset {opset} to {target}: {why}",
            fix=f"export the model with opset {target}",
        ) from error


def _lower(graph: ir.Graph, opset: int, target: int) -> None:
    no_path = Path(graph, [], [])
    for node in list(graph.all_nodes()):
        if node.domain != "":
            continue
        since, rule = NEWER.get(node.op_type, (0, None))
        assert node.graph is not None
        if rule is None or not target < since <= opset or not apply(rule, Site(node, no_path)):
            _keep_meaning(node, opset, target)


def _keep_meaning(node: ir.Node, opset: int, target: int) -> None:
    """Removes what is new and has its default value; refuses what is new and has another."""
    fix = f"export the model with opset {target}"
    if not onnx.defs.has(node.op_type, max_inclusive_version=target):
        what = f"the operator {node.op_type} of opset {opset} cannot be expressed in opset {target}"
        raise UnsupportedError(what, where=place(node), fix=fix)
    defaults = onnx.defs.get_schema(node.op_type, opset).attributes
    for name in set(node.attributes) - set(onnx.defs.get_schema(node.op_type, target).attributes):
        if node.attributes[name] != ir.from_proto(defaults[name].default_value):
            value = node.attributes[name].value
            what = f"{name} = {value} of {node.op_type} in opset {opset} cannot be expressed in opset {target}"
            raise UnsupportedError(what, where=place(node), fix=fix)
        del node.attributes[name]


def _average_pool(site: Site) -> Replacement:
    """The same, unless it has dilations"""
    if set(site.node.attributes.get_ints("dilations", [1])) == {1}:
        site.node.attributes.pop("dilations", None)
        return None
    return pooling.average_pool(site)


def _pad(site: Site) -> Replacement:
    """The same, unless it wraps around"""
    return shape.pad(site) if site.node.attributes.get_string("mode", "constant") == "wrap" else None


def _grid_sample(site: Site) -> Replacement:
    """The same mode by its older name"""
    mode = site.node.attributes.get_string("mode", "linear")
    older = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    return site.GridSample(site.input(0), site.input(1), **site.attributes("mode"), mode=older)


def _resize(site: Site) -> Replacement:
    """The same"""
    if site.node.attributes.get_string("coordinate_transformation_mode", "") == "half_pixel_symmetric":
        raise site.refusal("with half_pixel_symmetric is newer than opset 18", "use another coordinate transformation")
    return None


def _dft(site: Site) -> Replacement:
    """Refused"""
    raise site.refusal("has another meaning from opset 20 on", "export the model with opset 18")


NEWER: dict[str, tuple[int, Rule]] = {
    "AveragePool": (19, _average_pool),
    "DFT": (20, _dft),
    "Gelu": (20, activation.gelu),
    "GridSample": (20, _grid_sample),
    "GroupNormalization": (21, normalization.group_norm_per_channel),
    "Pad": (19, _pad),
    "Resize": (19, _resize),
    "Swish": (24, activation.swish),
}
"""Operators that are not the same in an older opset: the first opset that has them as they are, and the rewrite."""


def _restore_softmax(graph: ir.Graph) -> None:
    """Reshape(Softmax(Flatten(x)), Shape(x)) → Softmax(x), where behind its axis x has only axes of length 1.

    The converter makes the former of a Softmax older than opset 13, which normalises over all axes from its own on.
    A loss has to find the logits in front of it.
    """
    for reshape in list(graph):
        softmax, shape_of = _producer(reshape, "Reshape", 0), _producer(reshape, "Reshape", 1)
        flat = _producer(softmax, "Softmax", 0) or _producer(softmax, "LogSoftmax", 0)
        x = flat.inputs[0] if flat is not None and flat.op_type == "Flatten" else None
        if x is None or x.shape is None or shape_of is None or shape_of.op_type != "Shape":
            continue
        assert softmax is not None and flat is not None
        axis = flat.attributes.get_int("axis", 1)
        if shape_of.inputs[0] is x and all(d == 1 for d in x.shape[axis:][1:]):
            new = ir.node(softmax.op_type, [x], {"axis": axis}, name=softmax.name)
            ir.convenience.replace_nodes_and_values(graph, reshape, [reshape], [new], reshape.outputs, new.outputs)


def _producer(node: ir.Node | None, op_type: str, index: int) -> ir.Node | None:
    """What computes input *index* of *node*, if that is an *op_type*."""
    if node is None or node.domain != "" or node.op_type != op_type or index >= len(node.inputs):
        return None
    value = node.inputs[index]
    return None if value is None else value.producer()
