"""Operators in the form that the device has, and computes fastest: one table, :data:`FORMS`.

Requires a differentiated graph, masked or not, or a model in inference.  Ensures the same
outputs under the same names, equal up to the order of float32 sums.  Every form is one small function with its algebra
in the file of its device; where its conditions do not hold the node stays as it is.

What is on no list for CUDA has a kernel there in ONNX Runtime 1.19's training build already (ConvGrad, ReluGrad,
BatchNormalizationGrad, …), or its portable form has one.

Notation: a convolution Y = X ∗ W with strides s, dilations d and pads p, X: f32[N, C, H…], W: f32[M, C/g, K…],
Y: f32[N, M, H'…]; dX, dW, dY are the gradients of the loss.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from dsd_ort.device.lower import added, convolved, cuda, dropout, entrywise, formulas, likelihood, normalised, recorded
from dsd_ort.device.lower.blocked import BLOCKED, Layout, channel_block
from dsd_ort.device.lower.convolution import Convolution, convolution_of, flip_transpose
from dsd_ort.device.lower.form import Choices, Form, by_formula
from dsd_ort.device.lower.together import compute_together
from dsd_ort.rewrite import autograd
from dsd_ort.rewrite.autograd import OPSET
from dsd_ort.rewrite.names import Names
from dsd_ort.rewrite.nodes import take_over
from dsd_ort.rewrite.operators import key
from dsd_ort.rewrite.path import Path
from dsd_ort.rewrite.site import Site

__all__ = ["BLOCKED", "FORMS", "Convolution", "channel_block", "convolution_of", "flip_transpose", "lower"]

FORMS: dict[str, dict[str, Form]] = {
    "cpu": {
        "Add": Form(entrywise.addition, "gradients of SiLU or of parts side by side → QuickGeluGrad or Concat"),
        "Sum": Form(entrywise.addition, "gradients of parts side by side → Concat"),
        "com.microsoft.ReluGrad": Form(entrywise.relu_gradient, "ReluGrad → HardSigmoid · Mul"),
        "LeakyRelu": Form(entrywise.leaky_relu, "LeakyRelu → Max"),
        "com.microsoft.LeakyReluGrad": Form(entrywise.leaky_relu_gradient, "LeakyReluGrad → HardSigmoid · Max · Mul"),
        "com.microsoft.GeluGrad": Form(by_formula(formulas.gelu), "GeluGrad → its formula"),
        "com.microsoft.BiasGeluGrad_dX": Form(by_formula(formulas.gelu), "BiasGeluGrad_dX → its formula"),
        "com.microsoft.FastGeluGrad": Form(by_formula(formulas.fast_gelu), "FastGeluGrad → its formula"),
        "Where": Form(entrywise.chosen_gradient, "gradients chosen by Where → Cast · Mul"),
        "Pow": Form(entrywise.power, "Pow by quarters, squares and cubes → Sqrt · Mul"),
        "Softmax": Form(normalised.softmax, "Softmax before others → ReduceMax · Exp · ReduceSum"),
        "LogSoftmax": Form(normalised.log_softmax, "LogSoftmax before others → ReduceMax · Exp · ReduceSum"),
        "com.microsoft.SoftmaxGrad_13": Form(normalised.softmax_gradient, "SoftmaxGrad before others → its formula"),
        "com.microsoft.LogSoftmaxGrad_13": Form(by_formula(formulas.log_softmax), "LogSoftmaxGrad → its formula"),
        "com.microsoft.BatchNormInternal": Form(normalised.batch_norm, "batch norm of rows → ReduceMean"),
        "com.microsoft.BatchNormalizationGrad": Form(
            normalised.batch_norm_gradient, "gradient of a batch norm of rows → ReduceMean"
        ),
        "Conv": Form(convolved.convolution, "Conv → blocked Conv"),
        "com.microsoft.ConvGrad": Form(convolved.convolution_gradient, "ConvGrad → ConvGrad for dW, Conv for dX"),
        "SoftmaxCrossEntropyLoss": Form(likelihood.cross_entropy, "SoftmaxCrossEntropyLoss → LogSoftmax"),
        "com.microsoft.SoftmaxCrossEntropyLossGrad": Form(
            likelihood.cross_entropy_gradient, "SoftmaxCrossEntropyLossGrad → p - [class = label]"
        ),
        "com.microsoft.GatherGrad": Form(added.gather_gradient, "GatherGrad → GatherElementsGrad", everywhere=True),
        "ScatterND": Form(added.scatter_nd, "ScatterND with a reduction → ScatterElements", everywhere=True),
    },
    "cuda": {
        "Dropout": Form(dropout.dropout, "Dropout → masks by arithmetic"),
        "MaxPoolGrad": Form(cuda.max_pool_gradient, "MaxPoolGrad → additions at MaxPool's indices"),
        "GRU": Form(cuda.gru, "GRU → Scan"),
        "LSTM": Form(cuda.lstm, "LSTM → Scan"),
        "RNN": Form(cuda.rnn, "RNN → Scan"),
        "Concat": Form(recorded.concat, "Concat → Concat of equal parts"),
        "GatherND": Form(recorded.gather_nd, "GatherND → Gather"),
        "Split": Form(recorded.split, "Split → Slice"),
        "Transpose": Form(recorded.turned_product, "Transpose(MatMul) → Gemm"),
        "com.microsoft.GatherGrad": Form(recorded.gather_gradient, "GatherGrad → product with a one-hot matrix"),
    },
}
"""By device and operator; those of other domains carry the domain in front."""


def lower(
    model: ir.Model, device: str = "cpu", *, block: int | None = None, deterministic: bool = False
) -> tuple[str, ...]:
    """Rewrites *model* in place for *device*, one line for each form that was taken.

    Args:
        model: a differentiated graph, or one in inference.
        device: ``"cpu"`` or ``"cuda"``.
        block: channels in a block of MLAS's layout; this machine's if None, 1 for no blocked convolution.
        deterministic: only forms that repeat to the bit, where there is one.
    """
    forms = FORMS[device]
    if device == "cuda":
        cuda.raise_opset(model)
    model.graph.sort()
    opset = model.opset_imports.get("", OPSET)
    choices = Choices(Layout(_block(device) if block is None else block), deterministic, opset)
    path, counts, names = Path(model.graph, [], []), dict.fromkeys(forms, 0), Names(model.graph)

    def walk(nodes: Iterable[ir.Node], *, everywhere: bool = False) -> None:
        for node in list(nodes):
            form = forms.get(key(node))
            if form is None or form.everywhere != everywhere:
                continue
            if _apply(form, Site(node, path, names=names), choices):
                counts[key(node)] += 1

    walk(chain(model.graph, *_bodies(model.graph, device)))
    walk(model.graph.all_nodes(), everywhere=True)
    if choices.layout.used:
        model.graph.opset_imports[BLOCKED] = 1
    if choices.operators:
        autograd.add(model, choices.operators)
        for function in model.functions.values():  # opsets 18 to 21 mean the same by all that is in them
            function.opset_imports[""] = model.opset_imports[""]
        autograd.inline(model)
        walk(chain(*_bodies(model.graph, device)))
    notes = [f"{forms[name].note} ({times}×)" for name, times in counts.items() if times]
    if notes:
        RemoveUnusedNodesPass()(model)
    if device == "cpu" and choices.recent and (count := compute_together(model)):
        notes.append(f"what is done to {count} short vectors → once")
    return tuple(notes)


def _bodies(graph: ir.Graph, device: str) -> list[ir.Graph]:
    """Those of Scans, whose steps are nodes of the graph in the end (:mod:`~.unroll`)."""
    scans = [node for node in graph if key(node) == "Scan"] if device == "cuda" else []
    return [node.attributes["body"].as_graph() for node in scans]


def _block(device: str) -> int:
    return channel_block() if device == "cpu" else 1


def _apply(form: Form, site: Site, choices: Choices) -> bool:
    """What the form builds takes over names and readers of the node's outputs; it goes if nothing of it is left."""
    built = form.rule(site, choices)
    if built is None:
        return False
    node, graph = site.node, site.node.graph
    assert isinstance(graph, ir.Graph)
    site.put_before(node)
    for old, new in zip(node.outputs, [built] if isinstance(built, ir.Value) else built, strict=False):
        if new is not None:
            take_over(old, new)
    if not any(output.name for output in node.outputs):
        graph.remove(node, safe=True)
    return True
