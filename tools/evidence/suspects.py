"""Wrong labels among the bundled digits: how many of them are suspects, and what training without these gains.

    .venv/bin/python -m tools.evidence.suspects --json docs/evidence_suspects.json

Of the 1,287 digits to train on, 30 % get a label drawn anew, which is wrong in nine of ten.  An MLP 64-256-256-10 that
has learned them by heart is the file that somebody brings; from there, with the same budget::

    dense only     15 epochs at 0.002, 5 at 0.0002
    DSD            the same, the first phase 90 % sparse
    drops          the last phase at 0.002, without what the sparse network does not believe
    train on       DSD's final file, 15 epochs at 0.002 without the list of its suspects

Errors are those on the 510 digits of other people, whose labels are right.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser

import dsd_ort
from tools.measuring.machine import cpu

SIZES = (64, 256, 256, 10)
SHARE = 0.3
EPOCHS = (40, 15, 5)
"""Of the file that is brought, and of the two phases after it."""
SPARSITY = 0.9
ARMS = ("as it came", "dense only", "DSD", "drops", "train on")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="networks and draws of labels")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    rows = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            rows.append({"seed": seed, **measure(seed, Path(folder))})
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    total = {key: sum(row[key] for row in rows) for key in ("wrong", "suspects", "truly wrong")}
    precision, recall = total["truly wrong"] / total["suspects"], total["truly wrong"] / total["wrong"]
    print(f"{100 * precision:.1f} % of the suspects are truly wrong; of the wrong ones {100 * recall:.1f} % are found")
    print("  ".join(f"{arm} {np.mean([row[arm] for row in rows]):.1f} %" for arm in ARMS))
    if arguments.json:
        arguments.json.write_text(json.dumps([row | {"cpu": cpu()} for row in rows], indent=1) + "\n")


def measure(seed: int, folder: Path, epochs: tuple[int, int, int] = EPOCHS) -> dict[str, Any]:
    """Counts of suspects, and the error of each arm in percent."""
    data, wrong = with_wrong_labels(seed, SHARE)
    write_mlp(folder / "drawn.onnx", seed)
    far, first, last = epochs

    def trained(name: str, model: Path, *phases: dict[str, Any], **options: Any) -> Path:
        dsd_ort.prepare(model, folder / name, recipe(*phases))
        dsd_ort.train(folder / name, data, threads=1, **options)
        dsd_ort.export(folder / name, folder / f"{name}.onnx")
        return folder / f"{name}.onnx"

    sparse = {**dense(first, 2e-3), "kind": "sparse", "sparsity": SPARSITY}
    came = trained("came", folder / "drawn.onnx", dense(far, 2e-2))
    ends = {
        "as it came": came,
        "dense only": trained("dense", came, dense(first, 2e-3), dense(last, 2e-4)),
        "DSD": trained("dsd", came, sparse, dense(last, 2e-4)),
        "drops": trained("drops", came, sparse, {**dense(last, 2e-3), "drop_suspects": True}),
    }
    found = dsd_ort.suspects(folder / "dsd", data, output=folder / "suspects.csv", threads=1).found
    ends["train on"] = trained("on", ends["DSD"], dense(first, 2e-3), without=folder / "suspects.csv")
    truly = sum(bool(wrong[suspect.index]) for suspect in found)
    counts = {"wrong": int(wrong.sum()), "suspects": len(found), "truly wrong": truly}
    measured = recipe(dense(1, 1e-3))
    tops = {name: dsd_ort.evaluate(file, digits("test"), measured, threads=1)["top-1"] for name, file in ends.items()}
    return counts | {name: round(100 * (1 - top), 1) for name, top in tops.items()}


def digits(name: str) -> dict[str, np.ndarray]:
    """``image u8[N, 1, 8, 8]`` and ``label u8[N]`` of ``train`` or ``test``."""
    return dict(np.load(str(files("dsd_ort.demo") / f"digits-{name}.npz")))


def with_wrong_labels(seed: int, share: float) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The digits to train on, a *share* of their labels drawn anew, and which are wrong now, bool[N]."""
    train, rng = digits("train"), np.random.default_rng(seed)
    true = train["label"].astype(np.int64)
    label = np.where(rng.random(len(true)) < share, rng.integers(0, 10, len(true)), true)
    return {"image": train["image"], "label": label}, label != true


def write_mlp(
    path: Path, seed: int, sizes: tuple[int, ...] = SIZES, shape: tuple[int, ...] = (1, 8, 8), name: str = "image"
) -> None:
    """Linear layers and ReLU, ``name f32[N, *shape] → logits f32[N, sizes[-1]]``, drawn as He et al. 2015."""
    rng, last = np.random.default_rng(seed), len(sizes) - 2
    lines = [f"h0 = Flatten ({name})"]
    for i in range(last + 1):
        lines.append(f"{'logits' if i == last else f'a{i}'} = Gemm <transB = 1> (h{i}, w{i}, b{i})")
        lines += [] if i == last else [f"h{i + 1} = Relu (a{i})"]
    signature = f"(float[N, {', '.join(map(str, shape))}] {name}) => (float[N, {sizes[-1]}] logits)"
    head = f'<ir_version: 8, opset_import: ["" : 17]> mlp {signature}'
    model = onnx.parser.parse_model(f"{head} {{ {' '.join(lines)} }}")
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        for weight, value in (
            (f"w{i}", rng.standard_normal((outputs, inputs)) * np.sqrt(2 / inputs)),
            (f"b{i}", np.zeros(outputs)),
        ):
            model.graph.initializer.append(onnx.numpy_helper.from_array(value.astype(np.float32), weight))
    onnx.save(model, path)


def recipe(*phases: dict[str, Any]) -> dsd_ort.Recipe:
    table = {"batch_size": 16, "data": {"scale": 1 / 16}, "optimizer": {"weight_decay": 1e-4}, "phase": list(phases)}
    return dsd_ort.Recipe.from_dict(table)


def dense(epochs: int, rate: Any) -> dict[str, Any]:
    return {"kind": "dense", "epochs": epochs, "learning_rate": rate}


if __name__ == "__main__":
    main()
