"""Small files that unpack to large ones."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

_GIGABYTE = 1 << 30


def npz_bomb(folder: Path) -> None:
    """``data.npz`` whose array x claims a gigabyte of zeros; what the archive holds is shorter."""
    with zipfile.ZipFile(folder / "data.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        out = io.BytesIO()
        np.lib.format.write_array(out, np.zeros(6, np.int64))
        label, out = out.getvalue(), io.BytesIO()
        np.lib.format.write_array_header_1_0(
            out, {"descr": "<f4", "fortran_order": False, "shape": (_GIGABYTE // 16, 4)}
        )
        archive.writestr("label.npy", label)
        archive.writestr("x.npy", out.getvalue() + bytes(1 << 16))
    content = bytearray((folder / "data.npz").read_bytes())
    at = content.rfind(b"PK\x01\x02")  # the directory says how large the member is
    content[at + 24 : at + 28] = struct.pack("<I", len(out.getvalue()) + _GIGABYTE)
    (folder / "data.npz").write_bytes(content)


def gzip_bomb(folder: Path) -> None:
    """IDX files in ``d`` whose pictures would be a gigabyte of zeros."""
    (folder / "d").mkdir()
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", 1 << 10, 1 << 10, 1 << 10)
    content = gzip.compress(header + bytes(1 << 22), mtime=0) + bytes(1 << 20)
    (folder / "d" / "a-images-idx3-ubyte.gz").write_bytes(content)
    (folder / "d" / "a-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1]) + struct.pack(">I", 6) + bytes(6))


def picture_bomb(folder: Path) -> None:
    """A picture of one colour and 60,000 pixels a side in ``d``."""
    (folder / "d" / "cat").mkdir(parents=True)
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1 << 10))), (b"IEND", b""))
    parts = (struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks)
    (folder / "d" / "cat" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
