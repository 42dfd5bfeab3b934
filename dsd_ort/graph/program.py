"""A Program: the prepared graphs and their manifest, as a folder that trains anywhere.

::

    RUN/manifest.json        what is below, by name: parameters and their slices, inputs, labels, recipe, digests
    RUN/source/              a copy of the model's files, never changed: initial weights, and what export starts from
    RUN/graphs/step.onnx     forward, loss, backward
    RUN/graphs/sparse.onnx   the same under masks
    RUN/graphs/update.onnx   the optimizer on a flat slice
    RUN/graphs/evaluate.onnx the model itself with its weights as inputs, and the loss behind it
    RUN/without.csv          the examples that it is not to be trained on, where there are such
    RUN/artifacts/           where the source is a training graph of ONNX Runtime's: a copy of its files

Graphs hold no weights: every parameter is an input of its own name, so they stay small whatever the model's size.
It is read here, and written by :mod:`dsd_ort.graph.new_program`.
"""

from __future__ import annotations

import stat
from functools import cached_property
from pathlib import Path

import msgspec
import onnx

from dsd_ort.errors import DamagedError, ModelError, RunError
from dsd_ort.file import regular
from dsd_ort.graph.manifest import FORMAT, Manifest, sha256
from dsd_ort.graph.validity import refuse_bad_graph, refuse_bad_manifest
from dsd_ort.model import source as source_files
from dsd_ort.model.source import Source
from dsd_ort.notes import Note, formerly
from dsd_ort.recipe import Recipe

MANIFEST = "manifest.json"
WITHOUT = "without.csv"
GRAPHS = ("step", "sparse", "update", "evaluate")
_ANEW = "put the run's own file back, or prepare the model anew into another folder"


class Program:
    """A run folder's prepared part, opened.

    Args:
        folder: the run folder.
        manifest: what it says.
        linked: whether it is our own, just made, with a link to the user's model and not a copy.
    """

    def __init__(self, folder: Path, manifest: Manifest, *, linked: bool = False) -> None:
        self.folder, self.manifest, self.linked = folder, manifest, linked
        self.recipe = Recipe.from_dict(manifest.recipe, where=str(folder / MANIFEST))

    @property
    def source_path(self) -> Path:
        return self.folder / "source" / self.manifest.model

    @property
    def artifacts(self) -> Path:
        """Where the files of the training graph are that it was made from; does not exist otherwise."""
        return self.folder / "artifacts"

    @property
    def without(self) -> Path | None:
        """The list of the examples that it is not trained on, where there is one."""
        path = self.folder / WITHOUT
        regular.require(self.folder, path)
        return path if path.exists() else None

    @property
    def notes(self) -> list[Note]:
        """What people should know of the prepared model."""
        return [note if isinstance(note, Note) else formerly(note) for note in self.manifest.notes]

    @cached_property
    def digest(self) -> str:
        """Identifies the prepared run: two Programs with the same digest train the same way."""
        return self.manifest.identity

    @cached_property
    def sound(self) -> Program:
        """Itself, when manifest and graphs were found to fit each other; asked before a buffer is made.

        Raises:
            RunError: they do not, or a graph is missing or was changed.
        """
        for name in GRAPHS:
            self.graph(name)
        return self

    def source(self) -> Source:
        """The copy of the model in the run folder.

        Raises:
            RunError: it is not the model that was prepared, or another version of dsd-ort found other weights in it.
        """
        if not self.linked:
            regular.require(self.folder, self.source_path)
        fix = "put the original file back, or prepare the model anew into another folder"
        known = self.linked or self._model_is_whole()
        try:
            source = source_files.load(self.source_path, judged=False)  # the manifest says what is a parameter
        except Exception as error:  # a damaged file may be anything
            if known:
                raise
            what = error.what if isinstance(error, ModelError) else f"{type(error).__name__} in it"
            what = f"the run folder's copy of the model was changed, and cannot be read: {what}"
            raise DamagedError(what, where=str(self.source_path), fix=fix) from error
        for file in () if self.linked else source.files:
            regular.require(self.folder, file)
        if (self.linked or not known) and source.digest != self.manifest.source_digest:
            what = "the run folder's copy of the model is not the one that was prepared"
            raise DamagedError(what, where=str(self.source_path), fix=fix)
        source = source.with_parameters([p.name for p in self.manifest.parameters])
        shapes = {p.name: p.shape for p in (*source.parameters, *source.statistics)}
        for piece in (*self.manifest.parameters, *self.manifest.statistics):
            if shapes.get(piece.name) != piece.shape:
                what = f"its {piece.name!r} has the shape {list(piece.shape)}, and the model's not"
                raise RunError(f"the manifest is damaged: {what}", where=str(self.folder / MANIFEST), fix=fix)
        return source

    def _model_is_whole(self) -> bool:
        """Whether the files in ``source/`` are those that were prepared, before one of them is understood."""
        regular.require(self.folder, self.source_path)
        folder = self.source_path.parent
        others = sorted(path for path in folder.rglob("*") if path != self.source_path and not path.is_dir())
        for path in others:
            regular.require(self.folder, path)
        if not self.source_path.is_file():
            return False
        return source_files.digest_of((self.source_path, *others)) == self.manifest.source_digest

    def refuse_other_artifacts(self) -> None:
        """Raises RunError where the files of the training graph are not those that were prepared."""
        regular.require(self.folder, self.artifacts, kind=stat.S_IFDIR)
        if self.manifest.digest is msgspec.UNSET or not self.artifacts.exists():
            return
        digests = {name: d for name, d in (self.manifest.file_digests or {}).items() if name.startswith("artifacts/")}
        for path in self.artifacts.iterdir():
            digest = digests.get(f"artifacts/{path.name}")
            self.refuse_changed(path, digest, "a file of the exported training graph")

    def graph(self, name: str) -> onnx.ModelProto:
        """A prepared graph, one of :data:`GRAPHS`, which fits the manifest.

        Raises:
            RunError: it is missing, was changed, or does not fit.
        """
        path = self.graph_path(name)
        graph = onnx.ModelProto()
        try:
            graph.ParseFromString(regular.read(self.folder, path))
        except Exception as error:  # protobuf's DecodeError, which has no types
            raise DamagedError("a graph of the run folder is damaged", where=str(path), fix=_ANEW) from error
        if not self.linked:
            refuse_bad_graph(name, graph, self.manifest, self.recipe, str(path))
        return graph

    def graph_path(self, name: str) -> Path:
        """The file of a prepared graph, one of :data:`GRAPHS`.

        Raises:
            RunError: the file is missing or was changed.
        """
        path = self.folder / "graphs" / f"{name}.onnx"
        self.refuse_changed(path, self.manifest.graph_digests.get(name), "a graph of the run folder")
        return path

    def refuse_changed(self, path: Path, digest: str | None, what: str) -> None:
        """Raises RunError where the file *path*, which is *what*, is missing or has not this digest any more."""
        regular.require(self.folder, path)
        if not path.is_file():
            raise RunError(f"{what} is missing", where=str(path), fix=_ANEW)
        if sha256(regular.read(self.folder, path)) != digest:
            raise DamagedError(f"{what} was changed", where=str(path), fix=_ANEW)


def open_program(folder: str | Path) -> Program:
    """Opens what :func:`dsd_ort.graph.new_program.write_program` wrote.

    Raises:
        RunError: no run folder, or one of another version of the format.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not regular.is_there(path):
        raise RunError(
            "this is no run folder" if folder.exists() else "no such run folder",
            where=str(folder),
            fix="make one with: dsd-ort prepare MODEL -o RUN",
        )
    try:
        content = regular.read(folder, path)
        _refuse_another_format(content, path)
        manifest = msgspec.json.decode(content, type=Manifest)
    except OSError as error:
        raise RunError(
            f"the manifest cannot be read: {error.strerror}", where=str(path), fix="check the path and its permissions"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedError(
            f"the manifest is damaged, and cannot be read: {error}", where=str(path), fix=_ANEW
        ) from error
    if manifest.digest is not msgspec.UNSET and (manifest.digest != manifest.identity or content != manifest.written()):
        what = "the manifest is damaged: it is no longer what was written when the model was prepared"
        raise DamagedError(what, where=str(path), fix=_ANEW)
    refuse_bad_manifest(manifest, str(path))
    return Program(folder, manifest)


def _refuse_another_format(content: bytes, path: Path) -> None:
    found = msgspec.json.decode(content, type=_Format).format
    if found != FORMAT:
        raise RunError(
            f"the run folder has format {found}, this version of dsd-ort reads {FORMAT}",
            where=str(path),
            fix="prepare the model anew with this version",
        )


class _Format(msgspec.Struct):
    format: int
