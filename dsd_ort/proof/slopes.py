"""Gradients against slopes of a reference loss L along random directions.

For tensors t with gradients g_t and steps d_t = a_t·(random signs), the derivative along d is Σ⟨g_t, d_t⟩, and must be
the reference's slope, or where it knows none, (L(w + h·d) - L(w - h·d)) / 2h.  The difference of the two is told
relative to ‖g_t‖, with the a_t such that each tensor of a group has the same part in it: an entirely wrong tensor has
an error of about 1, whatever its size.

A slope is known to many digits, and so are gradients in float64 (:mod:`~dsd_ort.proof.wide_step`), so any number of
tensors can be compared at once.  Those in float32 are then compared with those in float64, tensor by tensor: a
difference of more than float32 loses by nature is an error too.

Of differences in float64, h moves a weight by a millionth of its size.  Where the two disagree, other steps are tried:
smaller ones, which do not cross a kink (Relu, MaxPool), and larger ones, where the loss is too large for what is looked
for in it.
In float32 only a few digits of a difference quotient are known: how many, its change with h tells, and that of the loss
with the last digit of the weights.  What that does not decide is said to be undecided.

Gradients are rounded to float32 on their way: how much that matters, a step with the weights moved by one rounding
tells (*noise*).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from dsd_ort.graph.manifest import Slice
from dsd_ort.proof.budget import Budget, OutOfTime
from dsd_ort.proof.compared import UNDECIDED, Found, Group, Point, norm, rounding, size
from dsd_ort.proof.reference import Reference
from dsd_ort.proof.report import Row

Array = npt.NDArray[Any]
Direction = dict[str, tuple[float, Array]]
"""Tensor → a_t, and its signs, int8."""

TOLERANCE = {True: 1e-3, False: 3e-2}
"""Relative error of a right gradient, by whether the reference is exact."""
DIRECTIONS = 2
MORE_DIRECTIONS = 4
"""In which what does not look right is looked at once more."""
EXACT_STEPS = (1e-6, 1e-7, 1e-8, 1e-5, 1e-4, 1e-3)
"""Relative to the size of the weights, in the order in which they are tried."""
COARSE_STEPS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4)
QUITE_WRONG = {True: 1e-2, False: 0.2}
"""Relative error below which a gradient is not called wrong: float32 rounds in deep networks, more than noise tells."""
ULPS = {True: 16, False: 4}
"""To which a loss is known."""
SHARP = 1e-5
"""Relative error of a right gradient in float64 beside a slope."""
ROUNDED = 1e-2
"""Relative difference of a gradient in float32 from that in float64 which is rounding, whatever else is known."""
AS_LOST = 10
"""Times what another step in float32 loses, up to which it is rounding too."""
NOTHING = 1e-12
"""‖gradient‖ of a tensor in float64, relative to that of the whole model, which is rounding."""
ZERO = 1e-9
"""‖gradient‖ of a group, relative to that of the whole model, which counts as zero."""
RANGE = 1e3
"""Between the weights of the tensors of a group."""
LOST = 0.05
"""Noise relative to ‖gradient‖ from which on a tensor's gradient is lost in rounding; it is no part of a group then."""


class Judge:
    """Compares gradients at one point with one reference.

    Args:
        point: the gradients, and where they are.
        reference: of the same loss.
        beside: makes a point with other weights near by, which is asked where this one may be on a kink.
        budget: behind its end, rows raise :class:`~dsd_ort.proof.budget.OutOfTime`.
        patient: not even then; may be set later.
    """

    def __init__(
        self,
        point: Point,
        reference: Reference,
        beside: Callable[[], Point] | None = None,
        *,
        budget: Budget,
        patient: bool = False,
    ) -> None:
        self.point, self.reference, self._beside = point, reference, beside
        self.budget, self.patient = budget, patient
        self.random = np.random.default_rng(0)
        self.gradients = point.gradients if point.wide is None else point.wide
        self.norms = {name: norm(g) for name, g in self.gradients.items()}
        self.whole = math.sqrt(sum(norm**2 for norm in self.norms.values()))

    def weight(self, piece: Slice) -> float:
        """How much the loss changes where all of the tensor moves by its own size."""
        return self.norms[piece.name] * size(self.point.inputs[piece.name])

    @property
    def sharp(self) -> bool:
        """Whether gradients and slopes are known to many digits."""
        return self.point.wide is not None and self.reference.analytic

    def is_lost(self, name: str) -> bool:
        return self.point.wide is None and self.point.noise[name] > LOST * self.norms[name]

    def off_kinks(self, group: Group) -> Row | None:
        """The group's row beside this point, if it is right there."""
        if self._beside is None:
            return None
        row = self.beside.row(group)
        if row.verdict not in ("right", "zero"):
            return None
        return msgspec.structs.replace(row, note="on a kink at the weights of the file, so compared beside it")

    def _rounded(self, row: Row) -> Row:
        """*row*, which is right in float64, with what float32 makes of it."""
        for name in row.tensors if self.point.wide is not None else ():
            scale = max(self.norms[name], ZERO * self.whole) or 1.0
            error = norm(self.point.gradients[name] - self.gradients[name]) / scale
            allowed = max(ROUNDED, 5 * self.point.noise[name] / scale)
            if error > allowed and error <= AS_LOST * self.point.lost.get(name, 0.0) / scale:
                row = msgspec.structs.replace(row, note=f"in float64; float32 loses {error:.0e} of it")
            elif error > max(allowed, row.error):
                row = msgspec.structs.replace(row, error=error, tolerance=allowed, verdict="wrong")
        return row

    def confirmed(self, group: Group) -> Row:
        """The row of a single tensor that does not look right, by more directions, and beside this point too.

        It is wrong only if it is in two directions, and beside this point as well.
        """
        row = self.row(group, MORE_DIRECTIONS, wrong=2)
        if row.verdict == "wrong" and self._beside and self.beside.row(group, MORE_DIRECTIONS).verdict != "wrong":
            return msgspec.structs.replace(row, verdict="undecided", note="wrong here, but not beside these weights")
        return row

    @cached_property
    def beside(self) -> Judge:
        """The same where the weights are a little different."""
        assert self._beside is not None
        return Judge(self._beside(), self.reference, budget=self.budget)

    def row(self, group: Group, directions: int = DIRECTIONS, *, wrong: int = 1) -> Row:
        """What the group's gradients are, by the worst of several directions; *wrong* if so many of them say so.

        Raises:
            OutOfTime: the budget is used up.
        """
        row, scales = self.unseen(group), self._scales([piece.name for piece in group.slices])
        found: list[Found] = []
        while len(found) < directions:
            found.append(self._along(row.tensors, scales))
            if directions == DIRECTIONS and (found[-1].verdict != "right" or self.budget.left < 0):
                break  # a second look decides
        worst = max(found, key=lambda f: (f.verdict == "wrong", f.verdict == "undecided", f.error))
        verdict = worst.verdict
        if verdict == "wrong" and sum(f.verdict == "wrong" for f in found) < wrong:
            verdict = "undecided"
        elif verdict == "right" and row.norm <= ZERO * self.whole:
            verdict = "zero"
        row = msgspec.structs.replace(row, error=worst.error, tolerance=worst.tolerance, verdict=verdict)
        return self._rounded(row) if verdict in ("right", "zero") else row

    def unseen(self, group: Group) -> Row:
        """The row of a group that no time is left for."""
        names = [piece.name for piece in group.slices]
        return Row(
            group=group.name,
            tensors=names,
            size=sum(piece.size for piece in group.slices),
            mode=self.point.mode,
            norm=math.sqrt(sum(self.norms[name] ** 2 for name in names)),
            error=0.0,
            tolerance=0.0,
            reference=self.reference.name,
            verdict="not checked",
        )

    def _scales(self, names: Sequence[str]) -> dict[str, float]:
        """a_t: one size of the weights for a single tensor; for several, so that all weigh alike if they can."""
        sizes = {name: size(self.point.inputs[name]) for name in names}
        weights = {name: self._more_than_rounding(name) * sizes[name] for name in names}
        least = min((w for w in weights.values() if w > 0), default=0.0)
        far = 0.0 if self.sharp else 1 / RANGE
        return {n: sizes[n] * max(least / weights[n], far) if weights[n] > 0 else sizes[n] for n in names}

    def _more_than_rounding(self, name: str) -> float:
        """‖gradient‖, or 0 where it is nothing but rounding."""
        known = self.norms[name]
        return known if self.point.wide is None or known > NOTHING * self.whole else 0.0

    def _along(self, names: Sequence[str], scales: Mapping[str, float]) -> Found:
        direction = self._direction(names, scales)
        slope = sum(a * _dot(self.gradients[name], signs) for name, (a, signs) in direction.items())
        parts = [self._more_than_rounding(name) * scales[name] for name in names]
        noise = 0.0 if self.point.wide else math.sqrt(sum((self.point.noise[n] * scales[n]) ** 2 for n in names))
        unit = min((part for part in parts if part > 0), default=0.0)
        # Of gradients that are all zero, no slope that matters to the whole may be left.
        unit = unit or 1e-5 * self.whole * max(scales.values()) or 1.0
        noise *= 5 / unit
        known = self._slope(direction)
        if known is not None:
            sharp = (SHARP if self.point.wide else TOLERANCE[True]) * math.sqrt(len(names)) + noise
            error = abs(slope - known) / unit
            if error <= sharp or len(names) > 1:  # of several that are not right, none is known to be wrong
                return Found(error, sharp, 0.0, math.inf, noise > UNDECIDED)
        tolerance = min(TOLERANCE[self.reference.exact] * math.sqrt(len(names)), UNDECIDED) + noise
        compare = self._exactly if self.reference.exact else self._coarsely
        found = compare(direction, slope, unit, tolerance)._replace(lost=noise > UNDECIDED)
        if known is not None and self.point.wide and found.verdict == "undecided":  # differences see less than a slope
            found = Found(abs(slope - known) / unit, tolerance, 0.0, QUITE_WRONG[True], noise > UNDECIDED)
        return found

    def _slope(self, direction: Direction) -> float | None:
        if self.reference.analytic:
            self._in_time()
        return self.reference.slope(self.point.inputs, direction)

    def _exactly(self, direction: Direction, slope: float, unit: float, tolerance: float) -> Found:
        """At the first step that agrees and whose quotient is known well enough; where there is none, at all."""
        known = ULPS[True] * float(np.finfo(np.float64).eps) * abs(self.point.loss) / (unit * tolerance)
        quotients: dict[float, float] = {}
        steady = False
        for h in [h for h in EXACT_STEPS if h >= known] or sorted(EXACT_STEPS)[-2:]:
            quotient = self._quotient(direction, h)
            error = abs(slope - quotient) / unit
            if error <= tolerance and h >= known:
                return Found(error, tolerance)
            steady = h >= known and any(abs(quotient - other) <= tolerance * unit for other in quotients.values())
            quotients[h] = quotient
            if steady:
                break
        steps = sorted(quotients, reverse=True)
        rounding = [known * unit * tolerance / h for h in steps]
        uncertainty, quotient = _steadiest([quotients[h] for h in steps], min(2, len(steps)), rounding)
        # Only two steps that agree with each other know better than the gradient.
        quite = QUITE_WRONG[True] if steady else math.inf
        return Found(abs(slope - quotient) / unit, tolerance, uncertainty / unit, quite)

    def _coarsely(self, direction: Direction, slope: float, unit: float, tolerance: float) -> Found:
        """The steps whose quotients differ least are where neither curvature nor rounding matter."""
        quotients = [self._quotient(direction, h) for h in COARSE_STEPS]
        uncertainty, quotient = _steadiest(quotients, 3, [self.jitter / h for h in COARSE_STEPS])
        return Found(abs(slope - quotient) / unit, tolerance, uncertainty / unit, QUITE_WRONG[False])

    @cached_property
    def jitter(self) -> float:
        """How well the reference knows a loss in float32: some ulps of it, and as weights a rounding away tell."""
        losses, weights = [], {n: value for n, value in self.point.inputs.items() if n in self.norms}
        for i in range(3):
            random = np.random.default_rng(i)
            moved = {name: value * rounding(random, value.shape) for name, value in weights.items()}
            losses.append(self._at({**self.point.inputs, **moved}))
        floor = ULPS[False] * float(np.finfo(np.float32).eps) * abs(self.point.loss)
        return max(floor, max(losses) - min(losses))

    def _direction(self, names: Sequence[str], scales: Mapping[str, float]) -> Direction:
        inputs = self.point.inputs
        return {n: (scales[n], 2 * self.random.integers(0, 2, inputs[n].shape, np.int8) - 1) for n in names}

    def _quotient(self, direction: Direction, h: float) -> float:
        return (self._loss(direction, h) - self._loss(direction, -h)) / (2 * h)

    def _loss(self, direction: Direction, h: float) -> float:
        dtype = np.float64 if self.reference.exact else np.float32
        inputs = dict(self.point.inputs)
        for name, (scale, signs) in direction.items():
            inputs[name] = inputs[name].astype(dtype) + signs * dtype(h * scale)
        return self._at(inputs)

    def _at(self, inputs: Mapping[str, Array]) -> float:
        self._in_time()
        return self.reference(inputs)

    def _in_time(self) -> None:
        if self.budget.left < 0 and not self.patient:
            raise OutOfTime


def _dot(gradient: Array, signs: Array) -> float:
    return float(2 * np.sum(gradient, where=signs > 0, dtype=np.float64) - np.sum(gradient, dtype=np.float64))


def _steadiest(quotients: Sequence[float], count: int, rounding: Sequence[float]) -> tuple[float, float]:
    """Of the *count* neighbouring quotients that are known best: their range and rounding, and their median."""
    runs = [range(i, i + count) for i in range(len(quotients) - count + 1)]
    found = []
    for run in runs:
        values = sorted(quotients[i] for i in run)
        found.append((values[-1] - values[0] + max(rounding[i] for i in run), values[count // 2]))
    return min(found)
