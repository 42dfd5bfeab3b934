"""The manifest of a run folder: everything about a prepared model that is not a graph or a weight.

It is a closed schema: a key that is none of these is refused.  ``digest`` is of all the others, and identifies the run;
manifests of earlier versions have none.
"""

from __future__ import annotations

import hashlib

import msgspec

from dsd_ort.fields import Field
from dsd_ort.notes import Note

FORMAT = 1


class Slice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
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


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
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
    file_digests: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    """Those of the other files that were prepared, by their paths in the folder, where there are any."""
    digest: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def trained(self) -> list[Slice]:
        """The parameters with gradients; they stand first in the buffer."""
        return [p for p in self.parameters if p.trained]

    @property
    def prunable(self) -> list[Slice]:
        return [p for p in self.parameters if p.prunable]

    @property
    def identity(self) -> str:
        """Identifies the prepared run: two with the same train the same way."""
        return sha256(msgspec.json.encode(msgspec.structs.replace(self, digest=msgspec.UNSET)))

    def sealed(self) -> Manifest:
        """The same with its digest."""
        return msgspec.structs.replace(self, digest=self.identity)

    def written(self) -> bytes:
        """As it stands in the file."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)


def sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
