"""Causal attention over the KV SRAM, compiled. Twin in `kernels.reference`."""

from __future__ import annotations

import numpy as np

from kernels.arith import requantise_rows, round_shift, saturate_int32
from kernels.host.entry import entry, inner, routine
from kernels.host.job import CHUNKS, OWN, words
from kernels.host.simd import (
    add,
    broadcast_pair,
    dot_i16,
    dot_u8,
    fill_i8,
    fill_i32,
    fill_i64,
    get_i32,
    get_i64,
    inline,
    interleave,
    lane_sum,
    lane_sums,
    load_i8x32,
    load_i64x8,
    prefetch,
    store,
    view_i8,
    view_i16,
    view_i32,
    view_i64,
    widen,
)
from kernels.reference import (
    FRACTION,
    SCORE_FRACTION,
    SUM_RECIPROCAL_BITS,
    exp2_negative,
)

# Words of a job, the first two addresses of int64[T]; then addresses.
POSITIONS, ROWS, HEADS, KV_HEADS, HEAD_DIM, SPAN = range(OWN, OWN + 6)
Q, Q_SCALE, K, K_SCALE, V, V_SCALE, OUT = range(OWN + 6, OWN + 13)
WINDOW, BLOCK_SIZE = OWN + 13, OWN + 14

# 2**-n for each score n below the largest, the last entry 0: what the twin computes.
EXP2_NEGATIVE = exp2_negative(np.arange((16 << SCORE_FRACTION) + 1)).astype(np.int32)
# Positions whose keys or values stay in L1 while all query heads pass over them. The rows of a head
# lie 1,024 bytes apart at 8B, so 32 of them fill the few sets of L1 that they fall into: right for
# a token that finds them in memory. Those of a prompt find them in L2, and need not ask ahead.
BLOCK, BLOCK_OF_FEW, FEW = 128, 32, 16
assert BLOCK * 32767 * 128 < 1 << 31  # w * v of one block fits 32 bits


@inner
def dot_heads(q, k, stride, head_dim, n, dots):
    """q times (k + 128), both int8[head_dim], at n positions: int32[n] at address `dots`."""
    sign = fill_i8(-128)  # adding it makes k unsigned
    i = np.int64(0)
    while i + 8 <= n:
        t0, t1, t2, t3 = fill_i32(0), fill_i32(0), fill_i32(0), fill_i32(0)
        t4, t5, t6, t7 = fill_i32(0), fill_i32(0), fill_i32(0), fill_i32(0)
        for j in range(0, head_dim, 32):
            part, at = load_i8x32(q + j), k + j
            t0 = dot_u8(t0, add(load_i8x32(at), sign), part)
            t1 = dot_u8(t1, add(load_i8x32(at + stride), sign), part)
            t2 = dot_u8(t2, add(load_i8x32(at + 2 * stride), sign), part)
            t3 = dot_u8(t3, add(load_i8x32(at + 3 * stride), sign), part)
            t4 = dot_u8(t4, add(load_i8x32(at + 4 * stride), sign), part)
            t5 = dot_u8(t5, add(load_i8x32(at + 5 * stride), sign), part)
            t6 = dot_u8(t6, add(load_i8x32(at + 6 * stride), sign), part)
            t7 = dot_u8(t7, add(load_i8x32(at + 7 * stride), sign), part)
        store(dots + 4 * i, lane_sums(t0, t1, t2, t3, t4, t5, t6, t7))
        k += 8 * stride
        i += 8
    while i < n:
        total = fill_i32(0)
        for j in range(0, head_dim, 32):
            total = dot_u8(total, add(load_i8x32(k + j), sign), load_i8x32(q + j))
        store(dots + 4 * i, np.int32(lane_sum(total)))
        k += stride
        i += 1


@inner
def score_head(q, head_dim, mantissa, exponent, k, stride, scales, n, dots, scores):
    """Scores of one query head at n positions, int32[n] at address `scores`; the largest.

    scales: the keys' mantissas, int32[BLOCK], then their exponents. int32[n] at `dots` is
    overwritten.
    """
    offset = np.int32(0)
    for value in view_i8(q, head_dim):
        offset += np.int32(value) << 7
    dot_heads(q, k, stride, head_dim, n, dots)
    dot, score = view_i32(dots, n), view_i32(scores, n)
    mantissas, exponents = view_i32(scales, n), view_i32(scales + 4 * BLOCK, n)
    for i in range(n):
        dot[i] -= offset
    requantise_rows(dot, mantissas, exponents, mantissa, exponent - SCORE_FRACTION, score)
    largest = np.int32(-(1 << 31))
    for i in range(n):
        largest = max(largest, score[i])
    return np.int64(largest)


@inner
def weigh(scores, largest, scales, least, n, weights):
    """Probabilities times V's scales, int16[n + n % 2] at `weights`; the probabilities' sum.

    The scale is relative to the largest, so a weight is at most 32767.
    """
    score, weight = view_i32(scores, n), view_i16(weights, n)
    mantissas, exponents = view_i32(scales, n), view_i32(scales + 4 * BLOCK, n)
    total = np.int64(0)
    for i in range(n):
        p = np.uint32(EXP2_NEGATIVE[min(largest - np.int64(score[i]), EXP2_NEGATIVE.size - 1)])
        total += p
        # Below 2**31, and no more than that with half a unit: uint32 holds it. Far below: 0.
        shift = np.uint32(min(16 + np.int64(exponents[i]) - least, 32))
        rounded = np.uint32(p * np.uint32(mantissas[i])) + (np.uint32(1) << (shift - np.uint32(1)))
        weight[i] = np.int16(rounded >> shift) if shift < 32 else 0
    if n % 2:
        store(weights + 2 * n, np.int16(0))
    return total


@inner
def copy_scales(source, kv_heads, n, scales):
    """One KV head's scales at n positions, side by side for vectors."""
    pairs = view_i32(source, 2 * kv_heads * (n - 1) + 2)
    mantissas, exponents = view_i32(scales, n), view_i32(scales + 4 * BLOCK, n)
    for i in range(n):
        mantissas[i], exponents[i] = pairs[2 * kv_heads * i], pairs[2 * kv_heads * i + 1]


@inline
def add_sums(to, a, b, c, d):
    store(to, add(load_i64x8(to), widen(a)))
    store(to + 64, add(load_i64x8(to + 64), widen(b)))
    store(to + 128, add(load_i64x8(to + 128), widen(c)))
    store(to + 192, add(load_i64x8(to + 192), widen(d)))


@inner
def mix(weights, v, stride, n, head_dim, acc):
    """Add sum(weight * v) over n positions to int64[head_dim] at address `acc`.

    Two pairs of positions by 32 dimensions at a time: eight sums that do not wait for each other.
    """
    for j in range(0, head_dim, 32):
        a0, a1, a2, a3 = fill_i32(0), fill_i32(0), fill_i32(0), fill_i32(0)
        b0, b1, b2, b3 = fill_i32(0), fill_i32(0), fill_i32(0), fill_i32(0)
        i, at = np.int64(0), v + j
        while i + 4 <= n:
            first, second = broadcast_pair(weights + 2 * i), broadcast_pair(weights + 2 * i + 4)
            p, q = interleave(at, at + stride)
            a0, a1 = add(a0, dot_i16(p, first)), add(a1, dot_i16(q, first))
            p, q = interleave(at + 16, at + stride + 16)
            a2, a3 = add(a2, dot_i16(p, first)), add(a3, dot_i16(q, first))
            p, q = interleave(at + 2 * stride, at + 3 * stride)
            b0, b1 = add(b0, dot_i16(p, second)), add(b1, dot_i16(q, second))
            p, q = interleave(at + 2 * stride + 16, at + 3 * stride + 16)
            b2, b3 = add(b2, dot_i16(p, second)), add(b3, dot_i16(q, second))
            at += 4 * stride
            i += 4
        while i < n:  # an odd last position meets itself, at a weight of 0
            first, other = broadcast_pair(weights + 2 * i), at + (stride if i + 1 < n else 0)
            p, q = interleave(at, other)
            a0, a1 = add(a0, dot_i16(p, first)), add(a1, dot_i16(q, first))
            p, q = interleave(at + 16, other + 16)
            a2, a3 = add(a2, dot_i16(p, first)), add(a3, dot_i16(q, first))
            at += 2 * stride
            i += 2
        add_sums(acc + 8 * j, add(a0, b0), add(a1, b1), add(a2, b2), add(a3, b3))


@inner
def mix_two(weights, v, stride, n, head_dim, acc):
    """The same for two heads, whose weights and sums follow each other: V is laid out once."""
    more, other = 2 * BLOCK, 8 * head_dim
    for j in range(0, head_dim, 32):
        a0, a1, a2, a3 = fill_i32(0), fill_i32(0), fill_i32(0), fill_i32(0)
        b0, b1, b2, b3 = fill_i32(0), fill_i32(0), fill_i32(0), fill_i32(0)
        at = v + j
        for i in range(0, n, 2):
            next_ = at + (stride if i + 1 < n else 0)
            first, second = broadcast_pair(weights + 2 * i), broadcast_pair(weights + more + 2 * i)
            p, q = interleave(at, next_)
            a0, a1 = add(a0, dot_i16(p, first)), add(a1, dot_i16(q, first))
            b0, b1 = add(b0, dot_i16(p, second)), add(b1, dot_i16(q, second))
            p, q = interleave(at + 16, next_ + 16)
            a2, a3 = add(a2, dot_i16(p, first)), add(a3, dot_i16(q, first))
            b2, b3 = add(b2, dot_i16(p, second)), add(b3, dot_i16(q, second))
            at += 2 * stride
        add_sums(acc + 8 * j, a0, a1, a2, a3)
        add_sums(acc + other + 8 * j, b0, b1, b2, b3)


@inner
def ask_ahead(at, stride, length, block, left, part, parts):
    """Prefetch `length` bytes of positions of the block after the one at `at`.

    `block` positions are a block, and `left` are left from `at` on.

    A CPU does not foresee the rows of one head, which lie far apart. It keeps 16 or so lines in
    flight, and a block's 64 asked for at once would hold it up: so each head asks for a part.
    """
    end = min(block + block * (part + 1) // parts, left)
    for i in range(block + block * part // parts, end):
        for byte in range(0, length, 64):
            prefetch(at + i * stride + byte)


def scratch_bytes(span: int, positions: int, head_dim: int) -> int:
    """Per query head: sums int64, scores int32, largest, total, a block's weights; scales, dots."""
    return span * (8 * head_dim + 4 * positions + 16 + 2 * BLOCK) + 12 * BLOCK


@entry(
    "void(int64[::1], int8[:, :, ::1], int32[:, :, ::1], int8[:, :, ::1], int32[:, :, ::1],"
    " int8[:, :, ::1], int32[:, :, ::1], int64[::1], int64[::1], int64, int64, int32[:, :, ::1])"
)
def attention(job, q, q_scale, k, k_scale, v, v_scale, positions, rows, window, span, out):
    """Set up: causal attention; `span` query heads, which share a KV head, are one chunk."""
    tokens, heads, head_dim = q.shape
    job[POSITIONS], job[ROWS] = positions.ctypes.data, rows.ctypes.data
    job[HEADS], job[KV_HEADS], job[HEAD_DIM], job[SPAN] = heads, k.shape[1], head_dim, span
    job[Q], job[Q_SCALE] = q.ctypes.data, q_scale.ctypes.data
    job[K], job[K_SCALE] = k.ctypes.data, k_scale.ctypes.data
    job[V], job[V_SCALE] = v.ctypes.data, v_scale.ctypes.data
    job[OUT], job[WINDOW] = out.ctypes.data, window
    job[BLOCK_SIZE] = BLOCK_OF_FEW if tokens <= FEW else BLOCK
    job[CHUNKS] = tokens * heads // span


@routine
def attention_heads(address, chunk, scratch):
    """`SPAN` query heads of one token that share a KV head, over its last `WINDOW` positions."""
    job = words(address)
    heads, kv_heads, head_dim = job[HEADS], job[KV_HEADS], job[HEAD_DIM]
    span, block = job[SPAN], job[BLOCK_SIZE]
    t, first = chunk * span // heads, chunk * span % heads
    kv = first // (heads // kv_heads)
    end = get_i64(job[ROWS] + 8 * t) + 1
    n = min(get_i64(job[POSITIONS] + 8 * t) + 1, job[WINDOW])
    stride, scale_stride = kv_heads * head_dim, 8 * kv_heads
    begins, scale_begins = (end - n) * stride, (end - n) * scale_stride
    k, v = job[K] + kv * head_dim + begins, job[V] + kv * head_dim + begins
    k_scale = job[K_SCALE] + 8 * kv + scale_begins
    v_scale = job[V_SCALE] + 8 * kv + scale_begins
    q = job[Q] + (t * heads + first) * head_dim
    q_scale = job[Q_SCALE] + (t * heads + first) * 8
    out = job[OUT] + (t * heads + first) * head_dim * 4

    acc = scratch
    largest = view_i64(acc + 8 * span * head_dim, span)
    totals = view_i64(largest.ctypes.data + 8 * span, span)
    scales = totals.ctypes.data + 8 * span
    weights = scales + 8 * BLOCK
    dots = weights + 2 * BLOCK * span
    scores = dots + 4 * BLOCK
    for j in range(0, span * head_dim, 8):
        store(acc + 8 * j, fill_i64(0))
    largest[:] = -(1 << 31)
    totals[:] = 0

    asked = n if block == BLOCK_OF_FEW else 0  # positions that are to be prefetched
    least = np.int64(1 << 31)
    for i in range(n):
        least = min(least, get_i32(v_scale + i * scale_stride + 4))
    for begin in range(0, n, block):
        size, left = min(block, n - begin), asked - begin
        ask_ahead(k_scale + begin * scale_stride, scale_stride, 8, block, left, 0, 1)
        copy_scales(k_scale + begin * scale_stride, kv_heads, size, scales)
        for head in range(span):
            ask_ahead(k + begin * stride, stride, head_dim, block, left, head, span)
            most = score_head(
                q + head * head_dim,
                head_dim,
                get_i32(q_scale + 8 * head),
                get_i32(q_scale + 8 * head + 4),
                k + begin * stride,
                stride,
                scales,
                size,
                dots,
                scores + 4 * (head * n + begin),
            )
            largest[head] = max(largest[head], most)
    for begin in range(0, n, block):
        size, left = min(block, n - begin), asked - begin
        ask_ahead(v_scale + begin * scale_stride, scale_stride, 8, block, left, 0, 1)
        copy_scales(v_scale + begin * scale_stride, kv_heads, size, scales)
        for head in range(span):
            ask_ahead(v + begin * stride, stride, head_dim, block, left, head, span)
            at, to = scores + 4 * (head * n + begin), weights + 2 * BLOCK * head
            totals[head] += weigh(at, largest[head], scales, least, size, to)
        for head in range(0, span, 2):
            of, to = weights + 2 * BLOCK * head, acc + 8 * head * head_dim
            if head + 1 < span:
                mix_two(of, v + begin * stride, stride, size, head_dim, to)
            else:
                mix(of, v + begin * stride, stride, size, head_dim, to)

    shift = SUM_RECIPROCAL_BITS - FRACTION - 16 + least
    for head in range(span):
        reciprocal = (np.int64(1) << SUM_RECIPROCAL_BITS) // totals[head]
        for j in range(head * head_dim, (head + 1) * head_dim):
            value = saturate_int32(round_shift(get_i64(acc + 8 * j) * reciprocal, shift))
            store(out + 4 * j, value)
