"""Ctrl-C, SIGTERM and SIGHUP: training saves at the end of its step, and the user is told how to go on.

The other verbs clean up and end; whatever comes when a verb has ended leaves at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

from dsd_ort.cli.say import say
from dsd_ort.errors import Stopped
from dsd_ort.launcher import is_first

STOPPED = 130
"""The exit status of a verb that was stopped."""
ASKED = (signal.SIGINT, signal.SIGTERM)
SIGNALS = [*ASKED, *(number for number in signal.Signals if number.name == "SIGHUP")]
Handler = Callable[[int, FrameType | None], object]


def listen(handler: Handler) -> dict[signal.Signals, Any]:
    """Sets *handler* for all of them, and gives the handlers before it; nothing in a thread, which may set none.

    What is ignored stays so, as SIGHUP under nohup.  But not Ctrl-C and SIGTERM: shells let what they start in the
    background ignore Ctrl-C, and whoever sends one means it.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    heard = [number for number in SIGNALS if number in ASKED or signal.getsignal(number) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in heard}


def leave(number: int, frame: FrameType | None) -> NoReturn:
    """Ends the process at once, and so without a word of Python's about where it was."""
    os._exit(STOPPED)


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
            sys.exit(STOPPED)


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Whether one of them came: the first one asks, the second does not wait for the end of the step."""
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        # Not print(): the signal may come while this thread is printing, and streams are not reentrant.
        with suppress(OSError):  # of a terminal that is gone
            if is_first():
                os.write(2, b"\nstopping after this step; press Ctrl-C again to leave at once\n")

    before = listen(ask)
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
