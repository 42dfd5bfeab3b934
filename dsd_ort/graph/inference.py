"""The inference form of a graph that was exported in training mode.

In training mode BatchNormalization normalises by the batch and puts out new running statistics, and Dropout drops.  In
inference both do neither; all else is the same, a batch norm without running statistics too
(:mod:`.batch_statistics`).  Where a file is in training mode, it is trained as such and shipped as
such, nothing changed but its weights; what is measured, and shipped beside it, is this form of it.
"""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from dsd_ort.graph.batch_statistics import in_training_mode, is_without
from dsd_ort.model.source import outline
from dsd_ort.rewrite.nodes import constant_value


def is_training(node: ir.Node) -> bool:
    """Whether *node* behaves as in training."""
    if node.domain:
        return False
    if node.op_type == "Dropout":
        mode = node.inputs[2] if len(node.inputs) > 2 else None
        known = constant_value(mode)
        return mode is not None and (known is None or bool(known))
    if node.op_type == "BatchNormalization":
        return in_training_mode(node) and not is_without(node, constant_value)
    return False


def to_inference(model: ir.Model) -> bool:
    """Turns *model*, in place, into its inference form; whether anything changed.  Requires opset 12 or later."""
    nodes = [node for node in model.graph.all_nodes() if is_training(node)]
    for node in nodes:
        if node.op_type == "Dropout":
            node.replace_input_with(2, None)
            continue
        node.attributes.pop("training_mode", None)
        for output, running in zip(node.outputs[1:], node.inputs[3:], strict=False):
            if running is not None:
                output.replace_all_uses_with(running, replace_graph_outputs=True)
        node.resize_outputs(1)
    return bool(nodes)


def write_inference_form(path: Path) -> Path | None:
    """Writes ``NAME.inference.onnx`` beside the model at *path* if that is in training mode; returns where."""
    if not any(is_training(node) for node in outline(path).graph.all_nodes()):
        return None
    model = ir.load(path)
    to_inference(model)
    destination = path.with_suffix(f".inference{path.suffix}")
    temporary = destination.with_name(f".{destination.name}.part")
    ir.save(model, temporary)
    temporary.replace(destination)
    return destination
