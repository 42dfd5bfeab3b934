"""Stubs of CUDA's driver and libraries, for child processes: LD_LIBRARY_PATH counts when a process starts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cuda import stubs


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
