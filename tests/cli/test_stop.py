"""Signals: the first one asks a training to save, the second does not wait, and what is ignored stays so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from dsd_ort.cli.stop import SIGNALS, asked_to_stop


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """As in a terminal's foreground, wherever the tests run: nothing is ignored."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_asks_and_the_second_does_not_wait(number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    with asked_to_stop() as stop:
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert "stopping after this step" in capfd.readouterr().err


def test_a_hangup_that_is_ignored_as_under_nohup_stops_nothing() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with asked_to_stop() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_a_terminal_that_is_gone_does_not_keep_it_from_saving(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> int:
        raise OSError(5, "Input/output error")

    with asked_to_stop() as stop:
        monkeypatch.setattr(os, "write", gone)
        os.kill(os.getpid(), signal.SIGHUP)
        monkeypatch.undo()
        assert stop()


AT_EXIT = "atexit.register(os.kill, os.getpid(), {number})"
BEHIND_THE_VERB = "cli._status = lambda *_: os.kill(os.getpid(), {number})"


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("moment", [AT_EXIT, BEHIND_THE_VERB])
def test_a_second_one_behind_the_end_of_the_verb_is_no_traceback(moment: str, number: signal.Signals) -> None:
    verb = "def verb(): raise KeyboardInterrupt"
    program = f"import atexit, os, click; from dsd_ort import cli\n{verb}\n{moment.format(number=int(number))}\n"
    program += "cli.main(click.Command('verb', callback=verb), 'verb')"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 130
    assert answer.stderr.strip() == ("dsd-ort: stopped" if moment is AT_EXIT else "")
