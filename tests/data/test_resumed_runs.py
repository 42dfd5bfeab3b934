"""Law 6 for data by chance: a run that is stopped within an epoch and resumed ends with the bytes of one left alone.

The resumed one reads its data with several workers, the other one with one.
So does one that ended as a file of its data was gone.
"""

from __future__ import annotations

import itertools
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx.numpy_helper
import onnx.parser
import PIL.Image
import pytest
import soundfile

import dsd_ort
from dsd_ort.data import images, recordings
from dsd_ort.data.cache import Cache
from dsd_ort.errors import DataError, Stopped
from dsd_ort.run.execution import Execution
from dsd_ort.run.journal import Event
from tests.models import cnn_data, write_cnn

SPEECH = """
<ir_version: 8, opset_import: ["" : 17]>
speech (float[N, T, 8] x, int64[N] frames) => (float[N, T, 4] logits) {
    hidden = MatMul (x, w1)
    active = Relu (hidden)
    logits = MatMul (active, w2)
}
"""


def exported(folder: Path, model: Path, recipe: dsd_ort.Recipe, data: Path, stop: int | None = None) -> bytes:
    """The trained file; after *stop* updates the run is stopped, and then resumed."""
    run = folder / f"run{stop}"
    dsd_ort.prepare(model, run, recipe)
    if stop is not None:
        asked = itertools.count(1)
        with pytest.raises(Stopped):
            dsd_ort.train(run, data, threads=1, stop=lambda: next(asked) >= stop)
    with pytest.MonkeyPatch.context() as patch:
        if stop is not None:
            patch.setattr(Execution, "workers", 3)
        dsd_ort.train(run, data, threads=1, resume=stop is not None)
    dsd_ort.export(run, run.with_suffix(".onnx"))
    return run.with_suffix(".onnx").read_bytes()


def exported_after_an_absence(folder: Path, model: Path, recipe: dsd_ort.Recipe, data: Path, file: Path) -> bytes:
    """The trained file; *file* of the data is away from the fifth update on, until the training has ended by it."""
    run, away, updates = folder / "absent", file.with_name("away"), itertools.count(1)
    dsd_ort.prepare(model, run, recipe)

    def vanish(event: Event) -> None:
        if event["event"] == "tick" and next(updates) == 5:
            file.rename(away)

    with pytest.raises(DataError, match="cannot be read: No such file or directory") as caught:
        dsd_ort.train(run, data, threads=1, checkpoint_seconds=0.0, listener=vanish)
    assert caught.value.where == str(file)
    assert "goes on with --resume" in (caught.value.fix or "")
    assert next(updates) > 5
    away.rename(file)
    dsd_ort.train(run, data, threads=1, resume=True)
    dsd_ort.export(run, run.with_suffix(".onnx"))
    return run.with_suffix(".onnx").read_bytes()


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read once is read again, as of data that are larger than the cache."""
    for module in (images, recordings):
        monkeypatch.setattr(module, "Cache", partial(Cache, 0))


def recipe(**tables: Any) -> dsd_ort.Recipe:
    phases = [{"kind": "dense", "epochs": 3, "learning_rate": 0.05}]
    return dsd_ort.Recipe.from_dict({"batch_size": 4, "seed": 5, "phase": phases, **tables})


def test_a_run_on_images_that_are_cropped_and_mirrored_by_chance(tmp_path: Path, no_cache: None) -> None:
    random = np.random.default_rng(0)
    for number in range(15):
        path = tmp_path / "data" / f"class{number % 3}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (8 + number % 2, 8)
        PIL.Image.fromarray(random.integers(0, 256, size, dtype=np.uint8)).save(path)
    model = write_cnn(tmp_path / "model.onnx")
    augmented = recipe(data={"image": {"crop": 6, "pad": 1, "flip": True}})
    whole = exported(tmp_path, model, augmented, tmp_path / "data")
    assert exported(tmp_path, model, augmented, tmp_path / "data", stop=6) == whole
    away = tmp_path / "data" / "class1" / "7.png"
    assert exported_after_an_absence(tmp_path, model, augmented, tmp_path / "data", away) == whole
    (tmp_path / "plain").mkdir()
    plain = recipe(data={"image": {"crop": 6, "pad": 1}})
    assert exported(tmp_path / "plain", model, plain, tmp_path / "data") != whole


def test_a_run_on_recordings_in_buckets(tmp_path: Path, no_cache: None) -> None:
    random = np.random.default_rng(0)
    lines = []
    for number in range(22):
        samples = random.uniform(-0.5, 0.5, random.integers(400, 2000))
        soundfile.write(tmp_path / f"{number}.wav", samples, 8000)
        lines.append(json.dumps({"audio_filepath": f"{number}.wav", "text": "abc"[number % 3] * (1 + number % 2)}))
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    model = onnx.parser.parse_model(SPEECH)
    for name, shape in (("w1", (8, 6)), ("w2", (6, 4))):
        value = (0.3 * random.standard_normal(shape)).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    bucketed = recipe(
        loss={"name": "ctc", "lengths": "frames"},
        data={"alphabet": "_abc", "bucket": True, "audio": {"sample_rate": 8000, "mels": 8}},
    )
    whole = exported(tmp_path, tmp_path / "model.onnx", bucketed, tmp_path / "train.jsonl")
    assert exported(tmp_path, tmp_path / "model.onnx", bucketed, tmp_path / "train.jsonl", stop=8) == whole
    absent = exported_after_an_absence(
        tmp_path, tmp_path / "model.onnx", bucketed, tmp_path / "train.jsonl", tmp_path / "7.wav"
    )
    assert absent == whole


def test_arrays_that_are_removed_stay_those_of_the_run(tmp_path: Path) -> None:
    model, data = write_cnn(tmp_path / "model.onnx"), tmp_path / "data"
    data.mkdir()
    for name, array in cnn_data(15).items():
        np.save(data / f"{name}.npy", array)
    whole, run = exported(tmp_path, model, recipe(), data), tmp_path / "removed"
    dsd_ort.prepare(model, run, recipe())
    dsd_ort.train(run, data, threads=1, listener=lambda event: shutil.rmtree(data, ignore_errors=True))
    assert not data.exists()
    dsd_ort.export(run, tmp_path / "removed.onnx")
    assert (tmp_path / "removed.onnx").read_bytes() == whole
