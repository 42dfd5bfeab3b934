"""Operators that pick entries."""

from __future__ import annotations

from tests.graph.legalize.cases.case import Case

CASES = [
    Case("(float[N,6] x) => (float[] y) { a, b = Split <axis = 1, num_outputs = 2> (x) y = Mul (a, b) }"),
    Case("(float[N,5] x) => (float[] y) { a, y = Split <axis = 1, num_outputs = 2> (x) }", "Slice(x, [3], [6], [1])"),
    Case(
        (
            "(float[N,6] x) => (float[] y) { a, b = Split <axis = 1, num_outputs = 2> (x) s = Shape (b) "
            "y = Reshape (a, s) }"
        ),
        "Reshape(Slice(x, [0], [3], [1]), Shape(Slice(x, [3], [6], [1])))",
    ),
    Case(
        ("(float[N,6] x) => (float[] y) <int64[3] s = {1, 3, 2}> { a, y, b = Split <axis = -1> (x, s) }"),
        "Slice(x, [1], [4], [-1])",
    ),
    Case(
        "(float[N,T,5] x, int64[2] r) => (float[] y) { a, y = Split <axis = 2> (x, r) }",
        "Slice(x, Slice(Sub(CumSum(r, 0), r), [1], [2]), Slice(CumSum(r, 0), [1], [2]), [2])",
        given={"r": [2, 3]},
    ),
    Case(
        (
            "(float[N,T,5] x, int64[2] r) => (float[] y) { a, b = Split <axis = 2> (x, r) c = Tanh (a) y "
            "= Concat <axis = 2> (b, c) }"
        ),
        given={"r": [2, 3]},
    ),
    Case(
        "(float[N,W] x) => (float[] y) { a, b, y = Split <axis = 1, num_outputs = 3> (x) }",
        (
            "Slice(x, Mul(Div(Add(Slice(Shape(x), [1], [2], [0]), [2]), [3]), [2]), "
            "Mul(Div(Add(Slice(Shape(x), [1], [2], [0]), [2]), [3]), [3]), [1])"
        ),
    ),
    Case(
        (
            "(float[N,7] x) => (float[] y) { a, b, c = Split <axis = -1, num_outputs = 3> (x) y = Concat "
            "<axis = -1> (c, b) }"
        ),
        "Concat(Slice(x, [6], [9], [-1]), Slice(x, [3], [6], [-1]), axis=-1)",
    ),
    Case(
        "(float[N,W] x) => (float[] y) { a, b = Split <axis = 1, num_outputs = 2> (x) d = Tanh (a) y "
        "= Concat <axis = 1> (b, d) }"
    ),
    Case(
        "(float[6,T] x) => (float[] y) { a, b, c = Split (x) y = Mul (a, c) }",
        "Mul(Slice(x, [0], [2], [0]), Slice(x, [4], [6], [0]))",
        opset=13,
    ),
    Case(
        "(float[N,3,4] x) => (float[] y) <int64[1] s = {0}, int64[1] e = {9}, int64[1] a = {2}, "
        "int64[1] t = {2}> { y = Slice (x, s, e, a, t) }"
    ),
    Case("(float[N,3,4] x) => (float[] y) <int64[2] s = {0, 1}, int64[2] e = {2, -1}> { y = Slice (x, s, e) }"),
    Case(
        (
            "(float[N,3,4] x) => (float[] y) <int64[1] s = {-1}, int64[1] e = {-99}, int64[1] a = {2}, "
            "int64[1] t = {-1}> { y = Slice (x, s, e, a, t) }"
        ),
        path="Gather",
    ),
    Case(
        (
            "(float[N,3,4] x) => (float[] y) <int64[2] s = {2, 0}, int64[2] e = {0, 4}, int64[2] a = {1, "
            "-1}, int64[2] t = {-1, 2}> { y = Slice (x, s, e, a, t) }"
        ),
        path="Gather Gather",
    ),
    Case(
        ("(float[N,W] x, int64[1] s, int64[1] e) => (float[] y) <int64[1] a = {-1}> { y = Slice (x, s, e, a) }"),
        given={"s": [1], "e": [4]},
    ),
    Case(
        "(float[N,W] x, int64[1] s, int64[1] e, int64[1] a) => (float[] y) { y = Slice (x, s, e, a) }",
        given={"s": [1], "e": [4], "a": [1]},
    ),
    Case(
        (
            "(float[N,W] x, int64[1] s, int64[1] e, int64[1] t) => (float[] y) <int64[1] a = {-1}> { y = "
            "Slice (x, s, e, a, t) }"
        ),
        path="Gather",
        given={"s": [-1], "e": [-9], "t": [-2]},
    ),
    Case(
        (
            "(float[N,W] x) => (float[] y) <int64[2] s = {-1, 9}, int64[2] e = {-99, -99}, int64[2] t = "
            "{-1, -2}> { y = Slice (x, s, e, , t) }"
        ),
        path="Gather Gather",
    ),
    Case(
        (
            "(float[N,6] x) => (float[] y) <int32[1] s = {-2}, int32[1] e = {1}, int32[1] a = {1}, "
            "int32[1] t = {-1}> { y = Slice (x, s, e, a, t) }"
        ),
        path="Gather",
    ),
    Case(
        "(float[N,6] x) => (float[] y) <int32[1] s = {-4}, int32[1] e = {5}, int32[1] a = {1}, "
        "int32[1] t = {2}> { y = Slice (x, s, e, a, t) }"
    ),
    Case("(float[N,3,4] x) => (float[] y) <int64[6] p = {0, 1, 2, 0, 0, 1}, float v = {2.5}> { y = Pad (x, p, v) }"),
    Case(
        (
            "(float[N,3,4] x) => (float[] y) <int64[2] p = {1, 2}, float v = {2.5}, int64[1] a = {-1}> { "
            "y = Pad (x, p, v, a) }"
        ),
        "Pad(x, [0 0 1 0 0 2], 2.5)",
    ),
    Case(
        ('(float[N,3,4] x) => (float[] y) <int64[6] p = {0, 1, 2, 0, 0, 1}> { y = Pad <mode = "reflect"> (x, p) }'),
        "Concat(Gather({0}, [2 1], axis=2), {0}, Gather({0}, [2], axis=2), axis=2)".format(
            "Concat(Gather(x, [1], axis=1), x, axis=1)"
        ),
    ),
    Case(
        (
            "(float[N,3,H,W] x) => (float[] y) <int64[8] p = {0, 0, 2, 1, 0, 0, 1, 0}> { y = Pad <mode = "
            '"reflect"> (x, p) }'
        ),
        path="Gather Gather Concat Gather Concat",
    ),
    Case(
        (
            "(float[N,H,W] x, int64[4] p) => (float[] y) <int64[2] a = {-1, 1}> { y = Pad <mode = "
            '"reflect"> (x, p, , a) }'
        ),
        path="Gather Gather",
        given={"p": [1, 0, 1, 2]},
    ),
    Case(
        ('(float[N,H,W] x) => (float[] y) <int64[6] p = {0, 2, -1, 0, -1, 2}> { y = Pad <mode = "reflect"> (x, p) }'),
        path="Gather Gather",
        original=(
            "(float[N,H,W] x) => (float[] y) <int64[6] p = {0, 2, 0, 0, 0, 2}, int64[2] s = {0, 1}, "
            "int64[2] e = {-1, 99}, int64[2] a = {1, 2}> { h = Slice (x, s, e, a) y = Pad <mode = "
            '"reflect"> (h, p) }'
        ),
    ),
    Case(
        ('(float[N,3,4] x) => (float[] y) <int64[6] p = {0, 1, 2, 0, 0, 1}> { y = Pad <mode = "edge"> (x, p) }'),
        "Concat(Gather({0}, [0 0], axis=2), {0}, Gather({0}, [3], axis=2), axis=2)".format(
            "Concat(Gather(x, [0], axis=1), x, axis=1)"
        ),
    ),
    Case(
        (
            "(float[N,3,H,W] x) => (float[] y) <int64[8] p = {0, 0, 2, 1, 0, 0, 1, 0}> { y = Pad <mode = "
            '"edge"> (x, p) }'
        ),
        path="Gather Gather Concat Gather Concat",
    ),
    Case(
        ('(float[N,H,W] x, int64[4] p) => (float[] y) <int64[2] a = {-1, 1}> { y = Pad <mode = "edge"> (x, p, , a) }'),
        path="Gather Gather",
        given={"p": [1, 0, 1, 2]},
    ),
    Case(
        ('(float[N,H,W] x) => (float[] y) <int64[6] p = {0, 2, -1, 0, -1, 2}> { y = Pad <mode = "edge"> (x, p) }'),
        path="Gather Gather",
        original=(
            "(float[N,H,W] x) => (float[] y) <int64[6] p = {0, 2, 0, 0, 0, 2}, int64[2] s = {0, 1}, "
            "int64[2] e = {-1, 99}, int64[2] a = {1, 2}> { h = Slice (x, s, e, a) y = Pad <mode = "
            '"edge"> (h, p) }'
        ),
    ),
    Case(
        ('(float[N,3,4] x) => (float[] y) <int64[6] p = {0, 1, 2, 0, 0, 1}> { y = Pad <mode = "wrap"> (x, p) }'),
        "Concat(Gather({0}, [2 3], axis=2), {0}, Gather({0}, [0], axis=2), axis=2)".format(
            "Concat(Gather(x, [2], axis=1), x, axis=1)"
        ),
        opset=19,
    ),
    Case(
        (
            "(float[N,3,H,W] x) => (float[] y) <int64[8] p = {0, 0, 2, 1, 0, 0, 1, 0}> { y = Pad <mode = "
            '"wrap"> (x, p) }'
        ),
        path="Gather Gather Concat Gather Concat",
        opset=19,
    ),
    Case(
        ('(float[N,H,W] x, int64[4] p) => (float[] y) <int64[2] a = {-1, 1}> { y = Pad <mode = "wrap"> (x, p, , a) }'),
        path="Gather Gather",
        opset=19,
        given={"p": [1, 0, 1, 2]},
    ),
    Case(
        ('(float[N,H,W] x) => (float[] y) <int64[6] p = {0, 2, -1, 0, -1, 2}> { y = Pad <mode = "wrap"> (x, p) }'),
        path="Gather Gather",
        opset=19,
        original=(
            "(float[N,H,W] x) => (float[] y) <int64[6] p = {0, 2, 0, 0, 0, 2}, int64[2] s = {0, 1}, "
            "int64[2] e = {-1, 99}, int64[2] a = {1, 2}> { h = Slice (x, s, e, a) y = Pad <mode = "
            '"wrap"> (h, p) }'
        ),
    ),
    Case("(float[N,H,W] x, int64[6] p) => (float[] y) { y = Pad (x, p) }", given={"p": [0, 1, 0, 1, 2, 0]}),
    Case(
        "(float[N,H,W] x, int64[4] p) => (float[] y) <int64[2] a = {-1, 1}> { y = Pad (x, p, , a) }",
        "Pad(x, ScatterElements([0 0 0 0 0 0], [2 1 5 4], p))",
        given={"p": [1, 0, 1, 2]},
    ),
    Case(
        ("(float[N,H,W] x) => (float[] y) <int64[6] p = {0, -1, 0, 0, 2, -2}, float v = {2}> { y = Pad (x, p, v) }"),
        original=(
            "(float[N,H,W] x) => (float[] y) <int64[6] p = {0, 0, 0, 0, 2, 0}, float v = {2}, int64[2] s "
            "= {1, 0}, int64[2] e = {99, -2}, int64[2] a = {1, 2}> { h = Slice (x, s, e, a) y = Pad (h, "
            "p, v) }"
        ),
    ),
    Case(
        "(float[N,H,W] x, int64[6] p, float v) => (float[] y) { y = Pad (x, p, v) }",
        path="Pad Expand Expand Expand Where",
        given={"p": [0, 1, 0, 1, 2, 0]},
    ),
    Case(
        ("(float[N,H,W] x, float v) => (float[] y) <int64[2] p = {1, 2}, int64[1] a = {1}> { y = Pad (x, p, v, a) }"),
        path="Pad Expand Expand Expand Where",
    ),
    Case(
        "(float[N,H,W] x, int64[6] p, float v) => (float[] y) { y = Pad (x, p, v) }",
        given={"p": [0, 1, 0, 1, 2, 0]},
        untrained=("v",),
    ),
    Case(
        "(float[4,3] x, bool[3] c) => (float[] y) { y = Compress <axis = 0> (x, c) }",
        "Gather(x, Squeeze(NonZero(c), [0]), axis=0)",
        given={"c": [True, False, True]},
    ),
    Case(
        "(float[4,3] x, bool[3] c) => (float[] y) { y = Compress <axis = -1> (x, c) }",
        "Gather(x, Squeeze(NonZero(c), [0]), axis=-1)",
        given={"c": [True, False, True]},
    ),
    Case(
        "(float[4,3] x, bool[3] c) => (float[] y) { y = Compress (x, c) }",
        "Gather(Reshape(x, [-1]), Squeeze(NonZero(c), [0]))",
        given={"c": [True, False, True]},
    ),
    Case(
        "(float[N,T] x) => (float[] y) <bool[2] c = {0, 1}> { y = Compress <axis = 1> (x, c) }",
        "Gather(x, Squeeze(NonZero([False True]), [0]), axis=1)",
    ),
    Case(
        "(float[4,N,3] x, int64[N] l) => (float[] y) { y = ReverseSequence (x, l) }",
        path="GatherElements",
        given={"l": [3, 1]},
    ),
    Case(
        (
            "(float[N,T,2,2] x, int64[N] l) => (float[] y) { y = ReverseSequence <batch_axis = 0, "
            "time_axis = 1> (x, l) }"
        ),
        path="GatherElements",
        given={"l": [3, 2]},
    ),
    Case(
        "(float[2] v, int64[N,3] i) => (float[] y) <int64 d = {4}> { y = OneHot (i, d, v) }",
        "Gather(v, OneHot(i, 4, [0 1]))",
        given={"i": [[0, 3, -1], [1, -4, 9]]},
    ),
    Case(
        ("(float[2] v, int64[N,3] i) => (float[] y) <int64 d = {4}> { y = OneHot <axis = 1> (i, d, v) }"),
        "Gather(v, OneHot(i, 4, [0 1], axis=1))",
        given={"i": [[0, 3, -1], [1, 2, 0]]},
    ),
    Case(
        (
            "(float[N,3] x, int64[N] i) => (float[] y) <int64 d = {3}, float[2] v = {0, 2}> { h = OneHot "
            "(i, d, v) y = Mul (h, x) }"
        ),
        given={"i": [2, 0]},
    ),
    Case(
        "(float[7] x) => (float[] y) { y, a, b, c = Unique (x) }",
        "Gather(Reshape(x, [-1]), Unique(x).1, axis=0)",
        given={"x": [3, 1, 4, 2, 7, 5, 0]},
    ),
    Case("(float[3,2] x) => (float[] y) { y, i = Unique <axis = 0> (x) }", "Gather(x, Unique(x, axis=0).1, axis=0)"),
    Case(
        "(float s, float d) => (float[] y) <float l = {4}> { y = Range (s, l, d) }",
        "Add(s, Mul(Cast(Range(0, Size(Range(s, 4, d)), 1), to=1), d))",
        given={"s": 0.3, "d": 0.9},
    ),
    Case("(float[N,5] x, float z) => (float[] y) { y = CastLike (x, z) }", "Cast(x, to=1)", untrained=("z",)),
    Case(
        "(float[N,5] x, float z) => (float[] y) { h = CastLike (x, z) y = Exp (h) }",
        "Exp(Cast(x, to=1))",
        untrained=("z",),
    ),
    Case("(float[N,3,4] x) => (float[] y) <int64[2, 2] i = {0, 2, -1, 2}> { y = Gather <axis = 1> (x, i) }"),
    Case("(float[5,4] x, int32[N,T] i) => (float[] y) { y = Gather (x, i) }", given={"i": [[-1, 0, 2], [2, -5, 1]]}),
    Case("(float[5,4] x) => (float[] y) <int64 i = {-2}> { y = Gather <axis = 1> (x, i) }"),
    Case(
        "(float[N,3,4] x) => (float[] y) <int64[2, 3, 1] i = {0, 1, 2, 3, -1, 0}> { y = "
        "GatherElements <axis = 2> (x, i) }"
    ),
    Case(
        "(float[3,4] x, int32[3,2] i) => (float[] y) { y = GatherElements <axis = 1> (x, i) }",
        given={"i": [[-1, 0], [2, -3], [1, 1]]},
    ),
    Case("(float[N,3,4] x) => (float[] y) <int64[2, 1] i = {2, 0}> { y = GatherND <batch_dims = 1> (x, i) }"),
    Case("(float[4,3,2] x) => (float[] y) <int64[2,2] i = {-1, 0, -1, -2}> { y = GatherND (x, i) }"),
    Case(
        "(float[N,3,2] x, int64[N,1] i) => (float[] y) { y = GatherND <batch_dims = 1> (x, i) }",
        given={"i": [[-1], [0]]},
    ),
    Case("(float[N,5] x) => (float[] y) <int64[1] k = {2}> { y, i = TopK (x, k) }"),
    Case("(float[N,5] x) => (float[] y) <int64[1] k = {2}> { y, i = TopK <axis = -1, largest = 0> (x, k) }"),
    Case("(float[5,T] x, int64[1] k) => (float[] y) { y, i = TopK <axis = 0> (x, k) }", given={"k": [2]}),
    Case(
        "(float[N,5] x) => (float[] y) <int64[1] k = {2}> { v, i = TopK (x, k) g = GatherElements "
        "<axis = 1> (x, i) y = Mul (v, g) }"
    ),
]
