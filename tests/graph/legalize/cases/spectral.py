"""Fourier transforms."""

from __future__ import annotations

from tests.graph.legalize.cases.case import Case

CASES = [
    Case(
        "(float[N,5,3,1] x) => (float[] y) { y = DFT (x) }",
        path="Transpose Reshape MatMul Reshape Transpose",
        opset=17,
        tolerance=1e-06,
        elsewhere=False,
    ),
    Case(
        "(float[N,5,3,1] x) => (float[] y) <int64 n = {8}> { y = DFT (x, n) }",
        path="Transpose Reshape MatMul Reshape Transpose",
        opset=17,
        tolerance=1e-06,
        elsewhere=False,
    ),
    Case(
        "(float[N,5,3,1] x) => (float[] y) <int64 n = {3}> { y = DFT (x, n) }",
        path="Transpose Slice Reshape MatMul Reshape Transpose",
        opset=17,
        tolerance=1e-06,
        elsewhere=False,
    ),
    Case(
        "(float[N,5,3,2] x) => (float[] y) { y = DFT (x) }",
        path="Transpose Reshape MatMul Reshape Transpose",
        opset=17,
        tolerance=1e-06,
        elsewhere=False,
    ),
    Case(
        "(float[N,5,3,2] x) => (float[] y) <int64 n = {8}> { y = DFT (x, n) }",
        path="Transpose Reshape MatMul Reshape Transpose",
        opset=17,
        tolerance=1e-06,
        elsewhere=False,
    ),
    Case(
        "(float[N,5,3,2] x) => (float[] y) <int64 n = {3}> { y = DFT (x, n) }",
        path="Transpose Slice Reshape MatMul Reshape Transpose",
        opset=17,
        tolerance=1e-06,
        elsewhere=False,
    ),
    Case(
        "(float[N,5,3,1] x) => (float[] y) { y = DFT <inverse = 1> (x) }",
        path="Transpose Reshape MatMul Reshape Transpose",
        opset=17,
        tolerance=1e-06,
        elsewhere=False,
    ),
    Case(
        "(float[N,5,3,1] x) => (float[] y) <int64 n = {8}> { y = DFT <inverse = 1> (x, n) }",
        path="Transpose Reshape MatMul Reshape Transpose",
        opset=17,
        tolerance=1e-06,
        elsewhere=False,
    ),
    Case(
        "(float[N,5,3,1] x) => (float[] y) <int64 n = {3}> { y = DFT <inverse = 1> (x, n) }",
        path="Transpose Slice Reshape MatMul Reshape Transpose",
        opset=17,
        tolerance=1e-06,
        elsewhere=False,
    ),
    Case(
        "(float[N,5,3,2] x) => (float[] y) { y = DFT <inverse = 1> (x) }",
        path="Transpose Reshape MatMul Reshape Transpose",
        opset=17,
        tolerance=1e-06,
        elsewhere=False,
    ),
    Case(
        "(float[N,5,3,2] x) => (float[] y) <int64 n = {8}> { y = DFT <inverse = 1> (x, n) }",
        path="Transpose Reshape MatMul Reshape Transpose",
        opset=17,
        tolerance=1e-06,
        elsewhere=False,
    ),
    Case(
        "(float[N,5,3,2] x) => (float[] y) <int64 n = {3}> { y = DFT <inverse = 1> (x, n) }",
        path="Transpose Slice Reshape MatMul Reshape Transpose",
        opset=17,
        tolerance=1e-06,
        elsewhere=False,
    ),
    Case(
        "(float[N,5,3,1] x) => (float[] y) { y = DFT <onesided = 1> (x) }",
        path="Transpose Reshape MatMul Reshape Transpose",
        opset=17,
        tolerance=1e-06,
        elsewhere=False,
    ),
    Case(
        "(float[N,5,3,1] x) => (float[] y) <int64 n = {8}> { y = DFT <onesided = 1> (x, n) }",
        path="Transpose Reshape MatMul Reshape Transpose",
        opset=17,
        tolerance=1e-06,
        elsewhere=False,
    ),
    Case(
        "(float[N,5,3,1] x) => (float[] y) <int64 n = {3}> { y = DFT <onesided = 1> (x, n) }",
        path="Transpose Slice Reshape MatMul Reshape Transpose",
        opset=17,
        tolerance=1e-06,
        elsewhere=False,
    ),
    Case(
        "(float[N,5,3,2] x) => (float[] y) { y = DFT <axis = 2> (x) }",
        (
            "Reshape(MatMul(Reshape(x, Concat(Shape(x, end=-2), [6], axis=0)), float32[6, 6]), "
            "Concat(Shape(x, end=-2), [3 2], axis=0))"
        ),
        opset=17,
        tolerance=1e-06,
        elsewhere=False,
    ),
    Case(
        "(float[4,5,3,1] x) => (float[] y) { y = DFT <axis = 0, onesided = 1> (x) }",
        path="Transpose Reshape MatMul Reshape Transpose",
        opset=17,
        tolerance=1e-06,
        elsewhere=False,
    ),
    Case(
        "(float[4,5,3,1] x) => (float[] y) { y = DFT <axis = -2> (x) }",
        (
            "Reshape(MatMul(Reshape(x, Concat(Shape(x, end=-2), [3], axis=0)), float32[3, 6]), "
            "Concat(Shape(x, end=-2), [3 2], axis=0))"
        ),
        opset=17,
        tolerance=1e-06,
        elsewhere=False,
    ),
    Case(
        "(float[N,5,3,1] x) => (float[] y) { y = DFT (x) }",
        path="Transpose Reshape MatMul Reshape Transpose",
        tolerance=1e-06,
        elsewhere=False,
    ),
    Case(
        "(float[N,5,3,1] x) => (float[] y) { y = DFT (x) }",
        (
            "Reshape(MatMul(Reshape(x, Concat(Shape(x, end=-2), [3], axis=0)), float32[3, 6]), "
            "Concat(Shape(x, end=-2), [3 2], axis=0))"
        ),
        opset=21,
        tolerance=1e-06,
        elsewhere=False,
    ),
    Case(
        "(float[N,5,3,1] x) => (float[] y) { y = DFT <onesided = 1> (x) }",
        (
            "Reshape(MatMul(Reshape(x, Concat(Shape(x, end=-2), [3], axis=0)), float32[3, 4]), "
            "Concat(Shape(x, end=-2), [2 2], axis=0))"
        ),
        opset=20,
        tolerance=1e-06,
        elsewhere=False,
    ),
    Case(
        "(float[N,5,3,1] x) => (float[] y) <int64 a = {1}> { y = DFT (x, , a) }",
        path="Transpose Reshape MatMul Reshape Transpose",
        opset=20,
        tolerance=1e-06,
        elsewhere=False,
    ),
    Case(
        ("(float[N,5,3,1] x) => (float[] y) <int64 n = {8}, int64 a = {-3}> { y = DFT <inverse = 1> (x, n, a) }"),
        path="Transpose Reshape MatMul Reshape Transpose",
        opset=20,
        tolerance=1e-06,
        elsewhere=False,
    ),
    Case(
        ("(float[N,20,1] x, float[8] w) => (float[] y) <int64 s = {4}, int64 l = {8}> { y = STFT (x, s, w, l) }"),
        path="Gather Reshape Mul Reshape MatMul Reshape",
        opset=17,
        tolerance=1e-06,
    ),
    Case(
        ("(float[N,20,1] x, float[8] w) => (float[] y) <int64 s = {3}> { y = STFT <onesided = 0> (x, s, w) }"),
        path="Gather Reshape Mul Reshape MatMul Reshape",
        opset=17,
        tolerance=1e-06,
    ),
    Case(
        ("(float[N,20,2] x) => (float[] y) <int64 s = {3}, int64 l = {6}> { y = STFT <onesided = 0> (x, s, , l) }"),
        path="Gather Reshape MatMul Reshape",
        opset=17,
        runs=False,
        tolerance=1e-06,
    ),
    Case(
        "(float[N,H,1] x, float[4] w) => (float[] y) <int64 s = {2}> { y = STFT (x, s, w) }",
        path="Gather Reshape Mul Reshape MatMul Reshape",
        opset=17,
        tolerance=1e-06,
    ),
]
