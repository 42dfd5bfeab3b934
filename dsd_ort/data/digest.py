"""What tells one data set from another: ``1287-9f86d081884c7d65``, the number of examples and a part of a SHA-256.

It is over names, shapes, types and content, the same in every run, and takes about a second however much data there is,
since of much only a part is looked at:

- arrays: the whole content up to 32 MiB, of larger ones as many examples, evenly spaced, as make 32 MiB;
- files: all names and labels; of 256 files, evenly spaced, the size and the first 128 KiB;
- examples of a Python object: 64 of them, evenly spaced, each taken twice: an array that is not the same both times, as
  chance augments it, counts with its name and type only;
- streams: the first batch of epoch 0 with seed 0.

What was changed only in examples that are not looked at does not show.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import numpy as np

from dsd_ort.data.source_forms import Examples, Files, Named, reading

WHOLE = 2**25
"""Bytes of an array that are looked at."""
FILES = 256
FILE = 2**17
EXAMPLES = 64


def of_arrays(arrays: Named, count: int | str) -> str:
    """Arrays ``[count, …]`` by name."""
    return _digest(count, (part for name in sorted(arrays) for part in _array(name, _sample(arrays[name]))))


def of_files(files: Files) -> str:
    """Files of which each is an example."""
    return _digest(len(files.names), _files(files))


def of_examples(source: Examples) -> str:
    """Examples of a Python object.

    Raises:
        DataError: one cannot be read.
    """
    return _digest(len(source.items), _examples(source))


def of_part(digest: str, indices: np.ndarray) -> str:
    """The examples of these numbers, of the data of this digest."""
    return _digest(len(indices), [digest.encode(), indices.astype(np.int64).tobytes()])


def _digest(count: int | str, parts: Iterator[bytes] | list[bytes]) -> str:
    sha = hashlib.sha256()
    for part in parts:
        sha.update(len(part).to_bytes(8, "little"))
        sha.update(part)
    return f"{count}-{sha.hexdigest()[:16]}"


def _array(name: str, array: np.ndarray) -> Iterator[bytes]:
    yield f"{name} {array.dtype.str} {array.shape}".encode()
    yield np.asarray(array).tobytes()


def _sample(array: np.ndarray) -> np.ndarray:
    """*array*, or as many of its rows as are looked at."""
    if array.nbytes <= WHOLE:
        return array
    rows: np.ndarray = array[_spaced(len(array), max(2, WHOLE * len(array) // array.nbytes))]
    return rows


def _files(files: Files) -> Iterator[bytes]:
    for name, label in zip(files.names, files.labels, strict=True):
        yield f"{name}\0{label}".encode()
    for number in _spaced(len(files.names), FILES):
        path = files.folder / files.names[number]
        with reading(str(path), "the file"), path.open("rb") as file:
            yield os.fstat(file.fileno()).st_size.to_bytes(8, "little")
            yield file.read(FILE)


def _examples(source: Examples) -> Iterator[bytes]:
    numbers = _spaced(len(source.items), EXAMPLES)
    first, second = source.take(numbers), source.take(numbers)
    for name in sorted(first[0]):
        looks = [[part for example in look for part in _array(name, example[name])] for look in (first, second)]
        yield from looks[0] if looks[0] == looks[1] else [f"{name} {first[0][name].dtype.str}".encode()]


def _spaced(count: int, wanted: int) -> np.ndarray:
    """At most *wanted* numbers below *count*, evenly spaced, the first and the last among them."""
    return np.linspace(0, count - 1, min(count, wanted)).astype(np.int64)
