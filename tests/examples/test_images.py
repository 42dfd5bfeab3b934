"""examples.images, with few and made-up images in the files' format."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from examples.images import __main__ as example

ROOT = Path(__file__).parents[2]


def write_idx(path: Path, array: np.ndarray) -> None:
    """u8 as an IDX file."""
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(head + array.tobytes()))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder, rng = tmp_path / "data", np.random.default_rng(0)
    folder.mkdir()
    for split, count in (("train", 40), ("t10k", 20)):
        label = np.arange(count, dtype=np.uint8) % 10
        write_idx(folder / f"{split}-images-idx3-ubyte.gz", rng.integers(0, 256, (count, 28, 28), dtype=np.uint8))
        write_idx(folder / f"{split}-labels-idx1-ubyte.gz", label)
    return folder


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "examples.images", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_one_command_goes_from_images_to_a_verified_model_and_a_table(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = run("-o", out, "--data", data, "--threads", 1)
    assert answer.returncode == 0, answer.stderr
    for line in ("│ DSD        │ 3 dense", "│ dense only │ 3 dense", "final.onnx is the same graph"):
        assert line in answer.stdout
    assert len(json.loads((out / "report.json").read_text())["rows"]) == 6
    again = run("-o", out, "--data", data)
    assert again.stdout == answer.stdout, "called again, it shows what it found"


def test_missing_images_are_told_with_the_package_that_has_them(tmp_path: Path) -> None:
    answer = run("-o", tmp_path / "out", "--data", tmp_path / "none")
    assert answer.returncode == 3
    assert "apt-get install dataset-fashion-mnist" in answer.stderr
    assert not (tmp_path / "out").exists()


def test_held_out_images_are_the_last_of_the_training_images(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example, "HELD_OUT", 10)
    whole, test = example.splits(data, held_out=False)
    rest, held_out = example.splits(data, held_out=True)
    assert [len(part["image"]) for part in (whole, test, rest, held_out)] == [40, 20, 30, 10]
    for name in ("image", "label"):
        np.testing.assert_array_equal(np.concatenate([rest[name], held_out[name]]), whole[name])
