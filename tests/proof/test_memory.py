"""What check holds at a time: memory is taken once, however many looks there are."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from dsd_ort.model import source
from dsd_ort.proof import prove, sparse_step, weights
from dsd_ort.proof.compared import along, parts
from dsd_ort.proof.evaluator import Evaluator
from dsd_ort.run.engine import Engine
from tests.models import write_cnn
from tests.proof.test_check import check
from tests.proof.test_evaluator import model


def test_one_engine_is_there_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[Engine]] = []

    class Watched(Engine):
        def __init__(self, *arguments: object, **options: object) -> None:
            assert not any(engine() for engine in made), "the one before still has its buffers"
            super().__init__(*arguments, **options)  # type: ignore[arg-type]
            made.append(weakref.ref(self))

    monkeypatch.setattr(prove, "Engine", Watched)
    monkeypatch.setattr(sparse_step, "Engine", Watched)
    assert check(write_cnn(tmp_path / "m.onnx", dropout=True)).ok
    assert len(made) == 5  # in inference, in training, with dropout, and for a dense step and a sparse one


def test_the_files_weights_are_read_when_they_are_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = source.load(write_cnn(tmp_path / "m.onnx"))
    found, notes = weights.of(opened)
    assert notes == () and set(found) == {p.name for p in (*opened.parameters, *opened.statistics)}
    for name, value in found.items():
        np.testing.assert_array_equal(value, opened.start(name))
    read = weakref.ref(found["conv2.weight"])
    assert read() is None, "somebody keeps it"


@pytest.mark.parametrize("kept", [None, np.float32])
def test_outputs_are_kept_as_is_wished_and_read_as_they_are(kept: type | None) -> None:
    graph = model("(double[3] x) => (double[3] y) { a = Mul (x, x) y = Sub (a, x) }", 17)
    run = Evaluator(graph, ["a", "y"], (), kept=kept)
    x = np.array([1 / 3, 2 / 3, 1e-9])
    a, y = run({"x": x})
    assert a.dtype == y.dtype == (kept or np.float64)
    np.testing.assert_array_equal(y, np.asarray(x * x - x, kept or np.float64))


@pytest.mark.parametrize("sizes", [(5,), (1 << 20, 3)])
def test_a_long_array_is_made_wide_part_by_part(sizes: Sequence[int]) -> None:
    random = np.random.default_rng(0)
    gradient, there, here = random.standard_normal((3, sum(sizes))).astype(np.float32)
    assert [part.size for part in parts(gradient)] == list(sizes)
    expected = np.dot(gradient.astype(np.float64), there.astype(np.float64) - here)
    np.testing.assert_allclose(along(gradient, there, here), expected, rtol=1e-12)
