"""examples.labels: the whole way, and again."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

import dsd_ort
from examples.labels import __main__ as example

ROOT = Path(__file__).parents[2]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "examples.labels", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_one_command_finds_the_wrong_labels_and_trains_on_without_them(tmp_path: Path) -> None:
    answer = run("-o", tmp_path, "--threads", 1)
    assert answer.returncode == 0, answer.stderr
    truth, data, _ = example.split(0)
    rows = csv.DictReader((tmp_path / "suspects.csv").read_text().splitlines())
    numbers = [int(row["index"]) for row in rows]
    right = np.count_nonzero(data["label"][numbers] != truth[numbers])
    assert f"{right} of {len(numbers)} suspects are truly wrong" in answer.stdout
    brought, dsd, better = (float(value) for value in re.findall(r"│ +([\d.]+) % │", answer.stdout))
    assert brought > dsd + 5 > better  # points: what the wrong labels cost, and most of it mended
    assert (tmp_path / "suspects.png").read_bytes().startswith(b"\x89PNG")
    assert dsd_ort.verify(tmp_path / "brought.onnx", tmp_path / "better.onnx").same
    again = run("-o", tmp_path, "--threads", 1)
    assert again.stdout == answer.stdout, "called again, it shows what it found"
