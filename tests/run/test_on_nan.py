"""``on_nan``: what is not finite stops a training with a name, or is left out and counted; never more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import dsd_ort
from dsd_ort.errors import DivergedError, Stopped
from dsd_ort.run.journal import Event, read
from tests.models import cnn_data, write_cnn

RECIPE = dsd_ort.Recipe.from_dict(
    {"batch_size": 8, "phase": [{"kind": "dense", "epochs": 2, "learning_rate": 0.05}], "optimizer": {"momentum": 0.9}}
)


def data(*bad: int) -> dict[str, np.ndarray]:
    arrays = cnn_data(64)
    arrays["image"][list(bad)] = 3e38  # overflows in the first convolution
    return arrays


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return dsd_ort.prepare(write_cnn(tmp_path / "model.onnx"), tmp_path / "run", RECIPE).folder


def test_by_default_it_stops_and_says_how_to_go_on(run: Path) -> None:
    with pytest.raises(DivergedError, match="the loss became nan") as caught:
        dsd_ort.train(run, data(5), threads=1)
    assert "--on-nan skip" in (caught.value.fix or "")


def test_skipped_updates_are_counted_and_change_nothing_of_the_weights(run: Path) -> None:
    [end] = dsd_ort.train(run, data(5, 40), threads=1, on_nan="skip")
    assert end["skipped"] == [e["skipped"] for e in read(run) if e["event"] == "epoch"][-1]
    assert 2 <= end["skipped"] <= 4, "each of two examples spoils a batch of each of two epochs"
    found = safetensors.numpy.load_file(run / "checkpoint.safetensors")
    assert all(np.isfinite(value).all() for value in found.values())


def test_a_run_without_any_is_trained_as_one_that_would_stop(tmp_path: Path) -> None:
    model, found = write_cnn(tmp_path / "model.onnx"), []
    for on_nan in ("stop", "skip"):
        run = dsd_ort.prepare(model, tmp_path / on_nan, RECIPE).folder
        dsd_ort.train(run, data(), threads=1, on_nan=on_nan)
        found.append(safetensors.numpy.load_file(run / "phases" / "1-dense.safetensors"))
    for name, value in found[0].items():
        np.testing.assert_allclose(value, found[1][name], rtol=1e-5, atol=1e-6)


def test_it_goes_on_as_it_was_to_the_same_bytes(tmp_path: Path) -> None:
    model, found = write_cnn(tmp_path / "model.onnx"), []
    for stop in (None, 5):
        run = dsd_ort.prepare(model, tmp_path / f"run-{stop}", RECIPE).folder
        asked = iter(range(100))
        if stop:
            with pytest.raises(Stopped):
                dsd_ort.train(run, data(5), threads=1, on_nan="skip", stop=lambda: next(asked) == stop)  # noqa: B023
        dsd_ort.train(run, data(5), threads=1, resume=bool(stop), on_nan=None if stop else "skip")
        found.append((run / "phases" / "1-dense.safetensors").read_bytes())
    tensors = [safetensors.numpy.load(content) for content in found]
    assert all(tensors[0][name].tobytes() == tensors[1][name].tobytes() for name in tensors[0])


def test_twenty_in_a_row_have_diverged(run: Path) -> None:
    with pytest.raises(DivergedError, match="21 times in a row"):
        dsd_ort.train(run, {**cnn_data(400), "image": np.full((400, 1, 6, 6), 3e38, np.float32)}, on_nan="skip")


def test_parameters_that_no_gradient_reaches_are_named(tmp_path: Path) -> None:
    model = write_cnn(tmp_path / "model.onnx")
    recipe = {"batch_size": 8, "phase": [{"kind": "dense", "epochs": 1, "learning_rate": 0.05}]}
    run = dsd_ort.prepare(model, tmp_path / "run", dsd_ort.Recipe.from_dict(recipe)).folder
    told: list[Event] = []
    arrays = cnn_data(64)
    arrays["image"][:] = 0.0
    dsd_ort.train(run, arrays, threads=1, listener=told.append)
    [epoch] = [event for event in read(run) if event["event"] == "epoch"]
    assert "conv1.weight" in epoch["silent"] and "fc.bias" not in epoch["silent"]
    assert any("'conv1.weight'" in event.get("text", "") for event in told if event["event"] == "note")
