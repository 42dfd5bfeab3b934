"""A new run folder of a :class:`~dsd_ort.graph.program.Program`: it appears complete or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec
import onnx

from dsd_ort.errors import RunError
from dsd_ort.file import copying, writing
from dsd_ort.graph.manifest import Manifest, sha256
from dsd_ort.graph.program import GRAPHS, MANIFEST, WITHOUT, Program
from dsd_ort.model.source import Source
from dsd_ort.recipe import Recipe


def write_program(
    folder: Path,
    source: Source,
    manifest: Manifest,
    graphs: dict[str, onnx.ModelProto],
    *,
    artifacts: Sequence[Path] = (),
    without: bytes | None = None,
    linked: bool = False,
) -> Program:
    """Writes a run folder under a temporary name and moves it into place.

    *artifacts* are the files of the training graph that it was made from, where there is one; *without* is the list of
    examples that it is not to be trained on.  *linked* is whether the model is not copied but linked, for a folder that
    does not outlive it.

    Raises:
        RunError: something is there already, or the folder cannot be written.
    """
    refuse_existing(folder)
    contents = {name: graphs[name].SerializeToString(deterministic=True) for name in GRAPHS}
    temporary = writing.beside(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        writing.remove_left(folder)
        temporary.mkdir(0o755)
        held = writing.held_folder(temporary)
    except OSError as error:
        raise RunError(
            f"the run folder cannot be made: {error.strerror}", where=str(folder), fix="choose another place with -o"
        ) from error
    try:
        (temporary / "graphs").mkdir()
        for name, content in contents.items():
            (temporary / "graphs" / f"{name}.onnx").write_bytes(content)
        for file in source.files:
            copy = temporary / "source" / file.relative_to(source.path.parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copying.link(file, copy) if linked else copying.copy(file, copy)
        others = {}
        for file in artifacts:
            (temporary / "artifacts").mkdir(exist_ok=True)
            copy = temporary / "artifacts" / file.name
            shutil.copyfile(file, copy)
            others[f"artifacts/{file.name}"] = sha256(copy.read_bytes())
        if without is not None:
            (temporary / WITHOUT).write_bytes(without)
            others[WITHOUT] = sha256(without)
        digests = {name: sha256(content) for name, content in contents.items()}
        manifest = msgspec.structs.replace(
            manifest, graph_digests=digests, file_digests=others or msgspec.UNSET
        ).sealed()
        (temporary / MANIFEST).write_bytes(manifest.written())
        if not linked:
            writing.sync_tree(temporary)
        if folder.exists():  # empty, as refuse_existing has seen
            folder.rmdir()
        temporary.replace(folder)
        if not linked:
            writing.sync_folder(folder.parent)
    except OSError as error:
        raise RunError(
            f"the run folder cannot be written: {error.strerror}",
            where=str(folder),
            fix="make room or permissions, or choose another place with -o",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        held()
    return Program(folder, manifest, linked=linked)


def write_again(program: Program, folder: Path, recipe: Recipe, *, without: bytes | None = None) -> Program:
    """A new run folder with the graphs of *program*, for a recipe that differs in seed, phases and monitor only.

    Raises:
        RunError: as :func:`write_program`.
    """
    graphs = {name: program.graph(name) for name in GRAPHS}
    manifest = msgspec.structs.replace(program.manifest, recipe=recipe.to_dict())
    return write_program(folder, program.source(), manifest, graphs, without=without)


def refuse_existing(folder: Path) -> None:
    """Raises RunError if *folder* exists and is not an empty folder: what is there stays."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise RunError(
            "the run folder exists already", where=str(folder), fix="choose another with -o, or remove it yourself"
        )
