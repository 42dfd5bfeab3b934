"""The check in a process of its own: what native code does to that process becomes a message.

The parent writes a :class:`~dsd_ort.proof.prove.Request` to the child's standard input, and holds it open: when it
closes, as the parent is gone, the child ends too.  The child answers with lines of JSON on what was its standard
output: ``{"doing": …}`` as often as it likes, and one ``{"report": …}`` or ``{"error": …}``.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import msgspec

from dsd_ort import errors
from dsd_ort.errors import DsdError, NativeError
from dsd_ort.proof.report import Report, Request

Tell = Callable[[str], None]


def run(request: Request, tell: Tell) -> Report:
    """The check that *request* asks for, in a process of its own; *tell* hears what it does.

    Raises:
        NativeError: the process ended before its time.
        DsdError: what the check raises.
    """
    with tempfile.TemporaryFile() as log:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
        process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
        )
        try:
            return _listen(process, request, tell, log)
        finally:  # by Ctrl-C too
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()


def _listen(process: subprocess.Popen[bytes], request: Request, tell: Tell, log: IO[bytes]) -> Report:
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(OSError):  # it may have ended at once
        process.stdin.write(msgspec.json.encode(request) + b"\n")
        process.stdin.flush()
    doing = "it started"
    for line in process.stdout:
        message = msgspec.json.decode(line)
        if "report" in message:
            return msgspec.convert(message["report"], Report)
        if "error" in message:
            raise _error(message["error"])
        doing = message["doing"]
        tell(doing)
    log.seek(0)
    raise _ended(process.wait(), doing, log.read().decode(errors="replace"), request.model)


def _ended(status: int, doing: str, said: str, model: str) -> NativeError:
    how = f"with status {status}"
    if status < 0:
        with contextlib.suppress(ValueError):
            how = f"with signal {-status} ({signal.Signals(-status).name})"
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "")
    killed = hasattr(signal, "SIGKILL") and status == -signal.SIGKILL
    return NativeError(
        f"ONNX Runtime ended the process {how} while {doing}",
        where=f"{model}: {last[:300]}" if last else model,
        fix="give it more memory, or smaller --shape"
        if killed
        else "do not train this model with this version; please report it as a defect, with the model",
    )


def _error(table: dict[str, Any]) -> DsdError:
    kind = getattr(errors, table.pop("type"))
    causes = table.pop("causes", None)
    error: DsdError = kind(table["what"], where=table["where"], fix=table["fix"])
    if causes:
        error.causes = tuple(_error(cause) for cause in causes)
    return error


def _table(error: DsdError) -> dict[str, Any]:
    causes = [_table(cause) for cause in error.causes if cause is not error]
    return {
        "type": type(error).__name__ if hasattr(errors, type(error).__name__) else "DsdError",
        "what": error.what,
        "where": error.where,
        "fix": error.fix,
        "causes": causes,
    }


def main() -> None:
    """What the child does."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else prints does so on standard error
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process

    def answer(message: dict[str, Any]) -> None:
        answers.write(msgspec.json.encode(message) + b"\n")
        answers.flush()

    request = msgspec.json.decode(sys.stdin.buffer.readline(), type=Request)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        from dsd_ort.proof import prove

        gc.freeze()  # modules stay: what prove collects between its parts is engines
        answer({"report": msgspec.to_builtins(prove.run(request, lambda text: answer({"doing": text})))})
    except DsdError as error:
        answer({"error": _table(error)})
    except MemoryError:
        table = {"type": "DsdError", "what": "out of memory", "where": request.model, "fix": "use smaller --shape"}
        answer({"error": table})
    except Exception as error:  # nobody foresaw it
        answer({"error": _table(errors.defect(error, request.model))})
    answers.flush()
    os._exit(0)  # no native destructor has the last word


def _end_with_parent() -> None:
    while sys.stdin.buffer.read(1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
