"""Networks of the DSD paper, and smaller ones, as ONNX files: written in onnxscript, without a training framework.

Each function of :data:`NETWORKS` takes whole numbers by keyword (``seed`` and what the architecture leaves open) and
returns an inference model::

    image f32[N, C, H, W]  →  logits f32[N, classes]

of opset 17, batch norms kept as nodes in evaluation mode, weights drawn from ``seed`` under the names that PyTorch
gives them (``layer1.0.bn1.running_mean``).  Weights are drawn when they are first read, so that building is quick.
The same arguments give the same bytes.

``python -m graphs`` lists the networks; ``python -m graphs resnet18 -o resnet18.onnx`` writes one.
"""

from collections.abc import Callable

import onnx_ir as ir

from graphs.digits import digits_cnn
from graphs.lenet import lenet
from graphs.resnet import resnet18

NETWORKS: dict[str, Callable[..., ir.Model]] = {
    "digits-cnn": digits_cnn,
    "lenet": lenet,
    "resnet18": resnet18,
}

__all__ = ["NETWORKS", "digits_cnn", "lenet", "resnet18"]
