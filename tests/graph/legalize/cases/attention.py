"""Attention, ONNX Runtime's and ONNX's own: test_fused.py and test_opset.py try them."""

from __future__ import annotations

from typing import Any

from tests.graph.legalize.cases.case import Case

_WHOLE = "float[N, T, 8] x, float[8, 24] w, float[24] b"
_APART = "float[N, T, 8] q, float[N, K, 8] k, float[N, K, 4] v"
_EQUAL = "float[N, T, 8] q, float[N, T, 8] k, float[N, T, 8] v"
_PAST = ", float[N, 2, K, 4] a, float[N, 2, K, 4] c"
_GROUPS = "float[N, T, 32] q, float[N, T, 16] k, float[N, T, 16] v"
_TABLES = "float[8, {0}] c, float[8, {0}] s"
_MASK = {"m": [[1, 1, 0], [1, 0, 0]]}
_ENDS = "int32[2] l = {2, 2}, int32 n = {3}"  # of sequences: the last position; their length
POSITIONS = {"p": [[0, 1, 2], [3, 1, 2]]}


def attention(
    more: str = "", inputs: str = "", attributes: str = "", outputs: str = "y", whole: str = _WHOLE, **rest: Any
) -> Case:
    node = f"com.microsoft.Attention <num_heads = 2{attributes}> (x, w, b{inputs})"
    return Case(f"({whole}{more}) => (float[] y) {{ {outputs} = {node} }}", **rest)


def heads(inputs: str, node: str, attributes: str = "", outputs: str = "y", **more: Any) -> Case:
    call = f"com.microsoft.MultiHeadAttention <num_heads = 2{attributes}> ({node})"
    return Case(f"({inputs}) => (float[] y) {{ {outputs} = {call} }}", **more)


def rotary(inputs: str, size: int, attributes: str = "", first: bool = False) -> Case:
    positions = "int64[1] p" if first else "int64[N, T] p"
    node = f"com.microsoft.RotaryEmbedding <{attributes}> (x, p, c, s)".replace(" <>", "")
    tables = _TABLES.format(size)
    given = {"p": [2]} if first else POSITIONS
    return Case(f"({inputs}, {positions}, {tables}) => (float[] y) {{ y = {node} }}", given=given)


def grouped(inputs: str, node: str, attributes: str = "") -> Case:
    call = f"com.microsoft.GroupQueryAttention <num_heads = 4, kv_num_heads = 2{attributes}> ({node})"
    return Case(f"({inputs}) => (float[] y) <{_ENDS}> {{ y, d, e = {call} }}")


CORE = "Transpose MatMul Mul Softmax MatMul Transpose Reshape"
ATTENTION = [
    attention(
        path="MatMul Add Slice Slice Slice Reshape Transpose Reshape Transpose Reshape Transpose " + CORE,
    ),
    attention(", int32[N, T] m", ", m", given=_MASK),
    attention(", int32[N, T] m", ", m", ", unidirectional = 1", given=_MASK),
    attention(", int32[N, T] m", ", m", ", mask_filter_value = -5.0", given=_MASK),
    attention(
        ", int32[N, T, T] m", ", m", given={"m": [[[1, 1, 0], [0, 1, 1], [1, 0, 0]], [[1, 1, 1], [0, 1, 0], [0, 0, 1]]]}
    ),
    attention(", int32[N] m", ", m", given={"m": [2, 3]}),
    attention(", int32[4] m", ", m", given={"m": [3, 2, 1, 0]}),
    attention("", "", ", unidirectional = 1, scale = 0.3"),
    attention(", float[N, 2, T, T] r", ", , , r"),
    attention(", float[2, N, 2, K, 4] a", ", , a", outputs="y, d"),
    attention(
        ", float[2, N, 2, K, 4] a, int32[N, 7] m",
        ", m, a",
        ", unidirectional = 1",
        "y, d",
        given={"m": [[0, 1, 1, 1, 1, 0, 1], [1, 1, 1, 1, 1, 1, 1]]},
    ),
    attention(attributes=", qkv_hidden_sizes = [8, 8, 4]", whole="float[N, T, 8] x, float[8, 20] w, float[20] b"),
    heads(_EQUAL, "q, k, v"),
    heads(_APART, "q, k, v", path="Reshape Transpose Reshape Transpose Reshape Transpose " + CORE),
    heads(f"{_APART}, float[20] b", "q, k, v, b"),
    heads(f"{_EQUAL}, int32[N, T] m", "q, k, v, , m", ", unidirectional = 1, scale = 0.2", given=_MASK),
    heads(f"{_EQUAL}, int32[N] m", "q, k, v, , m", given={"m": [2, 3]}),
    heads(f"{_EQUAL}, float[N, 2, T, T] r", "q, k, v, , , r"),
    heads(f"{_EQUAL}{_PAST}", "q, k, v, , , , a, c", ", unidirectional = 1", "y, d, e"),
    heads("float[N, T, 8] q, float[N, 2, K, 4] k, float[N, 2, K, 4] v, float[24] b", "q, k, v, b"),
    grouped(_GROUPS, "q, k, v, , , l, n"),
    grouped("float[N, T, 64] q", "q, , , , , l, n", ", scale = 0.3"),
    grouped(_GROUPS, "q, k, v, , , l, n", ", local_window_size = 1"),
    *(
        grouped(
            f"{_GROUPS.replace('32', '64').replace('16', '32')}, {_TABLES.format(8)}",
            "q, k, v, , , l, n, c, s",
            f", do_rotary = 1, rotary_interleaved = {interleaved}",
        )
        for interleaved in (0, 1)
    ),
    *(
        case
        for interleaved in ("interleaved = 0", "interleaved = 1")
        for case in (
            rotary("float[N, 2, T, 4] x", 2, interleaved),
            rotary("float[N, T, 8] x", 2, f"{interleaved}, num_heads = 2", first=True),
            rotary("float[N, T, 12] x", 2, f"{interleaved}, num_heads = 2, rotary_embedding_dim = 4"),
        )
    ),
    rotary("float[N, T, 8] x", 4),
]
