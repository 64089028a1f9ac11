"""Rotary embedding and causal attention over the KV SRAM, compiled. Twins in `reference`."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from kernels.arith import requantise, round_shift, saturate_int32
from kernels.reference import EXP2, FRACTION, SCORE_FRACTION, SUM_RECIPROCAL_BITS
from kernels.tables import EXP2_BITS


@njit(cache=True, nogil=True)
def rope(v, positions, cosine, sine, out):
    tokens, heads, head_dim = v.shape
    half = head_dim // 2
    for t in range(tokens):
        position = positions[t]
        for head in range(heads):
            for i in range(half):
                a, b = np.int64(v[t, head, i]), np.int64(v[t, head, i + half])
                c, s = np.int64(cosine[position, i]), np.int64(sine[position, i])
                out[t, head, i] = saturate_int32(round_shift(a * c - b * s, 14))
                out[t, head, i + half] = saturate_int32(round_shift(b * c + a * s, 14))


@njit(cache=True, nogil=True)
def exp2_negative(n):
    whole = n >> SCORE_FRACTION
    if whole >= 16:
        return np.int64(0)
    fraction = n & ((1 << SCORE_FRACTION) - 1)
    below = SCORE_FRACTION - EXP2_BITS
    index, rest = fraction >> below, fraction & ((1 << below) - 1)
    low, high = np.int64(EXP2[index]), np.int64(EXP2[index + 1])
    return round_shift(low - round_shift((low - high) * rest, below), whole)


@njit(cache=True, nogil=True)
def attend(q, q_scale, k, k_scale, v, v_scale, out):
    """One query head int8[head_dim] over n positions of one KV head, [n, head_dim]."""
    n, head_dim = k.shape
    score = np.empty(n, np.int32)
    largest, least = np.int64(-(1 << 31)), np.int64(1 << 31)
    for i in range(n):
        dot = np.int32(0)
        for j in range(head_dim):
            dot = np.int32(dot + np.int32(q[j]) * np.int32(k[i, j]))
        score[i] = requantise(
            np.int64(dot),
            np.int64(k_scale[i, 0]),
            np.int64(k_scale[i, 1]),
            np.int64(q_scale[0]),
            np.int64(q_scale[1]),
            SCORE_FRACTION,
        )
        largest = max(largest, np.int64(score[i]))
        least = min(least, np.int64(v_scale[i, 1]))
    total = np.int64(0)
    acc = np.zeros(head_dim, np.int64)
    for i in range(n):
        p = exp2_negative(largest - np.int64(score[i]))
        if p == 0:
            continue
        total += p
        shift = 16 + np.int64(v_scale[i, 1]) - least
        w = round_shift(p * np.int64(v_scale[i, 0]), shift)
        for j in range(head_dim):
            acc[j] += w * np.int64(v[i, j])
    reciprocal = (np.int64(1) << SUM_RECIPROCAL_BITS) // total
    shift = SUM_RECIPROCAL_BITS - FRACTION - 16 + least
    for j in range(head_dim):
        out[j] = saturate_int32(round_shift(acc[j] * reciprocal, shift))


@njit(cache=True, nogil=True, parallel=True)
def attention(q, q_scale, k, k_scale, v, v_scale, start, out):
    tokens, heads, _ = q.shape
    shared = heads // k.shape[1]
    for task in prange(tokens * heads):
        t, head = task // heads, task % heads
        n, kv = start + t + 1, head // shared
        attend(
            q[t, head],
            q_scale[t, head],
            k[:n, kv],
            k_scale[:n, kv],
            v[:n, kv],
            v_scale[:n, kv],
            out[t, head],
        )
