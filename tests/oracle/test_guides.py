"""What the guide to exporters shows of PyTorch gives a file that trains."""

from __future__ import annotations

from pathlib import Path

import pytest

import dsd_ort
from tests.test_site import EXPORTERS, run, shown

pytestmark = pytest.mark.oracle


@pytest.mark.filterwarnings("ignore")
def test_what_the_exporter_writes_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [text] = [text for _, text in shown("python", [EXPORTERS]) if "import torch" in text]
    run(text, "exporters")
    assert dsd_ort.check("model.onnx", isolate=False).ok
