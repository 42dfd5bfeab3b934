"""The networks of the comparison, as PyTorch modules, and their export with batch norm kept."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn


class LeNet(nn.Sequential):
    """LeNet-5 with batch norm behind its convolutions, which therefore have no biases, for 28×28 images."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 6, 5, padding=2, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(400, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, 10),
        )


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.downsample = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            if stride > 1 or inputs != outputs
            else nn.Identity()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + self.downsample(x))


class ResNet18(nn.Sequential):
    """ResNet-18 (He et al. 2016), 11,689,512 parameters."""

    def __init__(self) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
        layers.append(nn.MaxPool2d(3, 2, 1))
        inputs = 64
        for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            layers += [_Block(inputs, outputs, stride), _Block(outputs, outputs, 1)]
            inputs = outputs
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


class _ConvRelu(nn.Conv2d):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, kernel // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).relu()


class _Inception(nn.Module):
    def __init__(self, width: int, inputs: int, *maps: int) -> None:
        super().__init__()
        inputs, a, b, c, d, e, f = (m * width // 64 for m in (inputs, *maps))
        self.branch1 = _ConvRelu(inputs, a, 1)
        self.branch2 = nn.Sequential(_ConvRelu(inputs, b, 1), _ConvRelu(b, c, 3))
        self.branch3 = nn.Sequential(_ConvRelu(inputs, d, 1), _ConvRelu(d, e, 5))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), _ConvRelu(inputs, f, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class _Auxiliary(nn.Module):
    def __init__(self, width: int, inputs: int, side: int, classes: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(5, 3)
        self.conv = _ConvRelu(inputs * width // 64, 2 * width, 1)
        self.fc1 = nn.Linear(2 * width * ((side - 2) // 3) ** 2, 16 * width)
        self.dropout = nn.Dropout(0.7)
        self.fc2 = nn.Linear(16 * width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.dropout(self.fc1(self.conv(self.pool(x)).flatten(1)).relu()))


class GoogLeNet(nn.Module):
    """GoogLeNet (Szegedy et al. 2015), layer by layer as table 1 of the paper and the Caffe Model Zoo have it.

    Its logits, then those of the two auxiliary classifiers, which read images of *side* × *side* (14 of 224 pixels).
    """

    def __init__(self, width: int, side: int, classes: int) -> None:
        super().__init__()
        self.conv1 = _ConvRelu(3, width, 7, 2)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.norm = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
        self.conv2 = _ConvRelu(width, width, 1)
        self.conv3 = _ConvRelu(width, 3 * width, 3)
        self.inception3a = _Inception(width, 192, 64, 96, 128, 16, 32, 32)
        self.inception3b = _Inception(width, 256, 128, 128, 192, 32, 96, 64)
        self.inception4a = _Inception(width, 480, 192, 96, 208, 16, 48, 64)
        self.inception4b = _Inception(width, 512, 160, 112, 224, 24, 64, 64)
        self.inception4c = _Inception(width, 512, 128, 128, 256, 24, 64, 64)
        self.inception4d = _Inception(width, 512, 112, 144, 288, 32, 64, 64)
        self.inception4e = _Inception(width, 528, 256, 160, 320, 32, 128, 128)
        self.inception5a = _Inception(width, 832, 256, 160, 320, 32, 128, 128)
        self.inception5b = _Inception(width, 832, 384, 192, 384, 48, 128, 128)
        self.dropout = nn.Dropout(0.4)
        self.fc = nn.Linear(16 * width, classes)
        self.aux1 = _Auxiliary(width, 512, side, classes)
        self.aux2 = _Auxiliary(width, 528, side, classes)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = self.norm(self.pool(self.conv1(x)))
        x = self.pool(self.norm(self.conv3(self.conv2(x))))
        x = self.pool(self.inception3b(self.inception3a(x)))
        first = self.inception4a(x)
        second = self.inception4d(self.inception4c(self.inception4b(first)))
        x = self.pool(self.inception4e(second))
        x = self.inception5b(self.inception5a(x)).mean((2, 3))
        return self.fc(self.dropout(x)), self.aux1(first), self.aux2(second)


def randomise_norms(network: nn.Module) -> nn.Module:
    """Gives batch norms values of a network in training; PyTorch's exporter would merge the equal ones of a new one."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.8, 1.2)
                module.bias.normal_(0, 0.1)
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.8, 1.2)
    return network


def export(network: nn.Module, image: tuple[int, ...], path: Path) -> Path:
    """Writes *network* of pictures as an inference model with a symbolic batch and its batch norms as nodes."""
    return export_as(network, torch.zeros(2, *image), path)


def export_as(network: nn.Module, example: torch.Tensor, path: Path) -> Path:
    """:func:`export` of a network that reads what *example* is a batch of."""
    network.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (example,),
            str(path),
            dynamo=False,
            opset_version=17,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
        )
    return path


class ResNet20(nn.Module):
    """He et al. 2016, section 4.2, with shortcuts that have no weights: every second row and column, and zeros."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        maps = [(width, width), (width, 2 * width), (2 * width, 4 * width)]
        for number, (inputs, outputs) in enumerate(maps, 1):
            blocks = [_UnweightedBlock(inputs if i == 0 else outputs, outputs) for i in range(depth)]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self.fc = nn.Linear(4 * width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        for stage in (self.layer1, self.layer2, self.layer3):
            x = stage(x)
        return self.fc(x.mean((2, 3)))


class _UnweightedBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        stride = outputs // inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if (new := y.shape[1] - x.shape[1]) > 0:
            x = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, new // 2, new - new // 2))
        return torch.relu(y + x)
