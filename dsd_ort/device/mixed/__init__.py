"""Mixed precision: the products of a training graph in 16 bit, everything that 16 bit could spoil in float32.

A prepared graph computes in float32.  This is the last rewrite before a session is opened, behind
:mod:`~.lower` and :mod:`~.portable`.  Ensures the same inputs and outputs, in float32:
weights, masks, statistics and the loss stay what they were, and only values inside the graph become 16 bit.  One more
input, :data:`LOSS_SCALE`, is what all gradients come out multiplied by.

The rows of :mod:`dsd_ort.rewrite.operators` say what an operator computes in, as PyTorch's autocast does:

* HALF: products of what is learnt or depends on data.  Both factors are cast, and so is the result; inside, a tensor
  core adds up in float32.
* FOLLOW: elementwise and layout operators stay in 16 bit if all they read is 16 bit; one float32 among it, and they are
  float32.  Constants have no say, but where 16 bit cannot hold one, it keeps its operator in float32.
* BACK: batch norm.  It computes in float32 and hands on 16 bit where it was given 16 bit.
* AS_IS: reads either.
* FLOAT, and whatever is not in the table: sums, powers, normalization, softmax, losses.

Where a product has a factor made of constants and integers alone, it is no layer but the arithmetic of a rewrite (the
average of a pooling, the band of an LRN, the one-hot labels of CTC), and stays in float32; so does a square, a Mul of a
value with itself.  Each value is cast once, where it is made: a weight that a Scan reads is cast outside of it.

**On the CPU**, which has next to no 16-bit kernels, the rewrite emulates: a value "in 16 bit" is a float32 that was
rounded by a Cast there and back.  Products of 16-bit factors are exact in float32 and added up in it, as in a tensor
core; so results differ from CUDA's by the order of sums, and by what ``NO_BFLOAT16`` keeps
in float32 there.
"""

from __future__ import annotations

from typing import Literal

import onnx_ir as ir

from dsd_ort.device.mixed.precisions import Precision
from dsd_ort.device.mixed.walk import Mixer
from dsd_ort.graph.differentiate import seed
from dsd_ort.rewrite import element_types
from dsd_ort.rewrite.names import make_unique
from dsd_ort.rewrite.nodes import Nodes
from dsd_ort.rewrite.operators import Half, facts

__all__ = ["LOSS_SCALE", "Precision", "mix"]

LOSS_SCALE = "dsd_ort.loss_scale"
"""The graph input f32[] that the gradient of the loss with respect to itself is, instead of 1."""


def mix(model: ir.Model, precision: Precision, device: Literal["cpu", "cuda"] = "cpu") -> tuple[str, ...]:
    """Rewrites the training graph *model* in place; one line for each product, in 16 bit or not.

    Args:
        model: a differentiated graph, in the form that the device's session gets.
        precision: the 16-bit type.
        device: ``"cuda"``, or ``"cpu"`` to emulate by float32 kernels.
    """
    model.graph.sort()
    element_types.infer(model.graph)
    mixer = Mixer(precision, device)
    mixer.run(model.graph)
    make_unique(model)
    return tuple(f"{op_type} in {where} ({count}×)" for (op_type, where), count in sorted(mixer.products.items()))


def scale_loss(model: ir.Model, loss: str) -> None:
    """∂loss/∂loss is a constant 1 in a differentiated graph: the input :data:`LOSS_SCALE` takes its place.

    It does so before anything else is done to the graph, as a constant is folded.  Through an Abs, which changes
    nothing: a number that is an input, ONNX Runtime would divide on the host by one that the host knows, and copy the
    quotient to the device.

    Args:
        model: a differentiated graph, as it was prepared.
        loss: the output that was differentiated.

    Raises:
        UnsupportedError: the graph holds no gradient of *loss*.
    """
    graph = model.graph
    one, new = seed(graph, loss), Nodes(LOSS_SCALE)
    scale = ir.Value(name=LOSS_SCALE, shape=ir.Shape([]), type=ir.TensorType(ir.DataType.FLOAT))
    graph.inputs.append(scale)
    positive = new.Abs(scale)
    positive.shape = one.shape
    new.put_behind(scale)
    for node, i in tuple(one.uses()):
        if facts(node).half is not Half.AS_IS:  # its size is 1 all the same
            node.replace_input_with(i, positive)
    if not one.uses():
        graph.initializers.pop(str(one.name))
