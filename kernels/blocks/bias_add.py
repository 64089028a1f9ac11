"""A bias on the fabric's outputs, compiled. Twin in `kernels.reference`."""

from __future__ import annotations

import numpy as np
from numba import int32, int64, types, void

from kernels.arith import saturate_int32
from kernels.host.entry import entry, routine
from kernels.host.job import OF_TOKENS, run_of_tokens, share_tokens, words
from kernels.host.simd import view_i32

V, N, BIAS, OUT = range(OF_TOKENS, OF_TOKENS + 4)


@entry(
    void(int64[::1], int32[:, ::1], types.Array(int32, 1, "C", readonly=True), int32[:, ::1]),
)
def bias_add(job, v, bias, out):
    share_tokens(job, v.shape[0])
    job[V], job[N] = v.ctypes.data, v.shape[1]
    job[BIAS], job[OUT] = bias.ctypes.data, out.ctypes.data


@routine
def bias_add_tokens(address, chunk, scratch):
    job = words(address)
    n = job[N]
    bias = view_i32(job[BIAS], n)
    first, last = run_of_tokens(job, chunk)
    for t in range(first, last):
        v, out = view_i32(job[V] + 4 * t * n, n), view_i32(job[OUT] + 4 * t * n, n)
        for i in range(n):
            out[i] = saturate_int32(np.int64(v[i]) + np.int64(bias[i]))
