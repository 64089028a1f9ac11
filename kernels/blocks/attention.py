"""Causal attention over the KV SRAM, compiled. Twin in `kernels.reference`.

Tokens of a sequence that follow each other are a tile: they share keys and values. Of a prompt a
chunk is a tile by one KV head. Of a few tokens it is a tile by a run of positions, with all heads:
so memory is read in its order, and threads share even one token with one KV head. First all runs
get their scores, then, when the largest is known, their weighted sums; integers add up to the same
in any order. Who completes a tile's last run adds the runs up.
"""

from __future__ import annotations

import numpy as np

from kernels.blocks import attention_keys as keys
from kernels.blocks import attention_values as values
from kernels.blocks.attention_keys import BLOCK, LANES
from kernels.blocks.attention_tile import (
    COUNT,
    HEAD_DIM,
    HEADS,
    K_SCALE,
    KV_HEADS,
    MEMORY,
    OUT,
    PADDED,
    PARTS,
    POSITIONS,
    Q_SCALE,
    ROWS,
    RUNS,
    SCORES,
    SEEN,
    SUMS,
    TILE_WORDS,
    TILES,
    TOKENS,
    V_SCALE,
    WINDOW,
    K,
    Q,
    V,
    attended,
    describe,
    finish_tile,
    mix_run,
    row_bytes,
    score_run,
)
from kernels.host.entry import entry, inner, routine
from kernels.host.job import CHUNKS, CHUNKS_A_THREAD, THREADS, words
from kernels.host.simd import get_i64, view_i64
from kernels.host.team import Team, atomic_add, atomic_load, wait_a_moment

FEW = 16  # tokens that are cut into runs
TILE = 8  # tokens
BEHIND = TILE + 2 * LANES  # scores: of a tile's later tokens, and to fill vectors
MOST_RUNS = 2 * Team.MOST
RUN_PRODUCTS = 1 << 17  # with the keys, at least, in a run
NEAR_VALUES = 1 << 19  # as many keys are in a cache: threads better share heads than runs


def own_bytes(tokens: int, positions: int, heads: int, kv_heads: int, head_dim: int) -> int:
    """What a thread needs; `positions`: that a token attends to, at most."""
    rows, a_row = min(tokens, TILE) * heads, int(row_bytes.py_func(head_dim))
    panel = max(keys.panel_bytes(head_dim), values.panel_bytes(head_dim))
    need = 64 + 8 * TILE_WORDS + panel + 12 * BLOCK + rows * (4 * BLOCK + 20 + head_dim) + a_row
    if tokens > FEW:
        need += rows // kv_heads * (4 * (positions + BEHIND) + a_row)
    return need


def common_bytes(tokens: int, positions: int, heads: int, head_dim: int) -> int:
    """What all threads share."""
    if tokens > FEW:
        return 0
    a_head = 4 * (positions + BEHIND) + MOST_RUNS * int(row_bytes.py_func(head_dim))
    return 64 + tokens * heads * (64 + a_head)


@entry(
    "void(int64[::1], int8[:, :, ::1], int32[:, :, ::1], int8[:, :, ::1], int32[:, :, ::1],"
    " int8[:, :, ::1], int32[:, :, ::1], int64[::1], int64[::1], int64, int32[:, :, ::1])"
)
def attention(job, q, q_scale, k, k_scale, v, v_scale, positions, rows, window, out):
    """Set up: causal attention of all heads."""
    job[POSITIONS], job[ROWS], job[WINDOW] = positions.ctypes.data, rows.ctypes.data, window
    job[TOKENS], job[HEADS], job[HEAD_DIM] = q.shape
    job[KV_HEADS] = k.shape[1]
    job[Q], job[Q_SCALE] = q.ctypes.data, q_scale.ctypes.data
    job[K], job[K_SCALE] = k.ctypes.data, k_scale.ctypes.data
    job[V], job[V_SCALE] = v.ctypes.data, v_scale.ctypes.data
    job[OUT] = out.ctypes.data


@inner
def following(job, t, most):
    """How many tokens from t on, at most, are those of one sequence in a row."""
    row, position = get_i64(job[ROWS] + 8 * t), get_i64(job[POSITIONS] + 8 * t)
    n = np.int64(1)
    while n < most and (
        get_i64(job[ROWS] + 8 * (t + n)) == row + n
        and get_i64(job[POSITIONS] + 8 * (t + n)) == position + n
    ):
        n += 1
    return n


@routine
def attention_prepare(address, _, memory):
    """Cut the work into chunks."""
    job = words(address)
    tokens, most = job[TOKENS], np.int64(0)
    for t in range(tokens):
        first, end = attended(job, t)
        most = max(most, end - first)
    job[MEMORY] = (memory + 63) // 64 * 64
    job[PADDED], job[RUNS] = (most + BEHIND) // LANES * LANES, 1
    if tokens > FEW:
        job[CHUNKS] = (tokens + TILE - 1) // TILE * job[KV_HEADS]
        return
    tiles, t = np.int64(0), np.int64(0)
    while t < tokens:
        t += following(job, t, min(TILE, tokens - t))
        tiles += 1
    job[TILES], job[PARTS] = tiles, 1
    runs = (CHUNKS_A_THREAD * job[THREADS] + tiles - 1) // tiles if job[THREADS] > 1 else 1
    enough = most * job[HEADS] * job[HEAD_DIM] * tokens // (tiles * RUN_PRODUCTS)
    near = most * job[KV_HEADS] * job[HEAD_DIM] <= NEAR_VALUES
    if near and enough > 1 and tiles * job[KV_HEADS] % job[THREADS] == 0:
        job[PARTS], runs = job[KV_HEADS], 1
    job[RUNS] = max(min(runs, enough, MOST_RUNS), 1)
    parts = tiles * job[PARTS]
    view_i64(job[MEMORY], 2 * parts)[:] = 0
    job[CHUNKS] = parts * job[RUNS] * (2 if job[RUNS] > 1 else 1)


@routine
def attention_chunk(address, chunk, scratch):
    """A tile by a KV head; or by a run of positions, its scores or its sums."""
    scratch = (scratch + 63) // 64 * 64  # vectors that cross cache lines cost twice
    job, tile = words(address), view_i64(scratch, TILE_WORDS)
    scratch += 8 * TILE_WORDS
    tokens, heads, a_row = job[TOKENS], job[HEADS], row_bytes(job[HEAD_DIM])
    shared = heads // job[KV_HEADS]
    scored = mixed = job[MEMORY]
    if tokens > FEW:
        t, kv, kvs = chunk // job[KV_HEADS] * TILE, chunk % job[KV_HEADS], np.int64(1)
        runs, run, mixing = np.int64(1), np.int64(0), False
        end = min(t + TILE, tokens)
        sums = scratch
        scores = sums + TILE * shared * a_row
        scratch = scores + 4 * TILE * shared * job[PADDED]
    else:
        parts, runs = job[PARTS], job[RUNS]
        all_parts = job[TILES] * parts
        number, run, mixing = chunk // runs % all_parts, chunk % runs, chunk >= all_parts * runs
        scored, mixed = scored + 8 * number, mixed + 8 * (all_parts + number)
        t = np.int64(0)
        end = following(job, t, min(TILE, tokens))
        for _ in range(number // parts):
            t, end = end, end + following(job, end, min(TILE, tokens - end))
        kvs = job[KV_HEADS] // parts
        kv = number % parts * kvs
        row = t * heads + kv * (end - t) * shared  # of all tiles: its first
        scores = job[MEMORY] + 64 * tokens * heads + 4 * row * job[PADDED]
        behind = job[MEMORY] + 64 * tokens * heads + 4 * tokens * heads * job[PADDED]
        sums = behind + row * runs * a_row
    while t < end:
        describe(job, tile, t, following(job, t, end - t), kv, kvs)
        tile[SUMS], tile[SCORES] = sums, scores
        size = (tile[SEEN] + runs * LANES - 1) // (runs * LANES) * LANES
        first, last = run * size, min((run + 1) * size, tile[SEEN])
        own = sums + run * tile[COUNT] * kvs * shared * a_row
        if not mixing:
            score_run(job, tile, first, last, own, scratch)
        if runs > 1 and not mixing:
            atomic_add(scored, 1)
            return
        waited = 0
        while mixing and atomic_load(scored) < runs:  # whoever has these chunks does not wait
            wait_a_moment(waited)
            waited += 1
        mix_run(job, tile, runs, first, last, own, scratch)
        if runs == 1 or atomic_add(mixed, 1) == runs - 1:
            finish_tile(job, tile, runs)
        t += tile[COUNT]
