"""Recurrent layers and transformers with the batch second, and batch norm without running statistics, by both of
PyTorch's exporters: two phases of training end with PyTorch's own weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import dsd_ort
from dsd_ort.recipe import Recipe

pytestmark = pytest.mark.oracle

STEPS, BATCH, EXAMPLES, RATE = 7, 8, 24, 0.05
TOLERANCE = 2e-5
"""Of outputs, after two epochs in float32."""


class Sequences(nn.Module):
    """A recurrent layer over ``[time, batch, 4]``, PyTorch's default, with scores of each step."""

    def __init__(self, kind: type[nn.RNNBase], layers: int = 1, *, both_ways: bool = False) -> None:
        super().__init__()
        self.layer = kind(4, 6, layers, bidirectional=both_ways)
        self.head = nn.Linear(12 if both_ways else 6, 5)

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(sequence)[0])


class WithCells(Sequences):
    """With the first and last states ``[layers, batch, 6]`` as inputs and outputs."""

    def forward(self, sequence: torch.Tensor, h0: torch.Tensor, c0: torch.Tensor) -> tuple[torch.Tensor, ...]:  # type: ignore[override]
        y, (h, c) = self.layer(sequence, (h0, c0))
        return self.head(y), h, c


class WithState(Sequences):
    def forward(self, sequence: torch.Tensor, h0: torch.Tensor) -> tuple[torch.Tensor, ...]:  # type: ignore[override]
        y, h = self.layer(sequence, h0)
        return self.head(y), h


class Tokens(nn.Module):
    """Two layers of a transformer over ``[steps, batch, features]``."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(4, 5)

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(sequence))


class Normalised(nn.Module):
    """Batch norms that keep no running statistics."""

    def __init__(self, *, affine: bool = True) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, bias=False), nn.Conv2d(6, 6, 3)
        self.norms = nn.ModuleList(nn.BatchNorm2d(6, track_running_stats=False, affine=affine) for _ in range(2))
        self.head = nn.Linear(6, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.norms[0](self.first(image)))
        h = torch.relu(self.norms[1](self.second(h)))
        return self.head(h.flatten(2).mean(2))


def apart(network: nn.Module) -> nn.Module:
    """*network*, changed: exporters store tensors that are equal once, and they would be trained as one."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def export(network: nn.Module, inputs: dict[str, torch.Tensor], path: Path, exporter: str, *, axis: int) -> Path:
    """The file that the *exporter* writes, the batch symbolic along *axis*, where the exporter can."""
    outputs = ["scores", "h1", "c1"][: max(1, len(inputs))] if axis else ["scores"]
    options: dict[str, Any] = {"input_names": [*inputs], "output_names": outputs}
    if exporter == "dynamo":
        options |= {"dynamo": True, "dynamic_shapes": tuple({axis: torch.export.Dim("n")} for _ in inputs)}
        options |= {"verbose": False, "external_data": False}
    elif axis:
        options |= {"dynamo": False, "dynamic_axes": {name: {axis: "n"} for name in (*inputs, *outputs)}}
    else:  # with a symbolic batch this exporter cannot write a batch norm without statistics
        options |= {"dynamo": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network.eval(), tuple(inputs.values()), path, **options)
    return path


def trained(network: nn.Module, arrays: dict[str, np.ndarray], *, axis: int) -> None:
    """Two epochs of PyTorch's SGD on cross-entropy, the examples in their order."""
    optimizer = torch.optim.SGD(network.train().parameters(), RATE, momentum=0.9)
    for _ in range(2):
        for i in range(0, EXAMPLES, BATCH):
            batch = {name: torch.tensor(array[i : i + BATCH]) for name, array in arrays.items()}
            label = batch.pop("label")
            scores = network(*(x.movedim(0, axis) for x in batch.values()))
            scores = (scores[0] if isinstance(scores, tuple) else scores).movedim(axis, 0)
            optimizer.zero_grad()
            nn.functional.cross_entropy(scores.flatten(0, -2), label.flatten()).backward()
            optimizer.step()


def compared(
    network: nn.Module,
    model: Path,
    folder: Path,
    arrays: dict[str, np.ndarray],
    *,
    axis: int,
    freeze: Sequence[str] = (),
) -> None:
    """What our file says after our training is what PyTorch says after its own."""
    phases = [{"kind": "dense", "epochs": 1, "learning_rate": RATE} for _ in range(2)]
    table = {"phase": phases, "batch_size": BATCH, "optimizer": {"name": "sgd", "momentum": 0.9}}
    table |= {"loss": {"output": "scores", "class_axis": -1}, "data": {"shuffle": False}, "freeze": freeze}
    size = onnx.load(model).graph.input[0].type.tensor_type.shape.dim[axis]
    if axis and size.dim_value:
        table["input"] = {"sequence": {"batch_axis": axis}}  # PyTorch has fixed the batch on the way
    dsd_ort.prepare(model, folder / "run", Recipe.from_dict(table))
    dsd_ort.train(folder / "run", arrays)
    assert dsd_ort.export(folder / "run", folder / "final.onnx").same
    before, after = (onnx.load(path).graph for path in (model, folder / "final.onnx"))
    assert before.node == after.node and [*before.input, *before.output] == [*after.input, *after.output]
    trained(network, arrays, axis=axis)
    first = {name: array[: size.dim_value or 3] for name, array in arrays.items() if name != "label"}
    expected = network(*(torch.tensor(x).movedim(0, axis) for x in first.values()))
    expected = expected[0] if isinstance(expected, tuple) else expected
    session = onnxruntime.InferenceSession(folder / "final.onnx", providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], {name: np.moveaxis(x, 0, axis) for name, x in first.items()})
    np.testing.assert_allclose(scores, expected.detach().numpy(), rtol=0, atol=TOLERANCE)


SEQUENCES: dict[str, Callable[[], nn.Module]] = {
    "LSTM": lambda: Sequences(nn.LSTM),
    "GRU both ways": lambda: Sequences(nn.GRU, both_ways=True),
    "two layers of LSTM with states": lambda: WithCells(nn.LSTM, 2),
    "GRU with a state": lambda: WithState(nn.GRU),
    "a transformer": Tokens,
}


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
@pytest.mark.parametrize("kind", SEQUENCES)
def test_sequences_with_the_batch_second_train_as_in_pytorch(tmp_path: Path, kind: str, exporter: str) -> None:
    torch.manual_seed(3)
    network, rng = apart(SEQUENCES[kind]()), np.random.default_rng(3)
    arrays = {"sequence": rng.standard_normal((EXAMPLES, STEPS, 4)).astype(np.float32)}
    layers = network.layer.num_layers if isinstance(network, Sequences) else 0
    for name in {WithCells: ("h0", "c0"), WithState: ("h0",)}.get(type(network), ()):
        arrays[name] = rng.standard_normal((EXAMPLES, layers, 6)).astype(np.float32)
    example = {name: torch.tensor(array[:3]).movedim(0, 1).contiguous() for name, array in arrays.items()}
    model = export(network, example, tmp_path / "m.onnx", exporter, axis=1)
    arrays["label"] = rng.integers(0, 5, (EXAMPLES, STEPS))
    compared(network, model, tmp_path, arrays, axis=1)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_batch_norm_without_running_statistics_trains_as_in_pytorch(
    tmp_path: Path, exporter: str, affine: bool
) -> None:
    torch.manual_seed(3)
    network, rng = apart(Normalised(affine=affine)), np.random.default_rng(3)
    arrays = {"image": rng.standard_normal((EXAMPLES, 3, 9, 9)).astype(np.float32)}
    model = export(network, {"image": torch.tensor(arrays["image"][:BATCH])}, tmp_path / "m.onnx", exporter, axis=0)
    arrays["label"] = rng.integers(0, 5, EXAMPLES)
    words = [note.words for note in dsd_ort.inspect(model).notes if note.kind == "file"]
    assert len(words) == 2 and all("has no running statistics" in text for text in words)
    assert dsd_ort.check(model, isolate=False).ok
    compared(network, model, tmp_path, arrays, axis=0, freeze=() if affine else ("role:norm",))
    assert not (tmp_path / "final.inference.onnx").exists()
