"""Rotary embedding and causal attention over the KV SRAM, compiled. Twins in `reference`."""

from __future__ import annotations

import numpy as np
from numba import int16, int32, int64, njit, types, void

from kernels.arith import requantise, round_shift, saturate_int32
from kernels.reference import (
    EXP2,
    EXP2_BITS,
    FRACTION,
    SCORE_FRACTION,
    SUM_RECIPROCAL_BITS,
)
from kernels.simd import (
    add,
    broadcast_pair,
    dot_i16,
    fill_i32,
    fill_i64,
    get_i32,
    get_i64,
    interleave,
    lane_sum,
    load_i8x32,
    load_i16x16,
    load_i64x8,
    store,
    widen,
    words,
)
from kernels.team import JOB

ROM_TABLE = types.Array(int16, 2, "C", readonly=True)

# Words of a job; then addresses.
TOKEN_COUNT, START, HEADS, KV_HEADS, HEAD_DIM, SPAN = range(JOB, JOB + 6)
Q, Q_SCALE, K, K_SCALE, V, V_SCALE, OUT = range(JOB + 6, JOB + 13)

BLOCK = 128  # positions whose keys or values stay in L1 while all query heads pass over them
assert BLOCK * 32767 * 128 < 1 << 31  # w * v of one block fits 32 bits


@njit(
    void(int32[:, :, ::1], int64, ROM_TABLE, ROM_TABLE, int32[:, :, ::1]),
    cache=True,
    nogil=True,
)
def rope(v, start, cosine, sine, out):
    tokens, heads, head_dim = v.shape
    half = head_dim // 2
    for t in range(tokens):
        cosines, sines = cosine[start + t], sine[start + t]
        for head in range(heads):
            left, right = v[t, head, :half], v[t, head, half:]
            turned_left, turned_right = out[t, head, :half], out[t, head, half:]
            for i in range(half):
                a, b = np.int64(left[i]), np.int64(right[i])
                c, s = np.int64(cosines[i]), np.int64(sines[i])
                turned_left[i] = saturate_int32((a * c - b * s + 8192) >> 14)
                turned_right[i] = saturate_int32((b * c + a * s + 8192) >> 14)


@njit(nogil=True)
def exp2_negative(n):
    whole = n >> SCORE_FRACTION
    if whole >= 16:
        return np.int64(0)
    fraction = n & ((1 << SCORE_FRACTION) - 1)
    below = SCORE_FRACTION - EXP2_BITS
    index, rest = fraction >> below, fraction & ((1 << below) - 1)
    low, high = np.int64(EXP2[index]), np.int64(EXP2[index + 1])
    return round_shift(low - round_shift((low - high) * rest, below), whole)


@njit(nogil=True)
def dot_head(q16, k, head_dim):
    """q int16[head_dim] times k int8[head_dim]; below 2**24 for 1024 dimensions."""
    total = fill_i32(0)
    for j in range(0, head_dim, 16):
        total = add(total, dot_i16(words(load_i8x32(q16 + 2 * j)), load_i16x16(k + j)))
    return lane_sum(total)


@njit(nogil=True)
def score_head(q16, head_dim, mantissa, exponent, k, stride, k_scale, scale_stride, n, scores):
    """Scores of one query head at n positions, int32[n] at address `scores`; the largest."""
    largest = np.int64(-(1 << 31))
    for i in range(n):
        scale = k_scale + i * scale_stride
        dot = dot_head(q16, k + i * stride, head_dim)
        score = requantise(
            dot, get_i32(scale), get_i32(scale + 4), mantissa, exponent, SCORE_FRACTION
        )
        store(scores + 4 * i, score)
        largest = max(largest, np.int64(score))
    return largest


@njit(nogil=True)
def weigh(scores, largest, v_scale, scale_stride, least, n, weights):
    """Probabilities times V's scales, int16[n + n % 2] at `weights`; the probabilities' sum.

    The scale is relative to the largest, so a weight is at most 32767.
    """
    total = np.int64(0)
    for i in range(n):
        p = exp2_negative(largest - get_i32(scores + 4 * i))
        total += p
        scale = v_scale + i * scale_stride
        shift = 16 + get_i32(scale + 4) - least
        store(weights + 2 * i, np.int16(round_shift(p * get_i32(scale), shift)))
    if n % 2:
        store(weights + 2 * n, np.int16(0))
    return total


@njit(nogil=True)
def mix(weights, v, stride, n, head_dim, acc):
    """Add sum(weight * v) over n positions to int64[head_dim] at address `acc`."""
    for j in range(0, head_dim, 16):
        low, high = fill_i32(0), fill_i32(0)
        for i in range(0, n, 2):
            first = v + i * stride + j
            second = first + stride if i + 1 < n else first
            pair = broadcast_pair(weights + 2 * i)
            left, right = interleave(first, second)
            low = add(low, dot_i16(left, pair))
            high = add(high, dot_i16(right, pair))
        store(acc + 8 * j, add(load_i64x8(acc + 8 * j), widen(low)))
        store(acc + 8 * j + 64, add(load_i64x8(acc + 8 * j + 64), widen(high)))


def scratch_bytes(span: int, positions: int, head_dim: int) -> int:
    """Per query head: q int16, sums int64, scores int32, weights int16, largest and total."""
    return span * (10 * head_dim + 4 * positions + 2 * BLOCK + 16)


@njit(nogil=True)
def attention_chunk(shared, chunk, scratch):
    """`SPAN` query heads of one token that share a KV head, over all its positions."""
    heads, kv_heads, head_dim = shared[HEADS], shared[KV_HEADS], shared[HEAD_DIM]
    span = shared[SPAN]
    t, first = chunk * span // heads, chunk * span % heads
    kv = first // (heads // kv_heads)
    n = shared[START] + t + 1
    stride, scale_stride = kv_heads * head_dim, 8 * kv_heads
    k, v = shared[K] + kv * head_dim, shared[V] + kv * head_dim
    k_scale, v_scale = shared[K_SCALE] + 8 * kv, shared[V_SCALE] + 8 * kv
    q = shared[Q] + (t * heads + first) * head_dim
    q_scale = shared[Q_SCALE] + (t * heads + first) * 8
    out = shared[OUT] + (t * heads + first) * head_dim * 4

    acc = scratch
    largest = acc + 8 * span * head_dim  # int64[span]
    totals = largest + 8 * span
    q16 = totals + 8 * span
    scores = q16 + 2 * span * head_dim
    weights = scores + 4 * span * n
    for j in range(0, span * head_dim, 16):
        store(q16 + 2 * j, load_i16x16(q + j))
    for j in range(0, span * head_dim, 8):
        store(acc + 8 * j, fill_i64(0))
    for head in range(span):
        store(largest + 8 * head, np.int64(-(1 << 31)))
        store(totals + 8 * head, np.int64(0))

    least = np.int64(1 << 31)
    for i in range(n):
        least = min(least, get_i32(v_scale + i * scale_stride + 4))
    for begin in range(0, n, BLOCK):
        size = min(BLOCK, n - begin)
        for head in range(span):
            most = score_head(
                q16 + 2 * head * head_dim,
                head_dim,
                get_i32(q_scale + 8 * head),
                get_i32(q_scale + 8 * head + 4),
                k + begin * stride,
                stride,
                k_scale + begin * scale_stride,
                scale_stride,
                size,
                scores + 4 * (head * n + begin),
            )
            store(largest + 8 * head, max(most, get_i64(largest + 8 * head)))
    for begin in range(0, n, BLOCK):
        size = min(BLOCK, n - begin)
        for head in range(span):
            total = weigh(
                scores + 4 * (head * n + begin),
                get_i64(largest + 8 * head),
                v_scale + begin * scale_stride,
                scale_stride,
                least,
                size,
                weights,
            )
            store(totals + 8 * head, total + get_i64(totals + 8 * head))
            mix(weights, v + begin * stride, stride, size, head_dim, acc + 8 * head * head_dim)

    shift = SUM_RECIPROCAL_BITS - FRACTION - 16 + least
    for head in range(span):
        reciprocal = (np.int64(1) << SUM_RECIPROCAL_BITS) // get_i64(totals + 8 * head)
        for j in range(head * head_dim, (head + 1) * head_dim):
            value = saturate_int32(round_shift(get_i64(acc + 8 * j) * reciprocal, shift))
            store(out + 4 * j, value)
