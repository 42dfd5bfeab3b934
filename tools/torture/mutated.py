"""Run folders that somebody made on purpose: a value of a file is another one, and its digests are right again.

Digests tell damage, not malice.  So what a manifest, a checkpoint or a journal says is changed, sealed anew and handed
to every verb: none may end by a signal or in a traceback, or write outside of the folder.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors.numpy

from dsd_ort.file import sealed
from dsd_ort.graph.manifest import Manifest
from dsd_ort.run import journal
from tools.torture.bench import Bench, Running, badly
from tools.torture.trials import Trial

ODD: tuple[Any, ...] = (
    *(0, 1, -1, 3, 7, 16, -16, 255, 2**31 - 1, -(2**31), 2**31, 2**62, 10**9, 2**63, 10**30, 0.5, -0.5, 1e308, 1e-308),
    *(
        "",
        "x",
        "../../etc/passwd",
        "/etc/passwd",
        "..",
        ".",
        "a/b",
        "\0",
        "\n",
        "\x1b[2J",
        "é" * 300,
        "float32",
        "label",
    ),
    *(None, True, False, [], {}, [[]], [-1], {"": 0}, [1, 2, 3], "os:system", "dense", "sgd"),
)


def mutated(bench: Bench, state: Path, number: int, rng: np.random.Generator) -> Trial:
    """One value, or a few, of a file of the run folder *state* is another."""
    place = bench.folder / "mutated"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(state, place)
    name = ("manifest.json", "checkpoint.safetensors", "journal.jsonl", "raw", "kinds")[number % 5]
    _MUTATIONS[name](place / "run", rng)
    outside = _listing(bench.folder, place)
    run, lost, refused = place / "run", "", False
    sets = ("--data", bench.data, "--eval-data", bench.test, "--threads", 1, "--device", "cpu")
    verbs: tuple[tuple[object, ...], ...] = (
        ("status", run),
        ("fsck", run),
        ("journal", run, "--csv"),
        ("train", run, *sets, "--resume"),
        ("export", run, "-o", place / "final.onnx"),
    )
    for command in verbs[:3] + verbs[3 + number // 5 % 2 :]:
        running = Running(*command)
        if (ended := running.wait(60)) is None:
            running.send(9)
            ended = running.wait()
        assert ended is not None
        refused = refused or ended.status == 3
        wrong = badly(ended, 0, 3, *([1] if command[0] == "fsck" else []))
        lost = lost or (wrong and f"{command[0]}: {wrong}")
    if _listing(bench.folder, place) != outside:
        lost = lost or "something was written outside of the folder"
    kept = bench.folder.parent / f"{bench.folder.name}.lost" / f"{name}-{number}"
    if lost and os.environ.get("KEEP"):
        shutil.copytree(place, kept, dirs_exist_ok=True)
    return Trial(f"{'other kinds of files' if name == 'kinds' else f'mutated {name}'}", refused, lost)


def _listing(folder: Path, but: Path) -> list[tuple[str, int, int]]:
    paths = (path for path in folder.rglob("*") if not path.is_relative_to(but) and not path.is_dir())
    return sorted((str(path), path.lstat().st_size, path.lstat().st_mtime_ns) for path in paths)


def _changed(value: Any, rng: np.random.Generator) -> Any:
    """*value* with one part of it, at any depth, changed, gone or there twice."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.9:
        pairs = list(value.items() if isinstance(value, dict) else enumerate(value))
        at, way = int(rng.integers(len(pairs))), int(rng.integers(8))
        key, inner = pairs[at]
        there = [] if way == 0 else [(key, inner if way == 1 else _changed(inner, rng))]
        pairs = [*pairs[:at], *there, *([(str(_odd(rng)), inner)] if way == 1 else []), *pairs[at + 1 :]]
        return dict(pairs) if isinstance(value, dict) else [found for _, found in pairs]
    if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.5:
        return value + int(rng.choice([-1, 1, 16, -16, 10**6, 2**40]))
    return copy.deepcopy(_odd(rng))


def _odd(rng: np.random.Generator) -> Any:
    return ODD[int(rng.integers(len(ODD)))]


def _several(value: Any, rng: np.random.Generator) -> Any:
    for _ in range(int(rng.integers(1, 4))):
        value = _changed(value, rng)
    return value


def _manifest(run: Path, rng: np.random.Generator) -> None:
    path = run / "manifest.json"
    found = _several(json.loads(path.read_bytes()), rng)
    text = json.dumps(found)
    with contextlib.suppress(msgspec.DecodeError, ValueError, OverflowError):  # sealed anew, where it can be
        text = msgspec.json.decode(text, type=Manifest).sealed().written().decode()
    path.write_text(text)
    if rng.random() < 0.5:  # with checkpoints that say that they are of this one
        try:
            identity = msgspec.json.decode(text, type=Manifest).identity
        except (msgspec.DecodeError, ValueError):
            return
        for weights in run.rglob("*.safetensors"):
            _resealed(weights, lambda record, tensors, new=identity: (record | {"program": new}, tensors))


def _checkpoint(run: Path, rng: np.random.Generator) -> None:
    weights = sorted(run.rglob("*.safetensors"))
    path = run / "checkpoint.safetensors" if rng.random() < 0.7 else weights[int(rng.integers(len(weights)))]

    def change(record: Any, tensors: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if rng.random() < 0.6:
            return _several(record, rng), tensors
        name = list(tensors)[int(rng.integers(len(tensors)))]
        match int(rng.integers(6)):
            case 0:
                del tensors[name]
            case 1:
                tensors[str(_odd(rng))] = tensors[name]
            case 2:
                tensors[name] = tensors[name].reshape(-1)
            case 3:
                tensors[name] = np.repeat(tensors[name], 2, axis=0) if tensors[name].ndim else tensors[name]
            case 4:
                tensors[name] = tensors[name].astype(np.uint8 if tensors[name].dtype == np.float32 else np.float32)
            case _:
                tensors[name] = np.full_like(tensors[name], rng.choice([2, 255, 0]))
                if tensors[name].dtype == np.float32:
                    tensors[name] *= rng.choice(np.array([np.nan, np.inf, 1e38, -1], np.float32))
        return record, tensors

    _resealed(path, change)


def _resealed(path: Path, change: Callable[[Any, dict[str, Any]], tuple[Any, dict[str, Any]]]) -> None:
    with safetensors.safe_open(path, framework="numpy") as file:
        record = json.loads(file.metadata()["dsd_ort"])
    tensors = safetensors.numpy.load_file(path)
    record, tensors = change(record, tensors)
    with path.open("wb") as new:
        sealed.write(new, tensors, json.dumps(record))


def _journal(run: Path, rng: np.random.Generator) -> None:
    path = run / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    at = int(rng.integers(len(lines)))
    event = json.loads(lines[at])
    place = event.pop("at")
    del event["check"]
    event = _several(event, rng)
    if rng.random() < 0.2:
        place = _odd(rng)
    if isinstance(event, dict):
        lines[at] = journal._line(event, place)
    else:
        lines[at] = json.dumps(event).encode() + b"\n"
    if rng.random() < 0.2:
        lines.insert(int(rng.integers(len(lines))), lines[at])
    path.write_bytes(b"".join(lines))


def _raw(run: Path, rng: np.random.Generator) -> None:
    """Bytes that are others, gone, or there twice, of any file."""
    there = sorted(path for path in run.rglob("*") if path.is_file())
    path = there[int(rng.integers(len(there)))]
    content = path.read_bytes()
    at, end = sorted(int(n) for n in rng.integers(len(content) + 1, size=2))
    match int(rng.integers(4)):
        case 0:
            content = content[:at] + rng.bytes(min(end - at, 64)) + content[min(end, at + 64) :]
        case 1:
            content = content[:at] + content[end:]
        case 2:
            content = content[:end] + content[at:]
        case _:
            content = b"" if rng.random() < 0.2 else content[:at]
    path.write_bytes(content)


def _kinds(run: Path, rng: np.random.Generator) -> None:
    """A link, a FIFO, a device or a folder in the place of a file, or of a folder."""
    there = sorted(path for path in run.rglob("*"))
    path = there[int(rng.integers(len(there)))]
    victim = run.parent.parent / "victim"
    shutil.rmtree(victim) if victim.is_dir() else victim.unlink(missing_ok=True)
    if path.is_dir():
        shutil.copytree(path, victim)
        shutil.rmtree(path)
    else:
        shutil.copyfile(path, victim)
        path.unlink()
    match int(rng.integers(4)):
        case 0:
            path.symlink_to(victim)
        case 1:
            os.mkfifo(path)
        case 2:
            path.symlink_to("/dev/zero")
        case _:
            path.mkdir()


_MUTATIONS: dict[str, Callable[[Path, np.random.Generator], None]] = {
    "manifest.json": _manifest,
    "checkpoint.safetensors": _checkpoint,
    "journal.jsonl": _journal,
    "raw": _raw,
    "kinds": _kinds,
}
