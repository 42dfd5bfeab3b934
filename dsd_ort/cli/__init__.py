"""The command line: thin commands over :mod:`dsd_ort.api`.

Exit status: 0 done; 1 the answer is no (check, verify, doctor); 2 wrong usage; 3 bad input, told in one message (what,
where, what to do); 70 a defect of dsd-ort's own, told likewise, with its traceback in a file that the message names;
130 stopped by Ctrl-C, with everything saved.

In: what people type.  Out: what they read, and files that the verbs write.  Nothing imports the command line, and no
session is opened here.
"""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
from typing import NoReturn

import click

from dsd_ort.cli.say import say, say_error
from dsd_ort.cli.stop import STOPPED, leave, listen
from dsd_ort.errors import DefectError, DsdError, defect
from dsd_ort.launcher import is_first

_OBJECTS = 5000
"""New objects after which Python looks for cycles: graphs are many objects that stay, and its own 700 cost a fifth of
the time of an inspection."""


def main(command: click.Command | None = None, name: str = "dsd-ort") -> NoReturn:
    """Runs the command line, or another *command* called *name*, and ends the process with its exit status."""
    gc.set_threshold(_OBJECTS, 10, 10)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without × and → still gets the rest
    try:
        listen(signal.default_int_handler)  # so that it cleans up, as Ctrl-C does
        try:
            status = _status(command, name)
        finally:
            listen(leave)  # what comes behind the end of the verb finds nothing to clean up
    except KeyboardInterrupt:  # a second one, where the first one had ended the verb
        listen(leave)
        status = STOPPED
    sys.exit(status)


def _status(command: click.Command | None, name: str) -> int:
    try:
        from dsd_ort.cli.commands import cli

        return (command or cli).main(prog_name=name, standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        with contextlib.suppress(OSError):  # of a terminal that is gone
            if is_first():  # of the ranks, which all have the same to say
                say("dsd-ort: stopped", err=True)
        return STOPPED
    except Exception as error:
        told = _told(error)
        if is_first() or isinstance(told, DefectError):  # which one rank alone may have
            say_error(told, prefix="dsd-ort: ", err=True)
        return told.exit_status


def _told(error: Exception) -> DsdError:
    if isinstance(error, DsdError):
        return error
    if isinstance(error, MemoryError):
        return DsdError("out of memory", fix="use a smaller batch_size, or a machine with more of it")
    if isinstance(error, OSError):  # what no verb foresaw: a full disk under standard output, a folder that vanished
        where, fix = error.filename and str(error.filename), "check the path, its permissions and the room on the disk"
        return DsdError(str(error.strerror or error), where=where, fix=fix)
    return defect(error)
