"""What is packed is looked at before memory is taken."""

from __future__ import annotations

import gzip
import io
import pickle
import shutil
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dsd_ort.data import idx, packed
from dsd_ort.data.sources import open_source
from dsd_ort.errors import DataError
from dsd_ort.recipe import Data
from tools.maintenance.bad_input.bombs import gzip_bomb, npz_bomb, picture_bomb


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array)
    return out.getvalue()


def archive(path: Path, *members: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members:
            made.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.zeros((0, 3), np.float32),
        np.array(5, np.int64),
        np.array(["a", "bc"]),
        np.arange(3, dtype=">i2"),
    ],
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("mapped", [1, packed.MAPPED])
def test_an_array_comes_as_numpy_reads_it(
    tmp_path: Path, array: np.ndarray, save: object, mapped: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "MAPPED", mapped)
    path = tmp_path / "a.npz"
    save(path, x=array, y=array)  # type: ignore[operator]
    assert packed.members(path) == ["x", "y"]
    with np.load(path) as found:
        expected = found["x"]
    value = packed.member(path, "x")
    assert value.dtype == expected.dtype
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(value, array)


def own_memory() -> int:
    """Bytes that are the process's own, which the system cannot take back."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_large_array_takes_no_memory_of_the_process(
    tmp_path: Path, save: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = np.arange(1 << 24, dtype=np.uint8).reshape(-1, 64)
    save(tmp_path / "a.npz", x=np.zeros(5), y=array)  # type: ignore[operator]
    monkeypatch.setattr(packed, "MAPPED", 1 << 20)
    before = own_memory()
    value = packed.member(tmp_path / "a.npz", "y")
    np.testing.assert_array_equal(value[[0, 77, -1]], array[[0, 77, -1]])
    assert own_memory() - before < array.nbytes / 2


def test_what_is_unpacked_stays_in_memory_where_the_disk_has_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "MAPPED", 1)
    full = shutil.disk_usage("/")._replace(free=1)
    monkeypatch.setattr(packed.shutil, "disk_usage", lambda folder: full)
    monkeypatch.setattr(packed.tempfile, "TemporaryFile", None)
    np.savez_compressed(tmp_path / "a.npz", x=np.arange(9))
    assert packed.member(tmp_path / "a.npz", "x").tolist() == list(range(9))


def test_zeros_that_are_packed_well_are_data(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(1 << 22, np.float32))
    assert packed.member(tmp_path / "a.npz", "x").size == 1 << 22


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    npz_bomb(tmp_path)
    gzip_bomb(tmp_path)
    for read in (
        lambda: packed.member(tmp_path / "data.npz", "x"),
        lambda: idx.read(next((tmp_path / "d").glob("*.gz"))),
    ):
        with pytest.raises(DataError, match="would unpack to 1,073,741,"):
            read()


def test_a_header_that_promises_what_the_archive_has_not_is_refused(tmp_path: Path) -> None:
    content = npy(np.zeros((2, 3), np.float32))
    for promised in (b"(9, 3)", b"(1, 3)", b"(2,99)"):
        path = archive(tmp_path / "a.npz", ("x.npy", content.replace(b"(2, 3)", promised)))
        with pytest.raises(DataError, match=r"array 'x' of shape .* takes \d+ bytes, and the archive has 24"):
            packed.member(path, "x")


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "done",)

    out = io.BytesIO()
    np.lib.format.write_array(out, np.array([Evil()], object), allow_pickle=True)
    path = archive(tmp_path / "a.npz", ("x.npy", out.getvalue()), ("y.npy", pickle.dumps(Evil())))
    arrays = open_source(path, [], Data())
    for name in ("x", "y"):
        with pytest.raises(DataError) as caught:
            arrays.read(name)  # type: ignore[union-attr]
        assert caught.value.fix
    assert not (tmp_path / "done").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", ("x.npy", npy(np.zeros(1))), ("x.npy", npy(np.ones(1))))
    with pytest.raises(DataError, match="two members of the archive are called 'x'"):
        packed.members(path)


@pytest.mark.parametrize("mapped", [1, packed.MAPPED])
def test_a_damaged_array_is_noticed(tmp_path: Path, mapped: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "MAPPED", mapped)
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(1000))
    content = bytearray(path.read_bytes())
    content[4000] ^= 1
    path.write_bytes(content)
    with pytest.raises(zipfile.BadZipFile, match="CRC"):
        packed.member(path, "x")


@pytest.mark.parametrize("change", [lambda c: c[:-1], lambda c: c + b"\0"])
def test_a_gz_of_another_length_than_its_header_says_is_refused(tmp_path: Path, change: object) -> None:
    content = bytes([0, 0, 8, 1]) + struct.pack(">I", 5) + bytes(5)
    path = tmp_path / "a-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(change(content)))  # type: ignore[operator]
    with pytest.raises(DataError, match="has not the 13 bytes that its header promises"):
        idx.read(path)


def test_a_picture_of_more_pixels_than_any_has_is_refused(tmp_path: Path) -> None:
    from dsd_ort.data import images

    picture_bomb(tmp_path)
    with pytest.raises(DataError, match="more than 67,108,864 pixels"):
        images.read(tmp_path / "d" / "cat" / "1.png")


def test_a_picture_that_would_grow_beyond_that_is_refused(tmp_path: Path) -> None:
    import PIL.Image

    from dsd_ort.data import images

    PIL.Image.new("L", (20_000, 1)).save(tmp_path / "1.png")
    with pytest.raises(DataError, match="would have at this size"):
        images.read(tmp_path / "1.png", resize=224)


def test_a_file_is_what_its_suffix_lists_and_starts_no_program(tmp_path: Path) -> None:
    from dsd_ort.data import images

    (tmp_path / "1.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with pytest.raises(DataError, match="no picture that Pillow knows"):
        images.read(tmp_path / "1.png")
