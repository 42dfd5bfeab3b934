"""All trainings by the ranks that mpiexec has started: mpiexec -n 3 python -m tests.mpi FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.mpi.trainings import TRAININGS, train

for name in TRAININGS:
    train(Path(sys.argv[1]), name)
