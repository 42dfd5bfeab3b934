"""What keeps a graph from giving the same bits in every run on one device.

On the CPU nothing does.  On CUDA a kernel that adds atomically does: the order of float32 additions is that in which
threads happen to arrive.  What is here presumes a session with ``use_deterministic_compute``, without which sums over
axes are atomic too, and with ``cudnn_conv_algo_search`` = DEFAULT: with it ONNX Runtime's Conv and ConvGrad take cuDNN
algorithms that NVIDIA documents as deterministic, and the same ones in every process, where a search takes what was
fastest at that time.

Sources: ONNX Runtime 1.19's ``orttraining/training_ops/cuda`` (``conv_shared.cc``, ``gather_elements_grad_impl.cu``,
``gather_nd_grad_impl.cu``; ``gather_grad_impl.cu`` sorts, and adds in order) and the reproducibility section of cuDNN's
developer guide.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from dsd_ort.rewrite.site import place


def nondeterministic(model: ir.Model, device: str) -> tuple[str, ...]:
    """The nodes of *model*, as a session on *device* gets it, that keep it from repeating to the bit; a line each."""
    found = []
    for node in model.graph.all_nodes():
        why, applies = ATOMIC[device].get(f"{node.domain}.{node.op_type}".removeprefix("."), ("", _never))
        if applies(node):
            found.append(f"{place(node)} {why}")
    return tuple(found)


def _never(node: ir.Node) -> bool:
    return False


def _always(node: ir.Node) -> bool:
    return True


def _reduces(node: ir.Node) -> bool:
    return node.attributes.get_string("reduction", "none") != "none"


ATOMIC: dict[str, dict[str, tuple[str, Callable[[ir.Node], bool]]]] = {
    "cpu": {},
    "cuda": {
        "ConvTranspose": ("is computed by an algorithm that cuDNN chooses, which may add in any order", _always),
        "ScatterElements": ("adds atomically, in any order", _reduces),
        "ScatterND": ("adds atomically, in any order", _reduces),
        "com.microsoft.GatherElementsGrad": ("adds atomically, in any order", _always),
        "com.microsoft.GatherNDGrad": ("adds atomically, in any order", _always),
    },
}
"""By device and operator: why, and which of its nodes."""
