"""Wrong labels among Fashion-MNIST: dsd-ort's own experiment on networks that learn them by heart.

    python -m tools.evidence.wrong_labels mlp --sparsity 0.9,0.95 --json docs/evidence_wrong_labels.json
    python -m tools.evidence.wrong_labels cnn --sparsity 0.95,0.99,0.995 --json docs/evidence_wrong_labels.json

Of 10,000 images, a share (``--share``, 30 %) of the labels is drawn anew; seed N draws images and labels by N.
Networks begin with drawn weights: 30 epochs dense at 0.05, 15 sparse at 0.005, the last 15 (MLP) or 10 (CNN) at 0.0005.
Beside DSD at each sparsity stand dense only and stopping early, with the same batches.  Of the 10,000 test images,
whose labels are right, half choose and half measure.  ``auto`` as sparsity looks for it.

Each seed is a folder of its own (``--folder``); the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser

import dsd_ort
from dsd_ort.cli.progress import reporter
from dsd_ort.data import idx
from tools.measuring.machine import cpu

DATA = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts it."""
IMAGES = 10_000
MLP = """<ir_version: 8, opset_import: ["" : 17]> mlp (float[N, 1, 28, 28] image) => (float[N, 10] logits) {
  x = Flatten (image)
  a = Gemm <transB = 1> (x, w1, b1)
  b = Relu (a)
  c = Gemm <transB = 1> (b, w2, b2)
  d = Relu (c)
  logits = Gemm <transB = 1> (d, w3, b3)
}"""
CNN = """<ir_version: 8, opset_import: ["" : 17]> cnn (float[N, 1, 28, 28] image) => (float[N, 10] logits) {
  a = Conv <pads = [1, 1, 1, 1]> (image, w1, b1)
  b = Relu (a)
  c = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (b)
  d = Conv <pads = [1, 1, 1, 1]> (c, w2, b2)
  e = Relu (d)
  f = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (e)
  g = Flatten (f)
  h = Gemm <transB = 1> (g, w3, b3)
  i = Relu (h)
  logits = Gemm <transB = 1> (i, w4, b4)
}"""
NETWORKS: dict[str, tuple[str, list[tuple[int, ...]], list[str], int]] = {
    "mlp": (MLP, [(512, 784), (512, 512), (10, 512)], [], 15),
    "cnn": (CNN, [(16, 1, 3, 3), (32, 16, 3, 3), (512, 1568), (10, 512)], ["w1", "w4"], 10),
}
"""Graph, shapes of weights, what is not pruned, epochs of the last phase."""
ARMS = ("dense-only", "early-stopping", "dsd", "drop-suspects")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--share", type=float, default=0.3, help="of the labels that are drawn anew")
    parser.add_argument("--sparsity", default="0.9,0.95", help="with commas, or auto")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("build/evidence"))
    parser.add_argument("--json", type=Path, help="add the rows to this file")
    arguments = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"Fashion-MNIST is not in {DATA}: apt-get install dataset-fashion-mnist")
    for seed in range(arguments.seeds):
        rows = measure(seed, arguments)
        for row in rows:
            print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        if arguments.json:
            add(arguments.json, rows)


def measure(seed: int, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row an arm: the error on the half of the test images that measures, in percent."""
    network, share = arguments.network, arguments.share
    folder = arguments.folder / f"{network}-{share:g}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    test, truth, data = _data(seed, share)
    write(folder / "drawn.onnx", network, seed)
    given = arguments.sparsity
    sparsities = "auto" if given == "auto" else tuple(float(part) for part in given.split(","))
    with reporter(brief=True) as listener:
        found = dsd_ort.experiment(
            folder / "drawn.onnx",
            folder / ("auto" if given == "auto" else "experiment"),
            recipe(network, seed),
            data,
            test,
            sparsities=sparsities,
            kinds=ARMS,
            threads=arguments.threads,
            listener=listener,
        )
    about = {"network": network, "share": share, "seed": seed, "sparsities": given}
    rows = []
    for result in found.document.results:
        error = round(100 * (1 - result.measured.evaluation["top-1"]), 2)
        row = {**about, "arm": result.arm, "error": error, "epoch": [result.phase, result.epoch]}
        if result.arm.startswith("dsd"):
            run = found.final.parent / "runs" / "seed-0" / result.arm
            suspects = dsd_ort.suspects(run, data, threads=arguments.threads).found
            right = sum(bool(data["label"][s.index] != truth[s.index]) for s in suspects)
            wrong = int((data["label"] != truth).sum())
            row |= {"suspects": len(suspects), "truly wrong": right, "wrong": wrong}
        rows.append(row | {"cpu": cpu()})
    return rows


def recipe(network: str, seed: int) -> dsd_ort.Recipe:
    """Dense, sparse, dense, each at a tenth of the rate before."""
    _, _, whole, last = NETWORKS[network]
    return dsd_ort.Recipe.from_dict(
        {
            "batch_size": 128,
            "seed": seed,
            "optimizer": {"weight_decay": 1e-4},
            "data": {"mean": [0.286], "std": [0.353]},  # of Fashion-MNIST's training images
            "prune": {"exclude": whole},
            "phase": [
                {"kind": "dense", "epochs": 30, "learning_rate": 5e-2},
                {"kind": "sparse", "sparsity": 0.9, "epochs": 15, "learning_rate": 5e-3},
                {"kind": "dense", "epochs": last, "learning_rate": 5e-4},
            ],
        }
    )


def write(path: Path, network: str, seed: int) -> None:
    """The network with weights drawn as PyTorch draws them: uniform, of variance 1 / (3 · inputs)."""
    graph, shapes, _, _ = NETWORKS[network]
    model, rng = onnx.parser.parse_model(graph), np.random.default_rng(seed)
    for number, shape in enumerate(shapes, 1):
        bound = 1 / np.sqrt(np.prod(shape[1:]))
        for name, size in ((f"w{number}", shape), (f"b{number}", shape[:1])):
            values = rng.uniform(-bound, bound, size).astype(np.float32)
            model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    onnx.save(model, path)


def add(path: Path, rows: list[dict[str, Any]]) -> None:
    """Puts *rows* in the place of those of the same measurement."""
    names = ("network", "share", "seed", "sparsities", "arm")
    there = {tuple(row[name] for name in names): row for row in (json.loads(path.read_text()) if path.exists() else [])}
    there |= {tuple(row[name] for name in names): row for row in rows}
    path.write_text(json.dumps(list(there.values()), indent=1) + "\n")


def _data(seed: int, share: float) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, np.ndarray]]:
    """Test arrays, the true labels to train on, and what is trained on."""
    whole, test = (_split(name) for name in ("train", "t10k"))
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(whole["label"]))[:IMAGES]
    truth = whole["label"][chosen].astype(np.int64)
    drawn = np.where(rng.random(IMAGES) < share, rng.integers(0, 10, IMAGES), truth)
    return test, truth, {"image": whole["image"][chosen], "label": drawn}


def _split(name: str) -> dict[str, np.ndarray]:
    arrays = [idx.read(path) for path in idx.pair(DATA / name).values()]
    image, label = sorted(arrays, key=lambda array: -array.ndim)
    return {"image": image[:, None], "label": label.astype(np.int64)}


if __name__ == "__main__":
    main()
