"""Blocks that treat each token by itself, as jobs for the team: a chunk is a run of tokens.

One token is not worth a job: `kernels.compiled` then calls the kernel itself.
"""

from __future__ import annotations

from kernels.blocks.kv_sram import kv_write_one
from kernels.blocks.residual_add import residual_add_one
from kernels.blocks.rms_norm import rms_norm_one
from kernels.blocks.swiglu import swiglu_narrow_one
from kernels.host.entry import inner
from kernels.host.simd import get_i64, view_i32
from kernels.host.team import CHUNKS_NEXT, JOB, THREADS

CHUNKS_A_THREAD = 4

# Words of a job, then addresses. N is the width of a token; of kv_write, the head's dimension.
OPERATION, TOKEN_COUNT, TOKENS_A_CHUNK, N, NUMBER, HEADS, KV_HEADS = range(JOB, JOB + 7)
A, B, C, CONSTANT, OUT, SCALE, K, K_SCALE, V, V_SCALE, ROWS = range(JOB + 7, JOB + 18)
RMS_NORM, SWIGLU_NARROW, RESIDUAL_ADD, KV_WRITE = range(4)


@inner
def tokens_chunk(shared, chunk, scratch):
    """The tokens of one chunk, by the operation that the words describe."""
    first = chunk * shared[TOKENS_A_CHUNK]
    last = min(first + shared[TOKENS_A_CHUNK], shared[TOKEN_COUNT])
    operation, n = shared[OPERATION], shared[N]
    a, b, out, scale = shared[A], shared[B], shared[OUT], shared[SCALE]
    for t in range(first, last):
        word, place = 4 * t * n, t * n
        if operation == RMS_NORM:
            constant = view_i32(shared[CONSTANT], 2)
            to, scale_to = out + place, scale + 8 * t
            rms_norm_one(a + word, n, shared[NUMBER], constant, to, scale_to, scratch)
        elif operation == SWIGLU_NARROW:
            constant = view_i32(shared[CONSTANT], 2)
            to, scale_to = out + place, scale + 8 * t
            swiglu_narrow_one(
                a + word, b + word, n, shared[NUMBER], constant, to, scale_to, scratch
            )
        elif operation == RESIDUAL_ADD:
            residual_add_one(a + word, b + word, n, out + word)
        else:
            heads, kv_heads = shared[HEADS], shared[KV_HEADS]
            row = get_i64(shared[ROWS] + 8 * t) * kv_heads
            constants = view_i32(shared[CONSTANT], 6).reshape((3, 2))
            q, kv = t * heads, t * kv_heads
            kv_write_one(
                a + 4 * n * q, b + 4 * n * kv, shared[C] + 4 * n * kv, heads, kv_heads, n,
                constants, shared[K] + n * row, shared[K_SCALE] + 8 * row, shared[V] + n * row,
                shared[V_SCALE] + 8 * row, out + n * q, scale + 8 * q, scratch,
            )  # fmt: skip


@inner
def _describe(shared, operation, tokens, n):
    size = max(tokens // (CHUNKS_A_THREAD * shared[THREADS]), 1)
    shared[OPERATION], shared[TOKEN_COUNT], shared[N] = operation, tokens, n
    shared[TOKENS_A_CHUNK] = size
    shared[CHUNKS_NEXT] = (tokens + size - 1) // size


@inner
def describe_rms_norm(shared, residual, epsilon, constant, x, scale):
    _describe(shared, RMS_NORM, *residual.shape)
    shared[A], shared[NUMBER] = residual.ctypes.data, epsilon
    shared[CONSTANT] = constant.ctypes.data
    shared[OUT], shared[SCALE] = x.ctypes.data, scale.ctypes.data


@inner
def describe_swiglu_narrow(shared, gate, up, block, constant, x, scale):
    _describe(shared, SWIGLU_NARROW, *gate.shape)
    shared[A], shared[B], shared[NUMBER] = gate.ctypes.data, up.ctypes.data, block
    shared[CONSTANT] = constant.ctypes.data
    shared[OUT], shared[SCALE] = x.ctypes.data, scale.ctypes.data


@inner
def describe_residual_add(shared, residual, delta, out):
    _describe(shared, RESIDUAL_ADD, *residual.shape)
    shared[A], shared[B], shared[OUT] = residual.ctypes.data, delta.ctypes.data, out.ctypes.data


@inner
def describe_kv_write(
    shared, q, k, v, constants, rows, k_sram, k_scale, v_sram, v_scale, q8, q8_scale
):
    tokens, heads, n = q.shape
    _describe(shared, KV_WRITE, tokens, n)
    shared[HEADS], shared[KV_HEADS] = heads, k.shape[1]
    shared[A], shared[B], shared[C] = q.ctypes.data, k.ctypes.data, v.ctypes.data
    shared[CONSTANT] = constants.ctypes.data
    shared[ROWS] = rows.ctypes.data
    shared[K], shared[K_SCALE] = k_sram.ctypes.data, k_scale.ctypes.data
    shared[V], shared[V_SCALE] = v_sram.ctypes.data, v_scale.ctypes.data
    shared[OUT], shared[SCALE] = q8.ctypes.data, q8_scale.ctypes.data
