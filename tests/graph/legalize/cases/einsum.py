"""Einsum in all its forms."""

from __future__ import annotations

from tests.graph.legalize.cases.case import Case

CASES = [
    Case('(float[3,4] a, float[4,5] b) => (float[] y) { y = Einsum <equation = "ij,jk->ik"> (a, b) }', "MatMul(a, b)"),
    Case('(float[3,4] a, float[4,5] b) => (float[] y) { y = Einsum <equation = "ij,jk"> (a, b) }', "MatMul(a, b)"),
    Case(
        ('(float[3,4] a, float[4,5] b) => (float[] y) { y = Einsum <equation = " i j , j k -> i k "> (a, b) }'),
        "MatMul(a, b)",
    ),
    Case(
        '(float[3,4] a, float[4,2] b) => (float[] y) { y = Einsum <equation = "Ab,bC->CA"> (a, b) }',
        "Transpose(MatMul(a, b), perm=[1 0])",
    ),
    Case(
        '(float[3,4] a, float[3,4] b) => (float[] y) { y = Einsum <equation = "bA,aB"> (a, b) }',
        "Transpose(Mul(Unsqueeze(a, [2 3]), Unsqueeze(b, [0 1])), perm=[1 3 2 0])",
        runs=False,
    ),
    Case(
        ('(float[N,2,T,4] a, float[N,2,K,4] b) => (float[] y) { y = Einsum <equation = "bhqd,bhkd->bhqk"> (a, b) }'),
        "MatMul(a, Transpose(b, perm=[0 1 3 2]))",
    ),
    Case(
        ('(float[N,2,T,K] a, float[N,2,K,4] b) => (float[] y) { y = Einsum <equation = "bhqk,bhkd->bqhd"> (a, b) }'),
        "Transpose(MatMul(a, b), perm=[0 2 1 3])",
    ),
    Case(
        ('(float[N,T,4] a, float[N,T,3] b) => (float[] y) { y = Einsum <equation = "nct,ncp->ntp"> (a, b) }'),
        "MatMul(Transpose(a, perm=[0 2 1]), b)",
    ),
    Case(
        ('(float[N,3,4] a, float[4,5] b) => (float[] y) { y = Einsum <equation = "...ij,jk->...ik"> (a, b) }'),
        "MatMul(a, b)",
    ),
    Case(
        ('(float[N,T,2,3] a, float[2,3,4] b) => (float[] y) { y = Einsum <equation = "blhd,hdm->blm"> (a, b) }'),
        (
            "Reshape(MatMul(Reshape(a, [-1 6]), Reshape(b, [6 -1])), Concat(Shape(a, end=2, start=0), "
            "Shape(b, end=3, start=2), axis=0))"
        ),
    ),
    Case(
        ('(float[N,4] a, float[4,2,3] b) => (float[] y) { y = Einsum <equation = "bl,lhd->bhd"> (a, b) }'),
        ("Reshape(MatMul(a, Reshape(b, [4 -1])), Concat(Shape(a, end=1, start=0), Shape(b, end=3, start=1), axis=0))"),
    ),
    Case(
        '(float[4] a, float[4] b) => (float[] y) { y = Einsum <equation = "i,i->"> (a, b) }',
        "Squeeze(MatMul(Unsqueeze(a, [-2]), Unsqueeze(b, [-1])), [-2 -1])",
    ),
    Case(
        '(float[3,4] a, float[3,4] b) => (float[] y) { y = Einsum <equation = "ij,ij->"> (a, b) }',
        ("Squeeze(MatMul(Unsqueeze(Reshape(a, [-1]), [-2]), Unsqueeze(Reshape(b, [-1]), [-1])), [-2 -1])"),
    ),
    Case(
        '(float[3,4] a, float[2,2] b) => (float[] y) { y = Einsum <equation = "ij,kl->"> (a, b) }',
        "Mul(ReduceSum(a, [0 1], keepdims=0), ReduceSum(b, [0 1], keepdims=0))",
        tolerance=1e-6,
    ),
    Case(
        '(float[N,4] a, float[N,4] b) => (float[] y) { y = Einsum <equation = "ab,ab->a"> (a, b) }',
        "Squeeze(MatMul(Unsqueeze(a, [-2]), Unsqueeze(b, [-1])), [-2 -1])",
    ),
    Case('(float[N,4] a, float[N,4] b) => (float[] y) { y = Einsum <equation = "ab,ab->ab"> (a, b) }', "Mul(a, b)"),
    Case(
        '(float[N,3] a, float[N,4] b) => (float[] y) { y = Einsum <equation = "ab,ac->abc"> (a, b) }',
        "Mul(Unsqueeze(a, [2]), Unsqueeze(b, [1]))",
    ),
    Case(
        ('(float[N,T,3] a, float[N,T,4] b) => (float[] y) { y = Einsum <equation = "abc,abd->abcd"> (a, b) }'),
        "Mul(Unsqueeze(a, [3]), Unsqueeze(b, [2]))",
    ),
    Case(
        '(float[3] a, float[4] b) => (float[] y) { y = Einsum <equation = "i,j->ij"> (a, b) }',
        "Mul(Unsqueeze(a, [1]), Unsqueeze(b, [0]))",
    ),
    Case('(float[3,4] a) => (float[] y) { y = Einsum <equation = "ij->ji"> (a) }', "Transpose(a, perm=[1 0])"),
    Case('(float[3,4] a) => (float[] y) { y = Einsum <equation = "ba"> (a) }', "Transpose(a, perm=[1 0])"),
    Case('(float[3,4] a) => (float[] y) { y = Einsum <equation = "ij"> (a) }', "Identity(a)"),
    Case('(float[3,4] a) => (float[] y) { y = Einsum <equation = "ij->"> (a) }', "ReduceSum(a, [0 1], keepdims=0)"),
    Case('(float[N,4] a) => (float[] y) { y = Einsum <equation = "ij->j"> (a) }', "ReduceSum(a, [0], keepdims=0)"),
    Case(
        '(float[3,3] a) => (float[] y) { y = Einsum <equation = "ii->i"> (a) }',
        ("ReduceSum(Where(Equal(Unsqueeze([0 1 2], [1]), Unsqueeze([0 1 2], [0])), a, 0), [1], keepdims=0)"),
    ),
    Case(
        '(float[3,3] a) => (float[] y) { y = Einsum <equation = "ii->"> (a) }',
        (
            "ReduceSum(ReduceSum(Where(Equal(Unsqueeze([0 1 2], [1]), Unsqueeze([0 1 2], [0])), a, 0), "
            "[1], keepdims=0), [0], keepdims=0)"
        ),
    ),
    Case('(float[K,K] a) => (float[] y) { y = Einsum <equation = "ii"> (a) }', path="Expand Where ReduceSum ReduceSum"),
    Case('(float[K,K,3] a) => (float[] y) { y = Einsum <equation = "iij->ij"> (a) }', path="Expand Where ReduceSum"),
    Case(
        '(float[3,3,3] a) => (float[] y) { y = Einsum <equation = "iii->i"> (a) }',
        path="Where ReduceSum Where ReduceSum",
    ),
    Case(
        '(float[2,3,2,3] a) => (float[] y) { y = Einsum <equation = "ijij->ij"> (a) }',
        path="Where ReduceSum Where ReduceSum",
    ),
    Case(
        '(float[3,3] a, float[3,4] b) => (float[] y) { y = Einsum <equation = "ii,ij->j"> (a, b) }',
        (
            "Squeeze(MatMul(Unsqueeze(ReduceSum(Where(Equal(Unsqueeze([0 1 2], [1]), Unsqueeze([0 1 2], "
            "[0])), a, 0), [1], keepdims=0), [-2]), b), [-2])"
        ),
    ),
    Case(
        '(float[2,3,4] a) => (float[] y) { y = Einsum <equation = "...ij->...ji"> (a) }', "Transpose(a, perm=[0 2 1])"
    ),
    Case(
        ('(float[2,3,4] a, float[2,4,5] b) => (float[] y) { y = Einsum <equation = "...ij,...jk->...ik"> (a, b) }'),
        "MatMul(a, b)",
    ),
    Case(
        ('(float[2,1,3,4] a, float[5,4,2] b) => (float[] y) { y = Einsum <equation = "...ij,...jk"> (a, b) }'),
        path="Transpose Reshape MatMul Reshape Transpose",
        runs=False,
    ),
    Case(
        ('(float[3,2,4] a, float[3,4] b) => (float[] y) { y = Einsum <equation = "i...,i...->..."> (a, b) }'),
        (
            "Transpose(Squeeze(MatMul(Transpose(a, perm=[2 1 0]), Unsqueeze(Transpose(b, perm=[1 0]), "
            "[-1])), [-1]), perm=[1 0])"
        ),
        runs=False,
    ),
    Case(
        '(float[2,3] a, float[3] b) => (float[] y) { y = Einsum <equation = "...,...->..."> (a, b) }',
        "Mul(a, Unsqueeze(b, [0]))",
        runs=False,
    ),
    Case(
        '(float[2,3] a, float b) => (float[] y) { y = Einsum <equation = "...,->..."> (a, b) }',
        "Mul(a, Unsqueeze(b, [0 1]))",
    ),
    Case('(float a, float b) => (float[] y) { y = Einsum <equation = ",->"> (a, b) }', "Mul(a, b)"),
    Case('(float a) => (float[] y) { y = Einsum <equation = "->"> (a) }', "Identity(a)"),
    Case(
        (
            "(float[3,4] a, float[4,5] b, float[5,2] c) => (float[] y) { y = Einsum <equation = "
            '"ij,jk,kl->il"> (a, b, c) }'
        ),
        "MatMul(MatMul(a, b), c)",
    ),
    Case(
        ('(float[3] a, float[4] b, float[2] c) => (float[] y) { y = Einsum <equation = "i,j,k->kji"> (a, b, c) }'),
        (
            "Transpose(Mul(Unsqueeze(Mul(Unsqueeze(a, [1]), Unsqueeze(b, [0])), [2]), Unsqueeze(c, [0 "
            "1])), perm=[2 1 0])"
        ),
    ),
    Case(
        ('(float[3] a, float[3,4] b, float[4] c) => (float[] y) { y = Einsum <equation = "i,ij,j->"> (a, b, c) }'),
        ("Squeeze(MatMul(Unsqueeze(Squeeze(MatMul(Unsqueeze(a, [-2]), b), [-2]), [-2]), Unsqueeze(c, [-1])), [-2 -1])"),
    ),
    Case(
        (
            "(float[N,3,4] a, float[N,4,T] b, float[N,T] c) => (float[] y) { y = Einsum <equation = "
            '"bij,bjk,bk->bi"> (a, b, c) }'
        ),
        "Squeeze(MatMul(MatMul(a, b), Unsqueeze(c, [-1])), [-1])",
    ),
    Case(
        (
            "(float[2,T,4] a, float[4,5] b, float[T] c) => (float[] y) { y = Einsum <equation = "
            '"abc,cd,b->ad"> (a, b, c) }'
        ),
        path="MatMul Transpose Reshape Unsqueeze MatMul Squeeze Reshape",
    ),
    Case(
        (
            "(float[N,3] a, float[4,3,2] b, float[N,2] c) => (float[] y) { y = Einsum <equation = "
            '"bn,anm,bm->ba"> (a, b, c) }'
        ),
        path="Transpose Reshape MatMul Reshape Unsqueeze MatMul Squeeze",
    ),
    Case(
        ('(float[2,3,2,2] a, float[2,2,3,2] b) => (float[] y) { y = Einsum <equation = "abcd,cdef->abef"> (a, b) }'),
        (
            "Reshape(MatMul(Reshape(a, [6 -1]), Reshape(b, [4 -1])), Concat(Shape(a, end=2, start=0), "
            "Shape(b, end=4, start=2), axis=0))"
        ),
    ),
    Case(
        ('(float[N,T,K,2] a, float[K,2,3,T] b) => (float[] y) { y = Einsum <equation = "abcd,cdef->fabe"> (a, b) }'),
        path="Reshape Reshape MatMul Reshape Transpose",
    ),
    Case(
        ('(float[N,3,T,K] a, float[N,5,T,K] b) => (float[] y) { y = Einsum <equation = "abcd,aecd->aeb"> (a, b) }'),
        ("Transpose(MatMul(Reshape(a, [0 3 -1]), Reshape(Transpose(b, perm=[0 2 3 1]), [0 -1 5])), perm=[0 2 1])"),
    ),
    Case(
        '(float[3,1] a, float[4,5] b) => (float[] y) { y = Einsum <equation = "ij,jk->ik"> (a, b) }',
        ("Mul(Unsqueeze(ReduceSum(a, [1], keepdims=0), [1]), Unsqueeze(ReduceSum(b, [0], keepdims=0), [0]))"),
    ),
    Case(
        '(float[3,4] a, float[1,5] b) => (float[] y) { y = Einsum <equation = "ij,jk->ik"> (a, b) }',
        ("Mul(Unsqueeze(ReduceSum(a, [1], keepdims=0), [1]), Unsqueeze(ReduceSum(b, [0], keepdims=0), [0]))"),
    ),
    Case(
        '(float[N,4] a, float[ONE,4] b) => (float[] y) { y = Einsum <equation = "ab,ab->ab"> (a, b) }',
        (
            "Mul(Reshape(a, Compress(Shape(a), GreaterOrEqual(Shape(a), 0))), Reshape(b, "
            "Compress(Shape(b), GreaterOrEqual(Shape(b), 0))))"
        ),
    ),
    Case(
        ('(float[ONE,3,4] a, float[N,4,2] b) => (float[] y) { y = Einsum <equation = "bij,bjk->bik"> (a, b) }'),
        (
            "MatMul(Reshape(a, Compress(Shape(a), GreaterOrEqual(Shape(a), 0))), Reshape(b, "
            "Compress(Shape(b), GreaterOrEqual(Shape(b), 0))))"
        ),
    ),
    Case('(float[4,4] a) => (float[] y) { y = Einsum <equation = "ij,jk->ik"> (a, a) }', "MatMul(a, Identity(a))"),
    Case(
        '(float[N,4] x) => (float[] y) { a = Tanh (x) y = Einsum <equation = "ij,ij->i"> (a, a) }',
        "Squeeze(MatMul(Unsqueeze(Tanh(x), [-2]), Unsqueeze(Tanh(x), [-1])), [-2 -1])",
    ),
]
