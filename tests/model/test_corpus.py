"""Files that once ended a command in a traceback, or the process: ``tools.fuzz`` found them, one of each kind.

They are called after the file that the traceback ended in.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Command, dsd_ort

__all__ = ["dsd_ort"]
CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.onnx"))


def test_there_is_a_corpus() -> None:
    assert len(CORPUS) > 40


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.stem)
def test_what_once_failed_is_answered_or_refused(file: Path, tmp_path: Path, dsd_ort: Command) -> None:
    for command in (("inspect", file), ("prepare", file, "-o", tmp_path / "run"), ("verify", file, file)):
        answer = dsd_ort(*command)
        assert answer.status in (0, 3), answer
        assert answer.status == 0 or "  fix:   " in answer.err
        assert "Traceback" not in answer.err
