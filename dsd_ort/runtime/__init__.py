"""The ONNX Runtime of this environment: is it the right one, and sessions on it.

All distributions of ONNX Runtime (``onnxruntime``, ``onnxruntime-gpu``, ``onnxruntime-training``, …) install into the
same folder, so two of them overwrite one another's files: exactly one may be there.  The training build or any other
from 1.20 on prepares and trains; the training build alone has kernels for gradients, which are faster, a gradient
builder, and reads the checkpoints of exported training graphs.  ``onnxruntime.training`` is never imported, as it needs
PyTorch.  :mod:`~dsd_ort.runtime.cuda` looks for what CUDA takes, before any session on it.

In: a model as bytes, and a device.  Out: a session, or what to install.  Of the package only errors are imported.
"""

from __future__ import annotations

import importlib
import platform
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import onnx

from dsd_ort.errors import DataError, InstallationError, ModelError
from dsd_ort.runtime import cuda
from dsd_ort.runtime.device import Device, choose_device, parse_device

__all__ = [
    "OLDEST_STOCK",
    "SUPPORTED_IR",
    "SUPPORTED_OPSET",
    "TRAINING_DISTRIBUTIONS",
    "Device",
    "choose_device",
    "distributions",
    "native_message",
    "parse_device",
    "require_runtime",
    "require_training_build",
    "run",
    "seed",
    "session",
    "session_options",
    "training_build",
    "trains",
]

TRAINING_DISTRIBUTIONS = ("onnxruntime-training", "onnxruntime-training-cpu")
OLDEST_STOCK = (1, 20)
"""Of the builds without training."""
SUPPORTED_OPSET = 21
SUPPORTED_IR = 10

_RELEASE = "1.19.2"
"""Of the training build, the last."""


def training_build() -> str | None:
    """The distribution of the training build that this Python and machine can have, if any.

    pyproject.toml says the same in markers.
    """
    python, system = sys.version_info[:2], (sys.platform, platform.machine())
    if system == ("linux", "x86_64") and python < (3, 12):
        return "onnxruntime-training"
    has_one = system in {("linux", "x86_64"), ("win32", "AMD64")} or sys.platform == "darwin"
    return "onnxruntime-training-cpu" if has_one and python < (3, 13) else None


def distributions(names: Iterable[str] | None = None) -> list[str]:
    """The installed distributions that provide the package ``onnxruntime``, sorted."""
    normal = {re.sub(r"[-_.]+", "-", name).lower() for name in (_installed() if names is None else names)}
    extensions = ("onnxruntime-extensions", "onnxruntime-genai", "onnxruntime-tools")
    return sorted(
        n
        for n in normal
        if (n == "onnxruntime" or n.startswith(("onnxruntime-", "ort-nightly"))) and n not in extensions
    )


def _installed() -> Iterator[str]:
    """All distributions, by the folders of their metadata: to parse these takes as long as to prepare a small model."""
    for entry in sys.path:
        for folder in Path(entry).glob("*.*-info"):
            yield folder.stem.partition("-")[0]


def require_runtime(installed: list[str] | None = None, version: str | None = None) -> None:
    """Refuses an environment that cannot prepare and train: neither the training build nor a new enough other.

    Raises:
        InstallationError: there is no ONNX Runtime, more than one, or too old a one.
    """
    found = _the_one(installed)
    if found in TRAINING_DISTRIBUTIONS:
        _require_files(found, trains())
        return
    version = _version() if version is None else version
    _require_files(found, bool(version))
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST_STOCK:
        raise InstallationError(
            f"{found} {version} is installed, which cannot run training graphs",
            where="this Python environment",
            fix=f"pip install --upgrade {found}",
        )


def require_training_build(task: str = "differentiate models by itself", installed: list[str] | None = None) -> None:
    """Refuses an environment whose ONNX Runtime is not the training build.

    Args:
        task: what only that can do, for the message.
        installed: distributions of ONNX Runtime; by default those of this environment.

    Raises:
        InstallationError: there is no ONNX Runtime, more than one, or one without training.
    """
    found = _the_one(installed)
    if found not in TRAINING_DISTRIBUTIONS:
        other = training_build()
        elsewhere = (
            "use Python 3.10, 3.11 or 3.12 on Linux x86-64, macOS or Windows x86-64, which have the training build"
        )
        raise InstallationError(
            f"{found} is installed, which cannot {task}",
            where="this Python environment",
            fix=f"pip uninstall -y {found} && {_pip_install(other)}" if other else elsewhere,
        )
    _require_files(found, trains())


def trains() -> bool:
    """Has the installed ONNX Runtime the gradient builder and the training operators?"""
    try:
        native = importlib.import_module("onnxruntime.capi._pybind_state")
    except ImportError:
        return False
    return "GradientGraphBuilder" in vars(native)


def _the_one(installed: list[str] | None) -> str:
    """The distribution of ONNX Runtime that is installed."""
    found = distributions() if installed is None else installed
    if not found:
        wanted = training_build()
        stock = 'pip install onnxruntime, or "onnxruntime-gpu[cuda,cudnn]" for CUDA'
        raise InstallationError(
            "ONNX Runtime is not installed", fix=f"pip install {wanted}=={_RELEASE}" if wanted else stock
        )
    if len(found) > 1:
        kept = next((d for d in found if d in TRAINING_DISTRIBUTIONS), None)
        remove = f"pip uninstall -y {' '.join(found)}"
        raise InstallationError(
            f"{len(found)} distributions of ONNX Runtime are installed and overwrite each other: {', '.join(found)}",
            where="this Python environment",
            fix=f"{remove} && {_pip_install(kept)}" if kept else f"{remove}, and install one of them",
        )
    return found[0]


def _require_files(distribution: str, there: bool) -> None:
    """Refuses a distribution whose files are not there, or not its own."""
    if not there:
        raise InstallationError(
            f"{distribution} is installed, but its files are missing or another distribution's",
            where="this Python environment",
            fix=_pip_install(distribution),
        )


def _pip_install(distribution: str) -> str:
    release = f"=={_RELEASE}" if distribution in TRAINING_DISTRIBUTIONS else ""
    return f"pip install --force-reinstall --no-deps {distribution}{release}"


def _version() -> str:
    try:
        return str(importlib.import_module("onnxruntime").__version__)
    except (ImportError, AttributeError):
        return ""


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
