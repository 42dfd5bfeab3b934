"""Tests with the marker ``training_build`` are skipped where ONNX Runtime is another; ``pytest -m`` lists them.

Times are never asserted, hypothesis's own deadline for an example included.
"""

from __future__ import annotations

import gc

import hypothesis
import pytest

from tests.session import TRAINING_BUILD

hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


def pytest_collection_finish() -> None:
    """Ten thousand tests stay: whatever collects garbage need not look at them each time."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("training_build") and not TRAINING_BUILD:
            item.add_marker(pytest.mark.skip(reason="needs ONNX Runtime's training build"))
