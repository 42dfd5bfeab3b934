"""Reductions."""

from __future__ import annotations

from tests.graph.legalize.cases.case import Case


def reduction(node: str, expected: str | None = None, opset: int = 18) -> Case:
    values = [[[1, 3, 2], [4, 1.5, 0.5]], [[0.3, 0.7, 2.5], [1.2, 2.2, 0.1]]]
    axes = "<int64[1] a = {1}, int64[2] b = {-1, 1}>"
    return Case(f"(float[N, 2, 3] x) => (float[] y) {axes} {{ y = {node} }}", expected, opset, given={"x": values})


def extreme(name: str, axes: str, keepdims: int) -> str:
    chosen = f"Equal(x, {name}(x, {axes}keepdims=1))"
    total = f"ReduceSum(Where({chosen}, x, 0), {axes}keepdims={keepdims})"
    return f"Div({total}, ReduceSum(Cast({chosen}, to=1), {axes}keepdims={keepdims}))"


CASES = [
    *(
        reduction(f"{name} {arguments}")
        for name in ("ReduceMean", "ReduceSum")
        for arguments in ("(x)", "(x, a)", "<keepdims = 0> (x, b)")
    ),
    reduction("ReduceMean <axes = [1], keepdims = 0> (x)", "ReduceMean(x, [1], keepdims=0)", opset=13),
    *(
        case
        for name in ("ReduceMax", "ReduceMin")
        for case in (
            reduction(f"{name} (x)", extreme(name, "", 1)),
            reduction(f"{name} <keepdims = 0> (x, b)", extreme(name, "[-1 1], ", 0)),
            reduction(f"{name} <axes = [1]> (x)", extreme(name, "[1], ", 1), opset=13),
        )
    ),
    *(
        case
        for name in ("ReduceL2", "ReduceLogSumExp")
        for case in (
            reduction(f"{name} (x, a)"),
            reduction(f"{name} <keepdims = 0> (x, b)", f"Squeeze({name}(x, [-1 1], keepdims=1), [-1 1])"),
            reduction(f"{name} <keepdims = 0> (x)", f"Squeeze({name}(x, [0 1 2], keepdims=1), [0 1 2])"),
        )
    ),
    reduction("ReduceL1 <keepdims = 0> (x, a)", "ReduceSum(Abs(x), [1], keepdims=0)"),
    reduction("ReduceSumSquare (x)", "ReduceSum(Pow(x, 2), keepdims=1)"),
    reduction("ReduceLogSum (x, b)", "Log(ReduceSum(x, [-1 1], keepdims=1))"),
]
