"""The whole state of a run, in one file that is replaced atomically.

A safetensors file: ``weights/NAME`` of what is trained, ``statistics/NAME``, ``slots/SLOT/NAME`` (f32) and
``masks/NAME`` (u8), and in its header, under ``dsd_ort``, a JSON record: position, best metric so far, digest of the
Program.  Randomness needs no
state of its own: shuffles are functions of (seed, epoch), dropout masks of (seed, epoch, batch).  So a resumed run
continues to the bit (law 6).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from dsd_ort.errors import RunError
from dsd_ort.graph.program import Program
from dsd_ort.run.arena import Arena, view
from dsd_ort.run.execution import Precision

FILE = "checkpoint.safetensors"
LEFT = ".tmp??????"
"""What safetensors leaves beside a file where it was killed while writing it."""


def weights_file(folder: Path, index: int, kind: str, *, best: bool = False) -> Path:
    """Where a run keeps the weights of phase *index* (from 0): those at its end, or of its *best* epoch."""
    return folder / "phases" / f"{index + 1}-{kind}{'.best' if best else ''}.safetensors"


def save(path: Path, arena: Arena, record: dict[str, Any], *, training: bool = True) -> None:
    """Writes weights and statistics, and with *training* also slots and masks.

    The file appears complete under *path* or not at all.

    Raises:
        RunError: it cannot be written (the old one is still there then).
    """
    tensors: dict[str, npt.NDArray[Any]] = {f"weights/{p.name}": view(arena.weights, p) for p in arena.trained}
    tensors |= {f"statistics/{s.name}": view(arena.statistics, s) for s in arena.statistic_slices}
    if training:
        for slot, buffer in arena.slots.items():
            tensors |= {f"slots/{slot}/{p.name}": view(buffer, p) for p in arena.trained}
        tensors |= {f"masks/{p.name}": view(arena.masks, p).astype(np.uint8) for p in arena.prunable}
    _write(path, tensors, record)


def load(path: Path, arena: Arena, program: str) -> dict[str, Any]:
    """Fills *arena* with what the file holds and returns its record.

    Args:
        path: what :func:`save` wrote.
        arena: of the Program that it is read for.
        program: that Program's digest.

    Raises:
        RunError: no such file, damaged, or of another run.
    """
    found = read_record(path, program)
    with _reading(path), safetensors.safe_open(path, framework="numpy") as file:
        names = set(file.keys())
        for piece in arena.trained:
            view(arena.weights, piece)[...] = file.get_tensor(f"weights/{piece.name}")
        for piece in arena.statistic_slices:
            view(arena.statistics, piece)[...] = file.get_tensor(f"statistics/{piece.name}")
        for slot, buffer in arena.slots.items():
            for piece in arena.trained:
                if f"slots/{slot}/{piece.name}" in names:
                    view(buffer, piece)[...] = file.get_tensor(f"slots/{slot}/{piece.name}")
        for piece in arena.prunable:
            if f"masks/{piece.name}" in names:
                view(arena.masks, piece)[...] = file.get_tensor(f"masks/{piece.name}")
    return found


@contextlib.contextmanager
def weights(path: Path, program: str) -> Iterator[Callable[[str], npt.NDArray[np.float32]]]:
    """Reads trained weights one by one, by name, of a file that :func:`save` wrote for *program*.

    Raises:
        RunError: as :func:`load`.
    """
    read_record(path, program)
    with safetensors.safe_open(path, framework="numpy") as file:

        def read(name: str) -> npt.NDArray[np.float32]:
            with _reading(path):
                found: npt.NDArray[np.float32] = file.get_tensor(f"weights/{name}")
            return found

        yield read


def copy(path: Path, destination: Path, program: str, other: str) -> None:
    """The same state as one of another run, whose arena is the same.

    Args:
        path: what :func:`save` wrote for *program*.
        destination: appears complete or not at all.
        program: a Program's digest.
        other: that of the other run's.

    Raises:
        RunError: as :func:`save` and :func:`load`.
    """
    record = read_record(path, program)
    with _reading(path):
        tensors = safetensors.numpy.load_file(path)
    _write(destination, tensors, record | {"program": other})


def precision(program: Program) -> Precision:
    """What *program* was trained with so far.

    Raises:
        RunError: as :func:`load`.
    """
    found: Precision = read_record(program.folder / FILE, program.digest).get("precision", "fp32")
    return found


def batch_size(program: Program) -> int:
    """The size of the batches that *program* was trained in so far.

    Raises:
        RunError: as :func:`load`.
    """
    found: int = read_record(program.folder / FILE, program.digest).get("batch_size", program.recipe.batch_size)
    return found


def read_record(path: Path, program: str) -> dict[str, Any]:
    """The record of a file that :func:`save` wrote for *program*; reads no tensor.

    Raises:
        RunError: as :func:`load`.
    """
    with _reading(path), safetensors.safe_open(path, framework="numpy") as file:
        found: dict[str, Any] = json.loads(file.metadata()["dsd_ort"])
        if found["program"] != program:
            raise RunError(
                "the weights belong to another model or recipe than this run folder",
                where=str(path),
                fix="put the run's own file back, or prepare the model into a new folder",
            )
    return found


def _write(path: Path, tensors: dict[str, npt.NDArray[Any]], record: dict[str, Any]) -> None:
    """Under another name first, so that the file is complete or not there."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(exist_ok=True)
        for left in path.parent.glob(LEFT):
            left.unlink()
        safetensors.numpy.save_file(tensors, temporary, metadata={"dsd_ort": json.dumps(record)})
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except (OSError, safetensors.SafetensorError) as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise RunError(
            f"the checkpoint cannot be written: {error}",
            where=str(path),
            fix="make room or permissions, then continue with --resume",
        ) from error


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever safetensors and NumPy raise on a missing or damaged file becomes a RunError."""
    try:
        yield
    except FileNotFoundError as error:
        raise RunError("no such checkpoint", where=str(path), fix="train the run first, without --resume") from error
    except (OSError, safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        raise RunError(
            f"the checkpoint cannot be read: {error}",
            where=str(path),
            fix="put the run's own file back, or prepare the model into a new folder and train it again",
        ) from error
