"""One opset for all rules: 18, from whatever the file has.

18 is the first in which all reductions take their axes as an input.  It is not newer than needed, as ONNX Runtime uses
a kernel for an operator's latest definition only if it was written for exactly that one, and GPU kernels lag.

Older opsets are raised by ONNX's version converter; operators that ONNX does not know, but ONNX Runtime does, stay as
they are.  From 19 on almost all that changed are the types that operators
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
from dsd_ort.graph.legalize import legacy
from dsd_ort.graph.legalize.rules import (
    activation,
    attention,
    fused,
    indexing,
    normalization,
    pooling,
    resampling,
    sampling,
    spectral,
)
from dsd_ort.rewrite.names import make_unique, place
from dsd_ort.rewrite.operators import key
from dsd_ort.rewrite.path import Path
from dsd_ort.rewrite.site import Replacement, Rule, Site, apply

TARGET = 18
IR_VERSION = 10

_OLDEST_RUNNABLE, _NEWEST_RUNNABLE = 13, 21
_SCHEMA_FUNCTIONS = ("RotaryEmbedding",)
_PARKED = "onnxruntime"
"""The domain of operators that ONNX does not know in the default one, while ONNX's tools look at the model."""


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
    if opset > (known := onnx.defs.onnx_opset_version()):
        raise UnsupportedError(
            f"the model has opset {opset}, and the installed onnx {onnx.__version__} knows none behind {known}",
            fix=f"install a newer onnx, or export the model with opset {_NEWEST_RUNNABLE}",
        )
    _park(model, opset)
    if opset < 13 and _apply(legacy.hardmax, "Hardmax", model.graph):
        make_unique(model)
    model.graph = ir.from_proto(_inlined_and_raised(ir.to_proto(model), opset, target)).graph
    _unpark(model)
    model.functions.clear()
    model.ir_version, model.opset_imports[""] = IR_VERSION, target
    if opset > target:
        _lower(model.graph, opset, target)
    if opset < 13:
        _apply(legacy.softmax, "Reshape", model.graph)
    if opset < 11:
        _apply(resampling.resize_before_11, "Resize", model.graph)
    model.opset_imports.setdefault("com.microsoft", 1)
    make_unique(model)
    if opset > target or opset < 13:  # otherwise nothing has changed since shapes were inferred
        ShapeInferencePass(check_type=False, strict_mode=False)(model)
    return model


def _apply(rule: Rule, op_type: str, graph: ir.Graph) -> bool:
    """Whether *rule* rewrote any node of ONNX's operator *op_type*."""
    path, nodes = Path(graph, [], []), [node for node in graph.all_nodes() if key(node) == op_type]
    return sum(apply(rule, Site(node, path)) for node in nodes) > 0  # each of them, not up to the first


def _park(model: ir.Model, opset: int) -> None:
    """Moves operators that ONNX does not know out of the default domain: its converter takes no such model."""
    for node in model.graph.all_nodes():
        if node.domain == "" and not onnx.defs.has(node.op_type, max_inclusive_version=opset):
            node.domain = _PARKED
            model.opset_imports[_PARKED] = 1


def _unpark(model: ir.Model) -> None:
    for node in model.graph.all_nodes():
        if node.domain == _PARKED:
            node.domain = ""
    model.opset_imports.pop(_PARKED, None)


def _inlined_and_raised(proto: onnx.ModelProto, opset: int, target: int) -> onnx.ModelProto:
    try:
        if proto.functions:
            proto = onnx.inliner.inline_local_functions(proto, convert_version=True)
        if opset > target and any(node.op_type in _SCHEMA_FUNCTIONS for node in proto.graph.node):
            names = [("", name) for name in _SCHEMA_FUNCTIONS]
            proto = onnx.inliner.inline_selected_functions(proto, names, inline_schema_functions=True)
        if opset < 7:
            proto, opset = legacy.to_7(proto, opset), 7
        if opset < target:
            proto = onnx.version_converter.convert_version(proto, target)
        return onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except (RuntimeError, onnx.shape_inference.InferenceError, onnx.version_converter.ConvertError) as error:
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
    if not onnx.defs.has(node.op_type):  # ONNX Runtime's own, in every opset the same
        return
    if not onnx.defs.has(node.op_type, max_inclusive_version=target):
        what = f"the operator {node.op_type} of opset {opset} cannot be expressed in opset {target}"
        raise UnsupportedError(what, where=place(node), fix=fix)
    new, old = (onnx.defs.get_schema(node.op_type, version) for version in (opset, target))
    defaults = new.attributes
    if len(node.inputs) > old.max_input:
        what = f"input {new.inputs[old.max_input].name} of {node.op_type} in opset {opset} cannot be expressed in opset"
        raise UnsupportedError(f"{what} {target}", where=place(node), fix=fix)
    for name in set(node.attributes) - set(old.attributes) - _READ_LATER.get(node.op_type, set()):
        if node.attributes[name] != ir.from_proto(defaults[name].default_value):
            value = node.attributes[name].value
            what = f"{name} = {value} of {node.op_type} in opset {opset} cannot be expressed in opset {target}"
            raise UnsupportedError(what, where=place(node), fix=fix)
        del node.attributes[name]


_READ_LATER = {
    "DequantizeLinear": {"block_size", "output_dtype"},
    "QuantizeLinear": {"block_size", "output_dtype", "precision", "saturate"},
}
"""What the rule of quantised pairs reads, in whatever opset, or refuses."""


def _average_pool(site: Site) -> Replacement:
    """The same, unless it has dilations"""
    if site.node.attributes.get_int("ceil_mode", 0):
        pooling.checked_pads(site)  # The kernel for 19 makes 0 of a window that covers nothing, the older one anything.
    if set(site.node.attributes.get_ints("dilations", [1])) == {1}:
        site.node.attributes.pop("dilations", None)
        return None
    return pooling.average_pool(site)


def _pad(site: Site) -> Replacement:
    """The same, unless it wraps around"""
    return indexing.pad(site) if site.node.attributes.get_string("mode", "constant") == "wrap" else None


def _grid_sample(site: Site) -> Replacement:
    """The same mode by its older name"""
    mode = site.node.attributes.get_string("mode", "linear")
    older = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    return site.GridSample(site.input(0), site.input(1), **site.attributes("mode"), mode=older)


def _deform_conv(site: Site) -> Replacement:
    """Refused"""
    raise site.refusal("is one that ONNX Runtime 1.19 cannot run on the CPU", "replace it in the model")


NEWER: dict[str, tuple[int, Rule]] = {
    "AffineGrid": (20, sampling.affine_grid),
    "Attention": (23, attention.onnx_attention),
    "AveragePool": (19, _average_pool),
    "DeformConv": (19, _deform_conv),
    "DFT": (20, spectral.dft_of_axis),
    "Gelu": (20, activation.gelu),
    "GridSample": (20, _grid_sample),
    "GroupNormalization": (21, normalization.group_norm_per_channel),
    "Pad": (19, _pad),
    "RMSNormalization": (23, fused.simplified_layer_norm),
    "Swish": (24, activation.swish),
}
"""Operators that are not the same in an older opset: the first opset that has them as they are, and the rewrite."""
