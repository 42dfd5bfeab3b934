"""Who started the process, told from what launchers leave in the environment."""

from __future__ import annotations

import pytest

from dsd_ort.launcher import started


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1)),
        ({"PMI_RANK": "1", "PMI_SIZE": "2"}, (1, 2)),
        ({"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4", "PMIX_RANK": "3"}, (3, 4)),
        ({"PMIX_RANK": "5", "SLURM_NTASKS": "8", "SLURM_PROCID": "5"}, (5, 8)),
        ({"SLURM_PROCID": "5", "SLURM_NTASKS": "8"}, (0, 1)),  # srun without MPI: each is alone
        ({"PMI_RANK": "1"}, (0, 1)),
        ({"PMI_RANK": "one", "PMI_SIZE": "two"}, (0, 1)),
    ],
)
def test_number_and_size(environment: dict[str, str], expected: tuple[int, int]) -> None:
    assert started(environment) == expected
