"""Every refusal with its whole text: what is wrong, where, and what to do.  ``{}`` stands for the test's folder."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsd_ort.data import Batches, open_data, prefetch
from dsd_ort.errors import DataError
from dsd_ort.fields import Field
from dsd_ort.recipe import Data

X = np.zeros((4, 1, 3, 3), np.float32)
Y = np.array([0, 1, 2, 1])
FIELDS = [Field("x", "float32", ("N", 1, 3, 3)), Field("y", "int64", ("N",), label=True, classes=3)]

FORMATS = (
    "a .npz file, a folder of .npy files, shards (data/train for data/train-00000-of-00008.npz), "
    "IDX files as the prefix of a split (mnist/train for mnist/train-images-idx3-ubyte.gz), "
    "a folder with one sub-folder of images a class, a manifest of recordings (.jsonl), "
    "a folder of recordings with a .txt beside each, or module:function"
)
DAMAGED = "it is cut off, damaged or in another format: write it again with numpy.save or numpy.savez"

COUNT = "count labels from 0, or give the label of examples that do not count as loss.ignore_index"
ONE = "give data with at least one example"
SHAPE = "give the array the shape that the model takes; axis 0 is the example"
VALUE = "remove the example or mend the value"
ALL = "give every example all its arrays"


def refusal(spec, fields=FIELDS, data=None, folder: Path | None = None) -> tuple[str, str | None, str | None]:
    with pytest.raises(DataError) as caught:
        dataset = open_data(spec, fields, data)
        list(Batches(dataset, 2, shuffle=False))
    parts = (caught.value.what, caught.value.where, caught.value.fix)
    return tuple(part and part.replace(str(folder), "{}") for part in parts)  # type: ignore[return-value]


FROM_PYTHON = "the data given from Python"


def changed(array, index, value):
    array = array.copy()
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("arrays", "what", "fix"),
    [
        (
            {"image": X, "mask": X, "y": Y},
            "no array for input 'x': the data has 'image', 'mask', 'y', the model takes input 'x', label 'y'",
            "give each array the name of its input or label",
        ),
        (
            {"x": X},
            "no array for label 'y': the data has 'x', the model takes input 'x', label 'y'",
            "give each array the name of its input or label",
        ),
        (
            {"x": X[:, :, :2], "y": Y},
            "array 'x' has shape [4, 1, 2, 3], but input 'x' takes [N, 1, 3, 3]: axis 2 is 2, not 3",
            SHAPE,
        ),
        (
            {"x": X[:, 0, :, :2], "y": Y},
            "array 'x' has shape [4, 3, 2], but input 'x' takes [N, 1, 3, 3]: "
            "taken as [4, 1, 3, 2]: axis 3 is 2, not 3",
            SHAPE,
        ),
        (
            {"x": X.reshape(4, 9), "y": Y},
            "array 'x' has shape [4, 9], but input 'x' takes [N, 1, 3, 3]: 2 axes, not 4",
            "reshape it: array.reshape(-1, 1, 3, 3)",
        ),
        (
            {"x": X.transpose(0, 2, 3, 1), "y": Y},
            "array 'x' has shape [4, 3, 3, 1], but input 'x' takes [N, 1, 3, 3]: axis 1 is 3, not 1",
            'if the images are [N, H, W, C], set layout = "nhwc" in the recipe\'s [data]',
        ),
        (
            {"x": X, "y": np.eye(4, 3, dtype=np.int64)},
            "array 'y' has shape [4, 3], but label 'y' takes [N]: 2 axes, not 1",
            "if the labels are one-hot, save the numbers of the classes: labels.argmax(axis=1)",
        ),
        (
            {"x": X, "y": np.array(1)},
            "array 'y' is a single number",
            "give it one entry for every example: axis 0 is the example",
        ),
        (
            {"x": X.astype(np.int32), "y": Y},
            "array 'x' holds int32, but input 'x' takes float32",
            "use .astype('float32') to feed the numbers as they are, or uint8 for images that the recipe normalises",
        ),
        (
            {"x": X, "y": Y.astype(np.float64)},
            "array 'y' holds float64, but label 'y' takes int64",
            "use .astype('int64') if the values are whole numbers",
        ),
        (
            {"x": X, "y": np.array(["cat", "dog", "cat", "dog"])},
            "array 'y' holds text, but label 'y' takes int64",
            "save it as numbers: .astype('int64'), or classes as 0, 1, 2, …",
        ),
        (
            {"x": X, "y": np.array([0, None, 1, 2], dtype=object)},
            "array 'y' holds Python objects, but label 'y' takes int64",
            "save it as numbers: .astype('int64'), or classes as 0, 1, 2, …",
        ),
        (
            {"x": X.astype(np.complex64), "y": Y},
            "array 'x' holds complex64, but input 'x' takes float32",
            "save it as numbers: .astype('float32'), or classes as 0, 1, 2, …",
        ),
        ({"x": X, "y": Y[:3]}, "the arrays differ in length: 'x' has 4, 'y' has 3", ALL),
        (
            {"x": X[:0], "y": Y[:0]},
            "array 'x' is empty: its shape is [0, 1, 3, 3]",
            ONE,
        ),
        (
            {"x": X, "y": Y + 1},
            "array 'y' holds the label 3 in example 2, outside [0, 3)",
            COUNT,
        ),
        (
            {"x": X, "y": Y.astype(np.int8) - 1},
            "array 'y' holds the label -1 in example 0, outside [0, 3)",
            COUNT,
        ),
        (
            {"x": changed(X, (3, 0, 1, 2), np.nan), "y": Y},
            "array 'x' holds nan in example 3 at [0, 1, 2]",
            VALUE,
        ),
        (
            {"x": changed(X, (1, 0, 0, 0), -np.inf), "y": Y},
            "array 'x' holds -inf in example 1 at [0, 0, 0]",
            VALUE,
        ),
        (
            {"x": changed(X.astype(np.float64), (1, 0, 0, 0), 1e39), "y": Y},
            "array 'x' holds 1e+39 in example 1 at [0, 0, 0], which is infinite as float32",
            VALUE,
        ),
        ({"x": X, "y": [[1], [2, 3]]}, "array 'y' cannot be read", DAMAGED),
    ],
)
def test_arrays_that_do_not_fit_the_model(arrays, what, fix):
    assert refusal(arrays) == (what, FROM_PYTHON, fix)


def test_the_nearest_names_are_told():
    fields = [Field("images", "float32", ("N",)), Field("lengths", "int64", ("N",)), FIELDS[1]]
    assert refusal({"image": X, "length": Y, "other": Y, "y": Y}, fields) == (
        "no array for input 'images', input 'lengths': the data has 'image', 'length', 'other', 'y', "
        "the model takes input 'images', input 'lengths', label 'y'",
        FROM_PYTHON,
        "for input 'images', did you mean 'image'?; for input 'lengths', did you mean 'length'?",
    )


@pytest.mark.parametrize(("key", "layout"), [("mean", "nchw"), ("std", "nhwc")])
def test_a_recipe_with_the_wrong_number_of_channels(key, layout):
    pixels = np.zeros((4, 3, 3), np.uint8)
    assert refusal({"x": pixels, "y": Y}, data=Data(**{key: [0.5] * 3, "layout": layout})) == (
        f"data.{key} has 3 numbers, but array 'x' has 1 channels",
        f"the recipe, and {FROM_PYTHON}",
        'give one number for all channels or one for each; they are axis 1 unless layout = "nhwc"',
    )


def test_fewer_examples_than_a_batch():
    dataset = open_data({"x": X, "y": Y}, FIELDS)
    with pytest.raises(DataError) as caught:
        Batches(dataset, 5, drop_last=True)
    assert str(caught.value) == (
        "4 examples fill no batch of 5, and the last one is dropped\n"
        f"  where: {FROM_PYTHON}\n"
        "  fix:   set a smaller batch_size, or data.drop_last = false"
    )


def test_a_path_with_nothing_there(tmp_path):
    np.savez(tmp_path / "train.npz", x=X)
    missing = "there is no such file or folder"
    assert refusal(tmp_path / "trian.npz", folder=tmp_path) == (missing, "{}/trian.npz", "did you mean 'train.npz'?")
    assert refusal(tmp_path / "no" / "a", folder=tmp_path) == (missing, "{}/no/a", f"give {FORMATS}")


def test_a_file_or_folder_of_no_known_format(tmp_path):
    (tmp_path / "x.csv").write_text("1,2")
    what = "the file is no data that can be read here"
    assert refusal(tmp_path / "x.csv", folder=tmp_path) == (what, "{}/x.csv", f"give {FORMATS}")
    what = "the folder holds no data that can be read here (it holds x.csv)"
    assert refusal(tmp_path, folder=tmp_path) == (what, "{}", f"give {FORMATS}")


@pytest.mark.parametrize("damage", ["empty", "text", "no zip", "cut off", "one bit", "a .npy"])
def test_a_damaged_npz(tmp_path, damage):
    path = tmp_path / "d.npz"
    np.savez(path, x=X, y=Y)
    content = path.read_bytes()
    at = content.index(b"\x00" * 50)  # in the values of x, which the archive's checksum covers
    if damage == "a .npy":
        with path.open("wb") as file:
            np.save(file, X)
    else:
        path.write_bytes({
            "empty": b"", "text": b"hello " * 99, "no zip": b"PK\x03\x04" + b"x" * 99, "cut off": content[:-30],
            "one bit": content[:at] + b"\x01" + content[at + 1 :],
        }[damage])  # fmt: skip
    what = "array 'x' cannot be read" if damage == "one bit" else "the archive cannot be read"
    assert refusal(path, folder=tmp_path) == (what, "{}/d.npz", DAMAGED)


@pytest.mark.parametrize("damage", ["empty", "text", "header cut off", "values cut off"])
def test_a_damaged_npy(tmp_path, damage):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    content = (tmp_path / "x.npy").read_bytes()
    damaged = {"empty": b"", "text": b"hello " * 99, "header cut off": content[:40], "values cut off": content[:-1]}
    (tmp_path / "x.npy").write_bytes(damaged[damage])
    assert refusal(tmp_path, folder=tmp_path) == ("array 'x' cannot be read", "{}", DAMAGED)


def test_pickles_are_never_loaded(tmp_path):
    objects = np.array([{}, 1, 2, 3], dtype=object)
    np.savez(tmp_path / "d.npz", x=X, y=objects)
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", objects)
    what, fix = "array 'y' holds Python objects", "save it with a numeric dtype: a pickle is never loaded"
    assert refusal(tmp_path / "d.npz", folder=tmp_path) == (what, "{}/d.npz", fix)
    assert refusal(tmp_path, folder=tmp_path) == (what, "{}", fix)


def test_an_array_larger_than_memory_in_an_npz(tmp_path, monkeypatch):
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    with pytest.MonkeyPatch.context() as patch:

        def too_large(*_):
            raise MemoryError("Unable to allocate 2 TiB")

        patch.setattr("dsd_ort.data.packed.bytearray", too_large, raising=False)
        parts = refusal(tmp_path / "d.npz", folder=tmp_path)
    fix = "save each array as a .npy file in one folder: those are memory-mapped"
    assert parts == ("array 'x' does not fit into memory: Unable to allocate 2 TiB", "{}/d.npz", fix)


def test_a_folder_with_several_splits(tmp_path, write_idx):
    for split in ("train", "t10k"):
        write_idx(f"{split}-images-idx3-ubyte.gz", X[:, 0])
        write_idx(f"{split}-labels-idx1-ubyte.gz", Y.astype(np.uint8))
    fix = "give the prefix of one: {}/t10k, {}/train"
    assert refusal(tmp_path, folder=tmp_path) == ("the folder holds 2 splits", "{}", fix)
    fix = "did you mean 'train'?"
    assert refusal(tmp_path / "trai", folder=tmp_path) == ("there is no such file or folder", "{}/trai", fix)


@pytest.mark.parametrize(("there", "absent", "axes"), [("images", "labels", 1), ("labels", "images", 3)])
def test_half_a_pair(tmp_path, write_idx, there, absent, axes):
    write_idx(f"train-{there}-idx3-ubyte.gz", X[:, 0])
    what, fix = f"the split 'train' has no {absent}", f"put train-{absent}-idx{axes}-ubyte (or .gz) there"
    assert refusal(tmp_path / "train", folder=tmp_path) == (what, "{}", fix)
    assert refusal(tmp_path, folder=tmp_path) == (what, "{}", fix)


@pytest.mark.parametrize("damage", ["empty", "text", "wrong type", "header cut off", "cut off", "too long"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_idx_file(tmp_path, write_idx, damage, packed):
    path = write_idx("train-images-idx3-ubyte", X[:, 0])
    write_idx("train-labels-idx1-ubyte", Y.astype(np.uint8))
    content = path.read_bytes()
    damaged = {
        "empty": b"", "text": b"hello", "wrong type": b"\0\0\7" + content[3:], "header cut off": content[:9],
        "cut off": content[:-1], "too long": content + b"\0",
    }[damage]  # fmt: skip
    path.write_bytes(damaged)
    if packed:
        path.unlink()
        path = path.with_name(path.name + ".gz")
        path.write_bytes(gzip.compress(damaged))
    if damage in ("cut off", "too long"):
        has = "has not the 160 bytes that its header" if packed else f"has {len(damaged)} bytes, but its header"
        what = f"the file is cut off or damaged: it {has} promises" + ("" if packed else " 160")
        expected = (what, f"{{}}/{path.name}", "download it again")
    else:
        fix = "give a file that begins with 00 00 and a type, 08…0E, or download it again"
        expected = ("this is not an IDX file", f"{{}}/{path.name}", fix)
    assert refusal(tmp_path / "train", folder=tmp_path) == expected


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_an_empty_idx_file(tmp_path, write_idx, ending):
    write_idx(f"t-images-idx3-ubyte{ending}", X[:0, 0])
    write_idx(f"t-labels-idx1-ubyte{ending}", Y[:0].astype(np.uint8))
    assert refusal(tmp_path / "t", folder=tmp_path) == ("array 'images' is empty: its shape is [0, 3, 3]", "{}/t", ONE)


@pytest.mark.parametrize("damage", ["cut off", "one bit", "no gzip"])
def test_a_damaged_gz(tmp_path, write_idx, damage):
    path = write_idx("train-images-idx3-ubyte.gz", np.arange(144, dtype=np.float32).reshape(4, 6, 6))
    write_idx("train-labels-idx1-ubyte.gz", Y.astype(np.uint8))
    content = path.read_bytes()
    flipped = content[:60] + bytes([content[60] ^ 1]) + content[61:]
    path.write_bytes({"cut off": content[:-9], "one bit": flipped, "no gzip": b"hello"}[damage])
    what = "the .gz file is damaged or cut off"
    expected = (what, "{}/train-images-idx3-ubyte.gz", "download it again")
    assert refusal(tmp_path / "train", folder=tmp_path) == expected


@pytest.mark.parametrize(("spec", "damaged"), [("d.npz", "d.npz"), ("f", "f/x.npy"), ("t", "t-images-idx3-ubyte")])
def test_a_wrong_byte_anywhere_gives_data_or_a_refusal_and_no_other_error(tmp_path, write_idx, spec, damaged):
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    (tmp_path / "f").mkdir()
    np.save(tmp_path / "f" / "x.npy", X)
    np.save(tmp_path / "f" / "y.npy", Y)
    write_idx("t-images-idx3-ubyte", X[:, 0])
    write_idx("t-labels-idx1-ubyte", Y.astype(np.uint8))
    content = (tmp_path / damaged).read_bytes()

    @settings(max_examples=50, deadline=None)
    @given(st.integers(0, len(content) - 1), st.integers(0, 255))
    def with_a_wrong_byte(at, byte):
        (tmp_path / damaged).write_bytes(content[:at] + bytes([byte]) + content[at + 1 :])
        try:
            open_data(tmp_path / spec, FIELDS)
        except DataError as refused:
            assert refused.where
            assert refused.fix

    with_a_wrong_byte()


BAD = """
import numpy as np
x, y = np.zeros((4, 1, 3, 3), np.float32), np.arange(4) % 3
_hidden = 1
def fails():
    return {"x": x, "y": y}["z"]
def takes(folder, split): return x, y
def number(): return 7
def text(): return "hello"
def generator():
    yield x, y
def stops(epoch, seed):
    yield x, y
    np.zeros(2).reshape(3)
def empty(epoch, seed): return iter(())
def runs_dry(epoch, seed):
    if epoch == 0: yield x, y
def nan(epoch, seed):
    yield x, y
    yield x * np.nan, y
def uneven(epoch, seed):
    yield x, y
    yield x, y[:2]
def shape(epoch, seed):
    yield x, y
    yield x[:, :, 1:], y
def forgets(epoch, seed):
    yield {"x": x, "y": y}
    yield {"x": x}
class Examples:
    def __len__(self): return 4
    def __getitem__(self, i): return self.example(i)
class Broken(Examples):
    def example(self, i): return x[i], y[5 * i]
class Ragged(Examples):
    def example(self, i): return x[i, :, : 3 - i], y[i]
class Wrong(Examples):
    def example(self, i): return x[i], y[i] + (7 if i == 3 else 0)
class Short(Examples):
    def __len__(self): return 0
"""

KINDS = (
    "give a dict of arrays, a tuple of arrays, an object with __len__ and __getitem__, "
    "or a function with the parameters epoch and seed that yields batches"
)
MEND = "mend the loader there"
NOTHING = "let it take nothing and return arrays, or take epoch and seed"
SAME = "give all examples the same names and shapes, or a stream of batches that are padded"
RAGGED = "example 1 has {'#0': (1, 2, 3), '#1': ()}, others of its batch have {'#0': (1, 3, 3), '#1': ()}"


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("fails", ("the function raised KeyError: 'z'", "bad:fails ({}/bad.py, line 6)", MEND)),
        ("takes", ("the function takes folder, split", "bad:takes", NOTHING)),
        ("number", ("a value of type int is no data", "bad:number", KINDS)),
        ("text", ("a value of type str is no data", "bad:text", KINDS)),
        ("generator", ("a value of type generator is no data", "bad:generator", KINDS)),
        ("_hidden", ("a value of type int is no data", "bad:_hidden", KINDS)),
        (
            "stops",
            (
                "the function raised ValueError: cannot reshape array of size 2 into shape (3,)",
                "bad:stops ({}/bad.py, line 14)",
                MEND,
            ),
        ),
        ("empty", ("there are no examples", "bad:empty", ONE)),
        ("nan", ("array '#0' holds nan in example 0 at [0, 0, 0]", "bad:nan, batch 1 of epoch 0", VALUE)),
        ("uneven", ("the arrays differ in length: '#0' has 4, '#1' has 2", "bad:uneven, batch 1 of epoch 0", ALL)),
        (
            "shape",
            (
                "array '#0' has shape [4, 1, 2, 3], but input 'x' takes [N, 1, 3, 3]: axis 2 is 2, not 3",
                "bad:shape, batch 1 of epoch 0",
                SHAPE,
            ),
        ),
        (
            "forgets",
            (
                "array 'y', which was there at first, is missing",
                "bad:forgets, batch 1 of epoch 0",
                "give the same arrays every time",
            ),
        ),
        (
            "Broken",
            (
                "example 1 raised IndexError: index 5 is out of bounds for axis 0 with size 4",
                "bad:Broken ({}/bad.py, line 34)",
                MEND,
            ),
        ),
        ("Ragged", (RAGGED, "bad:Ragged", SAME)),
        ("Wrong", ("array '#1' holds the label 7 in example 3, outside [0, 3)", "bad:Wrong", COUNT)),
        ("Short", ("there are no examples", "bad:Short", ONE)),
    ],
)
def test_loaders_that_go_wrong(write_module, tmp_path, function, expected):
    write_module("bad", BAD)
    assert refusal(f"bad:{function}", folder=tmp_path) == expected


def test_a_stream_that_runs_dry_in_a_later_epoch(write_module):
    write_module("bad", BAD)
    dataset = open_data("bad:runs_dry", FIELDS)
    assert len(list(Batches(dataset, 2))) == 1
    with pytest.raises(DataError, match="there are no examples\n  where: bad:runs_dry, epoch 1\n"):
        list(Batches(dataset, 2, epoch=1))


def test_modules_and_functions_that_are_not_there(write_module, tmp_path):
    write_module("bad", "def train(): pass\ndef test(): pass\nx = 1")
    write_module("worse", "import numpy\nimport not_installed")
    write_module("worst", "1 / 0")
    assert refusal("bed:train", folder=tmp_path) == (
        "there is no module 'bed'", "bed:train", "run from the folder that holds bed.py, or install it"
    )  # fmt: skip
    assert refusal("bad:trian", folder=tmp_path) == ("bad has no 'trian'", "{}/bad.py", "did you mean 'train'?")
    assert refusal("bad:zzz", folder=tmp_path) == ("bad has no 'zzz'", "{}/bad.py", "it has: train, test")
    assert refusal("worse:f", folder=tmp_path) == (
        "importing worse raised ModuleNotFoundError: No module named 'not_installed'",
        "worse:f ({}/worse.py, line 2)",
        MEND,
    )
    assert refusal("worst:f", folder=tmp_path) == (
        "importing worst raised ZeroDivisionError: division by zero", "worst:f ({}/worst.py, line 1)", MEND
    )  # fmt: skip


def test_an_error_in_the_data_reaches_the_consumer_of_a_prefetch():
    def stream(epoch, seed):
        yield X, Y
        yield X + np.inf, Y

    batches = prefetch(Batches(open_data(stream, FIELDS), 2))
    next(batches)
    with pytest.raises(DataError, match="holds inf in example 0"):
        next(batches)
