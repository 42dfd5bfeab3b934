"""The trials: each disturbs one verb once, does it again, and tells what was lost."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

import dsd_ort
from dsd_ort.errors import Stopped
from tools.torture.bench import VERBS, Bench, Running, badly, digest, inside


class Trial(NamedTuple):
    """What became of one."""

    what: str
    """Which row of the table it counts in."""
    reached: bool
    """Whether the verb was disturbed, and not done before."""
    lost: str
    """What was lost; empty where nothing was."""


def _place(bench: Bench, name: str, verb: str) -> Path:
    """A new folder for a trial, with all that is done before *verb*."""
    place = bench.folder / name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    if verb == "train":
        fresh = bench.folder / "fresh" / "run"
        if not fresh.exists():
            fresh.parent.mkdir()
            dsd_ort.prepare(bench.model, fresh, dsd_ort.Recipe.load(bench.recipe))
        shutil.copytree(fresh, place / "run")
    elif verb == "export":
        shutil.copytree(bench.run, place / "run")
    return place


def _verb(number: int) -> str:
    """Half of the trials are trainings, which have most to lose."""
    return ("train", "prepare", "train", "export", "train", "compare")[number % 6]


def kill(bench: Bench, number: int, rng: np.random.Generator) -> Trial:
    """SIGKILL at a random moment."""
    verb = _verb(number)
    place = _place(bench, "kill", verb)
    running = Running(*bench.command(verb, place))
    if (ended := running.wait(float(rng.uniform(0, bench.seconds[verb])))) is None:
        running.send(signal.SIGKILL)
        ended = running.wait()
    assert ended is not None
    wrong = badly(ended, 0, -signal.SIGKILL)
    return Trial(f"SIGKILL in {verb}", ended.status != 0, wrong or bench.finish(place, verb))


def term(bench: Bench, number: int, rng: np.random.Generator) -> Trial:
    """SIGTERM, SIGINT or SIGHUP at a random moment, every third time twice."""
    verb = ("train", "compare", "train", "export")[number % 4]
    sent = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)[number % 3]
    twice = number % 3 == 2
    place = _place(bench, "term", verb)
    running = Running(*bench.command(verb, place))
    if (ended := running.wait(float(rng.uniform(0.02, bench.seconds[verb])))) is None:
        running.send(sent)
        ended = running.wait(running_for(running) + 0.005) if twice else None
        if ended is None:
            if twice:
                running.send(sent)
            ended = running.wait()
    assert ended is not None
    fine = (0, 130) if ended.said else (0, 130, -sent)  # in front of the first line of ours Python itself ends
    wrong = badly(ended, *fine)
    if not wrong and not twice and verb == "train" and "go on with" in ended.said:
        before = _steps(place / "run")
        wrong = bench.finish(place, verb)
        steps = _steps(place / "run")
        if not wrong and steps != sorted(steps) and before:
            wrong = "steps that were done are done again"
        return Trial(f"{sent.name} in {verb}", True, wrong)
    name = f"{sent.name}{' twice' if twice else ''} in {verb}"
    return Trial(name, ended.status != 0, wrong or bench.finish(place, verb))


def running_for(running: Running) -> float:
    return time.monotonic() - running.began


def _steps(run: Path) -> list[int]:
    path = run / "journal.jsonl"
    return [json.loads(line)["step"] for line in path.read_text().splitlines()] if path.exists() else []


def full(bench: Bench, number: int, rng: np.random.Generator) -> Trial:
    """No room: files may not be longer than some number of bytes, or the disk has only so many pages."""
    verb = VERBS[number // 2 % len(VERBS)]
    if number % 2:
        return _small_disk(bench, verb, rng)
    place = _place(bench, "full", verb)
    most = int(rng.integers(1, 6500))
    ended = Running(*bench.command(verb, place), most=most).wait()
    assert ended is not None
    wrong = badly(ended, 0, 3)
    if not wrong and ended.status == 3 and "fix:" not in ended.said:
        wrong = f"no message: {ended.said}"
    return Trial(f"files of at most N bytes in {verb}", ended.status != 0, wrong or bench.finish(place, verb))


def _small_disk(bench: Bench, verb: str, rng: np.random.Generator) -> Trial:
    """In a process of its own, as the disk is gone with it."""
    pages = int(rng.integers(1, {"prepare": 12, "train": 10, "export": 4, "compare": 40}[verb]))
    read, write = os.pipe()
    sys.stdout.flush()
    if not (pid := os.fork()):
        try:
            os.write(write, _on_small_disk(bench, verb, pages).encode()[:4000])
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answer = pipe.read().decode()
    os.waitpid(pid, 0)
    reached, _, lost = answer.partition("\n")
    return Trial(f"a disk of N pages in {verb}", reached == "True", lost if reached else f"the trial ended: {answer}")


def _on_small_disk(bench: Bench, verb: str, pages: int) -> str:
    prepared = _place(bench, "to-copy", verb)
    disk = bench.folder / "disk"
    with inside(disk) as leave:
        place = disk / "place"
        shutil.copytree(prepared, place)
        leave(pages)
        ended = Running(*bench.command(verb, place)).wait()
        assert ended is not None
        wrong = badly(ended, 0, 3)
        if not wrong and ended.status == 3 and "fix:" not in ended.said:
            wrong = f"no message: {ended.said}"
        leave(10_000)
        return f"{ended.status != 0}\n{wrong or bench.finish(place, verb)}"


def damaged(bench: Bench, state: Path, name: str, rng: np.random.Generator) -> Trial:
    """One bit of one file of a run folder is another: is it named, and does nothing else come out?"""
    place = bench.folder / "damage"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(state, place)
    path = place / "run" / name
    content = bytearray(path.read_bytes())
    at, bit = int(rng.integers(len(content))), int(rng.integers(8))
    content[at] ^= 1 << bit
    path.write_bytes(content)
    lost = "" if name in _named(place / "run") else f"fsck does not name it: byte {at}, bit {bit}"
    for command in (bench.resumed(place), bench.command("export", place)):
        ended = Running(*command).wait()
        assert ended is not None
        lost = lost or badly(ended, 0, 3)
        if ended.status == 3:
            lost = lost or ("" if name in ended.said else f"another file is named: {ended.said}")
            return Trial(name, True, lost)
    other = digest(place / "final.onnx") != bench.digest
    return Trial(name, False, lost or (f"other weights come out: byte {at}, bit {bit}" if other else ""))


def _named(run: Path) -> list[str]:
    return [each.file for each in dsd_ort.fsck(run).findings if each.state in ("damaged", "missing") or each.words]


def half_trained(bench: Bench) -> Path:
    """A run that was stopped in the middle of its second phase."""
    place, calls = _place(bench, "half", "train"), itertools.count()
    recipe = dsd_ort.Recipe.load(bench.recipe)
    updates = 240 // recipe.batch_size // recipe.optimizer.accumulate
    sets = {"data": str(bench.data), "eval_data": str(bench.test), "threads": 1, "device": "cpu"}
    with contextlib.suppress(Stopped):
        dsd_ort.train(place / "run", **sets, keep_checkpoints=2, stop=lambda: next(calls) >= 4.5 * updates)
    return place


def files(run: Path) -> list[str]:
    return sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
