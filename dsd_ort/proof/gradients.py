"""Gradients against central differences of a reference loss L along random directions.

For tensors t with gradients g_t and steps d_t = a_t·(random signs), the derivative along d is Σ⟨g_t, d_t⟩, and must be
(L(w + h·d) - L(w - h·d)) / 2h.  The difference of the two is told relative to ‖g_t‖, with the a_t such that each
tensor of a group has the same part in it: an entirely wrong tensor has an error of about 1, whatever its size.

In float64, h moves a weight by a millionth of its size.  Where the two disagree, smaller steps are tried, which do not
cross a kink (Relu, MaxPool); and where the weights of the file are themselves on a kink, as zeros are, a point beside
it decides.  In float32 only a few digits of a difference quotient are known: how many, its change with h tells, and
what that does not decide is said to be undecided.

Gradients are rounded to float32 on their way: how much that matters, a step with the weights moved by one rounding
tells (*noise*).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from dsd_ort.graph.program import Slice
from dsd_ort.proof.reference import Reference
from dsd_ort.proof.report import Row, Verdict

Array = npt.NDArray[Any]
Direction = dict[str, tuple[float, Array]]
"""Tensor → a_t, and its signs, int8."""

TOLERANCE = {True: 1e-3, False: 3e-2}
"""Relative error of a right gradient, by whether the reference is exact."""
DIRECTIONS = 2
EXACT_STEPS = (1e-6, 1e-7, 1e-8, 1e-9, 1e-4, 1e-3)
"""Relative to the size of the weights; later ones are tried where the first disagrees: smaller ones cross no kink, and
larger ones help where an operator of the reference is not quite in float64."""
COARSE_STEPS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4)
QUITE_WRONG = {True: 1e-2, False: 0.2}
"""Relative error below which a gradient is not called wrong: float32 rounds in deep networks, more than noise tells."""
ULPS = 4
"""Of float32, to which a loss is known."""
UNDECIDED = 0.3
"""Relative uncertainty of a float32 difference from which on it decides nothing."""
ZERO = 1e-9
"""‖gradient‖ of a group, relative to that of the whole model, which counts as zero."""
RANGE = 1e3
"""Between the weights of the tensors of a group."""
LOST = 0.05
"""Noise relative to ‖gradient‖ from which on a tensor's gradient is lost in rounding; it is no part of a group then."""


@dataclass(frozen=True)
class Point:
    """Where gradients are checked: all inputs of the evaluate graph, and what the step made of them."""

    inputs: Mapping[str, Array]
    loss: float
    gradients: Mapping[str, Array]
    noise: Mapping[str, float]
    """‖change of the gradient‖ when all weights are moved by one rounding."""
    mode: Literal["inference", "training"]


class Found(NamedTuple):
    """An error, up to where it is right, and how well the reference knows it; all relative to ‖gradient‖."""

    error: float
    tolerance: float
    uncertainty: float = 0.0
    quite: float = 0.0
    """Errors below this are undecided rather than wrong."""

    @property
    def verdict(self) -> Verdict:
        if self.error <= self.tolerance and self.uncertainty <= UNDECIDED:
            return "right" if self.tolerance <= UNDECIDED else "zero"
        return "wrong" if self.error > max(self.quite, self.tolerance + 3 * self.uncertainty) else "undecided"


def check(
    point: Point,
    reference: Reference,
    slices: Sequence[Slice],
    *,
    seconds: float,
    tell: Callable[[str], None] = lambda text: None,
    beside: Callable[[], Point] | None = None,
) -> Iterator[Row]:
    """A row for each tensor where *seconds* suffice for that, otherwise one for several; wrong ones always by name.

    *beside* makes a point with other weights near by, which decides what may be on a kink.
    """
    judge = _Judge(point, reference, beside)
    cost = judge.seconds([piece.name for piece in slices])
    lost = [piece for piece in slices if judge.is_lost(piece.name)]
    kept = [piece for piece in slices if not judge.is_lost(piece.name)]
    count = max(1, int(seconds / max(cost, 1e-9)))
    deadline = time.monotonic() + 2 * seconds
    for group in (*groups(kept, count, judge.weight), *groups(lost, count, judge.weight, "lost in rounding")):
        tell(group.name)
        yield from _rows(judge, group, deadline)


class Group(NamedTuple):
    """Tensors that are checked together."""

    name: str
    slices: tuple[Slice, ...]


def groups(slices: Sequence[Slice], count: int, weight: Callable[[Slice], float], kind: str = "") -> list[Group]:
    """Each tensor for itself if there are at most *count*; otherwise about as many groups of one role.

    The tensors of a group are of like *weight*: rounding of a heavy one would hide a light one.  With a *kind* they
    are one group, called so.
    """
    if len(slices) <= count:
        return [_group("", [piece]) for piece in slices]
    roles: dict[str, list[Slice]] = {}
    for piece in slices:
        roles.setdefault(kind or piece.role, []).append(piece)
    if count < len(roles):
        roles = {"all": list(slices)}
    made = []
    for role, pieces in roles.items():
        pieces.sort(key=weight)
        most = -(-len(slices) // count)
        group: list[Slice] = []
        for piece in pieces:
            if group and (len(group) == most or (weight(group[0]) > 0 and weight(piece) > RANGE * weight(group[0]))):
                made.append(_group(role, group))
                group = []
            group.append(piece)
        made.append(_group(role, group))
    return made


def _group(role: str, pieces: Sequence[Slice]) -> Group:
    if len(pieces) == 1:
        return Group(pieces[0].name, tuple(pieces))
    return Group(f"{role}: {pieces[0].name} … {pieces[-1].name}", tuple(pieces))


def _rows(judge: _Judge, group: Group, deadline: float) -> Iterator[Row]:
    """The group's row; of a group of several that is not right, the halves', down to the tensors that are wrong."""
    row = judge.row(group)
    if row.verdict in ("right", "zero"):
        yield row
    elif len(group.slices) > 1 and time.monotonic() > deadline:
        yield msgspec.structs.replace(row, verdict="undecided", note="no time was left to see which of them it is")
    elif len(group.slices) == 1:
        yield judge.row_beside(group, row)
    else:
        half = len(group.slices) // 2
        role = group.name.partition(":")[0]
        for part in (group.slices[:half], group.slices[half:]):
            yield from _rows(judge, _group(role, part), deadline)


class _Judge:
    """Compares gradients at one point with one reference."""

    def __init__(self, point: Point, reference: Reference, beside: Callable[[], Point] | None = None) -> None:
        self.point, self.reference, self._beside = point, reference, beside
        self.random = np.random.default_rng(0)
        self.norms = {name: _norm(g) for name, g in point.gradients.items()}
        self.whole = math.sqrt(sum(norm**2 for norm in self.norms.values()))

    def seconds(self, names: Sequence[str]) -> float:
        """What a row takes at most, where the reference knows enough at its first step."""
        began = time.monotonic()
        self._loss(self._direction(names, dict.fromkeys(names, 0.0)), 0.0)
        return (time.monotonic() - began) * DIRECTIONS * 2 * (1 if self.reference.exact else len(COARSE_STEPS))

    def weight(self, piece: Slice) -> float:
        """How much the loss changes where all of the tensor moves by its own size."""
        return self.norms[piece.name] * size(self.point.inputs[piece.name])

    def is_lost(self, name: str) -> bool:
        return self.point.noise[name] > LOST * self.norms[name]

    @cached_property
    def beside(self) -> _Judge | None:
        """The same where the weights are a little different."""
        return None if self._beside is None else _Judge(self._beside(), self.reference)

    def row_beside(self, group: Group, row: Row) -> Row:
        """*row*, or the group's row beside this point if that is right."""
        if self.beside is None:
            return row
        other = self.beside.row(group)
        note = "on a kink at the weights of the file, so compared beside it"
        return msgspec.structs.replace(other, note=note) if other.verdict in ("right", "zero") else row

    def row(self, group: Group) -> Row:
        names = [piece.name for piece in group.slices]
        norm = math.sqrt(sum(self.norms[name] ** 2 for name in names))
        found = [self._along(names, self._scales(names)) for _ in range(DIRECTIONS)]
        worst = max(found, key=lambda f: (f.verdict == "wrong", f.verdict == "undecided", f.error))
        verdict: Verdict = worst.verdict
        if verdict == "right" and norm <= ZERO * self.whole:
            verdict = "zero"
        return Row(
            group=group.name,
            tensors=names,
            size=sum(piece.size for piece in group.slices),
            mode=self.point.mode,
            norm=norm,
            error=worst.error,
            tolerance=worst.tolerance,
            reference=self.reference.name,
            verdict=verdict,
        )

    def _scales(self, names: Sequence[str]) -> dict[str, float]:
        """a_t: one size of the weights for a single tensor; for several, so that all weigh alike if they can."""
        sizes = {name: size(self.point.inputs[name]) for name in names}
        weights = {name: self.norms[name] * sizes[name] for name in names}
        least = min((w for w in weights.values() if w > 0), default=0.0)
        return {n: sizes[n] * max(least / weights[n], 1 / RANGE) if weights[n] > 0 else sizes[n] for n in names}

    def _along(self, names: Sequence[str], scales: Mapping[str, float]) -> Found:
        direction = self._direction(names, scales)
        slope = sum(a * _dot(self.point.gradients[name], signs) for name, (a, signs) in direction.items())
        parts = [self.norms[name] * scales[name] for name in names]
        noise = math.sqrt(sum((self.point.noise[name] * scales[name]) ** 2 for name in names))
        unit = min((part for part in parts if part > 0), default=0.0)
        # Of gradients that are all zero, no slope that matters to the whole may be left.
        unit = unit or 1e-5 * self.whole * max(scales.values()) or 1.0
        tolerance = TOLERANCE[self.reference.exact] * math.sqrt(len(names)) + 5 * noise / unit
        compare = self._exactly if self.reference.exact else self._coarsely
        return compare(direction, slope, unit, tolerance)

    def _exactly(self, direction: Direction, slope: float, unit: float, tolerance: float) -> Found:
        quotients = []
        for h in EXACT_STEPS:
            ahead, behind = self._loss(direction, h), self._loss(direction, -h)
            quotients.append((ahead - behind) / (2 * h))
            if abs(slope - quotients[-1]) <= tolerance * unit:
                return Found(abs(slope - quotients[-1]) / unit, tolerance)
        uncertainty, quotient = _steadiest(quotients, 2)
        return Found(abs(slope - quotient) / unit, tolerance, uncertainty / unit, QUITE_WRONG[True])

    def _coarsely(self, direction: Direction, slope: float, unit: float, tolerance: float) -> Found:
        """The steps whose quotients differ least are where neither curvature nor rounding matter."""
        quotients = [(self._loss(direction, h) - self._loss(direction, -h)) / (2 * h) for h in COARSE_STEPS]
        # A loss is known to some ulps only, so a quotient to those divided by its step.
        rounding = [ULPS * float(np.finfo(np.float32).eps) * abs(self.point.loss) / h for h in COARSE_STEPS]
        uncertainty, quotient = _steadiest(quotients, 3, rounding)
        return Found(abs(slope - quotient) / unit, tolerance, uncertainty / unit, QUITE_WRONG[False])

    def _direction(self, names: Sequence[str], scales: Mapping[str, float]) -> Direction:
        inputs = self.point.inputs
        return {n: (scales[n], 2 * self.random.integers(0, 2, inputs[n].shape, np.int8) - 1) for n in names}

    def _loss(self, direction: Direction, h: float) -> float:
        dtype = np.float64 if self.reference.exact else np.float32
        inputs = dict(self.point.inputs)
        for name, (scale, signs) in direction.items():
            inputs[name] = inputs[name].astype(dtype) + signs * dtype(h * scale)
        return self.reference(inputs)


def _dot(gradient: Array, signs: Array) -> float:
    return float(2 * np.sum(gradient, where=signs > 0, dtype=np.float64) - np.sum(gradient, dtype=np.float64))


def _steadiest(quotients: Sequence[float], count: int, rounding: Sequence[float] = ()) -> tuple[float, float]:
    """Of the *count* neighbouring quotients that are known best: their range and rounding, and their median."""
    runs = [range(i, i + count) for i in range(len(quotients) - count + 1)]
    found = []
    for run in runs:
        values = sorted(quotients[i] for i in run)
        found.append(
            (values[-1] - values[0] + max((rounding[i] for i in run if rounding), default=0.0), values[count // 2])
        )
    return min(found)


def _norm(array: Array) -> float:
    return float(np.linalg.norm(array.astype(np.float64)))


def size(weights: Array) -> float:
    """The root mean square of *weights*, or a hundredth for what is (almost) zero, as biases are at first."""
    return max(_norm(weights) / math.sqrt(max(weights.size, 1)), 1e-2)
