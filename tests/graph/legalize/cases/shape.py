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
    moved("Gather <axis = 1> (x, i)", constants="int64[2, 2] i = {0, 2, -1, 2}"),
    moved("GatherElements <axis = 2> (x, i)", constants="int64[2, 3, 1] i = {0, 1, 2, 3, -1, 0}"),
    moved("GatherND <batch_dims = 1> (x, i)", constants="int64[2, 1] i = {2, 0}"),
    moved("Trilu <upper = 0> (x)"),
    Case("(float[N, 5] x) => (float[N, 2] y, int64[N, 2] i) <int64[1] k = {2}> { y, i = TopK (x, k) }"),
    Case("(float[N, 5] x) => (float[N, 5] y) { d = Cast <to = 11> (x) e = Exp (d) y = Cast <to = 1> (e) }"),
    Case("(float[N, 5] x, float z) => (float[N, 5] y) { y = CastLike (x, z) }", "Cast(x, to=1)", untrained=("z",)),
    Case("(float[N, 2] x, float[N, 3] z) => (float[N, 5] y) { y = Concat <axis = -1> (x, z) }"),
    Case(
        "(float[N, 1] x) => (float[N, 5] y) <float[2, 2] k = {1, 2, 3, 4}> { y = Concat <axis = 1> (k, x, k) }",
        "Concat(Identity([[1 2] [3 4]]), x, Identity([[1 2] [3 4]]), axis=1)",
    ),
    Case("(float[N, 6] x) => (float[N, 3] y) { a, b = Split <axis = 1, num_outputs = 2> (x) y = Mul (a, b) }"),
    Case(
        "(float[N, 5] x) => (float[N, 2] y) { a, y = Split <axis = 1, num_outputs = 2> (x) }",
        "Slice(x, [3], [5], [1])",
    ),
    Case(
        "(float[N, 6] x) => (float[N, 3] y) { a, b = Split <axis = 1, num_outputs = 2> (x) s = Shape (b) "
        "y = Reshape (a, s) }",
        "Reshape(Slice(x, [0], [3], [1]), Shape(Slice(x, [3], [6], [1])))",
    ),
    Case(
        "(float[N, 6] x) => (float[N, 3] y) <int64[3] s = {1, 3, 2}> { a, y, b = Split <axis = -1> (x, s) }",
        "Slice(x, [1], [4], [-1])",
    ),
    moved("Slice (x, s, e, a, t)", constants="int64[1] s={0}, int64[1] e={9}, int64[1] a={2}, int64[1] t={2}"),
    moved("Slice (x, s, e)", constants="int64[2] s={0, 1}, int64[2] e={2, -1}"),
    moved(
        "Slice (x, s, e, a, t)",
        "Gather(x, [3 2 1 0], axis=2)",
        constants="int64[1] s={-1}, int64[1] e={-99}, int64[1] a={2}, int64[1] t={-1}",
    ),
    moved(
        "Slice (x, s, e, a, t)",
        "Gather(Gather(x, [2 1], axis=1), [0 2], axis=-1)",
        constants="int64[2] s={2, 0}, int64[2] e={0, 4}, int64[2] a={1, -1}, int64[2] t={-1, 2}",
    ),
    moved("Pad (x, p, v)", constants="int64[6] p={0, 1, 2, 0, 0, 1}, float v={2.5}"),
    moved(
        "Pad (x, p, v, a)", "Pad(x, [0 0 1 0 0 2], 2.5)", constants="int64[2] p={1, 2}, float v={2.5}, int64[1] a={-1}"
    ),
    *(
        moved(
            f'Pad <mode = "{mode}"> (x, p)',
            f"Gather(Gather(x, [{rows}], axis=1), [{columns}], axis=2)",
            constants="int64[6] p={0, 1, 2, 0, 0, 1}",
            opset=19 if mode == "wrap" else 18,
        )
        for mode, rows, columns in (
            ("reflect", "1 0 1 2", "2 1 0 1 2 3 2"),
            ("edge", "0 0 1 2", "0 0 0 1 2 3 3"),
            ("wrap", "2 0 1 2", "2 3 0 1 2 3 0"),
        )
    ),
    Case("(float[4, 3] x, float[2, 3] u) => (float[4, 3] y) <int64[2, 1] i = {1, 3}> { y = ScatterND (x, i, u) }"),
    Case(
        "(float[4, 3] x, float[2, 3] u) => (float[4, 3] y) <int64[2, 1] i = {1, 1}>"
        '{ y = ScatterND <reduction = "add"> (x, i, u) }',
        "Add(x, ScatterND(ConstantOfShape(Shape(x)), [[1] [1]], u, reduction=add))",
    ),
    Case(
        "(float[3, 4] x, float[3, 2] u) => (float[3, 4] y) <int64[3, 2] i = {0, 1, 2, 1, 3, 0}>"
        "{ y = ScatterElements <axis = 1> (x, i, u) }"
    ),
    Case(
        "(float[3, 4] x, float[3, 1] u) => (float[3, 4] y) <int64[3, 1] i = {0, 2, 3}>"
        '{ y = ScatterElements <axis = 1, reduction = "add"> (x, i, u) }',
        "Add(x, ScatterElements(ConstantOfShape(Shape(x)), [[0] [2] [3]], u, axis=1, reduction=add))",
    ),
    image(
        "DepthToSpace <blocksize = 2> (x)",
        "Reshape(Transpose(Reshape(x, Concat({0}, [2 2], [1], {1}, {2}, axis=0)), perm=[0 3 4 1 5 2]), "
        "Concat({0}, [1], Mul({1}, [2]), Mul({2}, [2]), axis=0))".format(*BLOCKS),
        size="H, W",
    ),
    image(
        'DepthToSpace <blocksize = 2, mode = "CRD"> (x)',
        "Reshape(Transpose(Reshape(x, Concat({0}, [1], [2 2], {1}, {2}, axis=0)), perm=[0 1 4 2 5 3]), "
        "Concat({0}, [1], Mul({1}, [2]), Mul({2}, [2]), axis=0))".format(*BLOCKS),
        size="H, W",
    ),
    image(
        "SpaceToDepth <blocksize = 2> (x)",
        "Reshape(Transpose(Reshape(x, Concat({0}, Shape(x, end=2, start=1), Div({1}, [2]), [2], Div({2}, [2]), [2], "
        "axis=0)), perm=[0 3 5 1 2 4]), Concat({0}, [-1], Div({1}, [2]), Div({2}, [2]), axis=0))".format(*BLOCKS),
        size="H, 4",
    ),
]
