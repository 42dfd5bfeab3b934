"""Reductions."""

from __future__ import annotations

from tests.graph.legalize.cases.case import Case

VALUES = {"x": [[[1, 3, 2], [4, 1.5, 0.5]], [[0.3, 0.7, 2.5], [1.2, 2.2, 0.1]]]}


def extreme(name: str, axes: str, keepdims: int) -> str:
    chosen = f"Equal(x, {name}(x, {axes}keepdims=1))"
    total = f"ReduceSum(Where({chosen}, x, 0), {axes}keepdims={keepdims})"
    return f"Div({total}, ReduceSum(Cast({chosen}, to=1), {axes}keepdims={keepdims}))"


NAMES = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")


def reduced(name: str, axes: str, keepdims: int) -> str | None:
    """What becomes of Reduce*name* over the constant *axes*: "[1], ", or "" for all."""
    named = axes or "[0 1 2], "
    squeezed = "{0}" if keepdims else f"Squeeze({{0}}, {named[:-2]})"

    def total(x: str, op_type: str = "ReduceSum") -> str:
        return f"{op_type}({x}, {axes}keepdims={keepdims})"

    return {
        "L1": total("Abs(x)"),
        "L2": squeezed.format(f"ReduceL2(x, {named}keepdims=1)"),
        "LogSum": f"Log({total('x')})",
        "LogSumExp": squeezed.format(f"ReduceLogSumExp(x, {named}keepdims=1)"),
        "Max": extreme("ReduceMax", axes, keepdims),
        "Mean": total("x", "ReduceMean"),
        "Min": extreme("ReduceMin", axes, keepdims),
        "Prod": squeezed.format(f"ReduceProd(x, {named[:-2]})"),
        "Sum": total("x"),
        "SumSquare": total("Pow(x, 2)"),
    }[name]


def of_both_forms(name: str, axes: str, keepdims: int) -> list[Case]:
    """With the axes as an input and, where the operator had that, as an attribute."""
    written = axes and f"[{', '.join(axes.split())}]"
    expected = reduced(name, axes and f"[{axes}], ", keepdims)
    constant = f"<int64[{len(axes.split())}] a = {{{written[1:-1]}}}> " if axes else ""
    cases = [
        Case(
            f"(float[N, 2, 3] x) => (float[] y) {constant}"
            f"{{ y = Reduce{name} <keepdims = {keepdims}> (x{', a' if axes else ''}) }}",
            expected,
            given=VALUES,
        )
    ]
    if axes and name != "Sum":
        cases += [
            Case(
                "(float[N, 2, 3] x) => (float[] y) "
                f"{{ y = Reduce{name} <axes = {written}, keepdims = {keepdims}> (x) }}",
                expected,
                opset=opset,
                given=VALUES,
                elsewhere=False,
            )
            for opset in (13, 17)
        ]
    return cases


CASES = [
    *(
        case
        for name in NAMES
        for axes, keepdims in (("1", 1), ("-1 1", 0), ("", 1), ("", 0))
        for case in of_both_forms(name, axes, keepdims)
    ),
    *(
        Case(
            f"(float[N, 2, 3] x) => (float[] y) <int64[0] e = {{}}> {{ y = Reduce{name} <keepdims = 0> (x, e) }}",
            reduced(name, "", 0),
            given=VALUES,
        )
        for name in NAMES
    ),
    *(
        Case(
            f"(float[N, 2, 3] x) => (float[] y) {constant}{{ y = Reduce{name} <noop_with_empty_axes = 1> ({inputs}) }}",
            "Identity(x)",
            runs=runs,
        )
        for name in ("LogSumExp", "Max", "Mean", "Min", "Prod", "Sum")
        for constant, inputs, runs in (("", "x", False), ("<int64[0] e = {}> ", "x, e", True))
    ),
    *(
        Case(
            f"(float[N, 2, 3] x, int64[2] a) => (float[] y) {{ y = Reduce{name} <keepdims = 0> (x, a) }}",
            (reduced(name, "[a], ", 0) or "").replace("[a]", "a"),
            given=VALUES | {"a": [0, -1]},
        )
        for name in NAMES
    ),
    *(
        Case(
            "(float[N, 2, 3] x, int64[N] a) => (float[] y) <bool[2] c = {0, 1}> "
            f"{{ b = Compress (a, c) y = Reduce{name} <keepdims = 0> (x, b) }}",
            (reduced(name, "[a], ", 0) or "").replace("[a]", "Compress(a, [False True])"),
            given=VALUES | {"a": [0, -1]},
        )
        for name in NAMES
    ),
    *(
        Case(
            f"(float[N, 2, T] x) => (float[] y) <int64[2] b = {{1, -1}}> {{ y = ReduceProd {arguments} }}",
            expected,
            given={"x": [[[1, 0, 2], [0, 0, 3]], [[2, 3, 4], [0, 1, 2]]]},
        )
        for arguments, expected in (
            ("(x, b)", "ReduceProd(x, [1 -1])"),
            ("<keepdims = 0> (x)", "Squeeze(ReduceProd(x, [0 1 2]), [0 1 2])"),
        )
    ),
    *(
        Case(
            f"(float[N, T, 4] x) => (float[] y) <int64 a = {{-2}}> {{ y = CumSum <{attributes}> (x, a) }}",
            "CumSum(x, -2)",
        )
        for attributes in ("exclusive = 0", "exclusive = 1", "reverse = 1", "exclusive = 1, reverse = 1")
    ),
    Case("(float[N, T, 4] x, int32 a) => (float[] y) { y = CumSum (x, a) }", given={"a": 2}),
]
