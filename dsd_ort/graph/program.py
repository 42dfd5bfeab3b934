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
The folder appears complete or not at all.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import onnx

from dsd_ort.errors import RunError
from dsd_ort.fields import Field
from dsd_ort.file import copying
from dsd_ort.model import source as source_files
from dsd_ort.model.source import Source
from dsd_ort.notes import Note, formerly
from dsd_ort.recipe import Recipe

FORMAT = 1
MANIFEST = "manifest.json"
WITHOUT = "without.csv"
GRAPHS = ("step", "sparse", "update", "evaluate")


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """Where a parameter or statistic stands in its flat buffer of float32, and what is done to it there."""

    name: str
    shape: tuple[int, ...]
    offset: int
    """In elements."""
    size: int
    role: str
    layer: str
    prunable: bool = False
    """Whether a sparse phase may prune it (role and recipe), or it keeps its zeros: then it has a mask."""
    spared: bool | msgspec.UnsetType = msgspec.UNSET
    """Whether a sparse phase leaves it as it is: its mask has the file's zeros only.  Not in the file unless it is so,
    as older run folders, whose digest is of all that is there, do not have it."""
    axes: tuple[int, int] | msgspec.UnsetType = msgspec.UNSET
    """Those of outputs and inputs, where the recipe's pattern or criterion wants them; only then in the file."""
    trained: bool = False
    weight_decay: float = 0.0
    learning_rate_factor: float = 1.0
    successor: str = ""
    """The output of the step graph that belongs to it: a parameter's gradient, a statistic's new value."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a prepared model that is not a graph or a weight."""

    format: int = FORMAT
    model: str
    """The file's name in ``source/``."""
    source_digest: str
    recipe: dict[str, object]
    inputs: list[Field]
    labels: list[Field]
    outputs: dict[str, str]
    """Output of the evaluate graph that a loss reads → name of that loss's label."""
    step_loss: str
    """The step graph's output that holds the loss."""
    loss: str
    """The evaluate graph's output that holds the loss."""
    lengths: str | None = None
    """The evaluate graph's input or output that holds the lengths of what the first loss reads."""
    axes: dict[str, int] | msgspec.UnsetType = msgspec.UNSET
    """Input or output → the axis of the batch in the file, where that is not the first; in the graphs it is."""
    held: int | msgspec.UnsetType = msgspec.UNSET
    """The batch size that the file holds, where it says that it takes any."""
    parameters: list[Slice]
    statistics: list[Slice]
    notes: list[Note | str]
    """As they stand in the file, which the digest is of: sentences in older run folders; see :attr:`Program.notes`."""
    graph_digests: dict[str, str]

    @property
    def trained(self) -> list[Slice]:
        """The parameters with gradients; they stand first in the buffer."""
        return [p for p in self.parameters if p.trained]

    @property
    def prunable(self) -> list[Slice]:
        return [p for p in self.parameters if p.prunable]


class Program:
    """A run folder's prepared part, opened."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
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
        return path if path.exists() else None

    @property
    def notes(self) -> list[Note]:
        """What people should know of the prepared model."""
        return [note if isinstance(note, Note) else formerly(note) for note in self.manifest.notes]

    @property
    def digest(self) -> str:
        """Identifies the prepared run: two Programs with the same digest train the same way."""
        return _sha256(msgspec.json.encode(self.manifest))

    def source(self) -> Source:
        """The copy of the model in the run folder.

        Raises:
            RunError: it is not the model that was prepared, or another version of dsd-ort found other weights in it.
        """
        source = source_files.load(self.source_path)
        if source.digest != self.manifest.source_digest:
            raise RunError(
                "the run folder's copy of the model is not the one that was prepared",
                where=str(self.source_path),
                fix="put the original file back, or prepare the model anew into another folder",
            )
        return source.with_parameters([p.name for p in self.manifest.parameters])

    def graph_path(self, name: str) -> Path:
        """The file of a prepared graph, one of :data:`GRAPHS`.

        Raises:
            RunError: the file is missing or was changed.
        """
        path = self.folder / "graphs" / f"{name}.onnx"
        fix = "prepare the model anew into another folder"
        if not path.is_file():
            raise RunError("the run folder lacks a graph", where=str(path), fix=fix)
        if _sha256(path.read_bytes()) != self.manifest.graph_digests[name]:
            raise RunError("a graph of the run folder was changed", where=str(path), fix=fix)
        return path


def open_program(folder: str | Path) -> Program:
    """Opens what :func:`write_program` wrote.

    Raises:
        RunError: no run folder, or one of another version of the format.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise RunError(
            "this is no run folder" if folder.exists() else "no such run folder",
            where=str(folder),
            fix="make one with: dsd-ort prepare MODEL -o RUN",
        )
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except msgspec.DecodeError as error:
        raise RunError(
            f"the manifest cannot be read: {error}", where=str(path), fix="prepare the model anew into another folder"
        ) from error
    if manifest.format != FORMAT:
        raise RunError(
            f"the run folder has format {manifest.format}, this version of dsd-ort reads {FORMAT}",
            where=str(path),
            fix="prepare the model anew with this version",
        )
    return Program(folder, manifest)


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
    manifest = msgspec.structs.replace(manifest, graph_digests={n: _sha256(c) for n, c in contents.items()})
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
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
        for file in artifacts:
            (temporary / "artifacts").mkdir(exist_ok=True)
            shutil.copyfile(file, temporary / "artifacts" / file.name)
        if without is not None:
            (temporary / WITHOUT).write_bytes(without)
        (temporary / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
        temporary.chmod(0o755)
        if folder.exists():  # empty, as refuse_existing has seen
            folder.rmdir()
        temporary.replace(folder)
    except OSError as error:
        raise RunError(
            f"the run folder cannot be written: {error.strerror}",
            where=str(folder),
            fix="make room or permissions, or choose another place with -o",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Program(folder, manifest)


def write_again(program: Program, folder: Path, recipe: Recipe, *, without: bytes | None = None) -> Program:
    """A new run folder with the graphs of *program*, for a recipe that differs in seed, phases and monitor only.

    Raises:
        RunError: as :func:`write_program`.
    """
    graphs = {name: onnx.load(program.graph_path(name)) for name in GRAPHS}
    manifest = msgspec.structs.replace(program.manifest, recipe=recipe.to_dict())
    return write_program(folder, program.source(), manifest, graphs, without=without)


def refuse_existing(folder: Path) -> None:
    """Raises RunError if *folder* exists and is not an empty folder: what is there stays."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise RunError(
            "the run folder exists already", where=str(folder), fix="choose another with -o, or remove it yourself"
        )


def _sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
