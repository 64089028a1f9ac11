"""Scores of attention, compiled: query heads times the keys of a block of positions.

The keys are laid out once for all query heads that share them: four values of as many positions as
a vector has lanes, then the next four. A lane then adds up one position, and no sum crosses lanes.
"""

from __future__ import annotations

import numpy as np

from kernels.arith import requantise
from kernels.host.entry import inner
from kernels.host.simd import (
    dot_u8,
    get_i32,
    load_i8x32,
    prefetch,
    store,
    store_columns,
    view_i8,
    view_i32,
)
from kernels.reference import SCORE_FRACTION
from kernels.rom.lanes import LINE, inputs, load_levels, start

BLOCK = 64  # positions
LANES = LINE // 4
VECTORS = 4  # that meet a query head at once
assert BLOCK % (VECTORS * LANES) == 0


@inner
def ask_ahead(at, stride, length, first, end):
    """Prefetch `length` bytes of each of the positions from `first` to before `end`.

    A CPU does not foresee what a head reads, which lies far apart. It keeps 16 or so lines in
    flight, and a whole block asked for at once would hold it up: so each step asks for a part.
    """
    for i in range(first, end):
        for byte in range(0, length, 64):
            prefetch(at + i * stride + byte)


@inner
def lay_out_keys(k, stride, n, head_dim, panel):
    """n keys, `stride` bytes apart, to `panel`; 128 is added to each value, to make it unsigned."""
    for first in range(0, n, LANES):
        at, step = k + first * stride, stride
        if n - first < LANES:  # whole vectors are read: from behind the panel
            spare = panel + (BLOCK - first) * head_dim
            for i in range(n - first):
                for j in range(0, head_dim, 32):
                    store(spare + i * head_dim + j, load_i8x32(at + i * stride + j))
            at, step = spare, head_dim
        for j in range(0, head_dim, 32):
            store_columns(at + j, step, panel + LANES * j)
        panel += LANES * head_dim


def panel_bytes(head_dim: int) -> int:
    return (BLOCK + LANES) * head_dim


@inner
def start_of(q, head_dim):
    """What takes the 128 out of a query head's sums."""
    total = np.int32(0)
    for value in view_i8(q, head_dim):
        total += np.int32(value)
    return np.int32(-128 * total)


@inner
def dot_keys(panel, n, head_dim, q, other_q, starts, other_starts, dots, other_dots):
    """Two query heads at once, q int8[head_dim], times n keys: int32[BLOCK] at `dots`.

    `starts`: the address of what `start_of` gave. Beyond n the sums mean nothing.
    """
    size = LANES * head_dim
    for v in range(0, n, VECTORS * LANES):
        a0, b0 = start(starts), start(other_starts)
        a1, a2, a3, b1, b2, b3 = a0, a0, a0, b0, b0, b0
        at = panel + v * head_dim
        for j in range(0, head_dim, 4):
            first, second = inputs(q + j), inputs(other_q + j)
            u0, u1 = load_levels(at), load_levels(at + size)
            a0, b0 = dot_u8(a0, u0, first), dot_u8(b0, u0, second)
            a1, b1 = dot_u8(a1, u1, first), dot_u8(b1, u1, second)
            u2, u3 = load_levels(at + 2 * size), load_levels(at + 3 * size)
            a2, b2 = dot_u8(a2, u2, first), dot_u8(b2, u2, second)
            a3, b3 = dot_u8(a3, u3, first), dot_u8(b3, u3, second)
            at += LINE
        to, other = dots + 4 * v, other_dots + 4 * v
        store(to, a0)
        store(to + LINE, a1)
        store(to + 2 * LINE, a2)
        store(to + 3 * LINE, a3)
        store(other, b0)
        store(other + LINE, b1)
        store(other + 2 * LINE, b2)
        store(other + 3 * LINE, b3)


@inner
def score(dots, scales, q_scale, n, usual, scores):
    """Sums int32[n] -> scores int32[n]; the largest.

    scales: the keys' mantissas, int32[BLOCK], then their exponents; `usual` says that all their
    shifts lie between 1 and 62, as those of useful scores do.
    """
    dot, out = view_i32(dots, n), view_i32(scores, n)
    mantissas, exponents = view_i32(scales, n), view_i32(scales + 4 * BLOCK, n)
    mantissa, exponent = get_i32(q_scale), get_i32(q_scale + 4)
    if not usual:
        for i in range(n):
            of = np.int64(mantissas[i]), np.int64(exponents[i])
            out[i] = requantise(np.int64(dot[i]), of[0], of[1], mantissa, exponent, SCORE_FRACTION)
    else:
        more, by = np.int32(exponent - 16 - SCORE_FRACTION), np.uint32(mantissa)
        for i in range(n):  # round(x, s) = ((x >> s - 1) + 1) >> 1
            multiplier = np.uint32(np.uint32(mantissas[i]) * by + np.uint32(1 << 14)) >> np.uint32(
                15
            )
            product = np.int64(dot[i]) * np.int64(multiplier)
            value = ((product >> np.int64(np.int32(exponents[i] + more))) + 1) >> 1
            out[i] = np.int32(min(max(value, -(1 << 31)), (1 << 31) - 1))
