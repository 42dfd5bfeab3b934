"""Writes ``dsd_ort/demo/digits-train.npz`` and ``digits-test.npz`` from scikit-learn's copy of the UCI digits.

A developer's tool, needed again only if the files are lost: ``pip install scikit-learn; python -m
tools.maintenance.make_digits``.

The 1,797 images are the UCI set's test half.  They stand form by form: everybody filled in the same form, which asks
for 0 to 9 three times and then for a fixed series of digits, so the labels show where a form begins.  There are 14
forms, of 13 people according to UCI.  The first ten are for training, the last four for testing, so that at most one
person can be on both sides.  Handwriting that training has not seen is harder than a random split of the images, and
nearer to use.
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

FOLDER = Path(__file__).resolve().parents[2] / "dsd_ort" / "demo"
SPLIT = 1287
"""The first image of the eleventh form."""


def main() -> None:
    digits = load_digits()
    image = digits.images.astype(np.uint8)[:, None]
    label = digits.target.astype(np.uint8)
    assert np.array_equal(image[:, 0], digits.images)
    assert "".join(map(str, label[SPLIT:])).startswith("012345678901234567890123456789"), "a form begins there"
    for name, part in {"train": slice(SPLIT), "test": slice(SPLIT, None)}.items():
        np.savez_compressed(FOLDER / f"digits-{name}.npz", image=image[part], label=label[part])


if __name__ == "__main__":
    main()
