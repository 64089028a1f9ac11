"""What a tile of attention does, compiled: tokens of one sequence in a row, and some KV heads.

Scores of a run of positions; when the largest of all runs is known, the run's weighted sums; and
what the runs of a tile add up to. Integers add up to the same in any order.
"""

from __future__ import annotations

import numpy as np

from kernels.arith import round_shift, saturate_int32
from kernels.blocks.attention_keys import (
    BLOCK,
    LANES,
    ask_ahead,
    dot_keys,
    lay_out_keys,
    score,
    start_of,
)
from kernels.blocks.attention_values import in_order, lay_out_values, mix, weigh
from kernels.host.entry import inner
from kernels.host.job import OWN
from kernels.host.simd import (
    fill_i64,
    get_i32,
    get_i64,
    inline,
    load_i8x32,
    store,
    view_i32,
    view_i64,
)
from kernels.reference import FRACTION, SCORE_FRACTION, SUM_RECIPROCAL_BITS
from kernels.rom.lanes import LINE

# Words of a job, the first two addresses of int64[T]; then addresses.
POSITIONS, ROWS, TOKENS, HEADS, KV_HEADS, HEAD_DIM, WINDOW = range(OWN, OWN + 7)
Q, Q_SCALE, K, K_SCALE, V, V_SCALE, OUT = range(OWN + 7, OWN + 14)
MEMORY, PADDED, TILES, PARTS, RUNS = range(OWN + 14, OWN + 19)  # PADDED: scores of a head and token

# Words of a tile: its tokens; its KV heads; its rows of the SRAM; addresses of its scores and of
# what its first run adds up.
TOKEN, COUNT, KV, KVS, BEGIN, SEEN, SCORES, SUMS = range(8)
TILE_WORDS = 16

# What a run adds up for a query head of a token; then the weighted sums, int64.
LARGEST, LEAST, TOTAL, WEIGHTS, WEIGHTED = 0, 8, 16, 24, 64


@inline
def row_bytes(head_dim):
    return WEIGHTED + 8 * ((head_dim + LINE - 1) // LINE * LINE)


@inner
def attended(job, t):
    """Rows of the SRAM that a token attends to: the first, and the one behind the last."""
    end = get_i64(job[ROWS] + 8 * t) + 1
    return end - min(get_i64(job[POSITIONS] + 8 * t) + 1, job[WINDOW]), end


@inner
def describe(job, tile, t, count, kv, kvs):
    """The words of a tile, but for its addresses."""
    tile[TOKEN], tile[COUNT], tile[KV], tile[KVS] = t, count, kv, kvs
    tile[BEGIN] = attended(job, t)[0]
    tile[SEEN] = attended(job, t + count - 1)[1] - tile[BEGIN]


@inner
def seen_in(job, tile, token, begin, n):
    """Of n positions of the tile from `begin` on those that its token sees: first, one behind."""
    first, end = attended(job, tile[TOKEN] + token)
    begin += tile[BEGIN]
    return max(first - begin, 0), min(end - begin, n)


@inner
def place_of(job, tile, row):
    """Which query head of all tokens is a row of the tile: by KV head, then by token."""
    shared = job[HEADS] // job[KV_HEADS]
    rows = tile[COUNT] * shared
    head = (tile[KV] + row // rows) * shared + row % shared
    return (tile[TOKEN] + row % rows // shared) * job[HEADS] + head


@inner
def copy_scales(source, kv_heads, n, scales):
    """One KV head's scales at n positions, side by side for vectors; the exponents' extremes."""
    pairs = view_i32(source, 2 * kv_heads * (n - 1) + 2)
    mantissas, exponents = view_i32(scales, n), view_i32(scales + 4 * BLOCK, n)
    least, most = pairs[1], pairs[1]
    for i in range(n):
        exponent = pairs[2 * kv_heads * i + 1]
        mantissas[i], exponents[i] = pairs[2 * kv_heads * i], exponent
        least, most = min(least, exponent), max(most, exponent)
    return np.int64(least), np.int64(most)


@inner
def score_run(job, tile, first, last, sums, scratch):
    """Scores of a tile's positions from `first` to before `last`; the extremes to `sums`."""
    heads, kv_heads, head_dim = job[HEADS], job[KV_HEADS], job[HEAD_DIM]
    shared, a_row, stride = heads // kv_heads, row_bytes(head_dim), kv_heads * head_dim
    rows = tile[COUNT] * shared  # of one KV head
    panel = scratch
    scales = panel + (BLOCK + LANES) * head_dim
    dots = scales + 12 * BLOCK
    starts = dots + 4 * BLOCK * rows
    q = starts + 4 * rows * tile[KVS]
    for row in range(rows * tile[KVS]):
        place = place_of(job, tile, row)
        for j in range(0, head_dim, 32):
            store(q + row * head_dim + j, load_i8x32(job[Q] + place * head_dim + j))
        store(starts + 4 * row, start_of(q + row * head_dim, head_dim))
        store(sums + row * a_row + LARGEST, np.int64(-(1 << 31)))
        store(sums + row * a_row + LEAST, np.int64(1 << 31))
    length = tile[KVS] * head_dim
    a_step = (BLOCK + 2 * rows * tile[KVS] - 1) // (2 * rows * tile[KVS])
    for begin in range(first, last, BLOCK):
        n = min(BLOCK, last - begin)
        ahead, asked = min(2 * BLOCK, last - begin), BLOCK
        k = job[K] + (tile[BEGIN] + begin) * stride + tile[KV] * head_dim
        for kv in range(tile[KVS]):
            place = (tile[BEGIN] + begin) * kv_heads + tile[KV] + kv
            lay_out_keys(k + kv * head_dim, stride, n, head_dim, panel)
            copy_scales(job[V_SCALE] + 8 * place, kv_heads, n, scales)
            v_exponents = view_i32(scales + 8 * BLOCK, n)
            v_exponents[:] = view_i32(scales + 4 * BLOCK, n)
            least, most = copy_scales(job[K_SCALE] + 8 * place, kv_heads, n, scales)
            for r in range(0, rows, 2):
                ask_ahead(k, stride, length, asked, min(asked + 2 * a_step, ahead))
                asked += 2 * a_step
                s = min(r + 1, rows - 1)
                row, other = kv * rows + r, kv * rows + s
                dot_keys(
                    panel,
                    n,
                    head_dim,
                    q + row * head_dim,
                    q + other * head_dim,
                    starts + 4 * row,
                    starts + 4 * other,
                    dots + 4 * BLOCK * r,
                    dots + 4 * BLOCK * s,
                )
            for token in range(tile[COUNT]):
                low, high = seen_in(job, tile, token, begin, n)
                lowest = np.int32((1 << 31) - 1)
                for i in range(low, high):
                    lowest = min(lowest, v_exponents[i])
                for r in range(token * shared, (token + 1) * shared):
                    ask_ahead(k, stride, length, asked, min(asked + a_step, ahead))
                    asked += a_step
                    scale = job[Q_SCALE] + 8 * (
                        (tile[TOKEN] + token) * heads + (tile[KV] + kv - token) * shared + r
                    )
                    shift = get_i32(scale + 4) - SCORE_FRACTION - 15
                    usual = least + shift >= 1 and most + shift <= 62
                    to = tile[SCORES] + 4 * ((kv * rows + r) * job[PADDED] + begin)
                    score(dots + 4 * BLOCK * r, scales, scale, n, usual, to)
                    found, largest = view_i32(to, n), np.int32(-(1 << 31))
                    for i in range(low, high):
                        largest = max(largest, found[i])
                    at = sums + (kv * rows + r) * a_row
                    store(at + LARGEST, max(get_i64(at + LARGEST), np.int64(largest)))
                    store(at + LEAST, min(get_i64(at + LEAST), np.int64(lowest)))


@inner
def mix_run(job, tile, runs, first, last, sums, scratch):
    """Weighted sums of the same positions, when all runs of the tile have their scores."""
    kv_heads, head_dim = job[KV_HEADS], job[HEAD_DIM]
    shared, a_row, stride = job[HEADS] // kv_heads, row_bytes(head_dim), kv_heads * head_dim
    rows = tile[COUNT] * shared
    all_rows = rows * tile[KVS]
    spare = scratch
    panel = spare + a_row
    scales = panel + BLOCK // 4 * (a_row - WEIGHTED)
    weights = scales + 8 * BLOCK
    extremes = view_i64(weights + 2 * BLOCK * rows, 2 * all_rows).reshape((all_rows, 2))
    for row in range(all_rows):
        largest, least = np.int64(-(1 << 31)), np.int64(1 << 31)
        for run in range(runs):
            at = tile[SUMS] + (run * all_rows + row) * a_row
            largest, least = max(largest, get_i64(at + LARGEST)), min(least, get_i64(at + LEAST))
        extremes[row, 0], extremes[row, 1] = largest, least
        at = sums + row * a_row
        store(at + TOTAL, np.int64(0))
        store(at + WEIGHTS, np.int64(0))
        for to in range(at + WEIGHTED, at + a_row, 64):
            store(to, fill_i64(0))
    length = tile[KVS] * head_dim
    a_step = (BLOCK + 2 * all_rows - 1) // (2 * all_rows)
    for begin in range(first, last, BLOCK):
        n = min(BLOCK, last - begin)
        ahead, asked = min(2 * BLOCK, last - begin), BLOCK
        v = job[V] + (tile[BEGIN] + begin) * stride + tile[KV] * head_dim
        for kv in range(tile[KVS]):
            place = (tile[BEGIN] + begin) * kv_heads + tile[KV] + kv
            lay_out_values(v + kv * head_dim, stride, n, head_dim, panel)
            copy_scales(job[V_SCALE] + 8 * place, kv_heads, n, scales)
            for token in range(tile[COUNT]):
                low, high = seen_in(job, tile, token, begin, n)
                for r in range(token * shared, (token + 1) * shared):
                    ask_ahead(v, stride, length, asked, min(asked + a_step, ahead))
                    asked += a_step
                    row, to = kv * rows + r, weights + 2 * BLOCK * r
                    at, largest = tile[SCORES] + 4 * (row * job[PADDED] + begin), extremes[row, 0]
                    total, weighed = weigh(at, n, low, high, largest, scales, extremes[row, 1], to)
                    at = sums + row * a_row
                    store(at + TOTAL, get_i64(at + TOTAL) + total)
                    store(at + WEIGHTS, get_i64(at + WEIGHTS) + weighed)
            for r in range(0, rows, 2):
                ask_ahead(v, stride, length, asked, min(asked + 2 * a_step, ahead))
                asked += 2 * a_step
                at, to = weights + 2 * BLOCK * r, sums + (kv * rows + r) * a_row + WEIGHTED
                if r + 1 < rows:
                    mix(at, at + 2 * BLOCK, panel, n, head_dim, to, to + a_row)
                else:
                    mix(at, at, panel, n, head_dim, to, spare)


@inner
def finish_tile(job, tile, runs):
    """Add the runs up, and divide by the probabilities' sum."""
    head_dim = job[HEAD_DIM]
    a_row, rows = row_bytes(head_dim), tile[COUNT] * (job[HEADS] // job[KV_HEADS]) * tile[KVS]
    for row in range(rows):
        total, weights, least = np.int64(0), np.int64(0), np.int64(1 << 31)
        at = tile[SUMS] + row * a_row
        n = (a_row - WEIGHTED) // 8
        sums = view_i64(at + WEIGHTED, n)
        for run in range(runs):
            here = at + run * rows * a_row
            total += get_i64(here + TOTAL)
            weights += get_i64(here + WEIGHTS)
            least = min(least, get_i64(here + LEAST))
            if run > 0:
                sums += view_i64(here + WEIGHTED, n)
        reciprocal = (np.int64(1) << SUM_RECIPROCAL_BITS) // total
        shift = SUM_RECIPROCAL_BITS - FRACTION - 16 + least
        for j in range(n):
            acc = sums[j] - 128 * weights
            sums[j] = saturate_int32(round_shift(acc * reciprocal, shift))
        out = view_i32(job[OUT] + 4 * place_of(job, tile, row) * head_dim, head_dim)
        in_order(sums, head_dim, out)
