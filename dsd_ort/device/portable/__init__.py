"""Training operators as standard ones: a differentiated graph that any ONNX Runtime from 1.20 on can run.

Gradients are written with operators that only ONNX Runtime's training build has (``com.microsoft.ConvGrad``,
``MaxPoolGrad`` in ONNX's own domain, …).  Requires a graph that it made, masked or not.  Ensures the same inputs and
outputs, equal up to the order of float32 sums, by ONNX's operators and those of com.microsoft that every build has.

It runs when a session is opened on an ONNX Runtime that cannot train, behind :mod:`~.lower`, and the run
folder holds those operators.  The other way would be a FunctionProto named ``com.microsoft::ConvGrad`` in
the file, which the training build ignores and every other inlines.  A replacement is simpler and does more: it
knows each node's attributes and shapes, where a function must serve all nodes of its name; it covers ONNX's own
domain, in which functions are refused; nothing depends on which of kernel and function a runtime prefers; and a form
that turns out faster reaches runs that were prepared before.

Each rule is a function of one node in the file of its family, and its docstring has the algebra: dY is the gradient
that arrives, dX the one that leaves.  The operators and the order of their inputs are those of ONNX Runtime 1.19's
``orttraining/core/graph/training_op_defs.cc``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import onnx.defs
import onnx_ir as ir

from dsd_ort.device.lower import formulas
from dsd_ort.device.portable import activation, broadcast, convolution, losses, normalization, selection
from dsd_ort.errors import UnsupportedError
from dsd_ort.rewrite import names
from dsd_ort.rewrite.names import place
from dsd_ort.rewrite.nodes import take_over
from dsd_ort.rewrite.operators import Does, facts, key
from dsd_ort.rewrite.path import Path
from dsd_ort.rewrite.site import Site

__all__ = ["DETERMINISTIC", "FORMS", "RULES", "expand", "is_portable", "replace"]

Rule: TypeAlias = Callable[[Site], "ir.Value | Sequence[ir.Value | None]"]
"""From a node to the values that take the place of its outputs; None for one that nothing reads."""

MICROSOFT = "com.microsoft"

RULES: dict[str, Rule] = {
    "MaxPoolGrad": selection.max_pool,
    "SoftmaxCrossEntropyLoss": losses.cross_entropy,
    "com.microsoft.BatchNormInternal": normalization.batch_norm,
    "com.microsoft.BatchNormalizationGrad": normalization.batch_norm_gradient,
    "com.microsoft.BiasGeluGrad_dX": formulas.gelu,
    "com.microsoft.BroadcastGradientArgs": broadcast.axes,
    "com.microsoft.ConvGrad": convolution.convolution,
    "com.microsoft.DivGrad": broadcast.division,
    "com.microsoft.DropoutGrad": activation.dropout,
    "com.microsoft.FastGeluGrad": formulas.fast_gelu,
    "com.microsoft.GatherElementsGrad": selection.gather_elements,
    "com.microsoft.GatherGrad": selection.gather,
    "com.microsoft.GatherNDGrad": selection.gather_nd,
    "com.microsoft.GeluGrad": formulas.gelu,
    "com.microsoft.LayerNormalizationGrad": normalization.layer_norm_gradient,
    "com.microsoft.LeakyReluGrad": activation.leaky_relu,
    "com.microsoft.LogSoftmaxGrad_13": formulas.log_softmax,
    "com.microsoft.QuickGeluGrad": activation.quick_gelu,
    "com.microsoft.ReluGrad": activation.relu,
    "com.microsoft.Scale": activation.scale,
    "com.microsoft.SigmoidGrad": activation.sigmoid,
    "com.microsoft.SliceGrad": selection.slice_,
    "com.microsoft.SoftmaxCrossEntropyLossGrad": losses.cross_entropy_gradient,
    "com.microsoft.SoftmaxGrad_13": formulas.softmax,
    "com.microsoft.TanhGrad": activation.tanh,
}
"""All that a step graph may have, by either builder of gradients."""

FORMS: dict[str, dict[str, Rule]] = {
    "cpu": {},
    "cuda": {
        "com.microsoft.ConvGrad": partial(convolution.convolution, way=convolution.CUDA),
        "com.microsoft.SoftmaxCrossEntropyLossGrad": partial(losses.cross_entropy_gradient, compare=True),
    },
}
"""Other forms than those of RULES, by device."""

DETERMINISTIC: dict[str, dict[str, Rule]] = {
    "cpu": {},
    "cuda": {
        "com.microsoft.ConvGrad": partial(convolution.convolution, way=convolution.CUDA_DETERMINISTIC),
        "com.microsoft.GatherGrad": selection.gather_by_product,
    },
}
"""And other ones again where a run must repeat to the bit."""

_BLOCKED = "com.microsoft.nchwc"


def expand(model: ir.Model, device: str = "cpu", *, deterministic: bool = False) -> None:
    """Replaces the training operators of *model* in place.

    Args:
        model: is changed.
        device: ``"cpu"`` or ``"cuda"``: the forms that are fastest there.
        deterministic: forms that repeat to the bit, where there is one.

    Raises:
        UnsupportedError: an operator that no rule is for.
    """
    model.graph.sort()
    path = Path(model.graph, [], [])
    rules = RULES | FORMS[device] | (DETERMINISTIC[device] if deterministic else {})
    for node in list(model.graph.all_nodes()):
        if (rule := rules.get(key(node))) is not None:
            replace(node, rule, path)
        elif not is_portable(node):
            raise UnsupportedError(
                f"the operator {key(node)} runs only in ONNX Runtime's training build",
                where=place(node),
                fix="train this run where onnxruntime-training or onnxruntime-training-cpu 1.19.2 is installed",
            )
    names.make_unique(model)
    used = {node.domain for node in model.graph.all_nodes()} | {""}
    for domain in set(model.opset_imports) - used:
        del model.opset_imports[domain]


def is_portable(node: ir.Node) -> bool:
    """Has every ONNX Runtime this operator, as far as is known?"""
    if node.domain in (MICROSOFT, _BLOCKED):
        return key(node) not in RULES and Does.TRAINING not in facts(node).does
    return onnx.defs.has(node.op_type, node.domain)


def replace(node: ir.Node, rule: Rule, path: Path | None = None) -> None:
    """What *rule* builds takes over names, types and readers of the outputs of *node*, which goes."""
    assert isinstance(node.graph, ir.Graph)
    site = Site(node, path or Path(node.graph, [], []))
    built = rule(site)
    new = [built] if isinstance(built, ir.Value) else built
    graph = node.graph
    site.put_before(node)
    for old, value in zip(node.outputs, new, strict=False):
        if value is not None:
            take_over(old, value)
    graph.remove(node, safe=True)
