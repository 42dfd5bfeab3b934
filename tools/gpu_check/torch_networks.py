"""The networks that are timed, in PyTorch as people write them there; weights have the names of those in graphs/.

DeepSpeech 2 is there twice: with the clipped ReLU of its paper, whose recurrent layers are a loop over the frames, and
with PyTorch's own fused recurrent layer, which has a ReLU without a ceiling.  Both compute the same while nothing is
greater than 20.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inputs: int, maps: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, maps, 3, stride, 1, bias=False), nn.BatchNorm2d(maps)
        self.conv2, self.bn2 = nn.Conv2d(maps, maps, 3, 1, 1, bias=False), nn.BatchNorm2d(maps)
        self.relu, self.downsample = nn.ReLU(inplace=True), shortcut(inputs, maps, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs: int, maps: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * maps
        self.conv1, self.bn1 = nn.Conv2d(inputs, maps, 1, bias=False), nn.BatchNorm2d(maps)
        self.conv2, self.bn2 = nn.Conv2d(maps, maps, 3, stride, 1, bias=False), nn.BatchNorm2d(maps)
        self.conv3, self.bn3 = nn.Conv2d(maps, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.relu, self.downsample = nn.ReLU(inplace=True), shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """torchvision's."""

    def __init__(self, block: type, depths: list[int], width: int, classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        inputs = width
        for i, depth in enumerate(depths):
            maps = width * 2**i
            blocks = []
            for j in range(depth):
                blocks.append(block(inputs, maps, 2 if i and not j else 1))
                inputs = maps * block.expansion
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


class Vgg(nn.Module):
    """torchvision's VGG-16."""

    def __init__(self, width: int, size: int, classes: int, percent: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for group, convolutions in enumerate((2, 2, 3, 3, 3)):
            maps = width * min(2**group, 8)
            for _ in range(convolutions):
                layers += [nn.Conv2d(inputs, maps, 3, 1, 1), nn.ReLU(inplace=True)]
                inputs = maps
            layers.append(nn.MaxPool2d(2))
        units = 64 * width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            *(nn.Linear(8 * width * (size // 32) ** 2, units), nn.ReLU(inplace=True), nn.Dropout(percent / 100)),
            *(nn.Linear(units, units), nn.ReLU(inplace=True), nn.Dropout(percent / 100)),
            nn.Linear(units, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


class ClippedRnn(nn.Module):
    """[T, N, inputs] → [T, N, units], both ways added; of what goes in, all frames are multiplied at once."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(2, units, inputs))
        self.weight_hh = nn.Parameter(torch.empty(2, units, units))
        self.bias = nn.Parameter(torch.empty(2, 2 * units))

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        """*inside* [T, 1, N, 1] is 1 in front of a sequence's end."""
        first, second = self.bias.chunk(2, 1)
        both = torch.stack([x, x.flip(0)], 1)  # [T, 2, N, inputs]
        ahead = torch.einsum("tdni,dhi->tdnh", both, self.weight_ih)
        ahead = ahead + (first + second)[:, None].to(ahead.dtype)
        mask = torch.cat([inside, inside.flip(0)], 1).to(ahead.dtype)  # [T, 2, N, 1]
        back = self.weight_hh.mT.to(ahead.dtype)
        h, states = torch.zeros_like(ahead[0]), []
        for step, known in zip(ahead.unbind(0), mask.unbind(0), strict=True):
            h = torch.baddbmm(step, h, back).clamp(0, 20) * known
            states.append(h)
        y = torch.stack(states)
        return y[:, 0] + y[:, 1].flip(0)


class FusedRnn(nn.RNN):
    """PyTorch's own (cuDNN's on a GPU), over sequences that are all as long as the longest: nothing is packed."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__(inputs, units, nonlinearity="relu", bidirectional=True)

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        first, second = super().forward(x)[0].chunk(2, 2)
        return first + second


class DeepSpeech2(nn.Module):
    def __init__(
        self, rnn: Callable[[int, int], nn.Module], *, classes: int, bands: int, maps: int, width: int, depth: int
    ) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, maps, (41, 11), (2, 2), (20, 5), bias=False), nn.BatchNorm2d(maps)
        self.conv2, self.bn2 = nn.Conv2d(maps, maps, (21, 11), (2, 1), (10, 5), bias=False), nn.BatchNorm2d(maps)
        inputs = maps * -(-bands // 4)
        self.rnns = nn.ModuleList([rnn(inputs if i == 0 else width, width) for i in range(depth)])
        self.norms = nn.ModuleList([nn.BatchNorm1d(width) for _ in range(depth)])
        self.fc = nn.Linear(width, classes)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """[N, T, bands], [N] → [⌈T/2⌉, N, classes]"""
        frames = (lengths + 1) // 2
        x = (features * within(features.shape[1], lengths)[:, :, None]).mT[:, None]
        known = within((features.shape[1] + 1) // 2, frames)  # [N, T]
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2)):
            x = norm(conv(x)).clamp(0, 20) * known[:, None, None]
        x = x.flatten(1, 2).permute(2, 0, 1)
        inside = known.mT[:, None, :, None]
        for rnn, norm in zip(self.rnns, self.norms, strict=True):
            y = rnn(x, inside)
            x = norm(y.flatten(0, 1)).unflatten(0, y.shape[:2])
        return self.fc(x)


def within(steps: int, lengths: Tensor) -> Tensor:
    return (torch.arange(steps, device=lengths.device) < lengths[:, None]).float()


def make(name: str, arguments: dict[str, int], *, fused: bool = False) -> nn.Module:
    """A network of the arguments that graphs/ takes; *fused* is DeepSpeech 2 with PyTorch's own recurrent layers."""
    width, classes = arguments.get("width", 64), arguments.get("classes", 1000)
    if name in ("resnet18", "resnet50"):
        block, blocks = (Bottleneck, (3, 4, 6, 3)) if name == "resnet50" else (BasicBlock, (2, 2, 2, 2))
        return ResNet(block, [min(n, arguments.get("depth", 6)) for n in blocks], width, classes)
    if name == "vgg16":
        return Vgg(width, arguments.get("size", 224), classes, arguments.get("dropout", 50))
    if name == "deepspeech2":
        defaults = {"classes": 29, "bands": 161, "maps": 32, "width": 1552, "depth": 7}
        chosen = {key: arguments.get(key, value) for key, value in defaults.items()}
        return DeepSpeech2(FusedRnn if fused else ClippedRnn, **chosen)
    raise ValueError(f"{name} is not written in PyTorch here")


def load(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Gives *network* the weights of the ONNX file, all of them."""
    if any(isinstance(module, FusedRnn) for module in network.modules()):
        weights = fused_names(weights)
    missing, unexpected = network.load_state_dict(weights, strict=False)
    assert not unexpected, unexpected
    assert all(key.endswith("num_batches_tracked") for key in missing), missing


def fused_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """``rnns.0.weight_ih [2, …]`` as ``rnns.0.weight_ih_l0`` and ``rnns.0.weight_ih_l0_reverse``."""
    named = {}
    for key, value in weights.items():
        if not key.startswith("rnns."):
            named[key] = value
            continue
        layer, part = key.rsplit(".", 1)
        for way, both in zip(("l0", "l0_reverse"), value, strict=True):
            if part == "bias":
                named[f"{layer}.bias_ih_{way}"], named[f"{layer}.bias_hh_{way}"] = both.chunk(2)
            else:
                named[f"{layer}.{part}_{way}"] = both
    return named


def loss_of(name: str, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """As the run's recipe has it.  Lengths of CTC are the host's, which spares PyTorch to fetch them."""
    if name == "deepspeech2":
        scores = network(batch["features"], batch["lengths"])
        frames, counts = batch["frames"], batch["counts"]
        log_p = scores.float().log_softmax(-1)
        return functional.ctc_loss(log_p, batch["label"], frames, counts, zero_infinity=True)
    return functional.cross_entropy(network(batch["image"]), batch["label"])
