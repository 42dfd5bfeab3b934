"""Connectionist temporal classification (Graves et al. 2006), an operator with a backward of its own.

Sizes: T frames, N sequences, C classes, U labels at most, S = 2U + 1.  A label l of L classes is read as e = (␣, l₁, ␣,
l₂, …, ␣) with the blank ␣.  With p = softmax(x), the probability that e₁ … e_s are read after frame t is::

    α_t(s) = p_t(e_s) · (α_{t-1}(s) + α_{t-1}(s-1) + [e_s is neither ␣ nor e_{s-2}] · α_{t-1}(s-2))

and β_t(s), that the frames from t on read the rest, is the same of the sequence and the label turned round; so one Scan
does both, as 2N rows.  The loss of a sequence of n frames is -log(α_n(2L+1) + α_n(2L)), and its derivative by x_t(c) is
p_t(c) - Σ_{s: e_s = c} γ_t(s), where γ_t(s) is α_t(s)·β_t(s)/p_t(e_s), divided by its sum over s.

What is kept are logarithms of α and β, at each frame less the greatest of the row: so they lose no digits however long
the sequence, and float32 is enough; what was taken off is added up in float64.  γ, divided by its own sum, does
without.

Source: equations 6 to 16 of the paper.  Blank, lengths and infinite losses are those of PyTorch's ``ctc_loss``.
"""

from __future__ import annotations

import functools

from dsd_ort.rewrite.autograd import OPSET, Operator, operator

NEVER = -1e30
"""The logarithm of 0."""


@functools.cache
def ctc(blank: int = 0, *, zero_infinity: bool = True, opset: int = OPSET) -> Operator:
    """(x: f32[T, N, C], y: i64[N, U], n: i64[N]) → loss: f32[N], d: f32[T, N, C], the gradient of Σ loss by x.

    Args:
        blank: the class that stands for no label.
        zero_infinity: a label that does not fit into its frames has loss and gradient 0, instead of infinity and 0.
        opset: of ONNX, 13 or later.

    x are logits, y is negative behind the end of a label, and the first n frames count.
    """
    forward = f"""(x, y, n) => (loss, d) {{
        {_CONSTANTS} blank = Constant <value_int = {blank}> ()
        {_EXTENDED_LABEL} {_LOG_PROBABILITIES}
        a_end, r_end, a, r = Scan <num_scan_inputs = 1, body = step {_step(opset)}> (first, nothing, rows)
        {_BOTH_WAYS} {_LOSS}
        infinite = {"Identity (zero)" if zero_infinity else "Div (one, zero)"}
        loss_1 = Where (feasible, minus_log_p, infinite) loss = Squeeze (loss_1, v1)
        {_GRADIENT}
    }}"""
    backward = """(dloss, d) => (dx) {
        axes = Constant <value_ints = [0, 2]> () factor = Unsqueeze (dloss, axes) dx = Mul (d, factor)
    }"""
    return operator("CTC", forward=forward, backward=backward, opset=opset)


_CONSTANTS = f"""
        never = Constant <value_float = {NEVER}> () almost_never = Constant <value_float = {NEVER / 10}> ()
        zero = Constant <value_float = 0.0> () one = Constant <value_float = 1.0> ()
        i0 = Constant <value_int = 0> () i1 = Constant <value_int = 1> ()
        v0 = Constant <value_ints = [0]> () v1 = Constant <value_ints = [1]> () v2 = Constant <value_ints = [2]> ()
        v3 = Constant <value_ints = [3]> () v_2 = Constant <value_ints = [-2]> () v_1 = Constant <value_ints = [-1]> ()
        sizes = Shape (x) steps = Slice (sizes, v0, v1) count = Slice (sizes, v1, v2) classes = Slice (sizes, v2, v3)
        step_count = Squeeze (steps, v0) times = Range (i0, step_count, i1) times_1 = Unsqueeze (times, v1)
        n_0 = Unsqueeze (n, v0) inside = Less (times_1, n_0)"""
"""Text: inside, bool[T, N], tells the frames that count."""

_EXTENDED_LABEL = """
        behind = Less (y, i0) labels = Where (behind, blank, y) labels_2 = Unsqueeze (labels, v2)
        is_label = Not (behind) is_label_i = Cast <to = 7> (is_label)
        length = ReduceSum <keepdims = 0> (is_label_i, v1) twice = Add (length, length) size = Add (twice, i1)
        no_labels = Sub (labels_2, labels_2) blanks = Add (no_labels, blank)
        pairs = Concat <axis = 2> (blanks, labels_2)
        read = Flatten (pairs) column = Concat <axis = 0> (count, v1) last_blank = Expand (blank, column)
        e = Concat <axis = 1> (read, last_blank)
        e_turned = ReverseSequence <batch_axis = 0, time_axis = 1> (e, size) e_rows = Concat <axis = 0> (e, e_turned)
        row_sizes = Shape (e_rows) row_count = Slice (row_sizes, v0, v1) edge_sizes = Concat <axis = 0> (row_count, v2)
        edge = Expand (never, edge_sizes) blank_edge = Expand (blank, edge_sizes)
        e_padded = Concat <axis = 1> (blank_edge, e_rows) e_before = Slice (e_padded, v0, v_2, v1)
        repeated = Equal (e_rows, e_before) silent = Equal (e_rows, blank) either = Or (repeated, silent)
        no_skip = Where (either, never, zero)
        state_count = Slice (row_sizes, v1, v2) state_end = Squeeze (state_count, v0)
        states = Range (i0, state_end, i1) begins = Equal (states, i0) begin = Where (begins, zero, never)
        first = Expand (begin, row_sizes) row_column = Concat <axis = 0> (row_count, v1)
        nothing = Expand (zero, row_column)"""
"""Text: e, i64[N, S]; size, i64[N], is 2L + 1; first and no_skip, f32[2N, S]: log α₀ and what forbids steps of two."""

_LOG_PROBABILITIES = """
        log_p_x = LogSoftmax <axis = -1> (x) log_p_ = Max (log_p_x, never) log_p = Transpose <perm = [1, 2, 0]> (log_p_)
        e_2 = Unsqueeze (e, v2) of_e = GatherND <batch_dims = 1> (log_p, e_2)
        of_turned = ReverseSequence <batch_axis = 0, time_axis = 1> (of_e, size)
        of_both = Concat <axis = 0> (of_e, of_turned) by_time = Transpose <perm = [2, 0, 1]> (of_both)
        as_is = Expand (i1, count) turn = Concat <axis = 0> (as_is, n)
        rows = ReverseSequence <time_axis = 0, batch_axis = 1> (by_time, turn)"""
"""Text: log_p, f32[N, C, T]; of_e, f32[N, S, T], that of the label; rows, f32[T, 2N, S], what the Scan reads."""


def _step(opset: int) -> str:
    """The Scan's body: one frame, from log α and log β of the one before."""
    greatest = "ReduceMax (next, v1)" if opset >= 18 else "ReduceMax <axes = [1]> (next)"
    return f"""(a0, r0, p) => (a1, r1, a_t, r_t) {{
            padded = Concat <axis = 1> (edge, a0)
            from_1 = Slice (padded, v1, v_1, v1) near_2 = Slice (padded, v0, v_2, v1) from_2 = Add (near_2, no_skip)
            m = Max (a0, from_1, from_2)
            d0 = Sub (a0, m) d1 = Sub (from_1, m) d2 = Sub (from_2, m) x0 = Exp (d0) x1 = Exp (d1) x2 = Exp (d2)
            total = Sum (x0, x1, x2) log_total = Log (total) next = Sum (m, log_total, p)
            r1 = {greatest} a1 = Sub (next, r1) a_t = Identity (a1) r_t = Identity (r1)
        }}"""


_BOTH_WAYS = """
        forth = ReverseSequence <time_axis = 0, batch_axis = 1> (a, turn) ab = Transpose <perm = [1, 2, 0]> (forth)
        alpha = Slice (ab, v0, count, v0) beta_turned = Slice (ab, count, row_count, v0)
        beta = ReverseSequence <batch_axis = 0, time_axis = 1> (beta_turned, size)"""
"""Text: log α and log β, f32[N, S, T], each less something that depends on sequence and frame only."""

_LOSS = """
        last = Sub (n, i1) last_1 = Unsqueeze (last, v1) last_2 = Unsqueeze (last_1, v2)
        all_states = Concat <axis = 0> (count, state_count, v1) last_s = Expand (last_2, all_states)
        ends_2 = GatherElements <axis = 2> (alpha, last_s) ends = Squeeze (ends_2, v2)
        size_1 = Unsqueeze (size, v1) place = Sub (size_1, i1) place_0 = Sub (place, i1) place_b = Max (place_0, i0)
        z1 = GatherElements <axis = 1> (ends, place) z_b = GatherElements <axis = 1> (ends, place_b)
        has_label = Greater (place, i0) z0 = Where (has_label, z_b, never)
        z_m = Max (z0, z1) z_d0 = Sub (z0, z_m) z_d1 = Sub (z1, z_m) z_e0 = Exp (z_d0) z_e1 = Exp (z_d1)
        z_s = Add (z_e0, z_e1) z_l = Log (z_s) z = Add (z_m, z_l)
        r_2 = Squeeze (r, v2) r_alpha = Slice (r_2, v0, count, v1) r_inside = Where (inside, r_alpha, zero)
        r_double = Cast <to = 11> (r_inside) taken = ReduceSum <keepdims = 0> (r_double, v0)
        taken_1 = Unsqueeze (taken, v1) z_double = Cast <to = 11> (z) log_p_label = Add (taken_1, z_double)
        minus = Neg (log_p_label) minus_log_p = Cast <to = 1> (minus)
        some = Greater (n, i0) some_1 = Unsqueeze (some, v1) fits = Greater (z, almost_never)
        feasible = And (fits, some_1)"""
"""Text: minus_log_p, f32[N, 1], where feasible, bool[N, 1]."""

_GRADIENT = """
        ab_sum = Add (alpha, beta) ab_p = Sub (ab_sum, of_e)
        states_0 = Unsqueeze (states, v0) within = Less (states_0, size_1) within_2 = Unsqueeze (within, v2)
        ab_e = Where (within_2, ab_p, never) gamma = Softmax <axis = 1> (ab_e)
        off_on = Constant <value_floats = [0.0, 1.0]> () of_class = OneHot <axis = 1> (e, classes, off_on)
        gamma_c = MatMul (of_class, gamma) p = Exp (log_p) difference = Sub (p, gamma_c)
        inside_n = Transpose <perm = [1, 0]> (inside) inside_c = Unsqueeze (inside_n, v1)
        feasible_2 = Unsqueeze (feasible, v2) counts = And (inside_c, feasible_2)
        d_n = Where (counts, difference, zero) d = Transpose <perm = [2, 0, 1]> (d_n)"""
