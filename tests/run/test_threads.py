"""A training by several threads: the same bytes each time, as whoever goes on from a checkpoint has to get."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.numpy_helper
import onnx.parser
import pytest

import dsd_ort
from dsd_ort.device import lower
from dsd_ort.runtime.device import cores
from tests.session import TRAINING_BUILD

WORDS, WIDTH, LENGTH = 16, 64, 64
TEXTS = """
<ir_version: 8, opset_import: ["" : 17]>
texts (int64[N, T] words) => (float[N, 3] logits) {
    e = Gather (table, words)
    f = Tanh (e)
    g = ReduceMean <axes = [1], keepdims = 0> (f)
    logits = Gemm <transB = 1> (g, w, b)
}
"""
RECIPE = {
    "batch_size": 64,
    "prune": {"include": ["w"]},
    "phase": [
        {"kind": "dense", "steps": 6, "learning_rate": 2.0},
        {"kind": "sparse", "sparsity": 0.5, "steps": 2, "learning_rate": 2.0},
    ],
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Means of embedded words, each word many times in a batch."""
    rng, model = np.random.default_rng(0), onnx.parser.parse_model(TEXTS)
    for name, shape in {"table": (WORDS, WIDTH), "w": (3, WIDTH), "b": (3,)}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(rng.normal(0, 1, shape).astype(np.float32), name))
    onnx.save(model, tmp_path / "texts.onnx")
    return tmp_path / "texts.onnx"


def trained(model: Path, name: str, threads: int) -> bytes:
    rng, run = np.random.default_rng(1), model.with_name(name)
    words = rng.integers(0, WORDS, (128, LENGTH))
    dsd_ort.prepare(model, run, dsd_ort.Recipe.from_dict(RECIPE))
    dsd_ort.train(run, {"words": words, "label": words[:, 0] % 3}, threads=threads)
    dsd_ort.export(run, run.with_suffix(".onnx"))
    return run.with_suffix(".onnx").read_bytes()


def test_words_that_a_batch_has_many_times_are_added_in_one_order(model: Path) -> None:
    found = {trained(model, f"run-{number}", threads=4) for number in range(4)}
    assert len(found) == 1


@pytest.mark.skipif(not TRAINING_BUILD, reason="other builds add in one order by themselves")
@pytest.mark.skipif(cores() < 2, reason="threads take turns")
def test_by_the_training_builds_own_kernel_they_are_not(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the form is still needed, and whether the test above can fail."""
    monkeypatch.delitem(lower.FORMS["cpu"], "com.microsoft.GatherGrad")
    found = {trained(model, f"run-{number}", threads=4) for number in range(4)}
    assert len(found) > 1
