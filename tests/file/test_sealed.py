"""A sealed file is a safetensors file, and every one of its bits counts."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from dsd_ort.file import sealed

TENSORS = {
    "weights/a.b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "scalar": np.array(7, np.float32),
    "empty": np.zeros((0, 3), np.float32),
    "masks/é": np.array([0, 1, 1], np.uint8),
}
RECORD = '{"metrics": {"loss": NaN}, "digest":"sha256:"}'


@pytest.fixture
def content() -> bytes:
    file = io.BytesIO()
    sealed.write(file, TENSORS, RECORD)
    return file.getvalue()


def test_every_reader_of_safetensors_reads_it(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    found = safetensors.numpy.load_file(tmp_path / "file")
    assert found.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        np.testing.assert_array_equal(found[name], value, strict=True)
    with safetensors.safe_open(tmp_path / "file", framework="numpy") as file:
        assert file.metadata()["dsd_ort"] == RECORD


def test_each_of_its_bits_is_noticed_and_each_of_its_ends(content: bytes) -> None:
    assert sealed.is_whole(io.BytesIO(content)) is True
    for at in range(len(content)):
        for bit in range(8):
            changed = content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
            assert sealed.is_whole(io.BytesIO(changed)) is False, (at, bit)
        assert sealed.is_whole(io.BytesIO(content[:at])) is False, at
    assert sealed.is_whole(io.BytesIO(content + b"\0")) is False


def test_a_file_of_an_earlier_version_does_not_say(tmp_path: Path) -> None:
    safetensors.numpy.save_file(TENSORS, tmp_path / "old", metadata={"dsd_ort": "{}"})
    old = (tmp_path / "old").read_bytes()
    assert sealed.is_whole(io.BytesIO(old)) is None
    assert not sealed.says(io.BytesIO(old))
    safetensors.numpy.save_file(TENSORS, tmp_path / "other", metadata={"format": "pt"})
    assert sealed.is_whole(io.BytesIO((tmp_path / "other").read_bytes())) is False
