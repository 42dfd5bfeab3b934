"""A run folder from somebody else is data: nothing outside of it is read or written, whatever stands in it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import msgspec
import pytest

from dsd_ort.graph.manifest import Manifest
from tests.cli.conftest import Command

TRAIN = ("train", "run", "--data", "data.npz", "--threads", 1)
VERBS = {
    "status": ("status", "run"),
    "journal": ("journal", "run"),
    "train": TRAIN,
    "resume": (*TRAIN, "--resume"),
    "export": ("export", "run", "-o", "final.onnx"),
    "evaluate": ("evaluate", "run", "--data", "data.npz"),
    "suspects": ("suspects", "run", "--data", "data.npz"),
}
READS = {
    "manifest.json": ("status", "train", "resume", "export", "evaluate", "suspects"),
    "journal.jsonl": ("status", "journal", "resume", "export", "evaluate", "suspects"),
    "checkpoint.safetensors": ("resume",),
    "graphs/step.onnx": ("resume", "export", "evaluate", "suspects"),
    "source/model.onnx": ("export",),
    "phases/2-sparse.safetensors": ("export", "evaluate", "suspects"),
}


@pytest.mark.parametrize("name", READS)
def test_a_link_in_it_is_followed_by_no_verb(dsd_ort: Command, trained: Path, name: str) -> None:
    path, victim = trained / "run" / name, trained / "victim"
    path.replace(victim)
    path.symlink_to(victim)
    before = victim.read_bytes()
    for verb in READS[name]:
        answer = dsd_ort(*VERBS[verb])
        assert answer.status == 3 and "Traceback" not in answer.err, (verb, answer)
        assert "a symbolic link stands where the run folder has a file of its own" in answer.err, (verb, answer)
        assert victim.read_bytes() == before
    assert dsd_ort("fsck", "run").status in (1, 3)


@pytest.mark.parametrize("name", ["manifest.json", "journal.jsonl", "checkpoint.safetensors", "graphs/step.onnx"])
def test_a_fifo_in_it_makes_no_verb_wait(dsd_ort: Command, trained: Path, name: str) -> None:
    (trained / "run" / name).unlink()
    os.mkfifo(trained / "run" / name)
    for verb in READS[name]:
        answer = dsd_ort(*VERBS[verb])
        assert answer.status == 3 and "a FIFO stands where the run folder has a file of its own" in answer.err, verb


def test_a_new_journal_is_not_written_through_a_link(dsd_ort: Command, prepared: Path) -> None:
    victim = prepared / "victim.txt"
    victim.write_text("mine\n")
    (prepared / "run" / "journal.jsonl").symlink_to(victim)
    answer = dsd_ort(*TRAIN)
    assert answer.status == 3 and "a symbolic link" in answer.err
    assert victim.read_text() == "mine\n"


def test_phases_are_not_written_through_a_link(dsd_ort: Command, prepared: Path) -> None:
    (prepared / "elsewhere").mkdir()
    (prepared / "run" / "phases").symlink_to(prepared / "elsewhere")
    answer = dsd_ort(*TRAIN)
    assert answer.status == 3 and "a symbolic link stands where the run folder has a folder of its own" in answer.err
    assert not list((prepared / "elsewhere").iterdir())


def test_the_lock_and_temporary_files_go_through_no_link(dsd_ort: Command, prepared: Path) -> None:
    victim = prepared / "victim.txt"
    victim.write_text("mine")
    for name in ("lock.json", ".checkpoint.safetensors.tmp", "checkpoint.1.safetensors"):
        (prepared / "run" / name).symlink_to(victim)
    dsd_ort(*TRAIN, "--keep-checkpoints", 2)
    assert victim.read_text() == "mine"


def resealed(run: Path, **changes: object) -> None:
    manifest = json.loads((run / "manifest.json").read_bytes()) | changes
    content = msgspec.json.decode(json.dumps(manifest), type=Manifest).sealed().written()
    (run / "manifest.json").write_bytes(content)


@pytest.mark.parametrize("model", ["../../model.onnx", "/etc/passwd", "..", "a/b.onnx"])
def test_a_model_elsewhere_is_not_read(dsd_ort: Command, trained: Path, model: str) -> None:
    resealed(trained / "run", model=model)
    for verb in ("status", "resume", "export"):
        answer = dsd_ort(*VERBS[verb])
        assert answer.status == 3 and "may be the name of a file in source/ only" in answer.err


def test_external_data_in_it_may_be_no_link(dsd_ort: Command, trained: Path) -> None:
    (trained / "run" / "source").rename(trained / "victim")
    (trained / "run" / "source").symlink_to(trained / "victim")
    answer = dsd_ort(*VERBS["export"])
    assert answer.status == 3 and "a symbolic link stands where the run folder has a folder" in answer.err


def test_a_model_that_is_a_hard_link_is_a_file(dsd_ort: Command, trained: Path) -> None:
    (trained / "run" / "source" / "model.onnx").unlink()
    os.link(trained / "model.onnx", trained / "run" / "source" / "model.onnx")
    assert dsd_ort(*VERBS["export"]).status == 0
    assert dsd_ort("fsck", "run").status == 0


def test_no_python_is_imported_because_a_file_says_so(
    dsd_ort: Command, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (trained / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(trained)
    run = trained / "run"
    recipe = json.loads((run / "manifest.json").read_bytes())["recipe"]
    recipe["data"]["without"] = "evil:main"
    resealed(run, recipe=recipe)
    shutil.rmtree(run / "phases")
    for name in ("checkpoint.safetensors", "journal.jsonl"):
        (run / name).unlink()
    assert dsd_ort(*TRAIN).status == 0, "what counts is the list in the folder, and there is none"


def test_a_list_that_was_changed_before_the_first_step_is_refused(dsd_ort: Command, folder: Path) -> None:
    (folder / "list.csv").write_text("index\n3\n4\n")
    prepare = ("prepare", "model.onnx", "-o", "run", "--recipe", "recipe.toml", "--without", "list.csv")
    assert dsd_ort(*prepare).status == 0
    (folder / "run" / "without.csv").write_text("index\n3\n5\n")
    answer = dsd_ort(*TRAIN)
    assert answer.status == 3 and "the list of examples that are left out was changed" in answer.err
    assert dsd_ort("fsck", "run").status == 1
    (folder / "run" / "without.csv").write_text("index\n3\n4\n")
    assert dsd_ort(*TRAIN).status == 0
    assert dsd_ort("fsck", "run").status == 0
    (folder / "run" / "without.csv").write_text("index\n3\n4\n\n")
    assert dsd_ort("fsck", "run").status == 1
