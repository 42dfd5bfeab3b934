"""Is the ONNX Runtime of this environment the right one?

All distributions of ONNX Runtime (``onnxruntime``, ``onnxruntime-gpu``, ``onnxruntime-training``, …) install into the
same folder, so two of them overwrite one another's files: exactly one may be there.  The training build or any other
from 1.20 on prepares and trains; the training build alone has kernels for gradients, which are faster, a gradient
builder, and reads the checkpoints of exported training graphs.  ``onnxruntime.training`` is never imported, as it needs
PyTorch.
"""

from __future__ import annotations

import importlib
import platform
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from dsd_ort.errors import InstallationError

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
