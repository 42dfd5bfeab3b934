"""Small networks of PyTorch's own modules, one a family of operators: what people export.

Each takes one or two tensors whose first axis is the batch, and gives scores ``f32[N, …]``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

IMAGE, SEQUENCE, TOKENS = (3, 16, 16), (7, 12), (9,)
CLASSES, WORDS = 5, 40


class Small(NamedTuple):
    """How a network is made, and the shapes of its inputs without the batch; ``TOKENS`` are whole numbers."""

    make: Callable[[], nn.Module]
    inputs: Sequence[tuple[int, ...]]

    def example(self, batch: int) -> tuple[torch.Tensor, ...]:
        """Normal numbers, or words."""
        return tuple(
            torch.randint(WORDS, (batch, *shape)) if shape == TOKENS else torch.randn(batch, *shape)
            for shape in self.inputs
        )


class Recurrent(nn.Module):
    """A recurrent layer over ``[N, T, features]``, its last output into classes."""

    def __init__(self, layer: type[nn.RNNBase], **options: bool | int) -> None:
        super().__init__()
        self.layer = layer(SEQUENCE[1], 10, batch_first=True, **options)
        self.head = nn.Linear(20 if options.get("bidirectional") else 10, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(x)[0][:, -1])


class Encoder(nn.Module):
    """Words, positions, two transformer layers."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 16)
        self.positions = nn.Parameter(torch.randn(TOKENS[0], 16))
        layer = nn.TransformerEncoderLayer(16, 4, 32, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(self.words(tokens) + self.positions).mean(1))


class Decoder(nn.Module):
    """Causal attention over words, and attention to a memory."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, SEQUENCE[1])
        layer = nn.TransformerDecoderLayer(SEQUENCE[1], 3, 32, 0.0, batch_first=True)
        self.layers = nn.TransformerDecoder(layer, 2)
        self.head = nn.Linear(SEQUENCE[1], WORDS)
        self.register_buffer("causal", nn.Transformer.generate_square_subsequent_mask(TOKENS[0]))

    def forward(self, tokens: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(self.words(tokens), memory, tgt_mask=self.causal, tgt_is_causal=True))


class Attention(nn.Module):
    """Multi-head attention of a sequence to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(SEQUENCE[1], 3, batch_first=True)
        self.head = nn.Linear(SEQUENCE[1], CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


class EinsumAttention(nn.Module):
    """Attention written in Einsum."""

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Parameter(torch.randn(3, SEQUENCE[1], 4, 5) * 0.3)
        self.output = nn.Parameter(torch.randn(4, 5, CLASSES) * 0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (torch.einsum("btf,fhd->bthd", x, w) for w in self.projection)
        weights = (torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(5)).softmax(-1)
        return torch.einsum("bhqk,bkhd,hdc->bqc", weights, v, self.output)


class UNet(nn.Module):
    """Down twice, up twice by transposed convolutions, with skips."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (self.block(i, o) for i, o in ((3, 8), (8, 12), (12, 16)))
        self.up2, self.up1 = nn.ConvTranspose2d(16, 12, 2, 2), nn.ConvTranspose2d(12, 8, 3, 2, 1, output_padding=1)
        self.join2, self.join1 = self.block(24, 12), self.block(16, 8)
        self.head = nn.Conv2d(8, CLASSES, 1)

    @staticmethod
    def block(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.first(x)
        b = self.second(F.max_pool2d(a, 2))
        c = self.third(F.max_pool2d(b, 2))
        b = self.join2(torch.cat([self.up2(c), b], 1))
        return self.head(self.join1(torch.cat([self.up1(b), a], 1)))


class Upsampling(nn.Module):
    """Every interpolation, each behind a convolution of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Upsample(scale_factor=2, mode=mode, **more))
            for mode, more in (
                ("nearest", {}),
                ("bilinear", {"align_corners": False}),
                ("bilinear", {"align_corners": True}),
                ("bicubic", {"align_corners": False}),
            )
        )
        self.head = nn.Conv2d(4, CLASSES, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = sum(layer(x) for layer in self.layers)
        return self.head(F.interpolate(y, size=(12, 20), mode="bilinear", align_corners=False))


class EmbeddingMean(nn.Module):
    """A bag of words: the mean of their vectors, where word 0 is padding."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(WORDS, 12, padding_idx=0), nn.Linear(12, CLASSES)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        counts = (tokens != 0).unsqueeze(-1).float()
        return self.head((self.words(tokens) * counts).sum(1) / counts.sum(1).clamp(min=1))


class TiedWords(nn.Module):
    """Words in and out by the same table."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.middle, self.head = nn.Embedding(WORDS, 12), nn.Linear(12, 12), nn.Linear(12, WORDS)
        self.head.weight = self.words.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.middle(self.words(tokens))))


class Convolutions(nn.Module):
    """Over one axis and over three."""

    def __init__(self) -> None:
        super().__init__()
        self.line, self.volume = nn.Conv1d(3, 6, 5, stride=2, dilation=2), nn.Conv3d(1, 4, (3, 3, 2), padding=1)
        self.depthwise, self.head = nn.Conv1d(6, 6, 3, groups=6), nn.Linear(10, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        line = self.depthwise(F.relu(self.line(x.flatten(2)))).amax(2)
        volume = F.max_pool3d(F.relu(self.volume(x.unsqueeze(1))), 2).mean((2, 3, 4))
        return self.head(torch.cat([line, volume], 1))


class Activations(nn.Module):
    """Linear layers side by side, each with an activation of its own."""

    def __init__(self) -> None:
        super().__init__()
        kinds = (nn.PReLU(6), nn.ELU(), nn.SELU(), nn.GELU(), nn.GELU("tanh"), nn.Mish(), nn.Hardswish())
        kinds += (nn.Hardsigmoid(), nn.SiLU(), nn.Softplus(), nn.LeakyReLU(0.1), nn.CELU(), nn.Softsign(), nn.ReLU6())
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(12, 6), kind) for kind in kinds)
        self.head = nn.Linear(6 * len(kinds), CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = 2 * x.mean(1)
        return self.head(torch.cat([layer(x) for layer in self.layers], 1))


class Pools(nn.Module):
    """Average, power and adaptive pools."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.average, self.power = nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.LPPool2d(2, 2)
        self.ceil = nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False)
        self.adaptive, self.greatest = nn.AdaptiveAvgPool2d((4, 2)), nn.AdaptiveMaxPool2d((4, 2))
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        parts = (self.average(x), self.ceil(x), self.power(x.abs() + 0.1), self.adaptive(x), self.greatest(x))
        return self.head(torch.cat([part.flatten(2) for part in parts], 2).mean(2))


class Pair(nn.Module):
    """A bilinear form of two vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.form = nn.Linear(12, 8), nn.Linear(12, 8), nn.Bilinear(8, 8, CLASSES)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.form(self.left(x), self.right(y))


class Prototypes(nn.Module):
    """A gated layer, and the cosine to a vector a class."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.prototypes = nn.Linear(12, 20), nn.Parameter(torch.randn(CLASSES, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.glu(self.layer(x.mean(1)))
        return F.cosine_similarity(y.unsqueeze(1), self.prototypes.unsqueeze(0), dim=-1)


class SpatialTransformer(nn.Module):
    """An affine map, found by a small network, samples the image before it is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.where, self.what = nn.Linear(3 * 16 * 16, 6), nn.Conv2d(3, 6, 3)
        self.head = nn.Linear(6, CLASSES)
        with torch.no_grad():
            self.where.weight.mul_(0.02)
            self.where.bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        theta = self.where(x.flatten(1)).reshape(-1, 2, 3)
        grid = F.affine_grid(theta, [x.shape[0], *IMAGE], align_corners=False)
        return self.head(F.relu(self.what(F.grid_sample(x, grid, align_corners=False))).mean((2, 3)))


class Patches(nn.Module):
    """Unfolds into patches, maps each, and folds them back."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(3 * 16, 3 * 16)
        self.head = nn.Conv2d(3, CLASSES, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patches = self.map(F.unfold(x, 4, stride=4).transpose(1, 2)).transpose(1, 2)
        return self.head(F.fold(patches, (16, 16), 4, stride=4))


def _convolved(*layers: nn.Module, channels: int = 8) -> nn.Module:
    """Layers between two convolutions."""
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *layers, nn.Conv2d(channels, CLASSES, 1))


NETWORKS: dict[str, Small] = {
    "activations": Small(Activations, [SEQUENCE]),
    "attention": Small(Attention, [SEQUENCE]),
    "convolutions": Small(Convolutions, [IMAGE]),
    "einsum_attention": Small(EinsumAttention, [SEQUENCE]),
    "embedding_mean": Small(EmbeddingMean, [TOKENS]),
    "group_norm": Small(lambda: _convolved(nn.GroupNorm(4, 8), nn.SiLU()), [IMAGE]),
    "gru": Small(lambda: Recurrent(nn.GRU), [SEQUENCE]),
    "instance_norm": Small(lambda: _convolved(nn.InstanceNorm2d(8, affine=True), nn.ReLU()), [IMAGE]),
    "layer_norm": Small(lambda: nn.Sequential(nn.LayerNorm(12), nn.Linear(12, CLASSES)), [SEQUENCE]),
    "log_softmax": Small(
        lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(84, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, CLASSES), nn.LogSoftmax(1)
        ),
        [SEQUENCE],
    ),
    "lstm": Small(lambda: Recurrent(nn.LSTM), [SEQUENCE]),
    "lstm_bidirectional": Small(lambda: Recurrent(nn.LSTM, bidirectional=True), [SEQUENCE]),
    "lstm_two_layers": Small(lambda: Recurrent(nn.LSTM, num_layers=2), [SEQUENCE]),
    "pair": Small(Pair, [(12,), (12,)]),
    "patches": Small(Patches, [IMAGE]),
    "pixel_shuffle": Small(lambda: _convolved(nn.PixelShuffle(2), nn.PixelUnshuffle(2)), [IMAGE]),
    "pools": Small(Pools, [IMAGE]),
    "prototypes": Small(Prototypes, [SEQUENCE]),
    "rnn": Small(lambda: Recurrent(nn.RNN), [SEQUENCE]),
    "spatial_transformer": Small(SpatialTransformer, [IMAGE]),
    "tied_words": Small(TiedWords, [TOKENS]),
    "transformer_decoder": Small(Decoder, [TOKENS, SEQUENCE]),
    "transformer_encoder": Small(Encoder, [TOKENS]),
    "unet": Small(UNet, [IMAGE]),
    "upsampling": Small(Upsampling, [IMAGE]),
    "weight_norm": Small(
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(12, 9)), nn.Linear(9, CLASSES)),
        [SEQUENCE],
    ),
}


def perturbed(network: nn.Module) -> nn.Module:
    """*network* in evaluation mode, no two of its tensors equal: exporters merge equal ones.

    Batch norms get statistics of a network in training.
    """
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.8, 1.2)
    return network.eval()
