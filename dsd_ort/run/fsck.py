"""Whether a run folder is what was written, file by file, and what can be saved of it where it is not."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import msgspec

from dsd_ort.errors import DsdError, RunError
from dsd_ort.file import regular, sealed
from dsd_ort.graph.manifest import sha256
from dsd_ort.graph.optimizer.update import OPTIMIZERS
from dsd_ort.graph.program import GRAPHS, MANIFEST, WITHOUT, Program, open_program
from dsd_ort.run import checkpoint, journal, keeping, lock
from dsd_ort.run.arena import Arena
from dsd_ort.run.journal import Event

State: TypeAlias = Literal["whole", "unchecked", "damaged", "missing", "not of the run"]
_PREPARE = "prepare the same model with the same recipe into another folder: this file is the same there, to the byte"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a run folder."""

    file: str
    """Its path in the folder."""
    holds: str
    """What it is for."""
    state: State
    """``unchecked``: of an earlier version, which wrote no digest; ``not of the run``: nothing reads it."""
    words: str = ""
    """What is wrong."""
    fix: str = ""
    """What to do about it."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What :func:`fsck` found."""

    run: Path
    findings: tuple[Finding, ...]
    saved: tuple[str, ...]
    """What can be done with what is whole, as sentences with commands."""

    @property
    def whole(self) -> bool:
        """Whether nothing is damaged or missing."""
        return all(each.state not in ("damaged", "missing") for each in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        found: dict[str, Any] = msgspec.to_builtins(self, enc_hook=str)
        return found | {"whole": self.whole}


def fsck(run: str | Path) -> Report:
    """Checks every file of a run folder; changes nothing.

    Raises:
        RunError: there is no such folder, or no run in it.
    """
    folder = Path(run)
    there = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not _is_folder(path))
    if MANIFEST not in there and not any(name.endswith(".safetensors") for name in there):
        open_program(folder)  # says what is wrong
    try:
        program = open_program(folder)
    except DsdError as error:
        found = [_wrong(MANIFEST, "the prepared run: parameters, recipe, digests", error, _PREPARE)]
        found += [_seal(folder, name) for name in there if name.endswith(".safetensors")]
        whole = [each.file for each in found if each.state == "whole"]
        saved = [f"{name} is whole: it is of use again beside the run's own manifest" for name in whole]
        return Report(run=folder, findings=tuple(found), saved=tuple(saved))
    check = _Check(program, there)
    return Report(run=folder, findings=tuple(check()), saved=tuple(check.saved()))


class _Check:
    """Of one folder."""

    def __init__(self, program: Program, there: list[str]) -> None:
        self.program, self.folder, self.there = program, program.folder, there
        self.sealed = program.manifest.digest is not msgspec.UNSET
        slots = OPTIMIZERS[program.recipe.optimizer.name].slots
        self.arena = Arena(program.manifest.parameters, program.manifest.statistics, slots)
        self.fix = ""
        self.checkpoints: dict[str, dict[str, Any]] = {}
        self.phases: list[tuple[int, bool]] = []
        """Those whose weights are whole, at the end or of the best epoch."""

    def __call__(self) -> Iterator[Finding]:
        prepared = [*self._prepared()]
        found = [*prepared, *self._trained(), *self._recorded()]
        if any(each.state in ("damaged", "missing") for each in prepared):  # what it says is of use when that is mended
            self.fix = "put back what was prepared, and then: "
        yield from found
        known = {each.file for each in found} | {lock.FILE} | {f"graphs/{name}.onnx" for name in GRAPHS}
        source = {str(path.relative_to(self.folder)) for path in (self.folder / "source").rglob("*")}
        for name in sorted(set(self.there) - known - source):
            path = self.folder / name
            odd = not stat.S_ISREG(path.lstat().st_mode)
            holds, state = ("nothing", "damaged") if odd else ("nothing that the run reads", "not of the run")
            words, fix = ("it is a link, a device or a FIFO", "remove it") if odd else ("", "")
            yield Finding(file=name, holds=holds, state=cast(State, state), words=words, fix=fix)

    def saved(self) -> Iterator[str]:
        """What goes on with what is whole."""
        for name, record in self.checkpoints.items():
            step = record["position"]["step"]
            words = f"dsd-ort train {self.folder} --data DATA --resume goes on from update {step}"
            words += "" if name == keeping.CHECKPOINT else f", of {name}, where no later one is whole"
            yield self.fix + words
        for phase, best in self.phases:
            yield f"{self.fix}dsd-ort export {self.folder} -o final.onnx --phase {phase}{' --best' if best else ''}"

    def _tried(self, file: str, holds: str, check: Callable[[], object], fix: str, *, digest: bool = True) -> Finding:
        try:
            check()
        except DsdError as error:
            return _wrong(file, holds, error, fix)
        except OSError as error:
            return Finding(file=file, holds=holds, state="damaged", words=str(error.strerror or error), fix=fix)
        return Finding(file=file, holds=holds, state="whole" if digest else "unchecked")

    def _prepared(self) -> Iterator[Finding]:
        program, manifest = self.program, self.program.manifest
        holds = "the prepared run: parameters, recipe, digests"
        yield Finding(file=MANIFEST, holds=holds, state="whole" if self.sealed else "unchecked")
        for name in GRAPHS:
            yield self._tried(
                f"graphs/{name}.onnx", f"the prepared graph {name!r}", partial(program.graph, name), _PREPARE
            )
        fix = "put the model's file back that the run was prepared from"
        yield self._tried(f"source/{manifest.model}", "the copy of the model", program.source, fix)
        for name, digest in (manifest.file_digests or {}).items():
            if name != WITHOUT:
                check = partial(program.refuse_changed, self.folder / name, digest, "a file of the run folder")
                yield self._tried(name, "a file of the exported training graph", check, _PREPARE)

    def _trained(self) -> Iterator[Finding]:
        numbers = [name for name in self.there if name.startswith("checkpoint.") and name != keeping.DAMAGED]
        for name in sorted(numbers, key=lambda name: (name != keeping.CHECKPOINT, name)):
            yield self._weights(name, "the state of the training", "it is set aside where there is one before it")
        for number, phase in enumerate(self.program.recipe.phase, 1):
            for best in (False, True):
                path = keeping.weights_file(self.folder, number - 1, phase.kind, best=best)
                name = str(path.relative_to(self.folder))
                if name in self.there:
                    holds = f"the weights of phase {number}{', best epoch' if best else ''}"
                    found = self._weights(name, holds, "export another phase, or train the run again in a new folder")
                    self.phases += [(number, best)] if found.state in ("whole", "unchecked") else []
                    yield found

    def _weights(self, name: str, holds: str, fix: str) -> Finding:
        path = self.folder / name
        record: dict[str, Any] = {}

        def check() -> None:
            state = not name.startswith("phases/")
            record.update(checkpoint.load(path, self.arena, self.program, state=state))

        found = self._tried(name, holds, check, fix, digest=_has_digest(self.folder, path))
        if found.state in ("whole", "unchecked") and "position" in record:
            self.checkpoints[name] = record
        return found

    def _recorded(self) -> Iterator[Finding]:
        events: list[Event] = []
        if journal.FILE in self.there:
            fix = "weights and checkpoints do not depend on it; lines that are damaged are passed over"
            found = self._tried(journal.FILE, "the record", lambda: events.extend(journal.read(self.folder)), fix)
            words = journal.damage(events)
            if not words and found.state != "damaged" and journal.torn(self.folder):
                words, fix = "its last line has no end, as a kill leaves it", "the next event cuts it off"
                yield msgspec.structs.replace(found, words=words, fix=fix)
            else:
                yield msgspec.structs.replace(found, state="damaged", words=words, fix=fix) if words else found
        lists = {f"suspects-phase-{event['phase']}.csv": event.get("list") for event in events if "suspects" in event}
        began = [event.get("list") for event in events if event["event"] == "data"]
        if began or WITHOUT in self.there:
            prepared = (self.program.manifest.file_digests or {}).get(WITHOUT)
            digest = began[-1] if began and began[-1] else prepared
            lists |= {WITHOUT: digest} if digest or WITHOUT in self.there else {}
        for name, digest in lists.items():
            yield self._list(name, digest)

    def _list(self, name: str, digest: str | None) -> Finding:
        def check() -> None:
            content = regular.read(self.folder, self.folder / name)
            if digest is not None and sha256(content) != digest:
                raise RunError("the list was changed", where=str(self.folder / name))

        holds, fix = "examples that are left out", "put the list back that was there"
        if name not in self.there:
            return Finding(file=name, holds=holds, state="missing", words="it is not there", fix=fix)
        return self._tried(name, holds, check, fix, digest=digest is not None)


def _wrong(file: str, holds: str, error: DsdError, fix: str) -> Finding:
    missing = "missing" in error.what or "no such" in error.what
    words = error.what if not missing else "it is not there"
    return Finding(file=file, holds=holds, state="missing" if missing else "damaged", words=words, fix=fix)


def _seal(folder: Path, name: str) -> Finding:
    holds = "weights"
    try:
        with regular.opened(folder, folder / name) as file:
            whole = sealed.is_whole(file)
    except (DsdError, OSError) as error:
        return Finding(file=name, holds=holds, state="damaged", words=str(error).splitlines()[0])
    return Finding(file=name, holds=holds, state="unchecked" if whole is None else "whole" if whole else "damaged")


def _has_digest(folder: Path, path: Path) -> bool:
    try:
        with regular.opened(folder, path) as file:
            return sealed.says(file)
    except (DsdError, OSError):
        return True


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
