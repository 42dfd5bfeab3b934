"""Operators that move entries and change shapes."""

from __future__ import annotations

from tests.graph.legalize.cases.case import Case, image, moved

BLOCKS = "Shape(x, end=1, start=0)", "Shape(x, end=3, start=2)", "Shape(x, end=4, start=3)"
CASES = [
    moved("Transpose (x)", "Transpose(x, perm=[2 1 0])"),
    moved("Transpose <perm = [1, 2, 0]> (x)"),
    moved("Reshape (x, s)", constants="int64[2] s = {0, -1}"),
    moved("Flatten (x)"),
    moved("Unsqueeze (x, a)", constants="int64[1] a = {-1}"),
    Case("(float[N, 1, 4] x) => (float[N, 4] y) { y = Squeeze (x) }"),
    Case("(float[N, 1, 4] x) => (float[N, 4] y) <int64[1] a = {1}> { y = Squeeze (x, a) }"),
    moved("Tile (x, r)", constants="int64[3] r = {1, 2, 3}"),
    Case("(float[3, 1] x) => (float[2, 3, 4] y) <int64[3] s = {2, 3, 4}> { y = Expand (x, s) }"),
    moved("Trilu <upper = 0> (x)"),
    Case("(float[N, 4, 4] x, int64 k) => (float[] y) { y = Trilu (x, k) }", given={"k": -1}),
    Case("(float[N, T, 4] x) => (float[] y) <int64 k = {1}> { y = Trilu <upper = 0> (x, k) }"),
    Case("(float[N, T] x, int64[2] r) => (float[] y) { y = Tile (x, r) }", given={"r": [2, 3]}),
    Case("(float[N, T, 1] x) => (float[] y) { s = Shape (x) y = Reshape (x, s) }"),
    Case("(float[N, T, K] x, int64[2] s) => (float[] y) { y = Reshape (x, s) }", given={"s": [0, -1]}),
    Case("(float[N, T, K] x) => (float[] y) { y = Flatten <axis = -1> (x) }"),
    Case("(float[N, T] x, int64[1] a) => (float[] y) { y = Unsqueeze (x, a) }", given={"a": [1]}),
    Case(
        "(float[N, T] x) => (float[] y) { e = EyeLike (x) h = Mul (e, x) y = Add (h, x) }",
        "Add(Mul(EyeLike(ConstantOfShape(Shape(x))), x), x)",
    ),
    Case(
        "(float[N, 5] x) => (float[N, 5] y) { d = Cast <to = 11> (x) e = Exp (d) y = Cast <to = 1> (e) }",
        "Identity(Exp(x))",
    ),
    Case("(float[N, 2] x, float[N, 3] z) => (float[N, 5] y) { y = Concat <axis = -1> (x, z) }"),
    Case(
        "(float[N, 1] x) => (float[N, 5] y) <float[2, 2] k = {1, 2, 3, 4}> { y = Concat <axis = 1> (k, x, k) }",
        "Concat(Identity([[1 2] [3 4]]), x, Identity([[1 2] [3 4]]), axis=1)",
    ),
    Case(
        "(float[2, 4, 8] x, float[4, 1, 1] w) => (float[] y) <int64[3] s = {2, 4, 0}> "
        "{ z = ConstantOfShape (s) p = Concat <axis = 2> (z, x) y = Conv <group = 4> (p, w) }",
        "Conv(Identity(x), w, group=4)",
    ),
    image(
        "DepthToSpace <blocksize = 2> (x)",
        "Reshape(Transpose(Reshape(x, Concat({0}, [2 2], [-1], {1}, {2}, axis=0)), perm=[0 3 4 1 5 2]), "
        "Concat({0}, [-1], Mul({1}, [2]), Mul({2}, [2]), axis=0))".format(*BLOCKS),
        size="H, W",
    ),
    image(
        'DepthToSpace <blocksize = 2, mode = "CRD"> (x)',
        "Reshape(Transpose(Reshape(x, Concat({0}, [-1], [2 2], {1}, {2}, axis=0)), perm=[0 1 4 2 5 3]), "
        "Concat({0}, [-1], Mul({1}, [2]), Mul({2}, [2]), axis=0))".format(*BLOCKS),
        size="H, W",
    ),
    Case(
        "(float[N, K, H, W] x) => (float[] y) { y = DepthToSpace <blocksize = 2> (x) }",
        path="Reshape Transpose Reshape",
    ),
    image(
        "SpaceToDepth <blocksize = 2> (x)",
        "Reshape(Transpose(Reshape(x, Concat({0}, Shape(x, end=2, start=1), Div({1}, [2]), [2], Div({2}, [2]), [2], "
        "axis=0)), perm=[0 3 5 1 2 4]), Concat({0}, [-1], Div({1}, [2]), Div({2}, [2]), axis=0))".format(*BLOCKS),
        size="H, 4",
    ),
]
