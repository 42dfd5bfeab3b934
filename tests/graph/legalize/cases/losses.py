"""Losses inside a model."""

from __future__ import annotations

from tests.graph.legalize.cases.case import Case

CASES = [
    Case(
        ('(float[N,5] x, int64[N] t) => (float[] y) { y = NegativeLogLikelihoodLoss <reduction = "none"> (x, t) }'),
        "Neg(Squeeze(GatherElements(x, Unsqueeze(Cast(t, to=7), [1]), axis=1), [1]))",
        given={"t": [4, 2]},
    ),
    Case(
        ('(float[N,5] x, int64[N] t) => (float[] y) { y = NegativeLogLikelihoodLoss <reduction = "sum"> (x, t) }'),
        ("ReduceSum(Neg(Squeeze(GatherElements(x, Unsqueeze(Cast(t, to=7), [1]), axis=1), [1])), keepdims=0)"),
        given={"t": [4, 2]},
    ),
    Case(
        ('(float[N,5] x, int64[N] t) => (float[] y) { y = NegativeLogLikelihoodLoss <reduction = "mean"> (x, t) }'),
        ("ReduceMean(Neg(Squeeze(GatherElements(x, Unsqueeze(Cast(t, to=7), [1]), axis=1), [1])), keepdims=0)"),
        given={"t": [4, 2]},
    ),
    Case(
        ("(float[N,5] x, int64[N] t, float[5] w) => (float[] y) { y = NegativeLogLikelihoodLoss (x, t, w) }"),
        path="GatherElements Squeeze Neg Gather Mul ReduceSum ReduceSum Div",
        given={"t": [4, 2]},
    ),
    Case(
        (
            "(float[N,5,T,2] x, int64[N,T,2] t, float[5] w) => (float[] y) { y = "
            'NegativeLogLikelihoodLoss <reduction = "none", ignore_index = 2> (x, t, w) }'
        ),
        path="GatherElements Squeeze Neg Mul Where",
        given={"t": [[[1, 2], [3, 4], [0, 2]], [[2, 2], [1, 0], [4, 3]]]},
        untrained=("w",),
    ),
    Case(
        (
            "(float[N,5,T,2] x, int64[N,T,2] t, float[5] w) => (float[] y) { y = "
            'NegativeLogLikelihoodLoss <reduction = "mean", ignore_index = 2> (x, t, w) }'
        ),
        path="GatherElements Squeeze Neg Mul Where ReduceSum Div",
        given={"t": [[[1, 2], [3, 4], [0, 2]], [[2, 2], [1, 0], [4, 3]]]},
        untrained=("w",),
    ),
    Case(
        (
            "(float[N,5,T,2] x, int64[N,T,2] t) => (float[] y) { y = NegativeLogLikelihoodLoss "
            "<ignore_index = 2> (x, t) }"
        ),
        path="GatherElements Squeeze Neg Where ReduceSum Div",
        given={"t": [[[1, 2], [3, 4], [0, 2]], [[2, 2], [1, 0], [4, 3]]]},
    ),
    Case(
        (
            "(float[N,5] x, int64[N] t) => (float[] y) { y = NegativeLogLikelihoodLoss <reduction = "
            '"sum", ignore_index = -1> (x, t) }'
        ),
        path="GatherElements Squeeze Neg Where ReduceSum",
        given={"t": [-1, 2]},
    ),
    Case(
        ('(float[N,5] x, int64[N] t) => (float[] y) { y = SoftmaxCrossEntropyLoss <reduction = "none"> (x, t) }'),
        ("Neg(Squeeze(GatherElements(LogSoftmax(x, axis=1), Unsqueeze(Cast(t, to=7), [1]), axis=1), [1]))"),
        given={"t": [4, 2]},
    ),
    Case(
        ('(float[N,5] x, int64[N] t) => (float[] y) { y = SoftmaxCrossEntropyLoss <reduction = "sum"> (x, t) }'),
        (
            "ReduceSum(Neg(Squeeze(GatherElements(LogSoftmax(x, axis=1), Unsqueeze(Cast(t, to=7), [1]), "
            "axis=1), [1])), keepdims=0)"
        ),
        given={"t": [4, 2]},
    ),
    Case(
        ('(float[N,5] x, int64[N] t) => (float[] y) { y = SoftmaxCrossEntropyLoss <reduction = "mean"> (x, t) }'),
        (
            "ReduceMean(Neg(Squeeze(GatherElements(LogSoftmax(x, axis=1), Unsqueeze(Cast(t, to=7), [1]), "
            "axis=1), [1])), keepdims=0)"
        ),
        given={"t": [4, 2]},
    ),
    Case(
        ("(float[N,5] x, int64[N] t, float[5] w) => (float[] y) { y = SoftmaxCrossEntropyLoss (x, t, w) }"),
        path="LogSoftmax GatherElements Squeeze Neg Gather Mul ReduceSum ReduceSum Div",
        given={"t": [4, 2]},
    ),
    Case(
        (
            "(float[N,5,T,2] x, int64[N,T,2] t, float[5] w) => (float[] y) { y = SoftmaxCrossEntropyLoss "
            '<reduction = "none", ignore_index = 2> (x, t, w) }'
        ),
        path="LogSoftmax GatherElements Squeeze Neg Mul Where",
        given={"t": [[[1, 2], [3, 4], [0, 2]], [[2, 2], [1, 0], [4, 3]]]},
        untrained=("w",),
    ),
    Case(
        (
            "(float[N,5,T,2] x, int64[N,T,2] t, float[5] w) => (float[] y) { y = SoftmaxCrossEntropyLoss "
            '<reduction = "mean", ignore_index = 2> (x, t, w) }'
        ),
        path="LogSoftmax GatherElements Squeeze Neg Mul Where ReduceSum Div",
        given={"t": [[[1, 2], [3, 4], [0, 2]], [[2, 2], [1, 0], [4, 3]]]},
        untrained=("w",),
    ),
    Case(
        ("(float[N,5,T,2] x, int64[N,T,2] t) => (float[] y) { y = SoftmaxCrossEntropyLoss <ignore_index = 2> (x, t) }"),
        path="LogSoftmax GatherElements Squeeze Neg Where ReduceSum Div",
        given={"t": [[[1, 2], [3, 4], [0, 2]], [[2, 2], [1, 0], [4, 3]]]},
    ),
    Case(
        (
            '(float[N,5] x, int64[N] t) => (float[] y) { y = SoftmaxCrossEntropyLoss <reduction = "sum", '
            "ignore_index = -1> (x, t) }"
        ),
        path="LogSoftmax GatherElements Squeeze Neg Where ReduceSum",
        given={"t": [-1, 2]},
    ),
    Case(
        (
            "(float[N,5] x, int64[N] t, float[5] w) => (float[] y) { y = NegativeLogLikelihoodLoss "
            "<ignore_index = -1> (x, t, w) }"
        ),
        path="GatherElements Squeeze Neg Mul Where ReduceSum Div",
        given={"t": [-1, 2]},
        untrained=("w",),
    ),
    Case(
        ("(float[N,5] x, int64[N] t) => (float[] y) { y = SoftmaxCrossEntropyLoss <ignore_index = -1> (x, t) }"),
        path="LogSoftmax GatherElements Squeeze Neg Where ReduceSum Div",
        given={"t": [-1, 2]},
    ),
    Case(
        ("(float[N,5] x, int64[N] t) => (float[] y) { l, p = SoftmaxCrossEntropyLoss (x, t) y = Mul (p, l) }"),
        (
            "Mul(LogSoftmax(x, axis=1), ReduceMean(Neg(Squeeze(GatherElements(LogSoftmax(x, axis=1), "
            "Unsqueeze(Cast(t, to=7), [1]), axis=1), [1])), keepdims=0))"
        ),
        given={"t": [4, 2]},
    ),
    Case(
        "(float[N,5] x, int32[N] t) => (float[] y) { l, y = SoftmaxCrossEntropyLoss (x, t) }",
        "LogSoftmax(x, axis=1)",
        given={"t": [4, 2]},
    ),
]
