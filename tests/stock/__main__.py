"""What the training build makes of the siblings, for another ONNX Runtime to repeat: python -m tests.stock FOLDER.

Writes for each network NAME::

    NAME.onnx           the model
    NAME/               the prepared run folder
    NAME.step.npz       loss and gradients of one dense step      NAME.sparse.npz   … and of one under masks
    NAME.trained.onnx   the end of dense, sparse, dense
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np

import dsd_ort
from tests.stock.siblings import BATCH, SIBLINGS, data, one_step, prepare


def main(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in SIBLINGS:
        run, arrays = prepare(name, folder), data(name)
        batch = {key: array[:BATCH] for key, array in arrays.items()}
        for graph in ("step", "sparse"):
            loss, gradients = one_step(run, batch, sparse=graph == "sparse")
            np.savez(folder / f"{name}.{graph}.npz", loss=np.float64(loss), **gradients)
        copy = folder / f"{name}.copy"
        shutil.copytree(run, copy)
        dsd_ort.train(copy, arrays, threads=1)
        dsd_ort.export(copy, folder / f"{name}.trained.onnx")
        shutil.rmtree(copy)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
