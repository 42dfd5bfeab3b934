"""What CUDA's kernels want of the host, and in which order they add.

With ``enable_cuda_graph`` ONNX Runtime records the kernels and copies of one run and replays them.  A replay copies
from the same addresses, so a kernel must have no part on the host: none that waits for the device, which capture
refuses; none that decides by data what is launched or how large it is; and none that copies from memory of the host,
as what stood there during capture is overwritten, or gone.  The latter goes unseen: a replay computes with whatever is
there.

Read in ONNX Runtime's sources, ``core/providers/cuda`` and ``orttraining/training_ops/cuda``:

* ``CudaAsyncBuffer`` copies addresses or sizes from pinned memory that goes back to its pool after the run (it is kept
  for a recording since https://github.com/microsoft/onnxruntime/pull/32121): Concat and Split of unequal parts or of
  more than 32, ScatterND, products whose batches are broadcast, cuDNN's recurrent layers.
* A copy from the stack: GatherND and its gradient (until https://github.com/microsoft/onnxruntime/pull/32120), and
  cross entropy that is no mean.
* ``GatherGrad`` waits for the number of different indices.

All others that prepared graphs have take what they need by value (``TArray``).

A kernel that adds atomically does not repeat to the bit: the order of float32 additions is that in which threads happen
to arrive (``conv_shared.cc``, ``gather_elements_grad_impl.cu``, ``gather_nd_grad_impl.cu`` in ONNX Runtime 1.19;
``gather_grad_impl.cu`` sorts, and adds in order; for cuDNN the reproducibility section of its developer guide).
"""

from __future__ import annotations

import math

import onnx_ir as ir

from dsd_ort.rewrite.operators.facts import Where

PARTS = 32
"""Most parts of a Split or Concat whose addresses are arguments of the kernel."""

BODY = "the host goes through its body"
DRAWS = "the host draws its seed"
SIZE = "data decides how large its output is"
COPIES = "it copies from the host's memory"
WAITS = "it waits for the device"

ATOMIC = "adds atomically, in any order"
CHOSEN = "is computed by an algorithm that cuDNN chooses, which may add in any order"


def _uneven(node: ir.Node) -> bool:
    """Are the parts of Concat or Split not all equal, or more than :data:`PARTS`, or not known?"""
    parts = node.inputs if "Concat" in node.op_type else node.outputs
    axis = node.attributes.get_int("axis", 0)
    lengths = {None if value is None or value.shape is None else value.shape[axis] for value in parts}
    return len(parts) > PARTS or len(lengths) > 1 or not isinstance(lengths.pop(), int)


def _broadcast(node: ir.Node) -> bool:
    """Are the batches of a product other than equally many, or one?"""
    shapes = [None if value is None or value.shape is None else list(value.shape) for value in node.inputs[:2]]
    if any(shape is None or not all(isinstance(size, int) for size in shape) for shape in shapes):
        return True
    a, b = (math.prod(shape[:-2]) for shape in shapes if shape is not None)
    return not (b in (1, a) and (b == a or len(shapes[1] or ()) == 2))


def _is_no_mean(node: ir.Node) -> bool:
    return node.attributes.get_string("reduction", "mean") != "mean"


def _drops(node: ir.Node) -> bool:
    """Does a Dropout drop anything?  In inference it is gone before a session runs."""
    training = node.inputs[2] if len(node.inputs) > 2 else None
    tensor = None if training is None else ir.convenience.get_const_tensor(training)
    return training is not None and (tensor is None or bool(tensor.numpy().any()))


def _reduces(node: ir.Node) -> bool:
    return node.attributes.get_string("reduction", "none") != "none"


IF_IT_DROPS = Where(_drops, DRAWS)
IF_UNEVEN = Where(_uneven, f"{COPIES}, as its parts are not equal and {PARTS} at most")
IF_BROADCAST = Where(_broadcast, f"{COPIES}, as its batches are broadcast")
IF_NO_MEAN = Where(_is_no_mean, f"{COPIES}, as it is no mean")
IF_IT_REDUCES = Where(_reduces, ATOMIC)
