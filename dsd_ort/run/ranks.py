"""One training by several processes: ranks, which ``mpirun`` or ``srun`` has started and MPI connects.

Ranks are accumulation done at the same time.  Batch b of an update is that of rank b mod n; gradients are added in the
order of the batches, each rank adding its own share of the buffer; so n ranks end with the bytes of one.  What is not
split, every rank does alike; only the first writes and speaks.

An error on one rank must not leave the others waiting.  So arrays are exchanged only behind a :meth:`Ranks.gather`,
and whoever fails says so in the next one, wherever the others come to it.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt

from dsd_ort.errors import DsdError, InstallationError, Stopped
from dsd_ort.launcher import started
from dsd_ort.runtime.device import Device, choose_device, cores

if TYPE_CHECKING:
    from mpi4py import MPI

T = TypeVar("T")
Array = npt.NDArray[np.float32]


class Ranks(Protocol):
    """The processes of a training."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def local_rank(self) -> int:
        """Among those of this machine."""

    @property
    def local_size(self) -> int:
        """How many those are."""

    def gather(self, item: T) -> list[T]:
        """The *item* of every rank, in their order; a few numbers or strings.

        Raises:
            Exception: what another rank raised since the last call, on every rank.
        """

    def shares(self, gradient: Array, count: int) -> list[Array]:
        """The share that this rank has of the gradients of the first *count* ranks."""

    def whole(self, total: Array) -> None:
        """Puts the shares of all ranks together in *total*."""

    def each(self, array: Array, count: int) -> list[Array]:
        """The *array* of the first *count* ranks."""

    def share(self, total: Array) -> Array:
        """Where this rank adds up its part of *total*, which is as :meth:`shares` gives it."""


@dataclass(frozen=True)
class Alone:
    """One process: nothing is exchanged."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    def gather(self, item: T) -> list[T]:
        return [item]

    def shares(self, gradient: Array, count: int) -> list[Array]:
        return [gradient]

    def whole(self, total: Array) -> None:
        """The share is the whole."""

    def each(self, array: Array, count: int) -> list[Array]:
        return [array]

    def share(self, total: Array) -> Array:
        return total


@dataclass(frozen=True)
class _Failed:
    """What a rank says in place of what it was asked for."""

    error: BaseException


class Team:
    """The ranks of an MPI communicator.

    Args:
        communicator: theirs.
        local: this rank's number among those of its machine, and how many these are.
    """

    def __init__(self, communicator: MPI.Comm, local: tuple[int, int]) -> None:
        self.communicator, self.rank, self.size = communicator, communicator.rank, communicator.size
        self.local_rank, self.local_size = local
        self._parts: Array = np.empty((0, 0), np.float32)
        self._sum: Array = np.empty(0, np.float32)
        """This rank's share of a total, as long as the longest."""

    def gather(self, item: T) -> list[T]:
        found = self.communicator.allgather(item)
        failed = next(((rank, said) for rank, said in enumerate(found) if isinstance(said, _Failed)), None)
        if failed is not None:
            rank, said = failed
            raise _Elsewhere from _of_rank(rank, said.error)
        return cast("list[T]", found)

    def shares(self, gradient: Array, count: int) -> list[Array]:
        own = self._bounds(gradient.size)[self.rank]
        length = own[1] - own[0]
        if self._parts.shape != (self.size, length):
            self._parts = np.empty((self.size, length), np.float32)
        sent = [stop - start if self.rank < count else 0 for start, stop in self._bounds(gradient.size)]
        received = [length if rank < count else 0 for rank in range(self.size)]
        begins = [start for start, _ in self._bounds(gradient.size)]
        places = [rank * length for rank in range(self.size)]
        self.communicator.Alltoallv([gradient, (sent, begins)], [self._parts, (received, places)])
        return list(self._parts[:count])

    def whole(self, total: Array) -> None:
        # Not Allgatherv, which takes shares of any lengths, and with MPICH twenty times as long.
        found = np.empty(self.size * self._sum.size, np.float32)
        self.communicator.Allgather(self._sum, found)
        total[...] = found[: total.size]

    def each(self, array: Array, count: int) -> list[Array]:
        found = np.empty((self.size, array.size), np.float32)
        self.communicator.Allgather(array, found)
        return list(found[:count])

    def share(self, total: Array) -> Array:
        start, stop = self._bounds(total.size)[self.rank]
        self._sum = np.zeros(-(-total.size // self.size), np.float32)
        return self._sum[: stop - start]

    def _bounds(self, size: int) -> list[tuple[int, int]]:
        """The share of each rank in a buffer of *size*."""
        length = -(-size // self.size)
        return [(min(rank * length, size), min((rank + 1) * length, size)) for rank in range(self.size)]


def _portable(error: Exception) -> Exception:
    """What another process can be handed of *error*."""
    return error if isinstance(error, DsdError) else RuntimeError(f"{type(error).__name__}: {error}")


def _of_rank(rank: int, error: BaseException) -> BaseException:
    """*error*, which says where it was unless the first rank has it too."""
    if not rank or not isinstance(error, DsdError) or error.causes:
        return error
    return type(error)(
        error.what, where=f"{error.where}, on rank {rank}" if error.where else f"rank {rank}", fix=error.fix
    )


class _Elsewhere(Exception):  # noqa: N818 - it carries the error as its cause
    """A rank has failed; the cause is how."""


@contextmanager
def together() -> Iterator[Ranks]:
    """The ranks that a launcher has started, for one training; without one, this process alone.

    What one of them raises, all raise.

    Raises:
        InstallationError: there are several, and mpi4py is missing.
    """
    if started()[1] == 1:
        yield Alone()
        return
    team = _team()
    with acting_as_one(team):
        yield team


@contextmanager
def acting_as_one(team: Team) -> Iterator[None]:
    """What one rank of *team* raises, all raise."""
    raised: Exception | None = None
    try:
        yield
    except Exception as error:
        raised = error
    except BaseException:  # Ctrl-C for the second time: nobody waits for anybody
        team.communicator.Abort(130)
        raise
    if not isinstance(raised, _Elsewhere):
        try:  # all come here: those that ended, were stopped, or failed since the last exchange
            team.gather(None if raised is None or isinstance(raised, Stopped) else _Failed(_portable(raised)))
        except _Elsewhere as told:
            if raised is None or isinstance(raised, (Stopped, DsdError)):
                raised = told
    if isinstance(raised, _Elsewhere):
        assert raised.__cause__ is not None
        raise raised.__cause__ from None
    if raised is not None:
        raise raised


def _team() -> Team:
    _, size = started()
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise InstallationError(
            f"this is one of {size} processes of mpirun, and mpi4py, which connects them, is not installed",
            fix='pip install "dsd-ort[mpi]"; or start dsd-ort without mpirun',
        ) from error
    except RuntimeError as error:  # no MPI library
        raise _no_library(str(error)) from error
    if MPI.COMM_WORLD.size != size:
        raise InstallationError(
            f"mpirun started {size} processes, but mpi4py's MPI knows of {MPI.COMM_WORLD.size}: they are of two kinds",
            where=MPI.Get_library_version().split("\n")[0],
            fix="start with the mpirun of that library, as python -m mpi4py --mpi-lib-version names it",
        )
    local = MPI.COMM_WORLD.Split_type(MPI.COMM_TYPE_SHARED)
    return Team(MPI.COMM_WORLD, (local.rank, local.size))


def library() -> str | None:
    """The MPI library that mpi4py finds, as it calls itself; None without mpi4py.

    Asked in a process of its own: whoever imports MPI begins it.

    Raises:
        InstallationError: mpi4py finds none.
    """
    if importlib.util.find_spec("mpi4py") is None:
        return None
    asks = "import mpi4py; mpi4py.rc.initialize = False; from mpi4py import MPI; print(MPI.Get_library_version())"
    answer = subprocess.run([sys.executable, "-c", asks], check=False, capture_output=True, text=True)
    if answer.returncode:
        raise _no_library(answer.stderr.strip().split("\n")[-1])
    return " ".join(answer.stdout.split("\n")[0].split(",")[0].replace("Version:", "").split())


def _no_library(why: str) -> InstallationError:
    return InstallationError(
        f"mpi4py finds no MPI library: {why}", fix='pip install "dsd-ort[mpi]", or install mpich or openmpi'
    )


def threads_of_a_rank(ranks: Ranks) -> int:
    """How many threads a rank takes unless told: its part of the cores that there are; 0, which is all, of one."""
    if ranks.size == 1:
        return 0
    mine = cores()
    bound = mine < (os.cpu_count() or 1)  # the launcher has given each its own
    return mine if bound else max(1, mine // ranks.local_size)


def device_of_a_rank(device: str, ranks: Ranks) -> Device:
    """What :func:`dsd_ort.runtime.choose_device` makes of *device*: of several GPUs, each rank of a machine takes one.

    Raises:
        DsdError: as there.
    """
    chosen = choose_device(device)
    if chosen.kind == "cuda" and ranks.local_rank and device in ("auto", "cuda"):
        return choose_device(f"cuda:{ranks.local_rank}")
    return chosen


def refuse_what_differs(ranks: Ranks, **same: object) -> None:
    """Raises DsdError where one of *same* is not the same on every rank: versions, run folders, data."""
    for name, values in zip(same, zip(*ranks.gather(tuple(same.values())), strict=True), strict=True):
        other = next((rank for rank, value in enumerate(values) if value != values[0]), None)
        if other is not None:
            raise DsdError(
                f"the ranks differ in {name.replace('_', ' ')}: {values[0]} on rank 0, {values[other]} on rank {other}",
                fix="give every rank the same: one file system, one environment",
            )
