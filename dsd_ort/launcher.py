"""Who started this process: a shell, or mpirun or srun with others of its kind.  Imports nothing of MPI."""

from __future__ import annotations

import os
from collections.abc import Mapping

_RANKS = {
    "PMI_RANK": "PMI_SIZE",
    "OMPI_COMM_WORLD_RANK": "OMPI_COMM_WORLD_SIZE",
    "PMIX_RANK": "SLURM_NTASKS",
}
"""What launchers call the number of a process, and of all of them: MPICH's and Slurm's PMI, Open MPI, Slurm's PMIx."""


def started(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """The number of this process and how many there are, as the launcher says; (0, 1) without one."""
    for rank, size in _RANKS.items():
        numbers = environment.get(rank, ""), environment.get(size, "")
        if all(number.isdigit() for number in numbers):
            return int(numbers[0]), int(numbers[1])
    return 0, 1


def is_first() -> bool:
    """Whether this process is the one that speaks."""
    return started()[0] == 0
