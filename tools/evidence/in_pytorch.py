"""The tasks of :mod:`tools.evidence.wrong_labels` in PyTorch, trained by the plainest code: does the same come out?

    .venv-oracle/bin/python -m tools.evidence.in_pytorch fashion-mlp-512 fashion-cnn-4 --share 0.3 --seeds 5

Of seed N, the pictures, their wrong labels and the weights that are drawn are the same; the network is PyTorch's, its
batches are shuffled by PyTorch, and the phases are :func:`tests.oracle.reference.train`'s.  So an error differs from
that of the same seed as from one shuffle to another, and not in the mean.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import torch
from torch import nn

from tests.oracle import reference
from tools.evidence.pictures import SETS, Arrays, labelled
from tools.evidence.rows import IN_PYTORCH, Row, seeds_of
from tools.evidence.tasks import TASKS, Task
from tools.measuring.machine import cpu


class Block(nn.Module):
    """Two 3×3 convolutions beside a shortcut without weights: ``f32[N, inputs, H, W] → f32[N, maps, H/s, W/s]``."""

    def __init__(self, inputs: int, maps: int) -> None:
        super().__init__()
        self.stride, self.new = maps // inputs, maps - inputs
        self.conv1, self.bn1 = nn.Conv2d(inputs, maps, 3, self.stride, 1, bias=False), nn.BatchNorm2d(maps)
        self.conv2, self.bn2 = nn.Conv2d(maps, maps, 3, 1, 1, bias=False), nn.BatchNorm2d(maps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        before = self.new // 2
        x = nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.new - before))
        return (x + y).relu()


class Residual(nn.Module):
    """ResNet-8 for small pictures: ``f32[N, channels, H, W] → f32[N, 10]``."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(Block(width, width))
        self.layer2 = nn.Sequential(Block(width, 2 * width))
        self.layer3 = nn.Sequential(Block(2 * width, 4 * width))
        self.fc = nn.Linear(4 * width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer3(self.layer2(self.layer1(self.bn1(self.conv1(x)).relu())))
        return self.fc(x.mean((2, 3)))


def mlp(pixels: tuple[int, int, int], width: int) -> nn.Module:
    """Two hidden layers."""
    inputs = int(np.prod(pixels))
    hidden = (nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, 10))


def cnn(pixels: tuple[int, int, int], width: int) -> nn.Module:
    """Two convolutions, each before a max-pooling, and two linear layers."""
    channels, height, _ = pixels
    inside = 2 * width * (height // 4) ** 2
    return nn.Sequential(
        *(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(inside, 32 * width), nn.ReLU(), nn.Linear(32 * width, 10)),
    )


NETWORKS = {
    "mlp": mlp,
    "cnn": cnn,
    "residual": lambda pixels, width: Residual(pixels[0], width),
}
CHOICES = [name for name in TASKS if name.startswith(("fashion-", "digits-mlp"))]


def network(name: str, drawn: Path) -> tuple[nn.Module, dict[str, str]]:
    """The network of the task *name* with the weights of the file *drawn*; its parameters' names → the file's."""
    _, kind, width = name.split("-")
    module = NETWORKS[kind](SETS[TASKS[name].pictures].shape, int(width))
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(drawn).graph.initializer}
    own = [key for key in module.state_dict() if not key.endswith("num_batches_tracked")]
    names = {key: key for key in own} if set(own) == set(tensors) else dict(zip(own, tensors, strict=True))
    state = {key: torch.from_numpy(tensors[names[key]].copy()) for key in own}
    module.load_state_dict(state, strict=kind != "residual")  # it counts batches too
    return module, names


def prunable(module: nn.Module, names: dict[str, str], task: Task) -> dict[str, torch.Tensor]:
    """Kernels and matrices but those that the task leaves whole."""
    parameters = module.named_parameters()
    return {key: value for key, value in parameters if value.dim() > 1 and names[key] not in task.whole}


def tensors(arrays: Arrays, task: Task) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures as the recipe normalises them, and labels."""
    about = SETS[task.pictures].data
    image = torch.from_numpy(arrays["image"]).float() * about.get("scale", 1 / 255)
    image = (image - about.get("mean", [0.0])[0]) / about.get("std", [1.0])[0]
    return image, torch.from_numpy(arrays["label"])


def shuffled(
    image: torch.Tensor, label: torch.Tensor, batch: int, epochs: int, draw: torch.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The batches of some epochs, each in an order of its own."""
    for _ in range(epochs):
        for part in torch.randperm(len(label), generator=draw).split(batch):
            yield image[part].numpy(), label[part].numpy()


@torch.no_grad()
def answers(module: nn.Module, image: torch.Tensor) -> torch.Tensor:
    """The class of each picture, in inference."""
    module.eval()
    return torch.cat([module(part).argmax(1) for part in image.split(1000)])


def measure(about: Row, task: Task) -> Row:
    """Dense only, and DSD at each sparsity, with one seed: errors on the test pictures, and fits, in percent."""
    began, seed = time.perf_counter(), about["seed"]
    data = labelled(task.pictures, "drawn", about["share"], seed)
    (image, label), (test, truth) = tensors(data.train, task), tensors(data.test, task)
    with tempfile.TemporaryDirectory() as folder:
        task.write(Path(folder) / "drawn.onnx", seed)
        begun, names = network(about["task"], Path(folder) / "drawn.onnx")
    optimizer = torch.optim.SGD(begun.parameters(), lr=task.rate, momentum=0.9, weight_decay=1e-4)

    def phase(state: tuple[nn.Module, torch.optim.Optimizer], number: int, sparsity: float | None = None) -> None:
        draw = torch.Generator().manual_seed(3 * seed + number)  # all arms have the same batches
        batches = shuffled(image, label, task.batch, task.epochs[number], draw)
        rate = task.rate / 10**number
        reference.train(*state, batches, [(sparsity, rate)], pruned=lambda module: prunable(module, names, task))

    dense = (begun, optimizer)
    phase(dense, 0)
    arms = {}
    for sparsity in (None, *task.sparsities):
        state = copy.deepcopy(dense)
        phase(state, 1, sparsity)
        fits = (answers(state[0], image) == label).float().mean().item()
        phase(state, 2)
        error = (answers(state[0], test) != truth).float().mean().item()
        arm = "dense-only" if sparsity is None else f"dsd-{sparsity:g}"
        arms[arm] = {"error": round(100 * error, 2), "fits": round(fits, 4)}
    minutes = round((time.perf_counter() - began) / 60, 1)
    return {"arms": arms, "torch": torch.__version__, "cpu": cpu(), "minutes": minutes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", nargs="+", choices=CHOICES)
    parser.add_argument("--share", default="0.3", help="of the labels, several with commas")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    wanted = seeds_of(arguments.task, arguments.share, arguments.seeds)
    IN_PYTORCH.measure(wanted, lambda row: measure(row, TASKS[row["task"]]))


if __name__ == "__main__":
    main()
