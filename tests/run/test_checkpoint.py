"""What a checkpoint says is checked before a number of it is used, and a damaged one is set aside."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy

import dsd_ort
from dsd_ort.errors import DamagedError, RunError
from dsd_ort.file import sealed
from dsd_ort.graph.program import open_program
from dsd_ort.run import checkpoint, keeping
from dsd_ort.run.arena import Arena
from dsd_ort.run.engine import Engine
from dsd_ort.run.journal import Event, read
from tests.models import cnn_data, write_cnn

DATA = cnn_data(40)
RECIPE = dsd_ort.Recipe.from_dict(
    {
        "batch_size": 8,
        "phase": [
            {"kind": "dense", "steps": 6, "learning_rate": 0.05},
            {"kind": "sparse", "sparsity": 0.4, "steps": 6, "learning_rate": 0.05},
        ],
    }
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained with two checkpoints, up to the end."""
    folder = tmp_path_factory.mktemp("trained")
    dsd_ort.prepare(write_cnn(folder / "model.onnx"), folder / "run", RECIPE)
    dsd_ort.train(folder / "run", DATA, threads=1, keep_checkpoints=2)
    dsd_ort.export(folder / "run", folder / "final.onnx")
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained / "run", tmp_path / "run"))


def flip(path: Path, at: int = -5) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


def test_the_damaged_last_one_is_set_aside_and_the_one_before_ends_with_the_same_bytes(
    trained: Path, run: Path, tmp_path: Path
) -> None:
    flip(run / keeping.CHECKPOINT)
    told: list[Event] = []
    dsd_ort.train(run, DATA, resume=True, threads=1, listener=told.append)
    notes = [event["text"] for event in told if event["event"] == "note"]
    assert any("the last checkpoint is damaged, and is now checkpoint.damaged.safetensors" in note for note in notes)
    dsd_ort.export(run, tmp_path / "final.onnx")
    assert (tmp_path / "final.onnx").read_bytes() == (trained / "final.onnx").read_bytes()
    assert (run / keeping.DAMAGED).exists()
    assert not list(run.rglob(".*"))


def test_a_last_one_that_is_gone_is_found_in_the_one_before(run: Path) -> None:
    (run / keeping.CHECKPOINT).unlink()
    dsd_ort.train(run, DATA, resume=True, threads=1)
    assert dsd_ort.fsck(run).whole


def test_where_there_is_none_before_it_the_message_says_who_knows_what_can_be_saved(run: Path) -> None:
    keeping.earlier_file(run, 1).unlink()
    flip(run / keeping.CHECKPOINT)
    before = (run / keeping.CHECKPOINT).read_bytes()
    with pytest.raises(
        DamagedError, match="the checkpoint is damaged: the file is no longer what was written"
    ) as caught:
        dsd_ort.train(run, DATA, resume=True, threads=1)
    assert "dsd-ort fsck" in (caught.value.fix or "")
    assert (run / keeping.CHECKPOINT).read_bytes() == before


def test_damaged_weights_of_a_phase_are_not_exported(run: Path, tmp_path: Path) -> None:
    flip(run / "phases" / "2-sparse.safetensors")
    with pytest.raises(DamagedError, match="the weights of a phase are damaged"):
        dsd_ort.export(run, tmp_path / "final.onnx")
    assert not (tmp_path / "final.onnx").exists()
    dsd_ort.export(run, tmp_path / "final.onnx", phase=1)


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_as_many_stay_as_are_wanted_the_youngest_first(trained: Path, tmp_path: Path, keep: int) -> None:
    program = dsd_ort.prepare(trained / "model.onnx", tmp_path / "run", RECIPE)
    arena = Arena.of(program)
    for step in range(5):
        arena.weights[:] = step
        checkpoint.save(program.folder / keeping.CHECKPOINT, arena, {"program": program.digest}, keep=keep)
    paths = [program.folder / keeping.CHECKPOINT, *(keeping.earlier_file(program.folder, n) for n in range(1, keep))]
    steps = [float(safetensors.numpy.load_file(path)["weights/fc.bias"][0]) for path in paths]
    assert steps == [4.0, 3.0, 2.0][:keep]
    assert len(list(program.folder.glob("*.safetensors"))) == keep


def test_one_file_with_both_names_as_a_kill_leaves_it_leaves_nothing_behind(run: Path) -> None:
    program = open_program(run)
    arena = Arena.of(program)
    keeping.earlier_file(run, 1).unlink()
    os.link(run / keeping.CHECKPOINT, keeping.earlier_file(run, 1))
    checkpoint.save(run / keeping.CHECKPOINT, arena, {"program": program.digest}, keep=2)
    assert not list(run.rglob(".*"))


def test_without_hard_links_it_is_a_copy(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(1, "no links here")

    monkeypatch.setattr(os, "link", none)
    flip(run / keeping.CHECKPOINT)
    dsd_ort.train(run, DATA, resume=True, threads=1)
    assert dsd_ort.fsck(run).whole


def resealed(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> None:
    with safetensors.safe_open(path, framework="numpy") as file:
        record = json.loads(file.metadata()["dsd_ort"])
    tensors = safetensors.numpy.load_file(path)
    change(record, tensors)
    with path.open("wb") as file:
        sealed.write(file, tensors, json.dumps(record))


CHANGES: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], object], str]] = {
    "a phase": (lambda record, _: record["position"].update(phase=7), "does not fit the run: phase 8"),
    "a step below 0": (lambda record, _: record["position"].update(step=-1), "does not fit the run: -1 steps"),
    "no number": (lambda record, _: record["position"].update(step="x"), "cannot be read: Expected `int`"),
    "a key": (lambda record, _: record.update(command="rm"), "unknown field `command`"),
    "a precision": (lambda record, _: record.update(precision="fp1"), "Invalid enum value 'fp1'"),
    "events": (lambda record, _: record.update(events=-3), "does not fit the run: -3 events count"),
    "a program": (lambda record, _: record.update(program="sha256:0"), "belong to another model or recipe"),
    "no progress": (lambda record, _: record.pop("progress"), "it is not the state of a training"),
    "no position": (
        lambda record, _: [record.pop(key) for key in ("position", "progress", "events")],
        "it is not the state of a training",
    ),
    "no tensor": (lambda _, tensors: tensors.pop("weights/fc.bias"), "it lacks the tensor 'weights/fc.bias'"),
    "a tensor": (lambda _, tensors: tensors.update(x=np.zeros(3, np.float32)), "it has the tensor 'x'"),
    "a shape": (
        lambda _, tensors: tensors.update({"weights/fc.bias": np.zeros(1, np.float32)}),
        "'weights/fc.bias' is F32 [1], not F32 (3,)",
    ),
    "a type": (
        lambda _, tensors: tensors.update({"weights/fc.bias": np.zeros(3, np.uint8)}),
        "'weights/fc.bias' is U8 [3], not F32 (3,)",
    ),
    "a mask": (lambda _, tensors: tensors["masks/fc.weight"].fill(2), "a mask is neither 0 nor 1"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_somebody_made_it_say_is_held_against_the_run(run: Path, case: str) -> None:
    change, words = CHANGES[case]
    resealed(run / keeping.CHECKPOINT, change)
    program = open_program(run)
    with pytest.raises(RunError) as caught:
        checkpoint.load(run / keeping.CHECKPOINT, Arena.of(program), program, state=True)
    assert words in caught.value.what


def test_a_checkpoint_of_an_earlier_version_is_read(run: Path, trained: Path) -> None:
    path = run / keeping.CHECKPOINT
    with safetensors.safe_open(path, framework="numpy") as file:
        record = json.loads(file.metadata()["dsd_ort"])
    del record["on_nan"]
    safetensors.numpy.save_file(safetensors.numpy.load_file(path), path, metadata={"dsd_ort": json.dumps(record)})
    dsd_ort.train(run, DATA, resume=True, threads=1)
    states = {each.file: each.state for each in dsd_ort.fsck(run).findings}
    assert states[keeping.CHECKPOINT] == "unchecked"
    assert read(run)[-1]["event"] == "end"


def test_masks_take_no_memory_until_a_phase_prunes(run: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, bool]] = []

    class Watched(Engine):
        def update(self, learning_rate: float, step: int) -> None:
            super().update(learning_rate, step)
            seen.append((step, self.arena.unmasked))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dsd_ort.run.state.Engine", Watched)
        dsd_ort.prepare(open_program(run).source_path, tmp_path / "again", RECIPE)
        dsd_ort.train(tmp_path / "again", DATA, threads=1)
    assert seen == [(step, step <= 6) for step in range(1, 13)]


def test_masks_that_nobody_made_are_saved_as_ones_and_read_as_none(run: Path) -> None:
    program, record = open_program(run), checkpoint.read_record(run / keeping.CHECKPOINT, open_program(run), state=True)
    unmasked, masked, again = (Arena.of(program) for _ in range(3))
    masked.masks[:] = 1
    for name, arena in (("unmasked", unmasked), ("masked", masked)):
        checkpoint.save(run / name, arena, record)
    assert (run / "unmasked").read_bytes() == (run / "masked").read_bytes()
    checkpoint.load(run / "unmasked", again, program, state=True)
    assert again.unmasked
    checkpoint.load(run / keeping.CHECKPOINT, again, program, state=True)
    assert not again.unmasked
    assert again.density() == pytest.approx(0.6)
