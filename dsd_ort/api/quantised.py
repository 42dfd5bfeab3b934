"""What is done with a file of quantised weights: dequantize, to the float model that it stands for."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from dsd_ort.errors import RunError
from dsd_ort.graph.dequantize import dequantized

LARGEST = 2**31 - 2**24
"""Bytes of weights from which on they get a file of their own: no ONNX file can be larger."""


@dataclass(frozen=True)
class Dequantization:
    """What :func:`dequantize` wrote."""

    file: Path
    became: dict[tuple[str, str], int]
    """Quantised operator, what took its place → how often."""
    weights: dict[str, str]
    """Float weight → the stored numbers that it stands for."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        rows = [{"operator": old, "becomes": new, "nodes": count} for (old, new), count in self.became.items()]
        return {"file": str(self.file), "operators": rows, "weights": self.weights}


def dequantize(model: str | Path, output: str | Path) -> Dequantization:
    """Writes the float model that the quantised *model* stands for, which trains.

    Its weights are scale · (q - zero); its outputs differ from the quantised ones by what rounding took from values in
    between.

    Args:
        model: an ONNX file with QuantizeLinear and DequantizeLinear pairs, with operators on quantised numbers, or one
            that quantises what it reads as it runs.
        output: the new ONNX file; an existing one is replaced.  Weights too large for it go beside it.

    Raises:
        ModelError: *model* cannot be read.
        UnsupportedError: nothing in it is quantised, or by numbers that are not in the file.
        RunError: *output* is *model*, or cannot be written.
    """
    model, output = Path(model), Path(output)
    if output.exists() and model.exists() and output.samefile(model):
        raise RunError("the source is never overwritten", where=str(output), fix="choose another name")
    found = dequantized(model)
    weights = found.model.graph.initializers.values()
    size = sum(value.const_value.nbytes for value in weights if value.const_value is not None)
    data = f"{output.name}.data" if size > LARGEST else None
    ir.external_data.load_to_model(found.model)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder:
            ir.save(found.model, Path(folder) / output.name, external_data=data)
            for name in filter(None, (data, output.name)):
                (Path(folder) / name).replace(output.with_name(name))
    except OSError as error:
        what = f"the model cannot be written: {error.strerror}"
        raise RunError(what, where=str(output), fix="choose another place for it") from error
    return Dequantization(output, found.became, found.weights)
