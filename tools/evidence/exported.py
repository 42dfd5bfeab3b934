"""A network that PyTorch trained as its users train, exported and given to ``dsd-ort compare``, and nothing else.

    .venv-oracle/bin/python -m tools.evidence.exported example mlp --share 0,0.3 --seeds 5

::

    example    the CNN of PyTorch's own first example (two convolutions, two linear layers, dropout), trained as it is
               there: Adadelta at 1, times 0.7 an epoch, 14 epochs, batches of 64
    mlp        784-512-512-10, by what most tutorials take: Adam at 1e-3, 40 epochs, batches of 64

of 10,000 images of Fashion-MNIST, a share of whose labels is drawn anew (:mod:`tools.evidence.pictures`).  Then the
command is the one that anybody would type, with no recipe: rates are fitted, the sparsity is looked for, and a set of
labels as wrong as those trained on chooses.  Test labels are right.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tools.evidence import in_pytorch
from tools.evidence.pictures import SETS, Arrays, labelled
from tools.evidence.rows import EXPORTED, Row, seeds_of
from tools.measuring.machine import cpu

BATCH = 64
MEAN, STD = 0.286, 0.353


def example() -> nn.Module:
    """``f32[N, 1, 28, 28] → f32[N, 10]``; the example's, but for the softmax, which is in the loss here."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)),
        *(nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10)),
    )


NETWORKS = {"example": example, "mlp": partial(in_pytorch.mlp, SETS["fashion"].shape, 512)}


def trained(name: str, data: Arrays, seed: int) -> nn.Module:
    """The network *name*, trained on *data*."""
    torch.manual_seed(seed)
    network = NETWORKS[name]()
    image = (torch.from_numpy(data["image"]).float() / 255 - MEAN) / STD
    label = torch.from_numpy(data["label"])
    if name == "example":
        epochs, gamma, optimizer = 14, 0.7, torch.optim.Adadelta(network.parameters(), lr=1.0)
    else:
        epochs, gamma, optimizer = 40, 1.0, torch.optim.Adam(network.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma)
    for _ in range(epochs):
        for part in torch.randperm(len(label)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(image[part]), label[part]).backward()
            optimizer.step()
        schedule.step()
    return network.eval()


def measure(about: Row, folder: Path) -> Row:
    """What ``compare`` makes of one network; errors on the test pictures in percent."""
    began, folder = time.perf_counter(), folder / "-".join(map(str, about.values()))
    folder.mkdir(parents=True, exist_ok=True)
    data = labelled("fashion", "drawn", about["share"], about["seed"])
    for name, arrays in (("train", data.train), ("select", data.select), ("test", data.test)):
        np.savez(folder / f"{name}.npz", **arrays)
    model = folder / "model.onnx"
    if not model.exists():
        network = trained(about["task"], data.train, about["seed"])
        batch = torch.export.Dim("batch")
        torch.onnx.export(
            network,
            (torch.zeros(2, *SETS["fashion"].shape),),
            folder / "new.onnx",
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=({0: batch},),
            external_data=False,
        )
        (folder / "new.onnx").rename(model)
    command = [sys.executable, "-m", "dsd_ort", "compare", str(model), "-o", str(folder / "experiment")]
    command += [f"--{name}={folder / file}.npz" for name, file in (("data", "train"), ("eval-data", "test"))]
    command += [f"--select-data={folder / 'select.npz'}", "--sparsity=auto", "--threads=1", "--keep=final"]
    command += [f"--set=data.mean=[{MEAN}]", f"--set=data.std=[{STD}]"]
    subprocess.run(command, check=True)
    found = json.loads((folder / "experiment" / "experiment.json").read_text())
    row = {
        "as it came": _error(found["came"]),
        "arms": {result["arm"]: {"error": _error(result["measured"])} for result in found["results"]},
        "shipped": found["final"]["arm"],
        "error": _error(found["final"]["measured"]),
        "ladder": [{"sparsity": rung["sparsity"], "fit": rung.get("fit")} for rung in found["ladder"]],
        "verdict": found["verdict"],
        "cpu": cpu(),
        "minutes": round((time.perf_counter() - began) / 60, 1),
    }
    shutil.rmtree(folder)
    return row


def _error(measured: Row) -> float:
    return round(100 * (1 - measured["evaluation"]["top-1"]), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", nargs="+", choices=NETWORKS)
    parser.add_argument("--share", default="0.3", help="of the labels, several with commas")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("build/exported"), help="what is not done yet")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    wanted = seeds_of(arguments.task, arguments.share, arguments.seeds)
    EXPORTED.measure(wanted, lambda row: measure(row, arguments.folder))


if __name__ == "__main__":
    main()
