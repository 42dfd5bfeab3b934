"""Images cut out, and put together from patches."""

from __future__ import annotations

import numpy as np

from tests.graph.legalize.cases.case import Case

FOLD = "Reshape Transpose ScatterElements Add Transpose Reshape"
WHERE_TO = np.array([0, 3, 10, 12, 28, 26, 37, 38]).reshape(1, 2, 2, 2)
CASES = [
    Case(
        "(float[N, 12, 12] x) => (float[] y) <int64[2] i = {4, 5}, int64[2] b = {2, 2}> { y = Col2Im (x, i, b) }",
        path=FOLD,
    ),
    Case(
        "(float[N, 12, 6] x, int64[2] i) => (float[] y) <int64[2] b = {2, 3}> "
        "{ y = Col2Im <dilations = [1, 2], pads = [1, 0, 0, 1], strides = [2, 1]> (x, i, b) }",
        path=f"{FOLD} Slice",
        given={"i": [5, 5]},
    ),
    Case(
        "(float[N, 12, 5] x) => (float[] y) <int64[1] i = {7}, int64[1] b = {3}> { y = Col2Im (x, i, b) }",
        path=FOLD,
    ),
    Case(
        "(float[N, 16, 6] x) => (float[] y) <int64[3] i = {2, 3, 4}, int64[3] b = {2, 2, 2}> { y = Col2Im (x, i, b) }",
        path=FOLD,
    ),
    Case(
        "(float[N, 6, W] x) => (float[] y) <int64[2] s = {4, 8}> { y = CenterCropPad <axes = [-2, -1]> (x, s) }",
        "Pad(x, ScatterElements([0 0 0 0 0 0], [1 2 4 5], Concat({0}, Sub({1}, {0}), axis=0)))".format(
            "Div(Sub([4 8], Gather(Shape(x), [1 2])), [2])", "Sub([4 8], Gather(Shape(x), [1 2]))"
        ),
    ),
    Case(
        "(float[3, H, W] x, int64[3] s) => (float[] y) { y = CenterCropPad (x, s) }", path="Pad", given={"s": [6, 3, 8]}
    ),
    Case(
        "(float[N, 3, H, K] x) => (float[] y) { m, i = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x) "
        "y = MaxUnpool <kernel_shape = [2, 2], strides = [2, 2]> (m, i) }",
        path="Reshape GatherElements Reshape Reshape ScatterElements Reshape",
    ),
    Case(
        "(float[1, 2, 2, 2] x, int64[1, 2, 2, 2] i) => (float[] y) <int64[4] s = {1, 2, 4, 5}> "
        "{ y = MaxUnpool <kernel_shape = [2, 2], strides = [2, 2]> (x, i, s) }",
        path="Reshape ScatterElements Reshape",
        given={"i": WHERE_TO},
        original="(float[1, 2, 2, 2] x, int64[1, 2, 2, 2] i) => (float[] y) "
        f"<float[40] z = {{{', '.join('0' * 40)}}}, int64[4] s = {{1, 2, 4, 5}}, int64[1] f = {{-1}}> "
        "{ a = Reshape (x, f) b = Reshape (i, f) c = ScatterElements (z, b, a) y = Reshape (c, s) }",
    ),
    # Two windows have the same greatest entry: the last is written.
    Case(
        "(float[1, 1, 3] x, int64[1, 1, 3] i) => (float[] y) { y = MaxUnpool <kernel_shape = [2]> (x, i) }",
        path="Reshape Where ScatterElements Reshape",
        given={"i": [[[1, 3, 3]]]},
        original="(float[1, 1, 3] x, int64[1, 1, 3] i) => (float[] y) <float[1, 1, 1] z = {0}, int64[2] p = {0, 2}> "
        "{ a = Gather <axis = 2> (x, p) f, l = Split <axis = 2, num_outputs = 2> (a) "
        "y = Concat <axis = 2> (z, f, z, l) }",
    ),
    # The whole of one image, columns 1 to 4 of the other: bins of 2 by 3, and of 2 by 2.
    Case(
        "(float[N, 3, 4, 6] x, float[N, 5] r) => (float[] y) "
        "{ y = MaxRoiPool <pooled_shape = [2, 2], spatial_scale = 0.5> (x, r) }",
        path="Gather" + " Unsqueeze Expand Expand Where Where ReduceSum Div" * 2 + " Where",
        given={"r": [[0, 0, 0, 10, 6], [1, 2, 0, 8, 6]]},
        untrained=("r",),
        original="(float[N, 3, 4, 6] x, float[N, 5] r) => (float[] y) "
        "<int64[2] s = {1, 1}, int64[2] e = {2, 5}, int64[2] a = {0, 3}, int64[1] z = {0}> "
        "{ f = Gather (x, z) g = Slice (x, s, e, a) p = MaxPool <kernel_shape = [2, 3], strides = [2, 3]> (f) "
        "q = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (g) y = Concat <axis = 0> (p, q) }",
    ),
]
