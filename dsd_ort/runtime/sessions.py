"""Sessions on ONNX Runtime, their runs, and what is readable of its errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import nullcontext, redirect_stdout
from io import StringIO
from typing import Any

import onnx

from dsd_ort.errors import DataError, InstallationError, ModelError
from dsd_ort.runtime import cuda
from dsd_ort.runtime.device import Device


def session_options(threads: int = 0, *, spinning: bool = True, resting: bool = False, optimized: bool = True) -> Any:
    """Quiet options with *threads* intra-op threads (0: one a core).

    *spinning*: these wait for work at full speed; *resting*: but not behind a run, where they otherwise go on for
    milliseconds; *optimized*: nodes may be fused and folded.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    # Where it knows all shapes, the training build plans memory by a rule of its own, and sometimes lays a tensor over
    # one that is still read (a case of tests/cuda/test_operators.py).  And steps take half the memory without a plan.
    options.enable_mem_pattern = False
    # Its plan gives a value's memory to a later one of the same shape, by the names of the lengths, and keeps it until
    # then: often from the forward pass to the backward.  Without, memory goes back to the arena behind the last use.
    options.enable_mem_reuse = False
    # Nodes run in the order of the file.  By default, depth first from the outputs, the gradients of weights come last,
    # and all that they read waits for them: a step of ResNet-50 takes half as much memory again.
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if resting:
        options.add_session_config_entry("session.force_spinning_stop", "1")
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def session(
    model: onnx.ModelProto | str,
    options: Any = None,
    *,
    where: str = "model",
    device: Device | None = None,
    provider_options: Mapping[str, Any] | None = None,
) -> Any:
    """An ``onnxruntime.InferenceSession`` on *device*, by default the CPU.

    Args:
        model: the graph, or the path of its file.
        options: by default :func:`session_options`.
        where: what the graph is, for messages.
        device: see :func:`choose_device`; on CUDA, what the device cannot do is done by the CPU.
        provider_options: of the CUDA provider, as ``use_tf32``.

    Raises:
        ModelError: ONNX Runtime refuses the graph; its message is in it.
        InstallationError: ONNX Runtime does not take the CUDA device.
    """
    import onnxruntime

    content = model if isinstance(model, str) else model.SerializeToString()
    on_cuda = device is not None and device.kind == "cuda"
    providers: list[Any] = ["CPUExecutionProvider"]
    if device is not None and on_cuda:
        cuda.require(device.index)  # nothing if it was chosen; otherwise the provider may end the process
        providers.insert(0, (cuda.PROVIDER, {"device_id": device.index, **(provider_options or {})}))
    try:
        with redirect_stdout(StringIO()) if on_cuda else nullcontext() as printed:
            opened = onnxruntime.InferenceSession(content, options or session_options(), providers=providers)
    except Exception as error:  # the native exception types are private to the extension module
        raise ModelError(
            f"ONNX Runtime cannot run the graph: {native_message(error)}",
            where=where,
            fix="check that the file itself runs in this ONNX Runtime; if it does, please report this as a defect",
        ) from error
    if on_cuda:
        _require_cuda(opened, str(device), printed.getvalue() if printed else "")
    return opened


def _require_cuda(opened: Any, device: str, printed: str) -> None:
    """Refuses a session that ONNX Runtime has quietly opened on the CPU; why, it prints, if at all.

    Raises:
        InstallationError: the session has no CUDA provider.
    """
    if cuda.PROVIDER not in opened.get_providers():
        reason = re.search(r"EP Error (.*) when using", printed, re.DOTALL)
        told = f": {native_message(reason[1])}" if reason else ""
        raise InstallationError(f"ONNX Runtime cannot use {device}{told}", fix="see what dsd-ort doctor says of it")
    opened.disable_fallback()


def run_options(entries: Mapping[str, str]) -> Any:
    """Options of a run, by the names that ONNX Runtime has for them."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    for key, value in entries.items():
        options.add_run_config_entry(key, value)
    return options


def run(session: Any, binding: Any, *, where: str, options: Any = None) -> None:
    """Executes *session* on what is bound.

    Raises:
        DataError: the graph's operators refuse the sizes of this batch, or memory ends; the runtime's message is in it.
    """
    try:
        session.run_with_iobinding(binding, options)
    except Exception as error:
        memory = "allocat" in str(error)
        raise DataError(
            f"the batch cannot be run: {native_message(error)}",
            where=where,
            fix="use a smaller batch_size" if memory else "give examples of the size that the model was made for",
        ) from error


_IN_NODE = re.compile(r"Non-zero status code returned while running (\w+) node\. Name:'([^']*)' Status Message: ")


def native_message(error: BaseException | str) -> str:
    """The readable part of a native exception's text, on one line: without source files and C++ signatures."""
    text = " ".join(str(error).split())
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = _IN_NODE.sub(r"\1 '\2': ", text)
    text = re.sub(r"/onnxruntime_src/.* was false\. ", "", text)
    return re.sub(r"(/onnxruntime_src/\S+|\b\w+\.(cc|h):\d+ \w+) ", "", text)[:400]


def node_of(error: BaseException) -> str:
    """The node that a native exception is of: ``Reshape 'flat'``; nothing where it is of none."""
    found = _IN_NODE.search(str(error))
    return f"{found[1]} {found[2]!r}" if found else ""


def seed(value: int) -> None:
    """Seeds the generator from which Dropout nodes without a seed of their own draw."""
    import onnxruntime

    onnxruntime.set_seed(value)
