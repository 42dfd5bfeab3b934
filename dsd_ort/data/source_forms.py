"""What a source of data gives before it is matched with the model: whole arrays, examples, or a stream of batches."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from dsd_ort.data.shards import Shards
from dsd_ort.errors import DataError, DsdError

Named = dict[str, np.ndarray]

# Frames of this package, of the standard library, of what is installed and of frozen modules: no user's code.
_NOT_THEIRS = (str(Path(__file__).parent), "<", *(sysconfig.get_path(p) for p in ("stdlib", "purelib", "platlib")))


class Indexable(Protocol):
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True)
class Arrays:
    """Whole arrays ``[N, …]`` by name, in order; each is read only when it is asked for."""

    readers: Mapping[str, Callable[[], Any]]
    where: str

    def read(self, name: str) -> np.ndarray:
        """Raises DataError: the array cannot be read."""
        with reading(self.where, f"array {name!r}"):
            found = self.readers[name]()
            return cast("np.ndarray", found) if isinstance(found, Shards) else np.asarray(found)


@dataclass(frozen=True)
class Files:
    """What a source of files knows of its examples without opening them."""

    folder: Path
    names: Sequence[str]
    """As people know them; relative to the folder."""
    labels: Sequence[int] | Sequence[str]
    """The class of each, or what is said in it."""


@dataclass(frozen=True)
class Examples:
    """Single examples by number; each a dict of arrays, a tuple of them, or one array."""

    items: Indexable
    where: str
    title: Callable[[int], str] = "example {}".format
    """What an example is called in a message."""
    lengths: Callable[[], Any] | None = None
    """Gives a number for each example, by which those of about one length find together."""
    notes: tuple[str, ...] = ()
    hints: Mapping[str, str] = field(default_factory=dict)
    """Array → what to do where its shape does not fit the model."""
    images: bool = False
    """The arrays are [H, W, C], whatever the recipe's layout, and are not filled up to one size."""
    own_names: bool = False
    """The names are the source's, not the user's, so that matching may go by position too."""
    files: Files | None = None
    """Where each example is a file."""
    parallel: bool = False
    """Whether several threads may ask for items at once; of an object of the user's, nobody knows."""

    def take(self, indices: Iterable[int]) -> list[Named]:
        """The examples of these numbers.

        Raises:
            DataError: an example cannot be read, or differs from the first in its names.
        """
        examples: list[Named] = []
        for index in indices:
            with calling(self.where, self.title(index)):
                examples.append(named(self.items[int(index)]))
            if examples[-1].keys() != examples[0].keys():
                raise self.differs(index, examples[-1], examples[0])
        return examples

    def differs(self, index: int, example: Named, first: Named, hint: str | None = None) -> DataError:
        return DataError(
            f"{self.title(index)} has {shapes(example)}, others of its batch have {shapes(first)}",
            where=self.where,
            fix=hint or "give all examples the same names and shapes, or a stream of batches that are padded",
        )


@dataclass(frozen=True)
class Stream:
    """A function of (epoch, seed) that gives the batches of one epoch in order."""

    make: Callable[..., Iterable[Any]]
    where: str

    def batches(self, epoch: int, seed: int) -> Generator[Named]:
        """Raises DataError: the function or its iterator raised something."""
        end = object()
        with calling(self.where, "the function"):
            batches = iter(self.make(epoch=epoch, seed=seed))
        try:
            while True:
                with calling(self.where, "the function"):
                    if (batch := next(batches, end)) is end:
                        return
                    arrays = named(batch)
                yield arrays
        finally:
            if close := getattr(batches, "close", None):
                close()


def named(value: Any) -> Named:
    """A dict of arrays as it is; a tuple or list under the names "#0", "#1", …; a single array under "#0"."""
    if isinstance(value, Mapping):
        return {str(name): np.asarray(array) for name, array in value.items()}
    values = value if isinstance(value, (tuple, list)) else (value,)
    return {f"#{i}": np.asarray(array) for i, array in enumerate(values)}


def shapes(arrays: Named) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}


@contextmanager
def reading(where: str, what: str) -> Iterator[None]:
    """Whatever NumPy, zipfile or zlib raise on a damaged file (almost anything) becomes a DataError."""
    try:
        yield
    except DsdError:
        raise
    except MemoryError as error:
        fix = "save each array as a .npy file in one folder: those are memory-mapped"
        raise DataError(f"{what} does not fit into memory: {error}", where=where, fix=fix) from error
    except OSError as error:
        fix = "check the path and its permissions"
        raise DataError(f"{what} cannot be read: {error.strerror or error}", where=where, fix=fix) from error
    except Exception as error:
        if "Object arrays" in str(error) or "Python objects" in str(error):
            fix = "save it with a numeric dtype: a pickle is never loaded"
            raise DataError(f"{what} holds Python objects", where=where, fix=fix) from error
        fix = "it is cut off, damaged or in another format: write it again with numpy.save or numpy.savez"
        raise DataError(f"{what} cannot be read", where=where, fix=fix) from error


def unreadable(what: str, path: Path, reason: str, fix: str) -> DataError:
    """Of a file that has been there when the data were opened: it is damaged, or the system does not give it any more.

    Args:
        what: the file is.
        path: its own.
        reason: that it cannot be decoded for.
        fix: for that.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        reason = error.strerror or str(error)
        fix = "put the file back as it was; a training that ended by this goes on with --resume"
    return DataError(f"the {what} cannot be read: {reason}", where=str(path), fix=fix)


@contextmanager
def calling(where: str, what: str) -> Iterator[None]:
    """Whatever a user's loader raises becomes a DataError that names the line in the user's file."""
    try:
        yield
    except DsdError:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        theirs = [frame for frame in frames if not frame.filename.startswith(_NOT_THEIRS)]
        line = f" ({theirs[-1].filename}, line {theirs[-1].lineno})" if theirs else ""
        raise DataError(
            f"{what} raised {type(error).__name__}: {error}", where=where + line, fix="mend the loader there"
        ) from error
