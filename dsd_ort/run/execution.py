"""How a run is executed: nothing of it changes what is trained for, only how fast and how exactly."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from dsd_ort import runtime
from dsd_ort.runtime.device import Device, cores
from dsd_ort.version import __version__

OnNaN: TypeAlias = Literal["stop", "skip"]
Precision: TypeAlias = Literal["fp32", "tf32", "fp16", "bf16"]
_NOTES = {
    ("cuda", "fp32"): "precision fp32: exact products of float32; tf32, bf16 and fp16 are faster on this device",
    ("cuda", "tf32"): "precision tf32: products of float32 are rounded to 10 bits of mantissa",
    ("cuda", "fp16"): "precision fp16: products of 16-bit numbers, and TF32 for other float32 products",
    ("cuda", "bf16"): "precision bf16: products of 16-bit numbers, and TF32 for other float32 products",
    ("cpu", "tf32"): "precision tf32: the CPU has none, and computes in float32",
    ("cpu", "fp16"): "precision fp16: the CPU rounds float32 to it, slowly: good for trying it out",
    ("cpu", "bf16"): "precision bf16: the CPU rounds float32 to it, slowly: good for trying it out",
}
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
ON_NAN: tuple[OnNaN, ...] = get_args(OnNaN)
WORKERS = 8
"""Threads that read pictures and recordings, at most: each has a batch of its own in memory."""


@dataclass(frozen=True)
class Execution:
    """What a user may choose beside recipe and data."""

    device: Device = field(default_factory=Device)
    threads: int = 0
    """Of ONNX Runtime, and about as many read pictures and recordings; 0 means one a core."""
    precision: Precision = "fp32"
    """fp32; tf32: on CUDA, products of float32 with ten bits of mantissa; fp16, bf16: products of 16-bit numbers, while
    weights, statistics, normalisation and losses stay float32."""
    cuda_graphs: bool = True
    """Whether CUDA replays a recorded step instead of launching its kernels one by one."""
    deterministic: bool = False
    """Whether forms and algorithms are chosen that repeat to the bit."""

    on_nan: OnNaN = "stop"
    """What becomes of an update that is not finite: training stops, or leaves it out and counts it."""

    @property
    def workers(self) -> int:
        """Threads that prepare batches, where the data lets several."""
        return min(self.threads or cores(), WORKERS)

    @property
    def guarded(self) -> bool:
        """Is an update left out where its gradients are not finite, and not only noticed?"""
        return self.mixed or not self.on_cpu or self.on_nan == "skip"

    @property
    def mixed(self) -> bool:
        """Are there 16-bit numbers in the step?"""
        return self.precision in ("fp16", "bf16")

    @property
    def on_cpu(self) -> bool:
        return self.device.kind == "cpu"

    def notes(self) -> list[str]:
        """What people should know of it."""
        return [text] if (text := _NOTES.get((self.device.kind, self.precision))) else []

    def record(self) -> dict[str, Any]:
        """What a journal keeps of it, beside the versions of what computes."""
        return {
            "device": self.device.name,
            "precision": self.precision,
            "threads": self.threads,
            "versions": {name: importlib.metadata.version(name) for name in runtime.distributions()}
            | {"dsd-ort": __version__, "Python": platform.python_version()},
        }

    @property
    def records(self) -> bool:
        """May sessions be recorded, if their graphs allow it?"""
        return self.cuda_graphs and not self.on_cpu
