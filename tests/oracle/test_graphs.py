"""The networks of graphs/ compute what torchvision's do, and GoogLeNet, another there, what PyTorch's layers do.

Weights go by name from the ONNX model into torchvision's network, which takes no fewer, no more and no others.  Then
all that begin as 0 or 1 get other values, or a bias or a statistic in the wrong place would change nothing.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import nn

from graphs import NETWORKS
from tests.oracle.networks import GoogLeNet, ResNet20, randomise_norms
from tests.oracle.torchvision_models import torchvision_models

pytestmark = pytest.mark.oracle

TOLERANCE = 1e-5
"""Of the largest logit."""
CONFIGURATIONS = {11: "A", 13: "B", 16: "D", 19: "E"}


# Small VGGs are below; to draw the large one's 138 million weights takes half a minute.
@pytest.mark.parametrize("name", [pytest.param("vgg16", marks=pytest.mark.slow), "resnet18", "resnet50"])
def test_a_network_has_the_weights_of_torchvisions_in_its_order_and_its_logits(name: str) -> None:
    with torch.device("meta"):  # where nothing is drawn
        theirs = getattr(torchvision_models(), name)(weights=None)
    model = NETWORKS[name]()
    weights = [key for key in theirs.state_dict() if not key.endswith("num_batches_tracked")]
    assert list(model.graph.initializers) == weights
    compare(model, theirs)


@pytest.mark.parametrize("depth", CONFIGURATIONS)
def test_a_small_vgg_of_any_depth_is_torchvisions(depth: int) -> None:
    vgg = torchvision_models().vgg
    plan = [item if item == "M" else item * 8 // 64 for item in vgg.cfgs[CONFIGURATIONS[depth]]]
    theirs = vgg.VGG(vgg.make_layers(plan), init_weights=False)
    theirs.avgpool = nn.Identity()
    for i, (inputs, outputs) in {0: (64 * 2 * 2, 512), 3: (512, 512), 6: (512, 7)}.items():
        theirs.classifier[i] = nn.Linear(inputs, outputs)
    compare(NETWORKS["vgg16"](width=8, size=75, classes=7, depth=depth), theirs)


@pytest.mark.parametrize(
    ("name", "depth", "block", "stages"),
    [
        ("resnet18", 1, "BasicBlock", (1, 1, 1, 1)),
        ("resnet50", 1, "Bottleneck", (1, 1, 1, 1)),
        ("resnet50", 5, "Bottleneck", (3, 4, 5, 3)),
    ],
)
def test_a_shallow_resnet_is_torchvisions(name: str, depth: int, block: str, stages: tuple[int, ...]) -> None:
    resnet = torchvision_models().resnet
    theirs = resnet.ResNet(getattr(resnet, block), stages, num_classes=7)
    compare(NETWORKS[name](size=75, classes=7, depth=depth), theirs)


@pytest.mark.parametrize(("width", "size", "side"), [(64, 224, 14), (16, 97, 6), (16, 80, 5)])
def test_googlenet_computes_what_pytorchs_layers_compute(width: int, size: int, side: int) -> None:
    model = NETWORKS["googlenet"](width=width, size=size, classes=100, aux=1)
    compare(model, GoogLeNet(width, side, 100))


@pytest.mark.parametrize(("width", "size", "depth"), [(16, 32, 3), (6, 21, 1)])
def test_resnet20_computes_what_pytorchs_layers_compute(width: int, size: int, depth: int) -> None:
    compare(NETWORKS["resnet20"](width=width, size=size, depth=depth), ResNet20(depth, width))


def compare(model: ir.Model, network: nn.Module) -> None:
    """The model's weights into *network*, other values into what begins as 0 or 1, and both over the same images."""
    initializers = model.graph.initializers
    values = {name: torch.tensor(value.const_value.numpy()) for name, value in initializers.items()}
    network.load_state_dict(values, strict=True, assign=True)
    torch.manual_seed(0)
    randomise_norms(network)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
    for name, value in network.state_dict().items():
        if name in initializers:
            initializers[name].const_value = ir.tensor(value.numpy())
    size = model.graph.inputs[0].shape[3]
    image = images(1 if size == 224 else 3, size)
    with torch.no_grad():
        theirs = network.eval()(torch.from_numpy(image))
    theirs = [theirs] if isinstance(theirs, torch.Tensor) else [*theirs]
    for ours, logits in zip(run(model, image), (logits.numpy() for logits in theirs), strict=True):
        difference = float(np.abs(ours - logits).max() / np.abs(logits).max())
        print(f"{model.graph.name}: {difference:.1e}")
        assert logits.std() > 0.01 * np.abs(logits).max()
        assert difference <= TOLERANCE


def images(count: int, size: int) -> np.ndarray:
    """Like pixels up to 255 without their mean: to smaller ones local response normalisation does next to nothing."""
    return 64 * np.random.default_rng(0).standard_normal((count, 3, size, size), np.float32)


def run(model: ir.Model, image: np.ndarray) -> list[np.ndarray]:
    proto = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(proto, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})
