from __future__ import annotations

import math

import pytest

from dsd_ort.recipe import Schedule
from dsd_ort.run.schedule import learning_rate


def rates(schedule: Schedule, steps: int = 10, steps_per_epoch: int = 2) -> list[float]:
    return [learning_rate(schedule, s, steps=steps, steps_per_epoch=steps_per_epoch) for s in range(steps)]


def test_constant_stays() -> None:
    assert rates(Schedule(initial=0.1)) == [0.1] * 10


def test_step_falls_by_its_factor_every_so_many_epochs() -> None:
    schedule = Schedule(schedule="step", initial=1.0, factor=0.1, every=2)
    assert rates(schedule) == pytest.approx([1.0] * 4 + [0.1] * 4 + [0.01] * 2)


def test_cosine_starts_at_initial_and_ends_at_final() -> None:
    schedule = Schedule(schedule="cosine", initial=1.0, final=0.2)
    values = rates(schedule)
    assert values[0] == 1.0
    assert values[5] == pytest.approx(0.6)
    assert learning_rate(schedule, 10, steps=10, steps_per_epoch=2) == pytest.approx(0.2)
    assert values == sorted(values, reverse=True)


def test_warm_up_rises_linearly_to_the_schedule() -> None:
    assert rates(Schedule(initial=0.4, warmup=4)) == pytest.approx([0.1, 0.2, 0.3, 0.4] + [0.4] * 6)
    cosine = rates(Schedule(schedule="cosine", initial=1.0, warmup=2))
    assert cosine[0] == pytest.approx(0.5)
    assert cosine[1] == pytest.approx((1 + math.cos(math.pi / 10)) / 2)
