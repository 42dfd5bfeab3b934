"""What a row of the table of operators can hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, Flag, auto
from types import MappingProxyType
from typing import NamedTuple

import onnx_ir as ir

ALL = 2**31
"""More inputs than any node has."""


class Does(Flag):
    """What an operator does to numbers, each a yes or no."""

    MOVES = auto()
    """Every entry of its outputs is one of its first input (Concat: of any), or fills up."""
    ENTRYWISE = auto()
    """Each entry of its output is computed from one entry of each input; they broadcast."""
    PASSES = auto()
    """Its output is its first input: the same numbers, in another shape, order, type or rounding."""
    LAYOUT = auto()
    """Inputs behind the first say where numbers go.  They may depend on the shape of data: the result is no data for
    that."""
    CARRIES = auto()
    """A stored tensor that is its first input is still a weight behind it; the others say how it is computed."""
    JOINS = auto()
    """Likewise for each of its inputs."""
    FLAT = auto()
    """Its floating-point output has a derivative of zero wherever it has one, or depends on a shape only."""
    RANDOM = auto()
    SLOW = auto()
    """Entry by entry, but three times to fifty times as slow as an addition in ONNX Runtime on a CPU."""
    QUICK = auto()
    """Neither entry by entry nor moving, but in about the time of reading what it reads."""
    DISPUTED = auto()
    """ONNX's reference evaluator and ONNX Runtime make different numbers of it, here or there: the latter computes it,
    when it runs the graph."""
    QUANTISES = auto()
    """From numbers to quantised ones, or back."""
    QUANTISED = auto()
    """Computes with quantised numbers, or with weights that are stored as such."""
    ACTIVATION = auto()
    """FusedConv and its siblings may name it as theirs."""
    IDENTITY_WITHOUT_AXES = auto()
    """Over no axis it is the identity, in ONNX's own evaluator too; other reductions are so in ONNX Runtime only."""
    THRESHOLD = auto()
    """Asks on which side of a number another one is.  What a forward operator cuts off there, the backward one must
    find there: a number that 16 bit would round keeps it in float32, or what was cut at 0.4 is below 0.4 afterwards."""
    POLE = auto()
    """Infinite at some finite number, itself or in its derivative."""
    POLE_AT_0 = auto()
    """Nowhere else than where its base (a quotient's second input, otherwise the first) is 0."""
    NATURAL = auto()
    """Whatever it reads, its numbers are 0 or more."""
    KEEPS_NATURAL = auto()
    """They are, if those that it reads are."""
    ONE_TENSOR = auto()
    """Its later inputs are numbers of a type of their own."""
    NO_DOUBLE = auto()
    """ONNX Runtime's CPU has no kernel for double."""
    NO_BFLOAT16 = auto()
    """CUDA has no kernel for bfloat16.  The same for ONNX Runtime 1.19's training build and 1.31, in the opset of
    prepared graphs (1.31 has a bfloat16 Conv from opset 22 on, but loses MaxPool and Dropout there)."""
    TRAINING = auto()
    """Only the training build of ONNX Runtime has it, and nothing stands for it elsewhere."""


class Half(Enum):
    """What an operator computes in under mixed precision; :mod:`dsd_ort.device.mixed` says what follows."""

    HALF = "16 bit"
    FOLLOW = "as what it reads"
    BACK = "float32, then as what it read"
    AS_IS = "any"
    FLOAT = "float32"


class Where(NamedTuple):
    """What is true of an operator's node only where a condition holds."""

    condition: Callable[[ir.Node], bool]
    why: str


class Stop(NamedTuple):
    """Why no gradient passes an operator, in words that follow its name, and what a user can do about it."""

    why: str
    fix: str


class Facts(NamedTuple):
    """What is known of one operator; defaults are what is true of most."""

    does: Does = Does(0)
    weights: Mapping[int, str] = MappingProxyType({})
    """Input → role: where weights sit (:data:`dsd_ort.model.roles.ROLES`)."""
    numbers: int = ALL
    """How many of its first inputs are numbers to compute with; the others are settings that nobody learns: bounds,
    factors of size, what an empty place is filled with."""
    native: int = 0
    """With respect to how many of its first inputs ONNX Runtime's builder has a right gradient."""
    every_output: bool = False
    """Whether it has one for outputs behind the first too."""
    stops: Stop | None = None
    """Why no gradient passes it, where there is more to say than that nobody wrote one."""
    half: Half = Half.FLOAT
    factors: int = 0
    """Of a product: how many of its first inputs are factors."""
    gives: ir.DataType | None = None
    """The type of its outputs, where that is always the same; otherwise that of input :attr:`like`."""
    like: int = 0
    second: ir.DataType | None = None
    """The type of its second output, where that is not the first one's."""
    lengths: int | None = None
    """The input that holds the lengths of sequences."""
    gates: int = 0
    """Of a recurrent layer: how many matrices stand in one of its weights."""
    unrecordable: str | Where | None = None
    """Why a recording of a run on CUDA cannot hold it."""
    unrepeatable: str | Where | None = None
    """Why a run on CUDA does not repeat to the bit."""

    def why_unrecordable(self, node: ir.Node) -> str | None:
        """The reason why a recording cannot hold *node*, a node of this operator."""
        return _why(self.unrecordable, node)

    def why_unrepeatable(self, node: ir.Node) -> str | None:
        """The reason why *node*, a node of this operator, does not repeat to the bit on CUDA."""
        return _why(self.unrepeatable, node)

    def data(self, count: int) -> range:
        """Which of *count* inputs hold the numbers of its outputs, where it :attr:`~Does.MOVES` them."""
        return range(count if Does.JOINS in self.does else 1)


def _why(reason: str | Where | None, node: ir.Node) -> str | None:
    if isinstance(reason, Where):
        return reason.why if reason.condition(node) else None
    return reason
