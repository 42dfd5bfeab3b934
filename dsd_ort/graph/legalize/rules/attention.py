"""ONNX Runtime's attention operators, as matrix products and softmax.

With queries q [B, N, S, H], keys k [B, N, T, H] and values v [B, N, T, V] of N heads::

    y = softmax(scale · q·kᵀ + mask) · v        scale = 1/√H, where the node gives none

A mask is added, as ONNX Runtime's kernels do it: ``mask_filter_value`` at hidden positions, the most negative float32
at those that a causal query must not see.  Keys and values of earlier positions (past) stand in front of the new ones.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import reduce

import numpy as np
import onnx_ir as ir

from dsd_ort.rewrite.site import Site

_LOWEST = float(np.finfo(np.float32).min)
_USE_ONNX = "save the model without this fusion, or export it with past = none"


def attention(site: Site) -> Sequence[ir.Value]:
    """Projections, softmax(scale · q·kᵀ + mask) · v, heads side by side; com.microsoft's"""
    attributes = site.node.attributes
    x, weights = site.input(0), site.input(1)
    if attributes.get_int("do_rotary", 0) or attributes.get_int("past_present_share_buffer", 0):
        raise site.refusal("with rotary positions or a shared buffer does not run on the CPU", _USE_ONNX)
    sizes = attributes.get_ints("qkv_hidden_sizes", None)
    if sizes is None:
        sizes = [site.size(weights, 1) // 3] * 3
    bias = site.optional(2)
    if bias is None:
        raise site.refusal("without a bias ends ONNX Runtime's process on the CPU", _USE_ONNX)
    heads = attributes["num_heads"].as_int()
    projected = site.Add(site.MatMul(x, weights), bias)
    q, k, v = (_split_heads(site, part, heads) for part in _parts(site, projected, sizes))
    past, present = site.optional(4), []
    if past is not None:
        earlier = [site.Gather(past, i, axis=0) for i in range(2)]
        k, v = (site.Concat(old, new, axis=2) for old, new in zip(earlier, (k, v), strict=True))
    if len(site.node.outputs) > 1:
        present = [site.Concat(site.Unsqueeze(k, [0]), site.Unsqueeze(v, [0]), axis=0)]
    masks = [_hidden(site, site.optional(3), q, k), _causal(site, q, k), _given(site, x)]
    return _joined(site, _attend(site, (q, k, v), sizes[0] // heads, masks)), *present


def _parts(site: Site, x: ir.Value, sizes: Sequence[int]) -> Sequence[ir.Value]:
    """*x* in pieces of *sizes* along its last axis."""
    ends = np.cumsum([0, *sizes]).tolist()
    return [site.Slice(x, [begin], [end], [-1]) for begin, end in itertools.pairwise(ends)]


def onnx_attention(site: Site) -> Sequence[ir.Value]:
    """softmax(softcap(scale · q·kᵀ) + mask) · v"""
    attributes = site.node.attributes
    inputs = [site.input(i) for i in range(3)]
    together = site.rank(inputs[0]) == 3
    heads, shared = (
        attributes[name].as_int() if together else site.size(x, 1)
        for name, x in (("q_num_heads", inputs[0]), ("kv_num_heads", inputs[1]))
    )
    width = site.size(inputs[0], 2) // heads if together else site.size(inputs[0], 3)
    q, k, v = (
        _split_heads(site, x, n) if together else x for x, n in zip(inputs, (heads, shared, shared), strict=True)
    )
    past = site.optional(4), site.optional(5)
    k, v = (x if old is None else site.Concat(old, x, axis=2) for old, x in zip(past, (k, v), strict=True))
    present = site.Identity(k), site.Identity(v)
    k, v = (_repeated(site, x, heads // shared, heads) for x in (k, v))
    scale = attributes.get_float("scale", 1 / math.sqrt(width))
    scores = site.Mul(site.MatMul(q, site.Transpose(k, perm=[0, 1, 3, 2])), scale)
    if cap := attributes.get_float("softcap", 0.0):
        scores = site.Mul(site.Tanh(site.Div(scores, cap)), cap)
    mask = _onnx_mask(site, q, k)
    weights = site.Softmax(scores if mask is None else site.Add(scores, mask), axis=-1)
    if mask is not None:  # A query that sees no key gets 0.
        blind = site.LessOrEqual(site.ReduceMax(mask, [-1], keepdims=1), _LOWEST)
        weights = site.Where(blind, 0.0, weights)
    y = site.MatMul(weights, v)
    return _joined(site, y) if together else y, *present


def _onnx_mask(site: Site, q: ir.Value, k: ir.Value) -> ir.Value | None:
    """All masks of ONNX's Attention together, at least the most negative float32, so that no sum is undefined."""
    attributes = site.node.attributes
    given, lengths = site.optional(3), site.optional(6)
    left, right = (attributes.get_int(f"{side}_window_size", -1) for side in ("left", "right"))
    if attributes.get_int("is_causal", 0):
        right = 0
    seen: list[ir.Value] = []
    if max(left, right) >= 0:
        columns = _positions(site, k)
        rows = site.Unsqueeze(_positions(site, q), [1])  # [S, 1]
        if lengths is not None:  # [B, 1, S, 1]
            rows = site.Add(rows, site.Unsqueeze(site.Sub(lengths, _length(site, q)), [1, 2, 3]))
        elif (past := site.optional(4)) is not None:
            rows = site.Add(rows, _length(site, past))
        if right >= 0:
            seen.append(site.LessOrEqual(columns, site.Add(rows, right)))
        if left >= 0:
            seen.append(site.GreaterOrEqual(columns, site.Sub(rows, left)))
    if lengths is not None:
        seen.append(site.Less(_positions(site, k), site.Unsqueeze(lengths, [1, 2, 3])))
    terms = [site.Where(reduce(site.And, seen), 0.0, _LOWEST)] if seen else []
    if given is not None:
        terms.append(_onnx_term(site, given, k))
    if not terms:
        return None
    return terms[0] if len(terms) == 1 else site.Clip(site.Add(*terms), _LOWEST)


def _onnx_term(site: Site, mask: ir.Value, k: ir.Value) -> ir.Value:
    """The input ``attn_mask`` as a term of the length of *k*: keys behind its end are hidden."""
    is_flag = mask.dtype == ir.DataType.BOOL
    mask = site.Where(mask, 0.0, _LOWEST) if is_flag else site.Clip(mask, _LOWEST)
    missing = site.Sub(site.Shape(k, start=2, end=3), site.Shape(mask, start=-1))
    rank = site.rank(site.input(3))
    pads = site.Concat([0] * (2 * rank - 1), missing, axis=0)
    return site.Pad(mask, pads, np.asarray(_LOWEST, np.float32))


def _split_heads(site: Site, x: ir.Value, heads: int) -> ir.Value:
    """[B, S, N·H] → [B, N, S, H]"""
    return site.Transpose(site.Reshape(x, [0, 0, heads, -1]), perm=[0, 2, 1, 3])


def _joined(site: Site, x: ir.Value) -> ir.Value:
    """[B, N, S, H] → [B, S, N·H]"""
    return site.Reshape(site.Transpose(x, perm=[0, 2, 1, 3]), [0, 0, -1])


def _attend(site: Site, qkv: Sequence[ir.Value], head_size: int, masks: Sequence[ir.Value | None]) -> ir.Value:
    q, k, v = qkv
    scale = site.node.attributes.get_float("scale", 0.0) or 1 / math.sqrt(head_size)
    scores = site.Mul(site.MatMul(q, site.Transpose(k, perm=[0, 1, 3, 2])), scale)
    for mask in masks:
        if mask is not None:
            scores = site.Add(scores, mask)
    return site.MatMul(site.Softmax(scores, axis=-1), v)


def _length(site: Site, x: ir.Value) -> ir.Value:
    """S of *x*, [B, N, S, H], as a scalar."""
    return site.Squeeze(site.Shape(x, start=2, end=3), [0])


def _positions(site: Site, x: ir.Value) -> ir.Value:
    return site.Range(0, _length(site, x), 1)


def _causal(site: Site, q: ir.Value, k: ir.Value) -> ir.Value | None:
    """[S, T]: hides what stands behind each query, if the node is unidirectional."""
    if not site.node.attributes.get_int("unidirectional", 0):
        return None
    return _behind(site, q, k)


def _behind(site: Site, q: ir.Value, k: ir.Value, window: int = -1) -> ir.Value:
    """[S, T]: hides the keys behind each query, and those more than *window* positions in front of it."""
    past = site.Sub(_length(site, k), _length(site, q))
    rows, columns = site.Unsqueeze(site.Add(_positions(site, q), past), [1]), _positions(site, k)
    seen = site.LessOrEqual(columns, rows)
    if window > 0:
        seen = site.And(seen, site.GreaterOrEqual(columns, site.Sub(rows, window)))
    return site.Where(seen, 0.0, _LOWEST)


def _hidden(site: Site, mask: ir.Value | None, q: ir.Value, k: ir.Value) -> ir.Value | None:
    """The node's mask as a term: [B, T], [B, S, T], or lengths [B], perhaps with first positions behind them, [2·B]."""
    if mask is None:
        return None
    numbers = site.Cast(mask, to=ir.DataType.INT64)
    rank = site.rank(mask)
    if rank == 1:
        batch = site.Shape(q, start=0, end=1)
        twice = site.Mul(batch, [2])
        # Behind lengths alone the zeros stand where first positions would.
        both = site.Concat(numbers, site.Expand(0, batch), axis=0)
        ends, starts = site.Slice(both, [0], batch), site.Slice(both, batch, twice)
        columns = _positions(site, k)
        seen = site.And(
            site.Less(columns, site.Unsqueeze(ends, [1])), site.GreaterOrEqual(columns, site.Unsqueeze(starts, [1]))
        )
    elif rank in (2, 3):
        seen = site.Greater(numbers, 0)
    else:
        raise site.refusal(
            f"with a mask of rank {rank} does not run on the CPU", "give the mask as [B, T] or [B, S, T]"
        )
    term = site.Where(seen, 0.0, site.node.attributes.get_float("mask_filter_value", -10000.0))
    return site.Unsqueeze(term, [1] if rank == 3 else [1, 2])


def _given(site: Site, x: ir.Value) -> ir.Value | None:
    """The input ``attention_bias``, [B, N, S, T]; the kernel reads beyond the end of one that is to be broadcast."""
    bias = site.optional(5)
    if bias is not None and site.shape(bias)[0] != site.shape(x)[0]:
        raise site.refusal(
            "with an attention bias for other than the whole batch is computed wrongly by ONNX Runtime's CPU kernel",
            "give the bias the batch's length, or save the model without this fusion",
        )
    return bias


def multi_head_attention(site: Site) -> Sequence[ir.Value]:
    """softmax(scale · q·kᵀ + mask) · v of projected queries, keys and values, heads side by side"""
    heads = site.node.attributes["num_heads"].as_int()
    query, key, value = (site.optional(i) for i in range(3))
    assert query is not None
    if key is None or value is None:
        raise site.refusal("with packed keys or values does not run on the CPU", _USE_ONNX)
    width, apart = site.size(query, 2), site.rank(key) == 4
    if (bias := site.optional(3)) is not None:
        total = site.size(bias, 0)
        q_bias, k_bias, v_bias = _parts(site, bias, [width, width, total - 2 * width])
        query = site.Add(query, q_bias)
        if not apart:
            key, value = site.Add(key, k_bias), site.Add(value, v_bias)
    q = _split_heads(site, query, heads)
    k, v = (x if apart else _split_heads(site, x, heads) for x in (key, value))
    past = site.optional(6), site.optional(7)
    k, v = (x if old is None else site.Concat(old, x, axis=2) for old, x in zip(past, (k, v), strict=True))
    masks = [_hidden(site, site.optional(4), q, k), _given(site, site.input(0)), _causal(site, q, k)]
    y = _joined(site, _attend(site, (q, k, v), width // heads, masks))
    return [y, *[site.Identity(x) for x in (k, v)][: len(site.node.outputs) - 1]]


def grouped_query_attention(site: Site) -> Sequence[ir.Value]:
    """Causal softmax(scale · q·kᵀ) · v, where several heads of queries share one of keys and values

    What the operator answers behind the end of a sequence (``seqlens_k``) is undefined; here it is as anywhere else.
    """
    attributes = site.node.attributes
    heads, shared = attributes["num_heads"].as_int(), attributes["kv_num_heads"].as_int()
    if site.optional(3) is not None or site.optional(4) is not None:
        raise site.refusal("with keys and values of earlier positions cannot be trained", "export it without a cache")
    query, key, value = site.input(0), site.optional(1), site.optional(2)
    if key is None or value is None:
        head_size = site.size(query, 2) // (heads + 2 * shared)
        query, key, value = _parts(site, query, [heads * head_size, shared * head_size, shared * head_size])
    else:
        head_size = site.size(query, 2) // heads
    q, k, v = (_split_heads(site, x, n) for x, n in ((query, heads), (key, shared), (value, shared)))
    if attributes.get_int("do_rotary", 0):
        positions, interleaved = _positions(site, q), bool(attributes.get_int("rotary_interleaved", 0))
        angles = [site.Gather(site.input(i), positions) for i in (7, 8)]
        q, k = (_rotated(site, x, angles, site.size(site.input(7), 1), interleaved) for x in (q, k))
    present = [site.Identity(x) for x in (k, v)][: len(site.node.outputs) - 1]
    k, v = (_repeated(site, x, heads // shared, heads) for x in (k, v))
    masks = [_behind(site, q, k, attributes.get_int("local_window_size", -1))]
    return _joined(site, _attend(site, (q, k, v), head_size, masks)), *present


def _repeated(site: Site, x: ir.Value, times: int, heads: int) -> ir.Value:
    """[B, M, T, H] → [B, N, T, H], each head *times* in a row."""
    if times == 1:
        return x
    return site.Gather(x, (np.arange(heads) // times).tolist(), axis=1)


def rotary_embedding(site: Site) -> ir.Value:
    """Each pair (a, b) turned by its position's angle: ``(a·cos - b·sin, a·sin + b·cos)``"""
    attributes = site.node.attributes
    x, positions, cosines, sines = (site.input(i) for i in range(4))
    if attributes.get_int("is_packed_batching", 0):
        raise site.refusal("with packed batches does not run on the CPU", _USE_ONNX)
    together = site.rank(x) == 3
    if together:
        turned = attributes.get_int("rotary_embedding_dim", 0) or 2 * site.size(cosines, 1)
        heads = attributes.get_int("num_heads", 0) or site.size(x, 2) // turned
        x = _split_heads(site, x, heads)
    if site.rank(positions) == 1:  # the first one's
        positions = site.Add(positions, _positions(site, x))
        angles = [site.Gather(table, positions) for table in (cosines, sines)]
    else:
        angles = [site.Unsqueeze(site.Gather(table, positions), [1]) for table in (cosines, sines)]
    y = _rotated(site, x, angles, site.size(cosines, 1), bool(attributes.get_int("interleaved", 0)))
    return _joined(site, y) if together else y


def _rotated(site: Site, x: ir.Value, angles: Sequence[ir.Value], half: int, interleaved: bool) -> ir.Value:
    """*x* [B, N, S, H] with its first 2·*half* entries turned by *angles*: cosines and sines, [S, half] or
    [B, 1, S, half].
    """
    cos, sin = angles
    front, rest = site.Slice(x, [0], [2 * half], [-1]), site.Slice(x, [2 * half], [2**31 - 1], [-1])
    if interleaved:
        a, b = (site.Slice(front, [i], [2 * half], [-1], [2]) for i in range(2))
    else:
        a, b = _parts(site, front, [half, half])
    new = site.Sub(site.Mul(a, cos), site.Mul(b, sin)), site.Add(site.Mul(a, sin), site.Mul(b, cos))
    if interleaved:
        pairs = site.Concat(*(site.Unsqueeze(part, [-1]) for part in new), axis=-1)
        return site.Concat(site.Reshape(pairs, [0, 0, 0, -1]), rest, axis=-1)
    return site.Concat(*new, rest, axis=-1)
