"""Stubs of CUDA's driver and libraries, for child processes: LD_LIBRARY_PATH counts when a process starts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cuda import stubs

ROOT = Path(__file__).parents[2]

Child = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def stub_libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with stubs of all that the installed ONNX Runtime's CUDA provider loads, and of the driver."""
    provider = stubs.provider()
    if provider is None:
        pytest.skip("the installed ONNX Runtime has no CUDA provider")
    for tool in ("gcc", "nm", "readelf"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    return stubs.build(provider, tmp_path_factory.mktemp("cuda"))  # each worker its own: it takes a second


@pytest.fixture
def child() -> Child:
    """Runs Python in a process of its own with these libraries: ``child(folder, "-m", "dsd_ort", …, STUB_DEVICES=0)``.

    Without a folder, no library of CUDA is found.
    """

    def run(folder: Path | None, *arguments: object, **variables: object) -> subprocess.CompletedProcess[str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("CUDA_", "STUB_", "LD_LIBRARY_PATH"))}
        chosen = {name: str(value) for name, value in variables.items()}
        return subprocess.run(
            [sys.executable, "-W", "error", *map(str, arguments)],
            env=inherited | {"PYTHONPATH": str(ROOT), "LD_LIBRARY_PATH": str(folder or "")} | chosen,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run
