"""How a run is executed: nothing of it changes what is trained for, only how fast and how exactly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from dsd_ort.runtime.device import Device

Precision: TypeAlias = Literal["fp32", "tf32", "fp16", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True)
class Execution:
    """What a user may choose beside recipe and data."""

    device: Device = field(default_factory=Device)
    threads: int = 0
    """Of ONNX Runtime; 0 means one a core."""
    precision: Precision = "fp32"
    """fp32; tf32: on CUDA, products of float32 with ten bits of mantissa; fp16, bf16: products of 16-bit numbers, while
    weights, statistics, normalisation and losses stay float32."""
    cuda_graphs: bool = True
    """Whether CUDA replays a recorded step instead of launching its kernels one by one."""
    deterministic: bool = False
    """Whether forms and algorithms are chosen that repeat to the bit."""

    @property
    def mixed(self) -> bool:
        """Are there 16-bit numbers in the step?"""
        return self.precision in ("fp16", "bf16")

    @property
    def on_cpu(self) -> bool:
        return self.device.kind == "cpu"

    @property
    def records(self) -> bool:
        """May sessions be recorded, if their graphs allow it?"""
        return self.cuda_graphs and not self.on_cpu
