"""Which gradients are compared together, in what order, and what becomes of those that are not right.

All are seen before any is looked at twice.  A group of several that is not right is split, down to the tensors that are
wrong; a single one must be wrong in several directions, and beside the weights of the file too, as the weights may be
on a kink, where zeros are.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from dsd_ort.graph.manifest import Slice
from dsd_ort.proof.budget import Budget, OutOfTime
from dsd_ort.proof.compared import Group, Point, rounding, size
from dsd_ort.proof.reference import Reference
from dsd_ort.proof.report import Row
from dsd_ort.proof.slopes import COARSE_STEPS, DIRECTIONS, RANGE, TOLERANCE, Judge

__all__ = ["COARSE_STEPS", "TOLERANCE", "Group", "Point", "check", "groups", "rounding", "size"]

FIRST_LOOK = 0.5
"""Of the time, for the first look at all of them."""
SHARP_LOOK = 0.1
"""The same where one look at all of them says as much as one at each."""
TOO_LATE = "not right at first look, and no time was left for another"


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

    What there is no time for is *not checked*; but the first group is, however long it takes.  *beside* makes a point
    with other weights near by, which decides what may be on a kink.
    """
    budget = Budget(seconds)
    judge = Judge(point, reference, beside, budget=budget, patient=True)
    lost = [piece for piece in slices if judge.is_lost(piece.name)]
    kept = [piece for piece in slices if not judge.is_lost(piece.name)]
    cost, part = _cost(point, reference, slices, sharp=judge.sharp), SHARP_LOOK if judge.sharp else FIRST_LOOK
    count = max(1, int(part * max(budget.left, 0.0) / max(cost, 1e-9))) if seconds < float("inf") else len(slices)
    weight = (lambda piece: 1.0) if judge.sharp else judge.weight
    first = [*groups(kept, count, weight), *groups(lost, count, weight, "lost in rounding")]
    ahead = deque(_Look(group) for group in _mixed(first))
    while ahead:
        look = ahead.popleft()
        group = look.group
        tell(group.name)
        try:
            if look.beside:
                row = judge.off_kinks(group) or (judge.confirmed(group) if len(group.slices) == 1 else None)
            else:
                row = judge.row(group)
                judge.patient = False
                if row.verdict not in ("right", "zero"):
                    ahead.append(_Look(group, row, beside=True))
                    continue
            if row is not None:
                yield row
            else:
                ahead.extend(_Look(half, look.before) for half in _halves(group))
        except OutOfTime:
            yield _too_late(judge.unseen(group), look.before)


def _cost(point: Point, reference: Reference, slices: Sequence[Slice], *, sharp: bool) -> float:
    """Seconds that a look at a group takes."""
    if sharp:
        signs = {piece.name: np.ones(piece.shape, np.int8) for piece in slices}
        reference.slope(point.inputs, {name: (size(point.inputs[name]), ones) for name, ones in signs.items()})
        if reference.analytic:
            return reference.seconds_of_slope * DIRECTIONS
    reference(point.inputs)
    return reference.seconds * 2 * DIRECTIONS * (1 if reference.exact else len(COARSE_STEPS))


class _Look(NamedTuple):
    """At a group that has not been seen, or where *before* is not right, once more."""

    group: Group
    before: Row | None = None
    beside: bool = False


def _too_late(row: Row, before: Row | None) -> Row:
    """*row*, for which no time is left; *before* is that of the tensors that it was seen with."""
    if before is None:
        return row
    known = before if before.tensors == row.tensors else row
    return msgspec.structs.replace(known, verdict="undecided", note=TOO_LATE)


def groups(slices: Sequence[Slice], count: int, weight: Callable[[Slice], float], kind: str = "") -> list[Group]:
    """Each tensor for itself if there are at most *count*; otherwise about as many groups of one role.

    The tensors of a group are of like *weight*: rounding of a heavy one would hide a light one.  With a *kind* they
    are one group, called so.
    """
    if len(slices) <= count:
        return [Group(kind or piece.role, (piece,)) for piece in slices]
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
                made.append(Group(role, tuple(group)))
                group = []
            group.append(piece)
        made.append(Group(role, tuple(group)))
    return made


def _halves(group: Group) -> list[Group]:
    half = len(group.slices) // 2
    return [Group(group.kind, group.slices[:half]), Group(group.kind, group.slices[half:])]


def _mixed(groups: Iterable[Group]) -> list[Group]:
    """One group of each role, then another of each: should time end, all have been seen."""
    roles: dict[str, list[Group]] = {}
    for group in groups:
        roles.setdefault(group.slices[0].role, []).append(group)
    turns = itertools.zip_longest(*roles.values())
    return [group for turn in turns for group in turn if group is not None]
