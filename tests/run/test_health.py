"""What is said of a training that goes wrong, and that nothing is said of one that does not."""

from __future__ import annotations

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
