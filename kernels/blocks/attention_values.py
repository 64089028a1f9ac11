"""The weighted sum of attention, compiled: scores to weights, and these times a block of values.

The values are laid out once for all query heads that share them, as int16 and two positions side by
side, which one instruction multiplies by two weights and adds up.
"""

from __future__ import annotations

import numpy as np

from kernels.blocks.attention_keys import BLOCK, LANES
from kernels.host.entry import inner
from kernels.host.simd import (
    WIDE,
    add,
    broadcast_pair,
    broadcast_pair_twice,
    dot_pairs,
    fill_i8,
    fill_i8x64,
    gather,
    inline,
    lane_sum,
    least_unsigned,
    load_i8x32,
    load_i8x64,
    load_i16x16,
    load_i16x32,
    load_i32x8,
    load_i32x16,
    load_low_i8x64,
    multiply,
    only_lanes,
    pairs_by_four,
    shift_right,
    store,
    store_low_words,
    subtract,
)
from kernels.reference import SCORE_FRACTION, exp2_negative
from kernels.rom.lanes import LINE, flush, zeros

assert BLOCK * 32767 * 255 < 1 << 31  # w * (v + 128) of one block fits 32 bits

# 2**-n for each score n below the largest, the last entry 0: what the twin computes.
EXP2_NEGATIVE = exp2_negative(np.arange((16 << SCORE_FRACTION) + 1)).astype(np.int32)

if WIDE:
    load_pairs, load_lanes, two_weights = load_i16x32, load_i32x16, broadcast_pair_twice
else:
    load_pairs, load_lanes, two_weights = load_i16x16, load_i32x8, broadcast_pair


def padded(head_dim: int) -> int:
    """Values of a head in whole vectors."""
    return -(-head_dim // LINE) * LINE


def panel_bytes(head_dim: int) -> int:
    return 2 * BLOCK * padded(head_dim)


@inline
def _load(at, left):
    """LINE values + 128; of the last of a head there may be but half a line."""
    if WIDE:
        v = load_i8x64(at) if left >= LINE else load_low_i8x64(at)
        return add(v, fill_i8x64(-128))
    return add(load_i8x32(at), fill_i8(-128))


@inner
def lay_out_values(v, stride, n, head_dim, panel):
    """n vectors of values + 128, `stride` bytes apart, to `panel`.

    An odd last one meets itself, at a weight of 0.
    """
    for j in range(0, head_dim, LINE):
        at = v + j
        for i in range(0, n, 2):
            other = at + (stride if i + 1 < n else 0)
            a, b = _load(at, head_dim - j), _load(other, head_dim - j)
            p0, p1, p2, p3 = pairs_by_four(a, b)
            store(panel, p0)
            store(panel + LINE, p1)
            store(panel + 2 * LINE, p2)
            store(panel + 3 * LINE, p3)
            panel += 4 * LINE
            at += 2 * stride


@inner
def weigh(scores, n, first, end, largest, scales, least, weights):
    """Probabilities times V's scales at n positions, int16[BLOCK] at `weights`.

    0 but from `first` to before `end`. Returns the sums of the probabilities, and of the weights.
    scales: V's mantissas, int32[BLOCK], then their exponents, of which `least` is the least of all
    blocks: so a weight is at most 32767.
    """
    top, base = zeros(largest), zeros(15 - least)
    last, one, most = zeros(EXP2_NEGATIVE.size - 1), zeros(1), zeros(31)
    total, weighed = zeros(0), zeros(0)
    for i in range(0, n, LANES):
        below = least_unsigned(subtract(top, load_lanes(scores + 4 * i)), last)
        p = only_lanes(gather(EXP2_NEGATIVE.ctypes.data, below), first - i, end - i)
        total = add(total, p)
        # The product is below 2**31. round(x, s) = ((x >> s - 1) + 1) >> 1, and far below it is 0.
        shift = least_unsigned(add(load_lanes(scales + 4 * (BLOCK + i)), base), most)
        product = multiply(p, load_lanes(scales + 4 * i))
        weight = shift_right(add(shift_right(product, shift), one), one)
        weighed = add(weighed, weight)
        store_low_words(weights + 2 * i, weight)
    return lane_sum(total), lane_sum(weighed)


@inner
def mix(weights, other_weights, panel, n, head_dim, sums, other_sums):
    """Add sum(weight * (v + 128)) over n positions to int64[head_dim] at `sums`, of two heads.

    They are in the order of `pairs_by_four`, and fill whole vectors.
    """
    for _ in range(0, head_dim, LINE):
        a0, a1, a2, a3 = zeros(0), zeros(0), zeros(0), zeros(0)
        b0, b1, b2, b3 = zeros(0), zeros(0), zeros(0), zeros(0)
        for i in range(0, n, 2):
            first, second = two_weights(weights + 2 * i), two_weights(other_weights + 2 * i)
            p0, p1 = load_pairs(panel), load_pairs(panel + LINE)
            a0, b0 = dot_pairs(a0, p0, first), dot_pairs(b0, p0, second)
            a1, b1 = dot_pairs(a1, p1, first), dot_pairs(b1, p1, second)
            p2, p3 = load_pairs(panel + 2 * LINE), load_pairs(panel + 3 * LINE)
            a2, b2 = dot_pairs(a2, p2, first), dot_pairs(b2, p2, second)
            a3, b3 = dot_pairs(a3, p3, first), dot_pairs(b3, p3, second)
            panel += 4 * LINE
        flush(sums, a0)
        flush(sums + 2 * LINE, a1)
        flush(sums + 4 * LINE, a2)
        flush(sums + 6 * LINE, a3)
        flush(other_sums, b0)
        flush(other_sums + 2 * LINE, b1)
        flush(other_sums + 4 * LINE, b2)
        flush(other_sums + 6 * LINE, b3)
        sums += 8 * LINE
        other_sums += 8 * LINE


@inner
def in_order(sums, head_dim, out):
    """Sums in the order of `mix` -> int32[head_dim]"""
    for first in range(0, head_dim, LINE):
        for j in range(min(LINE, head_dim - first) // 4):
            for s in range(4):
                out[first + 4 * j + s] = sums[first + s * LANES + j]
