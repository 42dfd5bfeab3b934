"""``dsd-ort fsck``: 0 where all is whole, 1 where something is damaged, with what can be saved."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Command
from tests.run.test_checkpoint import flip


def test_exit_status_says_whether_all_is_whole(dsd_ort: Command, trained: Path) -> None:
    answer = dsd_ort("fsck", "run")
    assert answer.status == 0 and "damaged" not in answer.out
    flip(trained / "run" / "phases" / "1-dense.safetensors")
    answer = dsd_ort("fsck", "run")
    assert answer.status == 1
    assert "phases/1-dense.safetensors: the weights of a phase are damaged" in answer.out
    assert "what can be saved:\n  dsd-ort train run --data DATA --resume goes on from update 6" in answer.out


def test_json_says_the_same(dsd_ort: Command, trained: Path) -> None:
    (trained / "run" / "graphs" / "update.onnx").unlink()
    answer = dsd_ort("fsck", "run", "--json")
    found = json.loads(answer.out)
    assert answer.status == 1 and not found["whole"]
    [missing] = [each for each in found["findings"] if each["state"] == "missing"]
    assert missing["file"] == "graphs/update.onnx" and "the same recipe" in missing["fix"]


def test_what_is_no_run_is_refused(dsd_ort: Command, folder: Path) -> None:
    answer = dsd_ort("fsck", "nowhere")
    assert answer.status == 3 and "no such run folder" in answer.err
