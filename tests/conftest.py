"""Tests with the marker ``training_build`` are skipped where ONNX Runtime is another; ``pytest -m`` lists them."""

from __future__ import annotations

import pytest

from tests.session import TRAINING_BUILD


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("training_build") and not TRAINING_BUILD:
            item.add_marker(pytest.mark.skip(reason="needs ONNX Runtime's training build"))
