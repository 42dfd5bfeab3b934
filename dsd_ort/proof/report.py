"""What a check found: rows for gradients, lines for everything else; plain values, as JSON has them."""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec

Verdict = Literal["right", "wrong", "zero", "undecided", "not checked"]

PROVEN = 0.5
"""The part of the gradients that must be proven right at least."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be checked, as it goes to another process."""

    model: str
    recipe: dict[str, Any]
    fit: bool = True
    """Take a loss and phases that fit the model rather than the recipe's."""
    loss: str | None = None
    output: str | None = None
    data: str | None = None
    shapes: dict[str, tuple[int, ...]] = {}
    seconds: float = 60.0
    """About what the check may take: more tensors are then checked together, and what is left is not checked."""
    thorough: bool = False
    """Every tensor for itself, however long it takes."""
    threads: int = 0


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """The gradient of a parameter, or of several together."""

    group: str
    """The parameter's name, or what the parameters have in common."""
    tensors: list[str]
    size: int
    """Elements of all its tensors."""
    mode: Literal["inference", "training"]
    """Batch norm by the running statistics, or by those of the batch."""
    norm: float
    """‖gradient‖, the L2 norm over the group."""
    error: float
    """The greatest difference from the reference over all directions, relative to ‖gradient‖."""
    tolerance: float
    """Up to which error it counts as right."""
    reference: str
    verdict: Verdict
    """``zero``: gradient and reference vanish both, which says little; ``not checked``: no time was left."""
    note: str = ""

    @property
    def proven(self) -> bool:
        """Whether it is right, or nothing."""
        return self.verdict in ("right", "zero")


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One more thing that was checked."""

    what: str
    passed: bool
    text: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of :func:`dsd_ort.api.check`, and what it rests on."""

    model: str
    output: str
    """The output that the loss reads."""
    loss: str
    inputs: dict[str, str]
    """Input or label → type and shape of what was fed: ``float32[3, 1, 28, 28]``."""
    data: str
    """Where it came from: ``made up``, or the data's name."""
    parameters: int
    """Elements of all trained tensors."""
    rows: list[Row]
    lines: list[Line]
    notes: list[str]
    """What was not checked as thoroughly as could be, and other remarks."""
    seconds: float

    @property
    def ok(self) -> bool:
        """Nothing is wrong, and at least half of the gradients is proven right."""
        right = self.count("right") > 0 and self.proven >= PROVEN
        return right and not self.wrong and all(line.passed for line in self.lines)

    @property
    def answer(self) -> Literal["trains", "does not", "not proven"]:
        """What somebody who asks wants to hear first."""
        if self.ok:
            return "trains"
        return "not proven" if not self.wrong and all(line.passed for line in self.lines) else "does not"

    @property
    def proven(self) -> float:
        """The part of the gradients, from 0 to 1, that is right (or zero)."""
        proven = sum(len(row.tensors) for row in self.rows if row.proven)
        return proven / max(1, sum(len(row.tensors) for row in self.rows))

    @property
    def wrong(self) -> list[Row]:
        return [row for row in self.rows if row.verdict == "wrong"]

    @property
    def counts(self) -> dict[Verdict, int]:
        """How many gradients have each verdict."""
        return {verdict: self.count(verdict) for verdict in get_args(Verdict)}

    def count(self, verdict: Verdict) -> int:
        """How many tensors have this verdict; one that was checked in two modes counts twice."""
        return sum(len(row.tensors) for row in self.rows if row.verdict == verdict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        table: dict[str, Any] = msgspec.to_builtins(self)
        return {"ok": self.ok, "answer": self.answer, **table}
