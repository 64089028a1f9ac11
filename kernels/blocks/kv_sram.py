"""The KV SRAM's write: q and k through R3 to int8, v to int8, compiled. Twin: `kv_write`."""

from __future__ import annotations

from kernels.host.entry import entry, inner, routine
from kernels.host.job import OF_TOKENS, run_of_tokens, share_tokens, words
from kernels.host.simd import get_i64, view_i32
from kernels.narrow import narrow_one, rotate_narrow_one

HEADS, KV_HEADS, HEAD_DIM, ROWS, CONSTANTS = range(OF_TOKENS, OF_TOKENS + 5)
Q, K, V, Q8, Q8_SCALE = range(OF_TOKENS + 5, OF_TOKENS + 10)
K_SRAM, K_SCALE, V_SRAM, V_SCALE = range(OF_TOKENS + 10, OF_TOKENS + 14)


@inner
def kv_write_one(
    q, k, v, heads, kv_heads, n, constants, k_sram, k_scale, v_sram, v_scale, q8, q8_scale, h
):
    """One token's heads of n values, all by address; int32[n] at h is overwritten."""
    block = n & -n
    for i in range(heads):
        at, to = q + 4 * i * n, q8 + i * n
        rotate_narrow_one(at, n, block, constants[0], to, q8_scale + 8 * i, h)
    for i in range(kv_heads):
        at, to = k + 4 * i * n, k_sram + i * n
        rotate_narrow_one(at, n, block, constants[1], to, k_scale + 8 * i, h)
        narrow_one(v + 4 * i * n, n, constants[2], v_sram + i * n, v_scale + 8 * i)


@entry(
    "void(int64[::1], int32[:, :, ::1], int32[:, :, ::1], int32[:, :, ::1], int32[:, ::1],"
    " int64[::1], int8[:, :, ::1], int32[:, :, ::1], int8[:, :, ::1], int32[:, :, ::1],"
    " int8[:, :, ::1], int32[:, :, ::1])"
)
def kv_write(job, q, k, v, constants, rows, k_sram, k_scale, v_sram, v_scale, q8, q8_scale):
    tokens, heads, n = q.shape
    share_tokens(job, tokens)
    job[HEADS], job[KV_HEADS], job[HEAD_DIM] = heads, k.shape[1], n
    job[ROWS], job[CONSTANTS] = rows.ctypes.data, constants.ctypes.data
    job[Q], job[K], job[V] = q.ctypes.data, k.ctypes.data, v.ctypes.data
    job[Q8], job[Q8_SCALE] = q8.ctypes.data, q8_scale.ctypes.data
    job[K_SRAM], job[K_SCALE] = k_sram.ctypes.data, k_scale.ctypes.data
    job[V_SRAM], job[V_SCALE] = v_sram.ctypes.data, v_scale.ctypes.data


@routine
def kv_write_tokens(address, chunk, scratch):
    job = words(address)
    heads, kv_heads, n = job[HEADS], job[KV_HEADS], job[HEAD_DIM]
    constants = view_i32(job[CONSTANTS], 6).reshape((3, 2))
    first, last = run_of_tokens(job, chunk)
    for t in range(first, last):
        q, kv, row = t * heads, t * kv_heads, get_i64(job[ROWS] + 8 * t) * kv_heads
        kv_write_one(
            job[Q] + 4 * n * q, job[K] + 4 * n * kv, job[V] + 4 * n * kv, heads, kv_heads, n,
            constants, job[K_SRAM] + n * row, job[K_SCALE] + 8 * row, job[V_SRAM] + n * row,
            job[V_SCALE] + 8 * row, job[Q8] + n * q, job[Q8_SCALE] + 8 * q, scratch,
        )  # fmt: skip
