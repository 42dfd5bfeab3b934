"""Ctrl-C, SIGTERM and SIGHUP: training saves at the end of its step, and the user is told how to go on."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from dsd_ort.cli.say import say
from dsd_ort.errors import Stopped
from dsd_ort.launcher import is_first

ASKED = (signal.SIGINT, signal.SIGTERM)
SIGNALS = [*ASKED, *(number for number in signal.Signals if number.name == "SIGHUP")]


@contextmanager
def stoppable(go_on: str) -> Iterator[Callable[[], bool]]:
    """Gives a training its ``stop``; when it stopped, says what command goes on, and ends with status 130."""
    with asked_to_stop() as stop:
        try:
            yield stop
        except (Stopped, KeyboardInterrupt):
            with suppress(OSError):  # of a terminal that is gone
                if is_first():
                    say(f"stopped; go on with: {go_on}", err=True)
            sys.exit(130)


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Whether one of them came: the first one asks, the second does not wait for the end of the step.

    SIGHUP stays ignored where it is when it begins, as under nohup.
    """
    asked: list[int] = []

    def ask(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        # Not print(): the signal may come while this thread is printing, and streams are not reentrant.
        with suppress(OSError):  # of a terminal that is gone
            if is_first():
                os.write(2, b"\nstopping after this step; press Ctrl-C again to leave at once\n")

    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield lambda: False
        return
    # Not the others: shells let what they start in the background ignore Ctrl-C, and whoever sends one means it.
    heard = [number for number in SIGNALS if number in ASKED or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, ask) for number in heard}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
