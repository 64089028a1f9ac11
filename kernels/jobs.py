"""What the team works on: jobs of the fabric, of attention, and of what treats each token alone."""

from __future__ import annotations

import numpy as np

from kernels import tokenwise as by_token
from kernels.blocks import attention as att
from kernels.blocks import lora as side
from kernels.blocks import weight_fabric as fab
from kernels.host.entry import entry, inner
from kernels.host.team import (
    CHUNKS_NEXT,
    JOB,
    SCRATCH,
    SCRATCH_BYTES,
    THREADS,
    WORDS,
    claim,
    close_job,
    common_memory,
    fall_asleep,
    finish,
    next_job,
    open_job,
)
from kernels.rom import wiring as wired
from kernels.rom.pack import TILE_ROWS, VECTORS

KIND = WORDS - 1  # of the present job
FABRIC, ATTENTION, TOKENWISE, LORA = range(4)
MOST_MATRICES = 3
assert fab.MATRIX + MOST_MATRICES * fab.MATRIX_WORDS <= KIND
assert JOB + 14 <= KIND

CHUNK_BYTES = 1 << 16  # of codes, at least, in a chunk of the fabric
CHUNKS_A_THREAD = 4


@inner
def work(shared, job, worker):
    """Do chunks of this job until none is left."""
    while True:
        chunk = claim(shared, job)
        if chunk < 0:
            return
        scratch = shared[SCRATCH] + worker * shared[SCRATCH_BYTES]
        if shared[KIND] == FABRIC:
            fab.fabric_chunk(shared, chunk, scratch)
        elif shared[KIND] == ATTENTION:
            att.attention_chunk(shared, chunk, scratch)
        elif shared[KIND] == LORA:
            side.lora_chunk(shared, chunk, scratch)
        else:
            by_token.tokens_chunk(shared, chunk, scratch)
        finish(shared)


@entry("void(int64[::1], int64)")
def serve(shared, worker):
    """Thread 0 does the job that was set up, with the others; they live here between two sleeps.

    One function for both, for it holds the code of all kernels.
    """
    if worker == 0:
        work(shared, open_job(shared), worker)
        close_job(shared)
        return
    job = np.int64(-1)
    while True:
        job = next_job(shared, job, worker)
        if job < 0:
            break
        work(shared, job, worker)
    fall_asleep(shared, worker)


@inner
def _describe_fabric(shared, first, second, third, matrices, x):
    """All words of the fabric's job but those of its outputs."""
    tokens, columns = x.shape
    sums = common_memory(shared)
    fab.prepare_inputs(x, sums)
    shared[KIND] = FABRIC
    shared[fab.TOKEN_COUNT] = tokens
    shared[fab.X] = x.ctypes.data
    shared[fab.X_SUMS] = sums
    shared[fab.VECTOR_COUNT] = VECTORS
    tiles, tile_bytes = np.int64(0), np.int64(0)
    for m in range(matrices):
        wiring = first if m == 0 else second if m == 1 else third
        place = fab.MATRIX + m * fab.MATRIX_WORDS
        for word in range(wired.WORDS):
            shared[place + word] = wiring[word]
        tiles += (wiring[wired.ROWS] + TILE_ROWS - 1) // TILE_ROWS
        tile_bytes = max(tile_bytes, columns * (wiring[wired.KIND] % wired.EVEN))
    few = tokens <= fab.FEW
    least = CHUNK_BYTES // (tile_bytes * (1 if few else tokens))
    unit = fab.VECTOR_TILES if few else fab.TILES  # tiles that are worked on at once
    size = max(min(least, tiles // (CHUNKS_A_THREAD * shared[THREADS])), 1)
    size = (size + unit - 1) // unit * unit
    shared[fab.TILES_A_CHUNK], shared[fab.TILE_COUNT] = size, tiles
    shared[CHUNKS_NEXT] = (tiles + size - 1) // size


@entry(
    "void(int64[::1], int64[::1], int64[::1], int64[::1], int64,"
    " int8[:, ::1], int32[:, ::1], int32[::1])"
)
def fabric(shared, first, second, third, matrices, x, scale, out):
    """Set up: x int8[T, columns] through one to three matrices, given by their wiring.

    out holds int32[T, rows] of the first matrix, then that of the second, then the third's.
    """
    shared[fab.X_SCALE] = scale.ctypes.data
    shared[fab.SUM_ROWS] = 0
    tokens, address = x.shape[0], out.ctypes.data
    for m in range(matrices):
        wiring = first if m == 0 else second if m == 1 else third
        shared[fab.MATRIX + m * fab.MATRIX_WORDS + wired.WORDS] = address
        address += 4 * tokens * wiring[wired.ROWS]
    _describe_fabric(shared, first, second, third, matrices, x)


@entry("void(int64[::1], int64[::1], int64[::1], int64[::1], int64, int8[:, ::1], int64[:, ::1])")
def fabric_sums(shared, first, second, third, matrices, x, out):
    """Set up: the same as sums, int64[T, rows of all matrices] in `out`."""
    shared[fab.SUM_ROWS] = out.shape[1]
    address = out.ctypes.data
    for m in range(matrices):
        wiring = first if m == 0 else second if m == 1 else third
        shared[fab.MATRIX + m * fab.MATRIX_WORDS + wired.WORDS] = address
        address += 8 * wiring[wired.ROWS]
    _describe_fabric(shared, first, second, third, matrices, x)


@entry(
    "void(int64[::1], int8[:, :, ::1], int32[:, :, ::1], int8[:, :, ::1], int32[:, :, ::1],"
    " int8[:, :, ::1], int32[:, :, ::1], int64[::1], int64[::1], int64, int64, int32[:, :, ::1])"
)
def attention(shared, q, q_scale, k, k_scale, v, v_scale, positions, rows, window, span, out):
    """Set up: causal attention; `span` query heads, which share a KV head, are one chunk."""
    tokens, heads, head_dim = q.shape
    shared[KIND] = ATTENTION
    shared[att.POSITIONS], shared[att.ROWS] = positions.ctypes.data, rows.ctypes.data
    shared[att.SPAN] = span
    shared[att.HEADS], shared[att.KV_HEADS], shared[att.HEAD_DIM] = heads, k.shape[1], head_dim
    shared[att.Q], shared[att.Q_SCALE] = q.ctypes.data, q_scale.ctypes.data
    shared[att.K], shared[att.K_SCALE] = k.ctypes.data, k_scale.ctypes.data
    shared[att.V], shared[att.V_SCALE] = v.ctypes.data, v_scale.ctypes.data
    shared[att.OUT], shared[att.WINDOW] = out.ctypes.data, window
    shared[CHUNKS_NEXT] = tokens * heads // span


@entry("void(int64[::1], int32[:, ::1], int64, int32[::1], int8[:, ::1], int32[:, ::1])")
def rms_norm(shared, residual, epsilon, constant, x, scale):
    shared[KIND] = TOKENWISE
    by_token.describe_rms_norm(shared, residual, epsilon, constant, x, scale)


@entry(
    "void(int64[::1], int32[:, ::1], int32[:, ::1], int64, int32[::1], int8[:, ::1], int32[:, ::1])"
)
def swiglu_narrow(shared, gate, up, block, constant, x, scale):
    shared[KIND] = TOKENWISE
    by_token.describe_swiglu_narrow(shared, gate, up, block, constant, x, scale)


@entry("void(int64[::1], int32[:, ::1], int32[:, ::1], int32[:, ::1])")
def residual_add(shared, residual, delta, out):
    shared[KIND] = TOKENWISE
    by_token.describe_residual_add(shared, residual, delta, out)


@entry(
    "void(int64[::1], int32[:, :, ::1], int32[:, :, ::1], int32[:, :, ::1], int32[:, ::1],"
    " int64[::1], int8[:, :, ::1], int32[:, :, ::1], int8[:, :, ::1], int32[:, :, ::1],"
    " int8[:, :, ::1], int32[:, :, ::1])"
)
def kv_write(shared, q, k, v, constants, rows, k_sram, k_scale, v_sram, v_scale, q8, q8_scale):
    shared[KIND] = TOKENWISE
    by_token.describe_kv_write(
        shared, q, k, v, constants, rows, k_sram, k_scale, v_sram, v_scale, q8, q8_scale
    )


@entry("void(int64[::1], int64[:, ::1], int8[:, ::1], int32[:, ::1], int64[:, ::1], int32[::1])")
def lora(shared, wiring, x, scale, sums, out):
    shared[KIND] = LORA
    side.describe(shared, wiring, x, scale, sums, out)
