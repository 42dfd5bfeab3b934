"""``fsck``: every file of a run folder is named when one of its bits changes, and what can be saved is said."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import dsd_ort
from dsd_ort.errors import RunError
from tests.run.test_checkpoint import RECIPE, flip, run, trained

__all__ = ["run", "trained"]


def states(run: Path) -> dict[str, str]:
    return {each.file: each.state for each in dsd_ort.fsck(run).findings}


def test_a_whole_run_is_whole_and_nothing_is_changed_by_looking(run: Path) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in run.rglob("*")}
    found = dsd_ort.fsck(run)
    assert found.whole and set(states(run).values()) == {"whole"}
    files = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert files == set(states(run)), "each file is looked at"
    assert before == {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in run.rglob("*")}
    assert f"dsd-ort export {run} -o final.onnx --phase 2" in found.saved


def test_one_changed_bit_of_any_file_is_named_with_what_to_do(run: Path) -> None:
    for path in sorted(path for path in run.rglob("*") if path.is_file()):
        whole, name = path.read_bytes(), str(path.relative_to(run))
        for at in (0, len(whole) // 2, len(whole) // 3):
            flip(path, at)
            found = dsd_ort.fsck(run)
            damaged = [each for each in found.findings if each.state in ("damaged", "missing")]
            assert [each.file for each in damaged if each.file == name], (name, at)
            assert damaged[0].words and damaged[0].fix and not found.whole
            path.write_bytes(whole)


def test_a_copy_of_the_model_that_no_reader_understands_is_named(run: Path) -> None:
    path = run / "source" / "model.onnx"
    path.write_bytes(path.read_bytes().replace(b"bn.weight", b"bn.weigHt", 1))
    [damaged] = [each for each in dsd_ort.fsck(run).findings if each.state == "damaged"]
    assert damaged.file == "source/model.onnx" and "the run folder's copy of the model" in damaged.words


def test_a_last_line_without_an_end_is_told_and_no_damage(run: Path) -> None:
    with (run / "journal.jsonl").open("ab") as file:
        file.write(b'{"event": "epo')
    [journal] = [each for each in dsd_ort.fsck(run).findings if each.file == "journal.jsonl"]
    assert journal.state == "whole" and "as a kill leaves it" in journal.words and dsd_ort.fsck(run).whole


def test_what_is_lost_and_what_can_be_saved(run: Path) -> None:
    flip(run / "checkpoint.safetensors")
    (run / "phases" / "2-sparse.safetensors").unlink()
    (run / "graphs" / "sparse.onnx").unlink()
    found = dsd_ort.fsck(run)
    assert states(run)["graphs/sparse.onnx"] == "missing"
    assert f"put back what was prepared, and then: dsd-ort export {run} -o final.onnx --phase 1" in found.saved
    assert any("goes on from update 12, of checkpoint.1.safetensors" in text for text in found.saved)
    assert not any("--phase 2 " in f"{text} " and "--best" not in text for text in found.saved)


def test_files_of_others_are_named_and_links_are_not_followed(run: Path, tmp_path: Path) -> None:
    (run / "notes.txt").write_text("mine")
    (tmp_path / "victim").write_text("somebody's")
    (run / "link").symlink_to(tmp_path / "victim")
    os.mkfifo(run / "fifo")
    found = states(run)
    assert (found["notes.txt"], found["link"], found["fifo"]) == ("not of the run", "damaged", "damaged")


def test_without_a_manifest_weights_are_still_told_apart(run: Path) -> None:
    (run / "manifest.json").write_bytes(b"{")
    flip(run / "phases" / "1-dense.safetensors")
    found = dsd_ort.fsck(run)
    assert states(run)["manifest.json"] == "damaged"
    assert any(text.startswith("checkpoint.safetensors is whole") for text in found.saved)
    assert not any("1-dense.safetensors" in text for text in found.saved)


def test_what_is_no_run_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such run folder"):
        dsd_ort.fsck(tmp_path / "none")
    with pytest.raises(RunError, match="this is no run folder"):
        dsd_ort.fsck(tmp_path)


def test_the_graphs_of_the_same_preparation_mend_it(run: Path, trained: Path, tmp_path: Path) -> None:
    flip(run / "graphs" / "step.onnx")
    new = dsd_ort.prepare(trained / "model.onnx", tmp_path / "new", RECIPE)
    shutil.copy(new.folder / "graphs" / "step.onnx", run / "graphs" / "step.onnx")
    assert dsd_ort.fsck(run).whole
