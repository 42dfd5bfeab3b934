"""The ONNX Runtime of this environment: is it the right one, and sessions on it.

In: a model as bytes, and a device.  Out: a session, or what to install.  Of the package only errors are imported.
:mod:`~dsd_ort.runtime.cuda` looks for what CUDA takes, before any session on it.
"""

from dsd_ort.runtime.device import Device, choose_device, parse_device
from dsd_ort.runtime.installed import (
    OLDEST_STOCK,
    SUPPORTED_IR,
    SUPPORTED_OPSET,
    TRAINING_DISTRIBUTIONS,
    distributions,
    require_runtime,
    require_training_build,
    training_build,
    trains,
)
from dsd_ort.runtime.sessions import native_message, node_of, run, run_options, seed, session, session_options

__all__ = [
    "OLDEST_STOCK",
    "SUPPORTED_IR",
    "SUPPORTED_OPSET",
    "TRAINING_DISTRIBUTIONS",
    "Device",
    "choose_device",
    "distributions",
    "native_message",
    "node_of",
    "parse_device",
    "require_runtime",
    "require_training_build",
    "run",
    "run_options",
    "seed",
    "session",
    "session_options",
    "training_build",
    "trains",
]
