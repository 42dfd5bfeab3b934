"""The digest of a data set is the same for the same data, and another for other data."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from dsd_ort.data import Field, Subset, digest, open_data

FIELDS = [Field("x", "float32", ("N", 3)), Field("y", "int64", ("N",), label=True, classes=10)]
PICTURES = [Field("image", "float32", ("N", 3, None, None)), Field("label", "int64", ("N",), label=True, classes=3)]
X, Y = np.arange(30, dtype=np.float32).reshape(10, 3), np.arange(10)


def of(x=X, y=Y, **more):
    return open_data({"x": x, "y": y, **more}, FIELDS).digest


class Objects:
    def __init__(self, x=X, y=Y, chance=None):
        self.x, self.y, self.chance = x, y, chance

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        x = self.x[i] if self.chance is None or self.chance.random() < 0.5 else self.x[i][::-1]
        return {"x": x, "y": self.y[i]}


def test_it_has_the_number_of_examples_and_sixteen_digits() -> None:
    count, digits = of().split("-")
    assert count == "10" and len(digits) == 16 and int(digits, 16) >= 0


def test_it_is_the_same_in_another_process() -> None:
    code = (
        "import numpy as np; from dsd_ort.data import Field, open_data;"
        "f = [Field('x', 'float32', ('N', 3)), Field('y', 'int64', ('N',), label=True, classes=10)];"
        "x = np.arange(30, dtype=np.float32).reshape(10, 3);"
        "print(open_data({'y': np.arange(10), 'x': x}, f).digest)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == of()


@pytest.mark.parametrize(
    "other",
    [
        {"x": np.where(X == 17, 17.5, X).astype(np.float32)},
        {"y": np.where(Y == 3, 4, Y)},
        {"x": X.astype(np.float64)},
        {"x": X[:9], "y": Y[:9]},
        {"x": X[::-1]},
    ],
    ids=["a value", "a label", "a type", "an example less", "another order"],
)
def test_other_data_has_another(other) -> None:
    assert of(**other) != of()


def test_it_is_of_what_the_model_takes_and_not_of_how_it_is_stored(tmp_path) -> None:
    np.savez_compressed(tmp_path / "d.npz", y=Y, x=X, unused=np.ones(3))
    (tmp_path / "npy").mkdir()
    np.save(tmp_path / "npy" / "x.npy", np.asfortranarray(X))
    np.save(tmp_path / "npy" / "y.npy", Y)
    assert of() == of(x=np.asfortranarray(X)) == open_data(tmp_path / "d.npz", FIELDS).digest
    assert of() == open_data(tmp_path / "npy", FIELDS).digest


def test_of_a_large_array_examples_from_all_over_it_are_looked_at(monkeypatch) -> None:
    monkeypatch.setattr(digest, "WHOLE", 60)  # five of the ten rows of 12 bytes; y, of 80 bytes, gives seven
    seen = [i for i in range(10) if of(x=np.where(np.arange(10)[:, None] == i, -1, X).astype(np.float32)) != of()]
    assert seen == [0, 2, 4, 6, 9]


def test_of_python_objects_what_chance_augments_does_not_count() -> None:
    same = open_data(Objects(), FIELDS).digest
    assert same.startswith("10-") and open_data(Objects(), FIELDS).digest == same
    assert open_data(Objects(y=np.where(Y == 9, 0, Y)), FIELDS).digest != same
    assert open_data(Objects(x=X + 1), FIELDS).digest != same
    augmented = [open_data(Objects(chance=np.random.default_rng(i)), FIELDS).digest for i in range(4)]
    assert len(set(augmented)) == 1 and augmented[0] != same
    assert open_data(Objects(y=Y[::-1], chance=np.random.default_rng(0)), FIELDS).digest != augmented[0]


def test_a_stream_is_known_by_its_first_batch() -> None:
    def stream(scale):
        return open_data(lambda epoch, seed: [{"x": X * (scale + epoch + seed), "y": Y}] * 2, FIELDS).digest

    assert stream(1) == stream(1) != stream(2)
    assert stream(1).startswith("stream-")


def test_a_subset_has_that_of_its_whole_and_its_numbers() -> None:
    whole = open_data({"x": X, "y": Y}, FIELDS)
    one, other = (Subset(whole, np.array(numbers)).digest for numbers in ([1, 2], [1, 3]))
    assert one.startswith("2-") and one != other
    assert one == Subset(open_data({"x": X, "y": Y}, FIELDS), np.array([1, 2])).digest
    assert one != Subset(open_data({"x": X + 1, "y": Y}, FIELDS), np.array([1, 2])).digest


def test_files_are_known_by_names_labels_and_bytes(tmp_path) -> None:
    def write(folder, name, value):
        path = tmp_path / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(path)
        return tmp_path / folder

    def pets(folder, names=("cat/1.png", "cat/2.png", "dog/1.png"), value=9):
        for name in names:
            write(folder, name, value)
        return open_data(tmp_path / folder, PICTURES).digest

    assert pets("a") == pets("b"), "wherever the folder is"
    assert pets("a").startswith("3-")
    assert pets("c", value=10) != pets("a")
    assert pets("d", ("cat/1.png", "cat/3.png", "dog/1.png")) != pets("a")
    write("b", "dog/2.png", 9)
    assert open_data(tmp_path / "b", PICTURES).digest != pets("a")
    (tmp_path / "a").joinpath("bird").mkdir()  # the same pictures have other classes now
    assert open_data(tmp_path / "a", PICTURES).digest != pets("f")
