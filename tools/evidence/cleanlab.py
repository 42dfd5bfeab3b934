"""Wrong labels among the bundled digits, found by one sparse phase and by cleanlab: how well, for how much training.

    pip install cleanlab        # into an environment that has dsd-ort
    python -m tools.evidence.cleanlab --json docs/evidence_cleanlab.json

Labels, network and batches are those of :mod:`tools.evidence.suspects`; the costs are epochs of the 1,287 digits::

    suspects   the file that somebody brings, trained too far (40 epochs, not counted: it is there), and a sparse
               phase of E epochs; the score of an example is the sparse network's loss.  Cost E
    cleanlab   five networks from fresh weights, each trained for E epochs on four fifths, and the probabilities that
               they give the other fifth; the score is the loss, and ``find_label_issues`` makes the list.  Cost 4·E

``area`` is that under the ROC curve of the score, ``precision`` and ``recall`` are of each one's own list, and
``same recall`` is a precision where a score alone finds as many wrong labels as cleanlab's list of that row: the score
of the five networks, and the sparse loss.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import dsd_ort
from dsd_ort.statistics import precision_at_recall, roc_area
from tools.evidence.suspects import dense, recipe, with_wrong_labels, write_mlp
from tools.measuring.machine import cpu

SHARES = (0.1, 0.3)
FAR = 40
"""Epochs of the file that is brought, at 0.02."""
RATE = 1e-2
"""Of the sparse phase, chosen with its sparsities on seeds 10 and 11, which are not among those measured here."""
SPARSE = ((0.9, 4), (0.9, 8), (0.95, 4), (0.95, 8))
"""Sparsity and epochs of the sparse phase."""
FRESH = (5, 10, 40)
"""Epochs of each of the five networks."""
FOLDS = 5

Arrays = dict[str, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="networks and draws of labels")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    arguments = parser.parse_args()
    rows = []
    for seed in range(arguments.seeds):
        for share in SHARES:
            with tempfile.TemporaryDirectory() as folder:
                for row in measure(seed, share, Path(folder)):
                    rows.append({"seed": seed, "share": share, **row})
                    print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    for share, way, epochs in sorted({(row["share"], row["way"], row["epochs"]) for row in rows}):
        same = [row for row in rows if (row["share"], row["way"], row["epochs"]) == (share, way, epochs)]
        measured = [key for key in same[0] if key not in ("seed", "share", "way", "epochs")]
        means = "  ".join(f"{key} {np.mean([row[key] for row in same]):.3f}" for key in measured)
        print(f"{share:.0%} drawn anew, {way}, {epochs} epochs: {means}")
    if arguments.json:
        arguments.json.write_text(json.dumps([row | {"cpu": cpu()} for row in rows], indent=1) + "\n")


def measure(seed: int, share: float, folder: Path) -> Iterator[dict[str, Any]]:
    """A row for each way and length; *folder* is empty."""
    from cleanlab.filter import find_label_issues

    data, wrong = with_wrong_labels(seed, share)
    sparse = {}
    for (sparsity, epochs), (loss, listed) in sparse_losses(data, seed, folder / "suspects").items():
        sparse[f"{sparsity:g}, {epochs}"] = loss
        yield {"way": f"suspects, {sparsity:.0%}", "epochs": epochs, "cost": float(epochs)} | _found(
            loss, listed, wrong
        )
    for epochs in FRESH:
        logp = out_of_sample(data, seed, epochs, folder / f"fresh-{epochs}")
        listed = find_label_issues(data["label"], np.exp(logp))
        loss = -logp[np.arange(len(logp)), data["label"]]
        row = {"way": "cleanlab", "epochs": epochs, "cost": epochs * (FOLDS - 1.0)} | _found(loss, listed, wrong)
        scores = {"own score": loss, **sparse}
        same = {which: precision_at_recall(score, wrong, row["recall"]) for which, score in scores.items()}
        yield row | {f"same recall, {which}": round(precision, 3) for which, precision in same.items()}


def sparse_losses(data: Arrays, seed: int, folder: Path) -> dict[tuple[float, int], tuple[np.ndarray, np.ndarray]]:
    """Sparsity and epochs of a sparse phase → its losses, f64[N], and which examples are suspects, bool[N]."""
    folder.mkdir()
    write_mlp(folder / "drawn.onnx", seed)
    came = _trained(folder, "came", folder / "drawn.onnx", data, dense(FAR, 2e-2))
    found = {}
    for sparsity, epochs in SPARSE:
        phase = {**dense(epochs, RATE), "kind": "sparse", "sparsity": sparsity}
        logp = _log_probabilities(_trained(folder, f"{sparsity}-{epochs}", came, data, phase), data["image"])
        suspects = dsd_ort.suspects(folder / f"{sparsity}-{epochs}", data, threads=1).found
        listed = np.isin(np.arange(len(logp)), [suspect.index for suspect in suspects])
        found[sparsity, epochs] = -logp[np.arange(len(logp)), data["label"]], listed
    return found


def out_of_sample(data: Arrays, seed: int, epochs: int, folder: Path) -> np.ndarray:
    """Log p of every class for each example, by a network that was not trained on it, f64[N, 10].

    The folds are stratified, and the rate falls to nothing, as it does in trainings that people make for this.
    """
    folder.mkdir()
    write_mlp(folder / "drawn.onnx", seed)
    rate = {"schedule": "cosine", "initial": 2e-2}
    order = np.random.default_rng(seed).permutation(len(data["label"]))
    fold = np.empty(len(order), np.int64)
    fold[order[np.argsort(data["label"][order], kind="stable")]] = np.arange(len(order)) % FOLDS
    logp = np.empty((len(order), 10))
    for number in range(FOLDS):
        rest = {name: array[fold != number] for name, array in data.items()}
        model = _trained(folder, str(number), folder / "drawn.onnx", rest, dense(epochs, rate))
        logp[fold == number] = _log_probabilities(model, data["image"][fold == number])
    return logp


def _trained(folder: Path, name: str, model: Path, data: Arrays, phase: dict[str, Any]) -> Path:
    dsd_ort.prepare(model, folder / name, recipe(phase))
    dsd_ort.train(folder / name, data, threads=1)
    dsd_ort.export(folder / name, folder / f"{name}.onnx")
    return folder / f"{name}.onnx"


def _log_probabilities(model: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    [logits] = session.run(None, {"image": images.astype(np.float32) / 16})
    logits = logits.astype(np.float64)
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def _found(loss: np.ndarray, listed: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    hits = float((listed & wrong).sum())
    measured = {
        "area": roc_area(loss, wrong),
        "precision": hits / max(1, listed.sum()),
        "recall": hits / wrong.sum(),
    }
    return {name: round(float(value), 3) for name, value in measured.items()}


if __name__ == "__main__":
    main()
