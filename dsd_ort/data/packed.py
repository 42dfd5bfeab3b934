"""What is packed, and might unpack to more than there is memory for: sizes are looked at before any is taken.

Deflate packs at most 1032 : 1, and data that anybody learns from rarely better than 20 : 1.  So what claims more than
deflate can do is damaged, and what is large and packed as only the same few bytes over and over can be is refused.

An archive's small arrays are read into memory.  Large ones are mapped, so that the system can take their memory back:
from the archive where they are not packed, and else from a file without a name that they are unpacked to once.
"""

from __future__ import annotations

import gzip
import math
import mmap
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np

from dsd_ort.errors import DataError

DENSEST = 1032
"""Bytes that deflate makes out of one, at most."""
LARGE = 1 << 28
"""Bytes of an array up to which any packing is believed."""
RATIO = 200
"""… and from there on, how many bytes one may become."""
MEMBERS = 10_000
"""Arrays of an archive."""
MAPPED = 1 << 28
"""Bytes of an archive's array from which on it is mapped; less is in memory, whatever becomes of the file."""
_PIECE = 1 << 20
_LOCAL = struct.Struct("<26x2H")
"""What stands in front of a member: the lengths of its name and of more."""
Content: TypeAlias = bytearray | mmap.mmap


def refuse_bomb(size: int, packed: int, where: str) -> None:
    """Raises DataError if *size* bytes are out of *packed* ones as no data is."""
    if size > LARGE and size > RATIO * max(packed, 1):
        raise DataError(
            f"{packed:,} bytes would unpack to {size:,}, which is no data but the same few bytes over and over",
            where=where,
            fix="if it is meant so, save each array as a .npy file in one folder: those are not packed",
        )


def unzipped(path: Path, begin: int, header: int, size: int, what: str) -> np.ndarray:
    """The *size* bytes behind *header* of a .gz file, u8[size], whose first *begin* are known to be there.

    Raises:
        DataError: it has fewer bytes, or more, or as many as no data has.
    """
    packed = path.stat().st_size
    told = DataError(what, where=str(path), fix="download it again")
    if header > begin or size > DENSEST * packed:
        raise told
    refuse_bomb(size, packed, str(path))
    content = bytearray(size)
    at = 0
    with gzip.open(path, "rb") as file:
        file.read(header)
        while at < size and (count := file.readinto(memoryview(content)[at : at + _PIECE])):
            at += count
        if at < size or file.read(1):
            raise told
    flat: np.ndarray = np.ndarray((size,), np.uint8, content)
    return flat


def members(path: Path) -> list[str]:
    """The names of the arrays of a .npz file, in its order.

    Raises:
        DataError: two members have one name, or there are more than anybody saves.
        zipfile.BadZipFile: it is no archive.
    """
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        names = [info.filename.removesuffix(".npy") for info in archive.infolist()]
    if len(names) > MEMBERS:
        raise DataError(f"the archive has {len(names):,} members; {MEMBERS:,} is the most", where=str(path), fix=_AGAIN)
    if twice := next((name for number, name in enumerate(names) if name in names[:number]), None):
        raise DataError(f"two members of the archive are called {twice!r}", where=str(path), fix=_AGAIN)
    return names


def member(path: Path, name: str) -> np.ndarray:
    """The array *name* of a .npz file.

    Raises:
        DataError: it holds Python objects, or its header promises what the archive has not.
        zipfile.BadZipFile, ValueError, …: it is damaged.
    """
    where = str(path)
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        names = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        info = names[name]
        refuse_bomb(info.file_size, info.compress_size, where)
        with archive.open(info) as stream:
            version = np.lib.format.read_magic(stream)
            if version not in _HEADERS:
                raise ValueError(f"version {version} of the format")
            shape, fortran, dtype = _HEADERS[version](stream)
            if dtype.hasobject:
                fix = "save it with a numeric dtype: a pickle is never loaded"
                raise DataError(f"array {name!r} holds Python objects", where=where, fix=fix)
            size, there = math.prod(shape) * dtype.itemsize, info.file_size - stream.tell()
            if size != there or min(shape, default=0) < 0:
                what = f"array {name!r} of shape {shape} takes {size} bytes, and the archive has {there}"
                raise DataError(what, where=where, fix=_AGAIN)
            begin = stream.tell()
            if size >= MAPPED and info.compress_type == zipfile.ZIP_STORED:
                begin += _begin(file, info)
                whole = _pass_on(stream, size, lambda at, piece: None)
                content: Content = mmap.mmap(file.fileno(), begin + size, access=mmap.ACCESS_READ)
            else:
                begin, (whole, content) = 0, (_in_file if size >= MAPPED else _in_memory)(stream, size)
            if not whole:
                raise DataError(f"array {name!r} is cut off", where=where, fix=_AGAIN)
    array: np.ndarray = np.ndarray(shape, dtype, content, begin, order="F" if fortran else "C")
    return array


def _pass_on(stream: IO[bytes], size: int, keep: Callable[[int, bytes], object]) -> bool:
    """Gives *keep* the rest of *stream* by pieces, each with its place; whether there were *size* bytes, and no more.

    Behind the last one the checksum is looked at.
    """
    at = 0
    while at <= size and (piece := stream.read(_PIECE)):
        keep(at, piece)
        at += len(piece)
    return at == size


def _in_memory(stream: IO[bytes], size: int) -> tuple[bool, Content]:
    content = bytearray(size)

    def keep(at: int, piece: bytes) -> None:
        content[at : at + len(piece)] = piece

    return _pass_on(stream, size, keep), content


def _in_file(stream: IO[bytes], size: int) -> tuple[bool, Content]:
    """A file that is gone when the array is; memory where the folder for such files (TMPDIR) has no room for it."""
    if shutil.disk_usage(tempfile.gettempdir()).free <= size:
        return _in_memory(stream, size)
    with tempfile.TemporaryFile() as file:
        whole = _pass_on(stream, size, lambda at, piece: file.write(piece))
        file.flush()
        return whole, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if whole else bytearray()


def _begin(file: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Where the content of a member begins that is not packed."""
    file.seek(info.header_offset)
    name, more = _LOCAL.unpack(file.read(_LOCAL.size))
    return int(info.header_offset + _LOCAL.size + name + more)


_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_AGAIN = "write it again with numpy.savez"
DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error)
"""What reading a .gz file raises where it is damaged."""
