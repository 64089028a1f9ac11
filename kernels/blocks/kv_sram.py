"""The KV SRAM's write: q and k through R3 to int8, v to int8, compiled. Twin: `kv_write`."""

from __future__ import annotations

import numpy as np

from kernels.host.entry import entry, inner
from kernels.narrow import narrow_one, rotate_narrow_one


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
    "void(int32[:, :, ::1], int32[:, :, ::1], int32[:, :, ::1], int32[:, ::1], int64[::1],"
    " int8[:, :, ::1], int32[:, :, ::1], int8[:, :, ::1], int32[:, :, ::1],"
    " int8[:, :, ::1], int32[:, :, ::1])"
)
def kv_write(q, k, v, constants, rows, k_sram, k_scale, v_sram, v_scale, q8, q8_scale):
    tokens, heads, n = q.shape
    kv_heads = k.shape[1]
    h = np.empty(n, np.int32)
    for t in range(tokens):
        head, kv_head, place = t * heads, t * kv_heads, rows[t] * kv_heads
        kv_write_one(
            q.ctypes.data + 4 * head * n,
            k.ctypes.data + 4 * kv_head * n,
            v.ctypes.data + 4 * kv_head * n,
            heads,
            kv_heads,
            n,
            constants,
            k_sram.ctypes.data + place * n,
            k_scale.ctypes.data + 8 * place,
            v_sram.ctypes.data + place * n,
            v_scale.ctypes.data + 8 * place,
            q8.ctypes.data + head * n,
            q8_scale.ctypes.data + 8 * head,
            h.ctypes.data,
        )
