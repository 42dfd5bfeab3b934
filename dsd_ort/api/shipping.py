"""What a sparse file brings: how sparse it is, its size when it is compressed, its time in ONNX Runtime; measured."""

from __future__ import annotations

import time
import zlib
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from dsd_ort.errors import DsdError
from dsd_ort.graph.evaluation import evaluation
from dsd_ort.graph.program import Program, open_program
from dsd_ort.model import source as source_files
from dsd_ort.model.source import Source
from dsd_ort.proof import exported, made_up

LEVEL, CHUNK = 6, 1 << 20
"""Of zlib, its own default; bytes at a time."""
SECONDS, LEAST = 1.0, 5
"""How long both files run in turn, and how often at least."""


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A model with its external data."""

    bytes: int
    compressed: int
    """By zlib."""
    milliseconds: float | None
    """The median of a run on made-up input; None where it does not run by itself."""


class Shipped(msgspec.Struct, frozen=True, kw_only=True):
    """An exported file beside the model as it came."""

    weights: int
    """That may be pruned."""
    zeros: int
    density: dict[str, float]
    """Of each of these weights, the share that is not zero."""
    file: File
    came: File

    @property
    def sparsity(self) -> float:
        return self.zeros / self.weights if self.weights else 0.0

    @property
    def faster(self) -> float | None:
        """Times as fast as the model as it came; None where that was not measured."""
        times = self.file.milliseconds, self.came.milliseconds
        return None if times[0] is None or times[1] is None else times[1] / times[0]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found | {"sparsity": self.sparsity, "faster": self.faster}


def shipped(run: str | Path, final: str | Path, *, threads: int = 0) -> Shipped:
    """What *final*, exported from *run*, brings beside the model as it came.

    Args:
        run: a run folder.
        final: the file that :func:`export` wrote.
        threads: of ONNX Runtime; 0 means one a core.

    Raises:
        ModelError, RunError: one of them cannot be read.
    """
    program, made = open_program(run), source_files.load(final)
    came, numbers = program.source(), made.numbers
    pieces = {piece.name: piece.size for piece in program.manifest.prunable}
    times = _times(program, came, Path(final), threads)
    return Shipped(
        weights=sum(pieces.values()),
        zeros=sum(int(numbers[name].zeros) for name in pieces),
        density={name: 1 - int(numbers[name].zeros) / size for name, size in pieces.items()},
        file=_file(made, times[0]),
        came=_file(came, times[1]),
    )


def _file(source: Source, milliseconds: float | None) -> File:
    sizes = [(file.stat().st_size, _compressed(file)) for file in source.files]
    return File(bytes=sum(a for a, _ in sizes), compressed=sum(b for _, b in sizes), milliseconds=milliseconds)


def _compressed(path: Path) -> int:
    packer, size = zlib.compressobj(LEVEL), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            size += len(packer.compress(chunk))
    return size + len(packer.flush())


def _times(program: Program, came: Source, final: Path, threads: int) -> tuple[float | None, float | None]:
    """Milliseconds of a run of both, in turn; None where there is no input that runs."""
    if program.artifacts.exists():
        return None, None
    try:
        measured = evaluation(came, program.recipe)
        batch = made_up.batch(came, measured, program.recipe, None, {}, threads=threads)
        files = (final, program.source_path)
        runs = [exported.plain_run(file, batch.arrays, measured, program.recipe, threads=threads) for file in files]
        for run in runs:
            run()
    except DsdError:
        return None, None
    found: tuple[list[float], list[float]] = ([], [])
    began = time.perf_counter()
    while len(found[0]) < LEAST or time.perf_counter() - began < SECONDS:
        for run, seconds in zip(runs, found, strict=True):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
    return 1000 * median(found[0]), 1000 * median(found[1])
