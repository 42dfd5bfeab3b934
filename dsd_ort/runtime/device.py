"""Where training runs: the CPU, or a CUDA device that everything was found for."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal

from dsd_ort.errors import DsdError, InstallationError
from dsd_ort.runtime import cuda, devices


@dataclass(frozen=True)
class Device:
    """What :func:`choose_device` chose."""

    kind: Literal["cpu", "cuda"] = "cpu"
    index: int = 0
    """Of a CUDA device, as its driver counts."""
    name: str = "the CPU"
    """For people."""
    why: str = "the CPU, as asked for"
    """One sentence: what was chosen and why."""
    had_choice: bool = False
    """Nobody named it, and there is a CUDA device that this build of ONNX Runtime might take, or has taken."""

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"


def parse_device(name: str) -> tuple[str, int]:
    """``auto``, ``cpu`` or ``cuda``, and the index behind it: ``cuda:1`` is ``("cuda", 1)``.

    Raises:
        DsdError: *name* is none of these.
    """
    found = re.fullmatch(r"(auto|cpu|cuda)(?::(\d{1,3}))?", name, re.ASCII)
    if not found or (found[2] and found[1] != "cuda"):
        raise DsdError(f"{name!r} is no device", fix="use auto, cpu, cuda, or cuda:1 for the second one")
    return found[1], int(found[2] or 0)


def choose_device(name: str = "auto") -> Device:
    """The device called *name*; behind this, sessions on it can be opened.

    Args:
        name: ``"cpu"``, ``"cuda"`` (the first), ``"cuda:1"`` (the second), or ``"auto"``: the first CUDA device where
            all that it takes is there, otherwise the CPU.

    Raises:
        DsdError: *name* is no device's.
        InstallationError: it was asked for by name, and something that it takes is missing.
    """
    kind, index = parse_device(name)
    if kind == "cpu":
        return Device()
    if kind == "cuda":
        gpu = cuda.require(index)
        return Device("cuda", index, gpu.name, f"cuda:{index}, {gpu.name}")
    found = cuda.build()
    had_choice = found is not None and bool(found.cuda)
    try:
        gpu = cuda.require()
    except InstallationError as error:
        fix = f" ({error.fix})" if error.fix and had_choice and devices.likely() else ""
        return Device(why=f"auto: the CPU, as {error.what}{fix}", had_choice=had_choice)
    return Device("cuda", 0, gpu.name, f"auto: cuda:0, {gpu.name}", had_choice=True)


def cores() -> int:
    """How many cores of the CPU this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
