"""What is said of a training that goes wrong, and that nothing is said of one that does not."""

from __future__ import annotations

import math

import pytest

from dsd_ort.run.health import Watch, remarks
from dsd_ort.run.journal import Event


def progress(*losses: float, waiting: float = 0.01) -> list[Event]:
    return [
        {"event": "progress", "loss": loss, "waiting": waiting, "examples_per_second": 700.0, "step": 20 * i}
        for i, loss in enumerate(losses, 1)
    ]


def epochs(*losses: tuple[float, float]) -> list[Event]:
    """Training loss and evaluation loss."""
    return [
        {"event": "epoch", "epoch": i, "train_loss": train, "metrics": {"loss": loss}}
        for i, (train, loss) in enumerate(losses, 1)
    ]


FALLS = [2.0 - 0.05 * i for i in range(30)]
BEGIN: Event = {"event": "phase"}


@pytest.mark.parametrize(
    ("events", "words"),
    [
        (progress(*[1.0] * 10, *[0.5] * 10, *[0.9] * 10), "the training loss rises: 0.9, after 0.5; a lower"),
        (progress(*FALLS, waiting=0.6), "the data take 60 % of the time: 700 examples/s, and the model could do 1,750"),
        (epochs((1.0, 1.0), (0.8, 0.9), (0.6, 0.95), (0.4, 1.1), (0.2, 1.3)), "was lowest in epoch 2, 0.9, and is 1.3"),
    ],
)
def test_what_goes_wrong_is_said_with_its_numbers(events: list[Event], words: str) -> None:
    [said] = remarks([BEGIN, *events])
    assert words in said


@pytest.mark.parametrize(
    "events",
    [
        [],
        progress(*FALLS),
        progress(*[1.0, 3.0, 0.2, 2.0] * 6),  # scatters, and goes nowhere
        progress(1.0, 1.0, 9.0),  # too few to tell
        epochs((1.0, 1.0), (0.8, 0.9), (0.6, 0.95), (0.4, 0.91)),
        epochs((1.0, 1.0), (1.1, 1.1), (1.2, 1.2), (1.3, 1.3), (1.4, 1.4)),  # not learned by heart
    ],
)
def test_nothing_is_said_of_what_goes_well_or_is_too_short_to_tell(events: list[Event]) -> None:
    assert remarks([BEGIN, *events]) == []


def test_only_the_phase_that_goes_on_counts() -> None:
    wrong = progress(*[0.5] * 10, *[0.9] * 10)
    assert len(remarks([BEGIN, *wrong])) == 1
    assert remarks([BEGIN, *wrong, BEGIN, *progress(*FALLS)]) == []


def test_it_is_said_once_a_phase_and_at_the_end_of_an_epoch() -> None:
    told: list[Event] = []
    watch = Watch(told.append)
    wrong, [epoch] = progress(*[0.5] * 10, *[0.9] * 10), epochs((0.9, 0.9))
    for event in [BEGIN, *wrong]:
        watch(event)
    assert told == []
    for event in [epoch, epoch, BEGIN, epoch, *wrong, epoch]:
        watch(event)
    assert [event["event"] for event in told] == ["note", "note"]


def silent(names: list[str], **more: object) -> list[Event]:
    return [{"event": "epoch", "epoch": 3, "step": 100, "train_loss": 1.0, "metrics": {}, "silent": names, **more}]


def test_gradients_that_were_zero_all_the_time_are_named() -> None:
    [said] = remarks([BEGIN, *silent(["fc1.weight", "fc1.bias"])])
    assert "the gradients of 'fc1.weight', 'fc1.bias' were zero in every update of epoch 3" in said


def test_updates_that_are_left_out_are_told_when_they_are_many() -> None:
    [said] = remarks([BEGIN, *silent([], skipped=10)])
    assert "10 of 100 updates were left out, as they were not finite" in said
    assert remarks([BEGIN, *silent([], skipped=9)]) == []


def ticks(*losses: float) -> list[str]:
    told: list[Event] = []
    watch = Watch(told.append)
    watch({"event": "phase"})
    for loss in losses:
        watch({"event": "tick", "loss": loss})
    return [event["text"] for event in told]


def test_a_loss_that_explodes_is_named_once_before_it_is_nan() -> None:
    [said] = ticks(math.nan, 1.0, 1.2, 1.1, 4.0, 20.0, 60.0, 900.0, 1e9, math.inf, math.nan)
    assert said.startswith("the loss explodes: 900, after 1.2 at the beginning of the phase")


@pytest.mark.parametrize(
    "losses",
    [
        (1.0, 1.0, 1.0, 50.0, 0.9, 60.0, 1.0, 70.0),  # single batches
        (1.0, 1.0, 1.0, 9.0, 10.0, 11.0),
        (1e-9, 2.0, 1.0, 3.0, 4.0, 5.0),
        (1.0, 20.0, 30.0, 40.0),
    ],
)
def test_a_loss_that_scatters_does_not_explode(losses: tuple[float, ...]) -> None:
    assert ticks(*losses) == []
