"""Is the gradient that dsd-ort makes of a graph right, or the graph refused?

The reference is the graph as it was, in float64 by ONNX's reference evaluator; its slope along a random direction is
the central difference.  Where the slopes from either side differ the point is a kink (Relu at 0, a tie of Max), and
the derivative is nobody's to define.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from dsd_ort.errors import UnsupportedError
from dsd_ort.graph.legalize import legalize
from dsd_ort.rewrite.path import Path
from tests.graph.gradient import Arrays, Exact, loss_weights, quiet, step

EPSILON = 1e-6
TOLERANCE, FLOOR = 2e-3, 2e-4
"""Relative to ‖gradient‖·‖direction‖, and absolute for losses of about 1: roundings of a few float32 operations."""

RIGHT, REFUSED, KINK, CONSTANT, UNLIKE = "right", "refused", "kink", "no gradient", "ONNX Runtime computes otherwise"


def verdict(content: bytes, inputs: Arrays) -> tuple[str, str]:
    """One of the above and a remark; anything else is a defect of dsd-ort."""
    proto = onnx.ModelProto.FromString(content)
    exact = Exact(proto)
    outputs = exact(inputs)
    unlike = _unlike_plain_inference(proto, inputs, outputs)
    if unlike:
        return UNLIKE, unlike
    model = ir.from_proto(proto)
    path = Path(model.graph, model.graph.inputs, model.graph.outputs)
    trainable = [str(value.name) for value in model.graph.inputs if path.carries(value)]
    if not trainable:
        return CONSTANT, ""
    weights = loss_weights(outputs)
    try:
        legal = legalize(model, trainable, outputs=list(outputs), batch_norm="frozen").model
    except UnsupportedError as error:
        return REFUSED, error.what
    try:
        done = step(legal, trainable, inputs, weights)
    except Exception as error:  # native, of several types
        return "FAILS", str(error)[:400]
    for name, y in outputs.items():
        if done.outputs[name].shape != y.shape or not _close(done.outputs[name], y):
            return "WRONG output", f"{name}: {np.abs(done.outputs[name] - y).max()} off"
    return _slopes(exact, inputs, weights, done.gradients)


def _unlike_plain_inference(proto: onnx.ModelProto, inputs: Arrays, outputs: Arrays) -> str:
    """Why what ships and ONNX's reference are not the same function here, or nothing."""
    try:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), quiet(), providers=["CPUExecutionProvider"])
        plain = session.run(list(outputs), inputs)
    except Exception as error:  # native, of several types
        return str(error)[:200]
    unlike = [name for name, y in zip(outputs, plain, strict=True) if not _close(y, outputs[name])]
    return f"outputs {', '.join(unlike)} differ" if unlike else ""


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-3, atol=1e-3))


def _slopes(exact: Exact, inputs: Arrays, weights: Arrays, gradients: Arrays) -> tuple[str, str]:
    def loss(name: str, shift: np.ndarray) -> float:
        outputs = exact({**inputs, name: inputs[name].astype(np.float64) + shift})
        return float(sum((weights[y].astype(np.float64) * outputs[y]).sum() for y in weights))

    random, kinks = np.random.default_rng(2), 0
    for name, gradient in gradients.items():
        if gradient.shape != inputs[name].shape:
            return "WRONG shape", f"{name}: {gradient.shape} for {inputs[name].shape}"
        for _ in range(2):
            d = random.standard_normal(gradient.shape)
            centre, up, down = loss(name, 0 * d), loss(name, EPSILON * d), loss(name, -EPSILON * d)
            right, left = (up - centre) / EPSILON, (centre - down) / EPSILON
            bound = TOLERANCE * float(np.linalg.norm(gradient) * np.linalg.norm(d)) + FLOOR * (1 + abs(centre))
            if abs(right - left) > bound:
                kinks += 1
            elif abs(float((gradient * d).sum()) - (right + left) / 2) > bound:
                return "WRONG gradient", f"{name}: {float((gradient * d).sum())}, not {(right + left) / 2}"
    return (KINK, f"in {kinks} directions") if kinks else (RIGHT, "")


class Judge:
    """:func:`verdict` in a process of its own, so that its end is a verdict too."""

    def __init__(self) -> None:
        self._pool = self._new()

    @staticmethod
    def _new() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, mp_context=get_context("spawn"))

    def __call__(self, content: bytes, inputs: Arrays) -> tuple[str, str]:
        try:
            return self._pool.submit(verdict, content, inputs).result()
        except BrokenProcessPool:
            self._pool = self._new()
            return "ABORT", "the process ended"

    def close(self) -> None:
        self._pool.shutdown()
