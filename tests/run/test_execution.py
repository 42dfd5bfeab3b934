"""What a user may choose beside recipe and data."""

from __future__ import annotations

import os

import pytest

from dsd_ort.run.execution import WORKERS, Execution
from dsd_ort.runtime.device import cores


@pytest.mark.parametrize(("threads", "expected"), [(1, 1), (3, 3), (WORKERS + 1, WORKERS)])
def test_about_as_many_read_data_as_compute(threads: int, expected: int) -> None:
    assert Execution(threads=threads).workers == expected


def test_by_default_it_is_one_a_core_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2, 5}, raising=False)
    assert cores() == 3 and Execution().workers == 3
