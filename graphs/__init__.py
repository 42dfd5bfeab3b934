"""Networks of the DSD paper, and smaller ones, as ONNX files: written in onnxscript, without a training framework.

Each function of :data:`NETWORKS` takes whole numbers by keyword (``seed`` and what the architecture leaves open) and
returns an inference model, of pictures, captions or speech::

    image f32[N, C, H, W]                          →  logits f32[N, classes]
    feature f32[N, features], words i64[N, T]      →  logits f32[N, T, vocabulary]
    features f32[N, T, bands], lengths i64[N]      →  logits f32[N, T, classes]

of opset 17, batch norms kept as nodes in evaluation mode, weights drawn from ``seed`` under the names that PyTorch
gives them (``layer1.0.bn1.running_mean``).  Weights are drawn when they are first read, so that building is quick.
The same arguments give the same bytes.

``python -m graphs`` lists the networks; ``python -m graphs resnet18 -o resnet18.onnx`` writes one.
"""

from collections.abc import Callable

import onnx_ir as ir

from graphs.deepspeech import deepspeech
from graphs.deepspeech2 import deepspeech2
from graphs.digits import digits_cnn, digits_mlp
from graphs.googlenet import googlenet
from graphs.lenet import lenet
from graphs.neuraltalk import neuraltalk
from graphs.resnet import resnet18, resnet50
from graphs.resnet20 import resnet20
from graphs.vgg import vgg16

NETWORKS: dict[str, Callable[..., ir.Model]] = {
    "digits-cnn": digits_cnn,
    "digits-mlp": digits_mlp,
    "lenet": lenet,
    "vgg16": vgg16,
    "googlenet": googlenet,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "resnet20": resnet20,
    "neuraltalk": neuraltalk,
    "deepspeech": deepspeech,
    "deepspeech2": deepspeech2,
}

__all__ = [
    "NETWORKS",
    "deepspeech",
    "deepspeech2",
    "digits_cnn",
    "digits_mlp",
    "googlenet",
    "lenet",
    "neuraltalk",
    "resnet18",
    "resnet20",
    "resnet50",
    "vgg16",
]
