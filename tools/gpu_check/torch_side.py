"""The side of PyTorch: takes steps, and needs nothing but PyTorch.  ``python -m tools.gpu_check.torch_side``.

Questions and answers are those of :mod:`tools.gpu_check.ort_side` (``hello``, ``open``, ``run``, ``memory``); ``open``
has ``arguments`` of the network and ``how``:

============== ======================================================================================
eager          the network as it is, foreach SGD, cudnn.benchmark
compile        ``torch.compile(network)``
channels-last  eager, pictures and kernels in channels-last format
cudnn-rnn      eager, with PyTorch's own recurrent layers, which clip nothing
============== ======================================================================================

fp32 is without TF32, all other precisions with it; fp16 is autocast with a GradScaler, bf16 autocast alone.
"""

from __future__ import annotations

import json
import platform
import time
from pathlib import Path
from typing import Any

import torch

from tools.gpu_check import torch_networks
from tools.gpu_check.pipe import Answers, serve
from tools.measuring.machine import cpu

RATE = 1e-5
HOST = ("frames", "counts")


class Steps:
    """A network, an optimizer and a batch."""

    def __init__(self, question: dict[str, Any]) -> None:
        precision, how, self.name = question["precision"], question["how"], question["name"]
        torch.manual_seed(0)
        if question["threads"]:
            torch.set_num_threads(question["threads"])
        self.device = torch.device(question["device"])
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "fp32"
        kind = self.device.type
        self.half = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision)
        self.scaler = torch.amp.GradScaler(kind, enabled=precision == "fp16")
        network = torch_networks.make(self.name, question["arguments"], fused=how == "cudnn-rnn")
        tensors = read(Path(question["folder"]) / question["open"] / self.name)
        torch_networks.load(network, tensors["weights"])
        self.network = network.to(self.device).train()
        self.layout = torch.channels_last if how == "channels-last" else torch.contiguous_format
        if how == "channels-last":
            self.network = self.network.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=RATE, momentum=0.9, weight_decay=1e-4)
        if how == "compile":
            self.network = torch.compile(self.network)
        host = tensors["batch"]
        if "lengths" in host:
            host["counts"], host["frames"] = (host["label"] >= 0).sum(1), (host["lengths"] + 1) // 2
        self.pinned = {k: v.pin_memory() if kind == "cuda" and k not in HOST else v for k, v in host.items()}
        self.batch = self.sent()
        self.fed = question.get("host", False)

    def sent(self) -> dict[str, torch.Tensor]:
        """The batch on the device; lengths of CTC stay."""
        return {key: value if key in HOST else self._placed(value) for key, value in self.pinned.items()}

    def _placed(self, value: torch.Tensor) -> torch.Tensor:
        placed = value.to(self.device, non_blocking=True)
        return placed.contiguous(memory_format=self.layout) if value.ndim == 4 else placed

    def step(self) -> torch.Tensor:
        batch = self.sent() if self.fed else self.batch
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, self.half or torch.bfloat16, enabled=self.half is not None):
            loss = torch_networks.loss_of(self.name, self.network, batch)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()

    def run(self, steps: int) -> dict[str, Any]:
        began = time.perf_counter()
        losses = [self.step() for _ in range(steps)]
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "losses": [float(loss) for loss in losses]}


def read(place: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Batch and weights that :func:`tools.gpu_check.prepared.write_tensors` wrote."""
    index = json.loads((place / "tensors.json").read_text())
    content = {group: bytearray((place / f"{group}.bin").read_bytes()) for group in ("batch", "weights")}
    tensors: dict[str, dict[str, torch.Tensor]] = {group: {} for group in content}
    for key, (group, dtype, shape, begin) in index.items():
        count = 1
        for axis in shape:
            count *= axis
        flat = torch.frombuffer(content[group], dtype=getattr(torch, dtype), count=count, offset=begin)
        tensors[group][key] = flat.reshape(shape)
    return tensors


class TorchSide(Answers):
    """Answers questions."""

    def hello(self, question: dict[str, Any]) -> dict[str, Any]:
        device = torch.device(question["hello"])
        on_cuda = device.type == "cuda"
        name = torch.cuda.get_device_name(device) if on_cuda else cpu()
        versions = {"torch": torch.__version__, "python": platform.python_version()}
        versions |= {"cuda": str(torch.version.cuda or ""), "cudnn": str(torch.backends.cudnn.version() or "")}
        return {"device": {"name": name, "kind": device.type}, "versions": versions}

    def open(self, question: dict[str, Any]) -> dict[str, Any]:
        self.steps = Steps(question)
        return {"loss": self.steps.run(1)["losses"][0]}


if __name__ == "__main__":
    serve(TorchSide())
