"""Einsum in terms of Transpose, Mul, MatMul and ReduceSum.

A term is a value and the labels of its axes, one letter each; the axes of an ellipsis are labelled by digits, from the
right, so that they broadcast as they should.  Terms are joined from the left, two at a time, as soon as each was rid of
labels that stand twice in it (its diagonal) or in no other term (their sum).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from string import ascii_letters
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import onnx_ir as ir

from dsd_ort.graph.legalize.rules.broadcast import opaque
from dsd_ort.rewrite.site import Site

Length: TypeAlias = "int | str | None"


class Term(NamedTuple):
    value: ir.Value
    labels: str
    lengths: tuple[Length, ...]


def einsum(site: Site) -> ir.Value:
    """Products by MatMul or Mul, and sums"""
    terms, result = _parse(site)
    first, *rest = [_diagonal(site, term) for term in terms]
    for i, term in enumerate(rest):
        wanted = {*result, *(label for later in rest[i + 1 :] for label in later.labels)}
        first = _joined(
            site, _summed(site, first, wanted | {*term.labels}), _summed(site, term, wanted | {*first.labels}), wanted
        )
    first = _arranged(site, _summed(site, first, set(result)), result)
    site.node.outputs[0].shape = ir.Shape(first.lengths)  # ONNX infers one operand's
    return site.Identity(first.value) if first.value in site.node.inputs else first.value


def _parse(site: Site) -> tuple[list[Term], str]:
    """The terms, and the labels of the result."""
    left, arrow, right = site.node.attributes["equation"].as_string().replace(" ", "").partition("->")
    subscripts = left.split(",")
    values = [site.input(i) for i in range(len(site.node.inputs))]
    if len(subscripts) != len(values):
        raise site.refusal("has not as many inputs as its equation names", "the file breaks ONNX's rules")
    terms = []
    widest = ""
    for value, letters in zip(values, subscripts, strict=True):
        lengths = site.shape(value)
        ellipsis = _ellipsis(len(lengths) - len(letters.replace("...", "")))
        terms.append(Term(value, letters.replace("...", ellipsis), lengths))
        widest = max(widest, ellipsis, key=len)
    if not arrow:
        right = "..." + "".join(c for c in ascii_letters.swapcase() if left.count(c) == 1)
    return terms, right.replace("...", widest)


def _ellipsis(count: int) -> str:
    """The last axis is 0, that in front of it 1, and so on."""
    return "".join(map(str, reversed(range(count))))


def _diagonal(site: Site, term: Term) -> Term:
    """Where a label stands twice, only entries whose two positions agree count: the others are zeros, and summed."""
    for label in dict.fromkeys(term.labels):
        while term.labels.count(label) > 1:
            i, j = term.labels.index(label), term.labels.rindex(label)
            rank = len(term.labels)
            at = [site.Unsqueeze(_positions(site, term, a), [b for b in range(rank) if b != a]) for a in (i, j)]
            on_it = site.Where(site.Equal(*at), term.value, 0.0)
            term = _without(site, term._replace(value=on_it), [j])
    return term


def _positions(site: Site, term: Term, axis: int) -> Any:
    length = term.lengths[axis]
    if isinstance(length, int):
        return np.arange(length)
    return site.Range(0, site.Squeeze(site.Shape(term.value, start=axis, end=axis + 1), [0]), 1)


def _without(site: Site, term: Term, axes: Sequence[int]) -> Term:
    """Summed over *axes*."""
    if not axes:
        return term
    kept = [i for i in range(len(term.labels)) if i not in axes]
    total = site.ReduceSum(term.value, list(axes), keepdims=0)
    return Term(total, "".join(term.labels[i] for i in kept), tuple(term.lengths[i] for i in kept))


def _summed(site: Site, term: Term, wanted: set[str]) -> Term:
    return _without(site, term, [i for i, label in enumerate(term.labels) if label not in wanted])


def _arranged(site: Site, term: Term, labels: Iterable[str]) -> Term:
    """With its axes in the order of *labels*."""
    perm = [term.labels.index(label) for label in labels]
    if perm == list(range(len(perm))):
        return term
    lengths = tuple(term.lengths[i] for i in perm)
    return Term(site.Transpose(term.value, perm=perm), "".join(labels), lengths)


def _joined(site: Site, a: Term, b: Term, wanted: set[str]) -> Term:
    """The product of two terms, summed over the labels that both have and that are not *wanted*."""
    summed = [label for label in a.labels if label in b.labels and label not in wanted]
    alone = [label for label in summed if (_length(a, label) == 1) != (_length(b, label) == 1)]
    if alone:  # Σ_j a_i1 · b_jk = a_i1 · Σ_j b_jk
        a, b = (_without(site, t, [i for i, label in enumerate(t.labels) if label in alone]) for t in (a, b))
        summed = [label for label in summed if label not in alone]
    return _contracted(site, a, b, summed) if summed else _multiplied(site, a, b)


def _length(term: Term, label: str) -> Length:
    return term.lengths[term.labels.index(label)]


def _broadcast(a: Term, b: Term, label: str) -> Length:
    """The length that *label* has in the product: none is known of two names, one of which may be 1."""
    lengths = {_length(t, label) for t in (a, b) if label in t.labels}
    fixed: list[Length] = [n for n in lengths if isinstance(n, int) and n != 1]
    known = fixed or [*lengths - {1}] or [1]
    return known[0] if len(known) == 1 else None


def _uncertain(term: Term, other: Term, labels: Iterable[str]) -> bool:
    """Whether *term* may turn out to be of length 1 where *other* is not."""
    pairs = [(_length(term, c), _length(other, c)) for c in labels if c in term.labels and c in other.labels]
    return any(not isinstance(n, int) and m != 1 and (n is None or n != m) for n, m in pairs)


def _operands(site: Site, a: Term, b: Term, labels: Iterable[str]) -> list[ir.Value]:
    """Their values, opaque where broadcasting along *labels* is decided at run time: ONNX infers one operand's."""
    return [opaque(site, t.value) if _uncertain(t, other, labels) else t.value for t, other in ((a, b), (b, a))]


def _multiplied(site: Site, a: Term, b: Term) -> Term:
    labels = a.labels + "".join(c for c in b.labels if c not in a.labels)
    lengths = tuple(_broadcast(a, b, c) for c in labels)
    a, b = (_arranged(site, t, [c for c in labels if c in t.labels]) for t in (a, b))
    factors = []
    for term, value in zip((a, b), _operands(site, a, b, labels), strict=True):
        missing = [i for i, c in enumerate(labels) if c not in term.labels]
        factors.append(site.Unsqueeze(value, missing) if missing else value)
    return Term(site.Mul(*factors), labels, lengths)


def _contracted(site: Site, a: Term, b: Term, summed: Sequence[str]) -> Term:
    """By MatMul of [batch…, rows, summed] and [batch…, summed, columns]."""
    batch = [c for c in a.labels if c in b.labels and c not in summed]
    rows = [c for c in a.labels if c not in b.labels]
    columns = [c for c in b.labels if c not in a.labels]
    a, b = _arranged(site, a, [*batch, *rows, *summed]), _arranged(site, b, [*batch, *summed, *columns])
    left, right = _operands(site, a, b, batch)
    n = len(batch)
    labels = [*batch, *rows, *columns]
    lengths = tuple(_broadcast(a, b, c) for c in labels)
    if not batch and len(summed) == len(columns) == 1 and rows:  # MatMul has any number of rows.
        return Term(site.MatMul(left, right), "".join(labels), lengths)
    left = _merged(site, a._replace(value=left), n, len(rows), len(summed))
    right = _merged(site, b._replace(value=right), n, len(summed), len(columns))
    product = _separated(site, site.MatMul(left, right), a, b, (n, rows, columns))
    return Term(product, "".join(labels), lengths)


def _merged(site: Site, term: Term, batch: int, first: int, second: int) -> ir.Value:
    """[batch…, *first* axes, *second* axes] as [batch…, 1 axis, 1 axis]."""
    value = term.value
    if first == second == 1:
        return value
    if first * second == 0:  # one of them is no axis, the other one or more
        if first + second > 1:
            value = site.Reshape(value, [*[0] * batch, -1])
        return site.Unsqueeze(value, [-1] if first else [-2])
    rows = _size(site, term, batch, batch + first)
    if isinstance(rows, int):
        return site.Reshape(value, [*[0] * batch, rows, -1])
    columns = _size(site, term, batch + first, batch + first + second)
    if isinstance(columns, int):
        return site.Reshape(value, [*[0] * batch, -1, columns])
    return site.Reshape(value, site.Concat(*[[0] * batch] * bool(batch), rows, [-1], axis=0))


def _size(site: Site, term: Term, begin: int, end: int) -> int | ir.Value:
    """The number of entries along the axes from *begin* to *end*; [1] if it is known at run time only."""
    lengths = [n for n in term.lengths[begin:end] if isinstance(n, int)]
    if len(lengths) == end - begin:
        return prod(lengths)
    return site.ReduceProd(site.Shape(term.value, start=begin, end=end), keepdims=1)


def _separated(
    site: Site, product: ir.Value, a: Term, b: Term, axes: tuple[int, Sequence[str], Sequence[str]]
) -> ir.Value:
    """[batch…, rows, columns] with one axis for each label of *rows* and of *columns*."""
    batch, rows, columns = axes
    if len(rows) == len(columns) == 1:
        return product
    if not rows or not columns:
        product = site.Squeeze(product, [-2] * (not rows) + [-1] * (not columns))
    if len(rows) < 2 and len(columns) < 2:
        return product
    shape = [
        site.Shape(a.value, start=batch, end=batch + len(rows)),
        site.Shape(b.value, start=len(b.labels) - len(columns), end=len(b.labels)),
    ]
    front = [site.constant([0] * batch)] if batch else []
    return site.Reshape(product, site.Concat(*front, *shape, axis=0))
