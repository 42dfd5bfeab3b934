"""A side: a process with a Python of its own, spoken to in lines of JSON.  Needs nothing but Python.

A question is an object; the answer is one too, ``{"error": "…"}`` if something was raised.  What libraries print goes
to the side's log, as standard output is the answers'.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tools.measuring.machine import peak_memory

ROOT = Path(__file__).resolve().parent.parent.parent


class SideError(Exception):
    """A side answered with an error, ended, or did not answer."""


class OutOfTime(Exception):  # noqa: N818 - it is no error
    """There was no answer in the time that was left."""


class Answers:
    """Answers a question by the method of its first key; ``steps`` are what was opened, and run."""

    steps: Any = None

    def __call__(self, question: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = getattr(self, next(iter(question)))(question)
        return answer

    def run(self, question: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self.steps.run(question["run"])
        return answer

    def memory(self, question: dict[str, Any]) -> dict[str, Any]:
        return {"peak": peak_memory()}


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answers questions until there are no more."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line))
        except Exception as error:  # whatever it is, it is the answer
            reply = {"error": f"{type(error).__name__}: {error}"[:600]}
        print(json.dumps(reply), file=out, flush=True)


def environment(python: str, variables: Mapping[str, str], own: str = sys.executable) -> dict[str, str]:
    """What another Python than the one that runs this is started with: nothing that only the latter should see.

    A Python that was unpacked somewhere is told by PYTHONHOME, PYTHONPATH and LD_LIBRARY_PATH where its parts are.
    """
    kept = dict(variables)
    if shlex.split(python)[:1] == [own]:
        return kept
    home = kept.pop("PYTHONHOME", "")
    kept.pop("PYTHONPATH", None)
    if home:
        unpacked = Path(home).parent
        folders = [f for f in kept.get("LD_LIBRARY_PATH", "").split(":") if f and unpacked not in Path(f).parents]
        kept["LD_LIBRARY_PATH"] = ":".join(folders)
    return kept


class Side:
    """A process that runs the module *module* of this repository.

    Args:
        python: a command, as a shell would read it.
        module: calls :func:`serve`.
        log: gets what the process prints.
    """

    def __init__(self, python: str, module: str, log: Path) -> None:
        self.python, self.log, self._rest = python, log, b""
        self.failed = False
        """Whether an answer was an error: behind one on a GPU, all may be."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [*shlex.split(python), "-m", module],
                cwd=ROOT,
                env=environment(python, os.environ),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
            )

    def ask(self, question: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """The answer.

        Raises:
            SideError: it is an error, or the process ended.
            OutOfTime: there is none after so many seconds.
        """
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(question).encode() + b"\n")
        reply: dict[str, Any] = json.loads(self._line(time.monotonic() + seconds))
        if "error" in reply:
            self.failed = True
            raise SideError(reply["error"])
        return reply

    def _line(self, deadline: float) -> bytes:
        assert self.process.stdout is not None
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise OutOfTime
            content = os.read(self.process.stdout.fileno(), 1 << 16)
            if not content:
                raise SideError(f"the process ended with status {self.process.wait()}: {self._last_words()}")
            self._rest += content
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _last_words(self) -> str:
        lines = self.log.read_text("utf-8", errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "without a word"

    def close(self) -> None:
        """Ends the process, at once: it has nothing to lose."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
