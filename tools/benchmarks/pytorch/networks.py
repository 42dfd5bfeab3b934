"""What is measured: the networks, as PyTorch has them and as a file, and batches for them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
import torch
from torch import nn
from torch.nn import functional

from graphs import NETWORKS as WRITTEN
from tests.oracle.networks import GoogLeNet, export_as, randomise_norms
from tests.oracle.torchvision_models import torchvision_models

Arrays = dict[str, np.ndarray]
BATCHES = (1, 8, 32)
FRAMES, WORDS, CLASSES = 300, 20, 1000


class Network(NamedTuple):
    """How PyTorch has it; the loss of what it answers; a batch, inputs first; and, of ours, what *graphs* calls it."""

    make: Callable[[], nn.Module]
    batch: Callable[[int], Arrays]
    loss: Callable[..., torch.Tensor]
    written: str = ""
    """The file is this one of *graphs*; else PyTorch exports it."""
    batches: tuple[int, ...] = BATCHES


def cross_entropy(network: nn.Module, *tensors: torch.Tensor) -> torch.Tensor:
    """Of scores ``[N, classes]`` or ``[N, T, classes]``."""
    *inputs, label = tensors
    return functional.cross_entropy(network(*inputs).flatten(0, -2), label.flatten())


def ctc(stride: int) -> Callable[..., torch.Tensor]:
    """Of all frames, of which the scores have every *stride*-th."""

    def loss(network: nn.Module, x: torch.Tensor, lengths: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        log_p = network(x).log_softmax(-1).transpose(0, 1)
        counts = torch.full((len(label),), label.shape[1])
        return functional.ctc_loss(log_p, label, -(-lengths // stride), counts, zero_infinity=True)

    return loss


def pictures(channels: int = 3, size: int = 224, classes: int = CLASSES) -> Callable[[int], Arrays]:
    def batch(count: int) -> Arrays:
        rng = np.random.default_rng(0)
        image = rng.standard_normal((count, channels, size, size), np.float32)
        return {"image": image, "label": rng.integers(0, classes, count)}

    return batch


def rows(count: int) -> Arrays:
    rng = np.random.default_rng(0)
    return {"image": rng.standard_normal((count, 64), np.float32), "label": rng.integers(0, 10, count)}


def text(count: int) -> Arrays:
    rng = np.random.default_rng(0)
    return {"image": rng.integers(0, Decoder.VOCABULARY, (count, 128)), "label": rng.integers(0, 1000, (count, 128))}


def captions(count: int) -> Arrays:
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2538, (count, WORDS))
    return {"feature": rng.standard_normal((count, 4096), np.float32), "words": words, "label": words}


def speech(bands: int) -> Callable[[int], Arrays]:
    def batch(count: int) -> Arrays:
        rng = np.random.default_rng(0)
        x = rng.standard_normal((count, FRAMES, bands), np.float32)
        return {"features": x, "lengths": np.full(count, FRAMES), "label": rng.integers(1, 29, (count, FRAMES // 10))}

    return batch


def vision(name: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        network: nn.Module = getattr(torchvision_models(), name)(weights=None, **options)
        return network

    return make


class LeNet(nn.Sequential):
    """That of graphs/lenet.py."""

    def __init__(self) -> None:
        super().__init__(
            *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
        )


class OnlyScores(GoogLeNet):
    """GoogLeNet without auxiliary classifiers."""

    def __init__(self) -> None:
        super().__init__(64, 14, CLASSES)
        self.aux1 = self.aux2 = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = super().forward(x)[0]
        return scores


class Mlp(nn.Sequential):
    """Of tables: 64 columns, three layers of 256 units."""

    def __init__(self) -> None:
        hidden = [part for i in range(3) for part in (nn.Linear(256 if i else 64, 256), nn.ReLU())]
        super().__init__(*hidden, nn.Linear(256, 10))


class NeuralTalk(nn.Module):
    """That of graphs/neuraltalk.py, with PyTorch's LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.image_encoder, self.word_encoder = nn.Linear(4096, 512), nn.Embedding(2538, 512)
        self.lstm, self.decoder, self.dropout = nn.LSTM(512, 512), nn.Linear(512, 2538), nn.Dropout(0.5)

    def forward(self, feature: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.image_encoder(feature)[:, None], self.word_encoder(words)], 1).transpose(0, 1)
        scores: torch.Tensor = self.decoder(self.dropout(self.lstm(self.dropout(x))[0][1:]))
        return scores.transpose(0, 1)


class BothWays(nn.RNN):
    """A recurrent layer whose directions are added; its ReLU is not clipped, which PyTorch's cannot be."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__(inputs, width, nonlinearity="relu", bidirectional=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        y, _ = super().forward(x)
        return y[..., : self.hidden_size] + y[..., self.hidden_size :]


class DeepSpeech(nn.Module):
    """That of graphs/deepspeech.py."""

    def __init__(self, width: int = 1024, context: int = 9, bands: int = 26) -> None:
        super().__init__()
        sizes = [(2 * context + 1) * bands, width, width, width]
        self.first = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.rnn, self.fc5, self.fc6 = BothWays(width, width), nn.Linear(width, width), nn.Linear(width, 29)
        self.context, self.dropout = context, nn.Dropout(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        c = self.context
        x = functional.pad(x, (0, 0, c, c)).unfold(1, 2 * c + 1, 1).mT.flatten(2).transpose(0, 1)
        for linear in self.first:
            x = self.dropout(linear(x).clamp(0, 20))
        x = self.dropout(self.fc5(self.rnn(x)).clamp(0, 20))
        scores: torch.Tensor = self.fc6(x)
        return scores.transpose(0, 1)


class DeepSpeech2(nn.Module):
    """That of graphs/deepspeech2.py."""

    def __init__(self, width: int = 1552, maps: int = 32, depth: int = 7) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            *(nn.Conv2d(1, maps, (41, 11), (2, 2), (20, 5), bias=False), nn.BatchNorm2d(maps), nn.Hardtanh(0, 20)),
            *(nn.Conv2d(maps, maps, (21, 11), (2, 1), (10, 5), bias=False), nn.BatchNorm2d(maps), nn.Hardtanh(0, 20)),
        )
        self.rnns = nn.ModuleList(BothWays(width if i else maps * 41, width) for i in range(depth))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(depth))
        self.fc = nn.Linear(width, 29)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.convolutions(x.mT[:, None]).permute(3, 0, 1, 2).flatten(2)
        for rnn, norm in zip(self.rnns, self.norms, strict=True):
            x = norm(rnn(x).flatten(0, 1)).unflatten(0, x.shape[:2])
        scores: torch.Tensor = self.fc(x)
        return scores.transpose(0, 1)


class Layer(nn.Module):
    """x + attention(norm x), then x + W₂·gelu(W₁·norm x), as GPT-2 has it (Radford et al. 2019)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.heads = heads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.narrow(functional.gelu(self.wide(self.norm2(x))))


class Decoder(nn.Module):
    """GPT-like: 6 layers, 256 wide, 128 words."""

    VOCABULARY = 1000

    def __init__(self, layers: int = 6, width: int = 256, heads: int = 4, words: int = 128) -> None:
        super().__init__()
        self.word, self.place = nn.Embedding(self.VOCABULARY, width), nn.Parameter(torch.randn(words, width) / 10)
        self.layers = nn.Sequential(*(Layer(width, heads) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, self.VOCABULARY)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.norm(self.layers(self.word(words) + self.place)))
        return scores


def _vision(name: str, written: str = "") -> Network:
    return Network(vision(name), pictures(), cross_entropy, written)


NETWORKS = {
    "lenet": Network(LeNet, pictures(1, 28, 10), cross_entropy, "lenet", (*BATCHES, 256)),
    "mlp": Network(Mlp, rows, cross_entropy, batches=(*BATCHES, 256)),
    "resnet18": _vision("resnet18", "resnet18"),
    "resnet50": _vision("resnet50", "resnet50"),
    "vgg16": _vision("vgg16", "vgg16"),
    "googlenet": Network(OnlyScores, pictures(), cross_entropy, "googlenet"),
    "neuraltalk": Network(NeuralTalk, captions, cross_entropy, "neuraltalk"),
    "deepspeech": Network(DeepSpeech, speech(26), ctc(1), "deepspeech"),
    "deepspeech2": Network(DeepSpeech2, speech(161), ctc(2), "deepspeech2"),
    "decoder": Network(Decoder, text, cross_entropy),
    "mobilenet_v2": _vision("mobilenet_v2"),
    "mobilenet_v3_large": _vision("mobilenet_v3_large"),
    "efficientnet_b0": _vision("efficientnet_b0"),
    "densenet121": _vision("densenet121"),
    "convnext_tiny": _vision("convnext_tiny"),
    "vit_b_16": _vision("vit_b_16"),
}


def write(name: str, path: Path) -> Path:
    """The network as an ONNX file with a symbolic batch."""
    network = NETWORKS[name]
    if network.written:
        ir.save(WRITTEN[network.written](), path)
        return path
    torch.manual_seed(0)
    return export_as(randomise_norms(network.make()), torch.from_numpy(network.batch(2)["image"]), path)
