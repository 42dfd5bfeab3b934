"""What keeps a graph from giving the same bits in every run on one device.

On the CPU nothing does.  On CUDA a kernel that adds atomically does (:mod:`dsd_ort.rewrite.operators.cuda`).  What is
here presumes a session with ``use_deterministic_compute``, without which sums over axes are atomic too, and with
``cudnn_conv_algo_search`` = DEFAULT: with it ONNX Runtime's Conv and ConvGrad take cuDNN algorithms that NVIDIA
documents as deterministic, and the same ones in every process, where a search takes what was fastest at that time.
"""

from __future__ import annotations

import onnx_ir as ir

from dsd_ort.rewrite.names import place
from dsd_ort.rewrite.operators import facts


def nondeterministic(model: ir.Model, device: str) -> tuple[str, ...]:
    """The nodes of *model*, as a session on *device* gets it, that keep it from repeating to the bit; a line each."""
    if device == "cpu":
        return ()
    found = ((node, facts(node).why_unrepeatable(node)) for node in model.graph.all_nodes())
    return tuple(f"{place(node)} {why}" for node, why in found if why is not None)
