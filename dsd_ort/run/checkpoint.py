"""The whole state of a run, in one file that is replaced atomically.

A safetensors file with a digest of itself (:mod:`dsd_ort.file.sealed`): ``weights/NAME`` of what is trained,
``statistics/NAME``, ``slots/SLOT/NAME`` (f32) and ``masks/NAME`` (u8), and in its header, under ``dsd_ort``, a JSON
record: position, best metric so far, digest of the Program.  Randomness needs no state of its own: shuffles are
functions of (seed, epoch), dropout masks of (seed, epoch, batch).  So a resumed run continues to the bit (law 6).

What is read is checked before a number of it is used: digest, names, types and shapes against the arena, and the
record against what a run can be.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from dsd_ort.errors import DamagedError, RunError
from dsd_ort.file import regular, sealed, writing
from dsd_ort.graph.program import Program
from dsd_ort.run import keeping
from dsd_ort.run.arena import Arena, view
from dsd_ort.run.execution import OnNaN, Precision
from dsd_ort.run.position import Position, Progress


class Record(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What the header says, beside tensors; a checkpoint has a position, and weights have what they measured."""

    program: str
    position: Position | msgspec.UnsetType = msgspec.UNSET
    progress: Progress | msgspec.UnsetType = msgspec.UNSET
    events: int | msgspec.UnsetType = msgspec.UNSET
    precision: Precision | msgspec.UnsetType = msgspec.UNSET
    on_nan: OnNaN | msgspec.UnsetType = msgspec.UNSET
    batch_size: int | msgspec.UnsetType = msgspec.UNSET
    update: dict[str, float] | msgspec.UnsetType = msgspec.UNSET
    metrics: dict[str, float] | msgspec.UnsetType = msgspec.UNSET


def save(path: Path, arena: Arena, record: dict[str, Any], *, training: bool = True, keep: int = 1) -> None:
    """Writes weights and statistics, and with *training* also slots and masks.

    The file appears complete under *path* or not at all; with *keep* more than 1, those before it stay.

    Raises:
        RunError: it cannot be written (the old one is still there then).
    """
    tensors: dict[str, npt.NDArray[Any]] = {f"weights/{p.name}": view(arena.weights, p) for p in arena.trained}
    tensors |= {f"statistics/{s.name}": view(arena.statistics, s) for s in arena.statistic_slices}
    if training:
        for slot, buffer in arena.slots.items():
            tensors |= {f"slots/{slot}/{p.name}": view(buffer, p) for p in arena.trained}
        tensors |= {f"masks/{p.name}": arena.mask(p).astype(np.uint8) for p in arena.prunable}
    _write(path, tensors, record, between=lambda: keeping.keep_earlier(path, keep))


def load(path: Path, arena: Arena, program: Program, *, state: bool = False) -> dict[str, Any]:
    """Fills *arena* with what the file holds and returns its record.

    Args:
        path: what :func:`save` wrote.
        arena: of the Program that it is read for.
        program: that Program.
        state: whether it is a checkpoint, and not the weights of a phase.

    Raises:
        RunError: no such file, damaged, or of another run.
    """
    refuse_damaged(path, program.folder)
    found = read_record(path, program, state=state)
    with _reading(path, program.folder), safetensors.safe_open(path, framework="numpy") as file:
        wanted, masked = _wanted(arena), {f"masks/{p.name}": p for p in arena.prunable}
        for name in _fitting(path, file, wanted, arena, training="position" in found):
            value = file.get_tensor(name)
            if name not in masked:
                wanted[name][...] = value
            elif (value > 1).any():
                raise _unfit(path, "a mask is neither 0 nor 1")
            elif not (arena.unmasked and value.all()):
                view(arena.masks, masked[name])[...] = value
    return found


@contextlib.contextmanager
def weights(path: Path, program: Program) -> Iterator[Callable[[str], npt.NDArray[np.float32]]]:
    """Reads trained weights one by one, by name, of a file that :func:`save` wrote for *program*.

    Raises:
        RunError: as :func:`load`.
    """
    refuse_damaged(path, program.folder)
    read_record(path, program)
    with safetensors.safe_open(path, framework="numpy") as file:

        def read(name: str) -> npt.NDArray[np.float32]:
            with _reading(path, program.folder):
                found: npt.NDArray[np.float32] = file.get_tensor(f"weights/{name}")
            return found

        yield read


def copy(path: Path, destination: Path, program: Program, other: Program) -> None:
    """The same state as one of another run, whose arena is the same.

    Args:
        path: what :func:`save` wrote for *program*.
        destination: in the folder of *other*; appears complete or not at all.
        program: a Program.
        other: the other run's.

    Raises:
        RunError: as :func:`save` and :func:`load`.
    """
    refuse_damaged(path, program.folder)
    record = read_record(path, program)
    with _reading(path, program.folder):
        tensors = safetensors.numpy.load_file(path)
    regular.require(other.folder, destination)
    _write(destination, tensors, record | {"program": other.digest})


class Chosen(TypedDict, total=False):
    """How a run was trained so far."""

    precision: Precision
    on_nan: OnNaN
    batch_size: int


def chosen(program: Program) -> Chosen:
    """How *program* was trained so far.

    Raises:
        RunError: as :func:`load`.
    """
    record = read_record(program.folder / keeping.CHECKPOINT, program, state=True)
    return {
        "precision": record.get("precision", "fp32"),
        "on_nan": record.get("on_nan", "stop"),
        "batch_size": record.get("batch_size", program.recipe.batch_size),
    }


def read_record(path: Path, program: Program, *, state: bool = False) -> dict[str, Any]:
    """The record of a file that :func:`save` wrote for *program*; reads no tensor.

    With *state* it is that of a checkpoint, and not of the weights of a phase.

    Raises:
        RunError: as :func:`load`.
    """
    with _reading(path, program.folder), safetensors.safe_open(path, framework="numpy") as file:
        record = msgspec.convert(json.loads(file.metadata()["dsd_ort"]), Record)
    if record.program != program.digest:
        raise RunError(
            "the weights belong to another model or recipe than this run folder",
            where=str(path),
            fix="put the run's own file back, or prepare the model into a new folder",
        )
    if wrong := _wrong(record, program, state=state):
        raise _unfit(path, wrong)
    checked: dict[str, Any] = msgspec.to_builtins(record)
    return checked


def refuse_damaged(path: Path, folder: Path) -> None:
    """Raises DamagedError where the file is not what was written; those of earlier versions do not say."""
    with _reading(path, folder), regular.opened(folder, path) as file:
        whole = sealed.is_whole(file)
    if whole is False:
        raise _damaged(path)


def set_aside(program: Program, tell: Callable[[str], None]) -> None:
    """Puts a damaged last checkpoint aside where there is a whole one before it, which then is the last one.

    Raises:
        DamagedError: it is damaged, and there is none.
        RunError: there is no checkpoint.
    """
    folder, path = program.folder, program.folder / keeping.CHECKPOINT
    earlier = keeping.earlier_file(folder, 1)
    try:
        if not regular.is_there(path) and regular.is_there(earlier):
            raise _damaged(path)
        refuse_damaged(path, folder)
    except DamagedError:
        if not regular.is_there(earlier):
            raise
        refuse_damaged(earlier, folder)
        read_record(earlier, program, state=True)
        if regular.is_there(path):
            path.replace(folder / keeping.DAMAGED)
        keeping.link(earlier, path)
        writing.sync_folder(folder)
        tell(f"the last checkpoint is damaged, and is now {keeping.DAMAGED}; the run goes on from the one before")


def _wrong(record: Record, program: Program, *, state: bool) -> str:
    """What no checkpoint, or no weights, of *program* say; or an empty string."""
    parts = [part is not msgspec.UNSET for part in (record.position, record.progress, record.events)]
    if any(parts) != all(parts) or (state and not all(parts)):
        return "it is not the state of a training"
    if record.position is not msgspec.UNSET and (wrong := record.position.wrong(program.recipe)):
        return wrong
    return f"{record.events} events count" if record.events is not msgspec.UNSET and record.events < 0 else ""


def _write(
    path: Path, tensors: dict[str, npt.NDArray[Any]], record: dict[str, Any], between: Callable[[], object] = int
) -> None:
    try:
        writing.write({path: lambda file: sealed.write(file, tensors, json.dumps(record))}, between=between)
    except OSError as error:
        raise RunError(
            f"the checkpoint cannot be written: {error.strerror or error}",
            where=str(path),
            fix="make room or permissions, then continue with --resume",
        ) from error


def _wanted(arena: Arena) -> dict[str, npt.NDArray[Any]]:
    """Name in the file → the part of the arena that it fills; of masks, what is there instead."""
    wanted = {f"weights/{p.name}": view(arena.weights, p) for p in arena.trained}
    wanted |= {f"statistics/{s.name}": view(arena.statistics, s) for s in arena.statistic_slices}
    wanted |= {f"slots/{slot}/{p.name}": view(b, p) for slot, b in arena.slots.items() for p in arena.trained}
    return wanted | {f"masks/{p.name}": arena.mask(p) for p in arena.prunable}


def _fitting(
    path: Path, file: Any, wanted: dict[str, npt.NDArray[Any]], arena: Arena, *, training: bool
) -> Collection[str]:
    """The file's tensors: all that are wanted and no others, in their types and shapes.

    Weights have no slots and masks.  Files of earlier versions also have what is frozen, which is passed over.
    """
    frozen = {p.name for p in arena.parameters if not p.trained}
    there = {name for name in file.keys() if name.split("/", 2)[-1] not in frozen}  # noqa: SIM118
    needed = {name for name in wanted if training or name.partition("/")[0] in ("weights", "statistics")}
    if wrong := sorted(there - set(wanted)) or sorted(needed - there):
        raise _unfit(path, f"it {'lacks' if wrong[0] in needed else 'has'} the tensor {wrong[0]!r}")
    for name in there:
        piece = file.get_slice(name)
        kind = "U8" if name.startswith("masks/") else "F32"
        if piece.get_dtype() != kind or tuple(piece.get_shape()) != wanted[name].shape:
            raise _unfit(path, f"{name!r} is {piece.get_dtype()} {piece.get_shape()}, not {kind} {wanted[name].shape}")
    return there


@contextlib.contextmanager
def _reading(path: Path, folder: Path) -> Iterator[None]:
    """Whatever safetensors and NumPy raise on a missing or damaged file becomes a RunError."""
    regular.require(folder, path)
    try:
        yield
    except FileNotFoundError as error:
        raise RunError("no such checkpoint", where=str(path), fix="train the run first, without --resume") from error
    except (
        OSError, safetensors.SafetensorError, LookupError, ValueError, TypeError, RecursionError, OverflowError
    ) as error:  # fmt: skip
        raise DamagedError(f"the checkpoint cannot be read: {error}", where=str(path), fix=_FIX) from error


_FIX = "dsd-ort fsck RUN says what can be saved; put the run's own file back, or train it again in a new folder"


def _damaged(path: Path) -> DamagedError:
    what = "the checkpoint is damaged" if path.parent.name != "phases" else "the weights of a phase are damaged"
    return DamagedError(f"{what}: the file is no longer what was written", where=str(path), fix=_FIX)


def _unfit(path: Path, wrong: str) -> DamagedError:
    return DamagedError(f"the checkpoint does not fit the run: {wrong}", where=str(path), fix=_FIX)
