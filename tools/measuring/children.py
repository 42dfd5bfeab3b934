"""Work in a process of its own, as native code may end it: the next item then goes to a new process."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple


class Died(NamedTuple):
    """The process ended, or had to be ended."""

    how: str


def each(work: Callable[[Any], Any], items: Iterable[Any], *, seconds: float) -> Iterator[Any]:
    """``work(item)`` for each item in order, or :class:`Died`; *seconds* are the most that one may take.

    *work*, items and results have to be picklable.
    """
    child: tuple[BaseProcess, Connection] | None = None
    try:
        for item in items:
            process, pipe = child = child or _start(work)
            pipe.send(item)
            try:
                if not pipe.poll(seconds):
                    raise TimeoutError
                result = pipe.recv()
            except (EOFError, ConnectionResetError):
                process.join()
                child = None
                yield Died(_how(process.exitcode or 0))
            except TimeoutError:
                _end(*child)
                child = None
                yield Died(f"no answer in {seconds:.0f} s")
            else:
                if isinstance(result, Exception):
                    raise result
                yield result
    finally:
        if child:
            _end(*child)


def _start(work: Callable[[Any], Any]) -> tuple[BaseProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(work, there), daemon=True)
    process.start()
    there.close()
    here.recv()  # EOFError: the process could not even start, which is no answer of native code
    return process, here


def _serve(work: Callable[[Any], Any], pipe: Connection) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # ONNX Runtime's log
    pipe.send("ready")
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(work(item))
        except Exception as error:  # Python's: the parent raises it
            pipe.send(RuntimeError(f"{item}: {type(error).__name__}: {error}"))


def _end(process: BaseProcess, pipe: Connection) -> None:
    process.kill()
    process.join()
    pipe.close()


def _how(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"status {status}"
