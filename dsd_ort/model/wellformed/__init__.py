"""The door: a model's message is well-formed, or refused, before anything else looks at it.

What holds of every model behind it, so that no rule has to ask:

- a value is made once in its graph, and read where it exists: in its graph or one around it;
- a node has the number of inputs and outputs that ONNX's schema of its operator says, and its attributes: those that
  are known, of their types, and all that are required; bodies have the inputs and outputs that their node feeds;
- a tensor has the bytes that its shape and element type take, in one field;
- texts are texts; element types exist, and shapes fit operators, as far as ONNX's own inference can tell;
- nothing is larger than :mod:`dsd_ort.file.limits` say.

The message comes without weights, so all of this is independent of their size.  Native code sees it last, when the rest
is sound: what its inference divides by, or walks down, has been looked at.
"""

from __future__ import annotations

import onnx

from dsd_ort.model.wellformed.graphs import refuse_bad_graphs
from dsd_ort.model.wellformed.inferred import refuse_bad_shapes
from dsd_ort.model.wellformed.texts import refuse_bad_texts


def refuse_malformed(model: onnx.ModelProto, where: str) -> None:
    """Raises ModelError, with the file *where*, if *model*, whose large tensors are external, is not well-formed."""
    refuse_bad_texts(model, where)
    refuse_bad_graphs(model, where)
    refuse_bad_shapes(model, where)
