"""Is one ONNX file another with nothing changed but its weights?

The proof is the way in which :mod:`dsd_ort.ship.export` writes: the model is laid out with holes where its weights
stand, and outside of the holes the other file has to be the same, byte for byte, and so have its external-data files.
A ConstantOfShape node whose place an initializer has taken counts as the same if the initializer is the one that export
writes.  Where bytes differ, the two models are compared field by field, for people.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx

from dsd_ort.errors import ModelError
from dsd_ort.file import contents, reader
from dsd_ort.file.payload import Values, bits
from dsd_ort.file.splice import Copy, Hole, Piece, without_payloads
from dsd_ort.file.tensors import Filled, stored
from dsd_ort.model.source import Source, load
from dsd_ort.ship.export import CHUNK, is_relaid, layout

_MOST_REASONS = 5


@dataclass(frozen=True)
class Change:
    """How a parameter or statistic differs."""

    name: str
    shape: tuple[int, ...]
    share: float
    """Of its entries, how many changed, from 0 to 1."""
    largest: float
    """The largest absolute change."""
    density: float
    """Of its new entries, how many are not zero, from 0 to 1."""


@dataclass(frozen=True)
class Verdict:
    """The answer, and what it rests on."""

    same: bool
    """The graph is the same: only weights differ, if anything."""
    changed: tuple[Change, ...] = ()
    initialized: tuple[str, ...] = ()
    """ConstantOfShape nodes, by their output, in whose place their values are stored now."""
    data: tuple[str, ...] = ()
    """The files beside it that hold its external data."""
    shared: tuple[str, ...] = ()
    """Those of them that are the model's own: it reads them too."""
    reasons: tuple[str, ...] = ()
    """Why it is not the same."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        return asdict(self)


def verify(model: str | Path, final: str | Path) -> Verdict:
    """Whether *final* is *model* with nothing changed but its weights.

    A *final* that is there but is no sound ONNX file is simply not the same.

    Raises:
        ModelError: *model* cannot be read, or there is no file *final*.
    """
    source, final = load(model), Path(final)
    with reader.mapped(final) as data:
        try:
            file = reader.read(data, final)
        except ModelError as error:
            return Verdict(False, reasons=(f"{final.name}: {error.what}",))
    names = [p.name for p in source.changeable if not _left_alone(p.name, source, file)]
    initialized = [name for name in names if isinstance(source.places[name], Filled)]
    comparison = _Comparison(source)
    locations = _locations(source, file)
    files = {source.path.parent / old: final.parent / new for old, new in locations.items()} | {source.path: final}
    for old, pieces in layout(source, names, locations).items():
        comparison.file(old, files[old], pieces)
    if comparison.differs and (explained := _differences(source, file, set(initialized))):
        comparison.reasons[:0] = explained
    return Verdict(
        not comparison.reasons,
        tuple(comparison.changes()),
        tuple(initialized),
        tuple(locations.values()),
        tuple(files[old].name for old in source.files[1:] if files[old].exists() and files[old].samefile(old)),
        tuple(dict.fromkeys(comparison.reasons)),
    )


def _locations(source: Source, file: contents.File) -> dict[str, str]:
    """The external-data files of *source* → those of *file*: the same, unless each tensor of one is in one other."""
    old, new = ([t.external.location for t in tensors if t.external] for tensors in (source.file.tensors, file.tensors))
    found: dict[str, set[str]] = {}
    for location, other in zip(old, new if len(new) == len(old) else old, strict=True):
        found.setdefault(location, set()).add(other)
    renamed = {old: next(iter(new)) for old, new in found.items() if len(new) == 1}
    apart = len(set(renamed.values())) == len(found)
    return {old: renamed[old] if apart else old for old in found}


def _left_alone(name: str, source: Source, file: contents.File) -> bool:
    """Whether a weight that would be written with other bytes than before is not: training did not change it."""
    place = source.places[name]
    if not is_relaid(place):
        return False
    new = next((tensor for tensor in file.tensors if tensor.value == name), None)
    if isinstance(place, Filled):
        return new is None
    return new is not None and _content(place, source.path) == _content(new, file.path)


def _content(tensor: contents.Tensor, path: Path) -> bytes:
    with path.open("rb") as stream:
        stream.seek(tensor.field.start)
        return stream.read(tensor.field.end - tensor.field.start)


@dataclass
class _Count:
    changed: int = 0
    largest: float = 0.0
    nonzero: int = 0


@dataclass
class _Comparison:
    """Compares files piece by piece and counts what changed in the weights."""

    source: Source
    reasons: list[str] = field(default_factory=list)
    differs: bool = False
    """Whether the model file differs outside of its weights."""
    counts: dict[str, _Count] = field(default_factory=dict)

    def file(self, old: Path, new: Path, pieces: Sequence[Piece]) -> None:
        size = sum(len(piece) for piece in pieces)
        if not new.is_file():
            self.reasons.append(f"the external data file {new.name!r} is missing")
        elif new.stat().st_size != size:
            self.reasons.append(f"{new.name} has {new.stat().st_size} bytes instead of {size}")
            self.differs |= old == self.source.path
        else:
            with old.open("rb") as before, new.open("rb") as after:
                different = self.pieces(before, after, pieces)
            if different is not None:
                self.differs |= old == self.source.path
                self.reasons.append(self.at(old, new, different))

    def pieces(self, before: BinaryIO, after: BinaryIO, pieces: Sequence[Piece]) -> int | None:
        """The position of the first byte outside of the weights that differs."""
        for piece in pieces:
            at = after.tell()
            if isinstance(piece, Hole):
                if not self.hole(piece, before, after):
                    return at
                continue
            if isinstance(piece, Copy):
                before.seek(piece.start)
            for start in range(0, len(piece), CHUNK):
                count = min(CHUNK, len(piece) - start)
                want = before.read(count) if isinstance(piece, Copy) else piece[start : start + count]
                have = after.read(count)
                if want != have:
                    pairs = enumerate(zip(want, have, strict=False))
                    return at + start + next((i for i, (a, b) in pairs if a != b), len(have))
        return None

    def hole(self, hole: Hole, before: BinaryIO, after: BinaryIO) -> bool:
        """Counts the changes in a weight; False where its bytes are laid out differently."""
        place = self.source.places[hole.name]
        count = self.counts.setdefault(hole.name, _Count())
        relaid = stored(self.source.path, place).reshape(-1)[hole.first :] if is_relaid(place) else None
        for first in range(0, hole.count, CHUNK):
            size = min(CHUNK, hole.count - first)
            width = size * hole.coding.width
            if relaid is not None:
                old: Values | None = relaid[first : first + size]
            else:  # what was copied last ends where the weight begins
                old = hole.coding.decode(before.read(width))
            new = hole.coding.decode(after.read(width))
            if new is None or old is None or new.size != size:
                return False
            if not (np.isfinite(new) | (bits(new) == bits(old))).all():
                self.reasons.append(f"{hole.name}: not all of its weights are finite")
            count.changed += int((bits(new) != bits(old)).sum())
            wide = new.astype(np.float64)
            with np.errstate(invalid="ignore"):
                change = np.abs(wide - old.astype(np.float64))
            count.largest = max(count.largest, float(np.where(bits(new) == bits(old), 0, change).max()))
            count.nonzero += int(np.count_nonzero(wide))
        return True

    def at(self, old: Path, new: Path, position: int) -> str:
        """What stands at a position of a file."""
        external = [(t.external, t.place) for t in self.source.file.tensors if t.external]
        here = [
            place
            for data, place in external
            if Path(data.location) == old.relative_to(self.source.path.parent) and data.offset <= position < data.end
        ]
        return f"{new.name} differs at byte {position}" + (f", in {here[0]}" if here else "")

    def changes(self) -> Iterator[Change]:
        for parameter in self.source.changeable:
            count = self.counts.get(parameter.name, _Count())
            if count.changed:
                share, density = count.changed / parameter.size, count.nonzero / parameter.size
                yield Change(parameter.name, parameter.shape, share, count.largest, density)


# --- for people


def _differences(source: Source, file: contents.File, initialized: set[str]) -> list[str]:
    """What differs between the two models apart from their weights, in ONNX's terms."""
    weights = {parameter.name for parameter in source.changeable}
    old, new = (_skeleton(file, weights, initialized) for file in (source.file, file))
    if new is None:
        return [f"{file.path.name}: damaged"]
    found = list(_unlike(old, new, ""))
    more = len(found) - _MOST_REASONS
    return found[:_MOST_REASONS] + ([f"and {more} more differences"] if more > 0 else [])


def _skeleton(file: contents.File, weights: set[str], initialized: set[str]) -> onnx.ModelProto | None:
    """The model without what may differ; None if it cannot be read."""
    with reader.mapped(file.path) as data:
        content = without_payloads(data, file, lambda tensor: {} if tensor.value in weights and tensor.spans else None)
    try:
        model = onnx.ModelProto()
        model.ParseFromString(content)
    except Exception:  # protobuf's DecodeError, which has no types
        return None
    nodes = [node for node in model.graph.node if initialized.isdisjoint(node.output)]
    initializers = [tensor for tensor in model.graph.initializer if tensor.name not in initialized]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(initializers)
    return model


def _unlike(old: Any, new: Any, where: str) -> Iterator[str]:
    """The fields in which two protobuf messages of one type differ, the innermost ones."""
    for part in old.DESCRIPTOR.fields:
        name, one, other = part.name, getattr(old, part.name), getattr(new, part.name)
        if one == other:
            continue
        if not part.message_type:
            yield f"{where}{name}: {_short(other)} instead of {_short(one)}"
        elif not isinstance(one, Sequence):
            yield from _unlike(one, other, where if name == "graph" else f"{where}{name}, ")
        elif len(one) == len(other):
            for i, (a, b) in enumerate(zip(one, other, strict=True)):
                if a != b:
                    yield from _unlike(a, b, f"{where}{_entry(name, i, a)}, ")
        else:
            differ = (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
            i = next(differ, min(len(one), len(other)))
            entry = _entry(name, i, (one if len(one) > len(other) else other)[i])
            yield f"{where}{name}: {len(other)} instead of {len(one)}, from {entry} on"


def _entry(field: str, index: int, message: Any) -> str:
    """A name for an entry of a repeated field: ``node 3 (Conv conv1)``, ``attribute 'strides'``."""
    if field == "node":
        return f"node {index} ({message.op_type} {message.name or ''.join(message.output[:1])})"
    for key in ("name", "key", "domain"):
        if hasattr(message, key):
            return f"{field} {getattr(message, key)!r}"
    return f"{field} {index}"


def _short(value: Any) -> str:
    text = repr(list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else value)
    return text if len(text) <= 60 else f"{text[:57]}…"
