"""Mutated data: .npz, folders of .npy, IDX, pictures, recordings and manifests; and what pretends to be small."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import wave
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import PIL.Image

from tools.fuzz import seeds
from tools.fuzz.mutations import BAD_NAMES, NUMBERS, broken

Maker = Callable[[Path, Random], str]


class Evil:
    """What a pickle would do if one were loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return open, ("../pickled", "w")


def _npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array, allow_pickle=True)
    return out.getvalue()


def _header(rng: Random) -> bytes:
    """A .npy with a header that says anything."""
    shapes = (
        "(6, 4)",
        f"({rng.choice(NUMBERS)},)",
        f"({rng.choice(NUMBERS)}, {rng.choice(NUMBERS)})",
        "()",
        "(6,)",
        "6",
        "[",
    )
    types = (
        "'<f4'",
        "'|O'",
        "'<U9'",
        "'|V8'",
        "[('a', '<f4')]",
        "'<f16'",
        "'x'",
        "None",
        "'<M8[s]'",
        "__import__('os')",
    )
    deep = "(" * rng.choice((1, 90, 5000))
    shape = deep if rng.random() < 0.05 else rng.choice(shapes)
    text = (
        f"{{'descr': {rng.choice(types)}, 'fortran_order': {rng.choice(('False', 'True', '3'))}, 'shape': {shape}, }}\n"
    )
    size = rng.choice((len(text), 0, 65535, len(text) + 1))
    return b"\x93NUMPY" + bytes([rng.choice((1, 1, 2, 3, 9)), 0]) + struct.pack("<H", size) + text.encode() + bytes(96)


def _member(rng: Random) -> bytes:
    good = _npy(seeds.arrays("mlp")["x"])
    return rng.choice(
        (
            lambda: broken(good, rng),
            lambda: _header(rng),
            lambda: _npy(np.array([Evil(), 1], object)),
            lambda: pickle.dumps(Evil()),
            lambda: good[: rng.randrange(len(good))],
            lambda: b"",
        )
    )()


def npz(folder: Path, rng: Random) -> str:
    what = rng.randrange(4)
    label = _npy(seeds.arrays("mlp")["label"])
    path = folder / "data.npz"
    if what == 0:
        np.savez_compressed(path, **seeds.arrays("mlp"))
        path.write_bytes(broken(path.read_bytes(), rng))
    elif what == 1:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", _member(rng))
            archive.writestr(rng.choice(("label.npy", "../label.npy", "/label.npy", *BAD_NAMES[:9])), label)
    elif what == 2:  # a bomb: what is large is packed small
        head = _npy(np.zeros((1, 4), np.float32))[:128].replace(
            b"(1, 4)", b"(%d, 4)" % rng.choice((10**7, 10**9, 10**12))
        )
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", head[:128] + bytes(1 << 24))
            archive.writestr("label.npy", label)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for _ in range(rng.choice((1, 3))):
                archive.writestr("x.npy", _npy(seeds.arrays("mlp")["x"]))
            archive.writestr("label.npy", label)
        content = bytearray(path.read_bytes())
        at = content.rfind(b"PK\x01\x02")  # the directory lies about a size
        content[at + 24 : at + 28] = struct.pack("<I", rng.choice((0, 1, 2**31, 2**32 - 1)))
        path.write_bytes(content)
    return "data.npz"


def npy(folder: Path, rng: Random) -> str:
    (folder / "data").mkdir()
    (folder / "data" / "x.npy").write_bytes(_member(rng))
    (folder / "data" / "label.npy").write_bytes(_npy(seeds.arrays("mlp")["label"]))
    return "data"


def idx(folder: Path, rng: Random) -> str:
    (folder / "data").mkdir()
    pixels = bytes(rng.randrange(256) for _ in range(6 * 36))
    images = b"\0\0\x08\x03" + struct.pack(">III", 6, 6, 6) + pixels
    labels = b"\0\0\x08\x01" + struct.pack(">I", 6) + bytes(6)
    if rng.random() < 0.4:
        images = (
            images[:3]
            + bytes([rng.choice((0, 1, 3, 255))])
            + struct.pack(">III", *(rng.choice(NUMBERS) & 0xFFFFFFFF for _ in range(3)))
            + pixels
        )
    else:
        images = broken(images, rng)
    packed = rng.random() < 0.5
    if packed:
        images = gzip.compress(images if rng.random() < 0.8 else images + bytes(1 << 26))
        images = broken(images, rng) if rng.random() < 0.5 else images
    (folder / "data" / f"train-images-idx3-ubyte{'.gz' if packed else ''}").write_bytes(images)
    (folder / "data" / "train-labels-idx1-ubyte").write_bytes(labels)
    return "data/train"


def pictures(folder: Path, rng: Random) -> str:
    for name in ("cat", "dog", "owl"):
        (folder / "data" / name).mkdir(parents=True)
        PIL.Image.new("L", (6, 6), 100).save(folder / "data" / name / "1.png")
    out = io.BytesIO()
    kind = rng.choice(("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"))
    PIL.Image.new("RGB", (6, 6), "red").save(out, kind)
    content = broken(out.getvalue(), rng)
    if rng.random() < 0.3:  # one colour, and 60,000 pixels a side
        side = rng.choice((20_000, 60_000, 2**31 - 1))
        header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1 << 20))), (b"IEND", b""))
        content = b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
            for name, body in chunks
        )
    name = rng.choice(("2.png", "2.jpg", "\x1b[31m.png", "[red]x.png", "a\nb.png"))
    (folder / "data" / "dog" / name).write_bytes(content)
    return "data"


def recordings(folder: Path, rng: Random) -> str:
    (folder / "data").mkdir()
    with wave.open(str(folder / "data" / "1.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16000)
        sound.writeframes(bytes(3200))
    path = folder / "data" / "1.wav"
    if rng.random() < 0.7:
        path.write_bytes(broken(path.read_bytes(), rng))
    lines = [
        '{"audio_filepath": "1.wav", "text": "ab"}',
        '{"audio_filepath": "/dev/zero", "text": "a"}',
        '{"audio_filepath": "../../secret.wav", "text": "a"}',
        '{"audio_filepath": "a\\u0000b", "text": "a"}',
        '{"audio_filepath": "' + "n" * 5000 + '", "text": "a"}',
        '{"audio_filepath": "1.wav", "text": "\\u001b[31m", "duration": 1e999}',
        '{"audio_filepath": 3}',
        "[" * 5000,
        "nothing",
    ]
    (folder / "data" / "all.jsonl").write_text("\n".join(rng.choices(lines, k=2)))
    return "data/all.jsonl"


_MAKERS: tuple[tuple[Maker, str, int], ...] = (
    (npz, "mlp", 4),
    (npy, "mlp", 3),
    (idx, "cnn", 3),
    (pictures, "cnn", 3),
    (recordings, "mlp", 1),
)


def make(folder: Path, rng: Random) -> tuple[str, list[tuple[str, ...]]]:
    """Writes a case; what it is, and the commands to run."""
    [(maker, model, _)] = rng.choices(_MAKERS, [weight for _, _, weight in _MAKERS])
    (folder / "model.onnx").write_bytes(seeds.MODELS[model].SerializeToString())
    spec = maker(folder, rng)
    more = ("--set", 'data.alphabet="_ab"') if maker is recordings else ()
    return maker.__name__, [
        ("evaluate", "model.onnx", "--data", spec, *more),
        ("predict", "model.onnx", "--data", spec, "-o", "said.npz", *more),
    ]
