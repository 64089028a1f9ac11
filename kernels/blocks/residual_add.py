"""The residual sum, saturating, compiled. Twin in `kernels.reference`."""

from __future__ import annotations

import numpy as np

from kernels.arith import saturate_int32
from kernels.host.entry import entry, routine
from kernels.host.job import OF_TOKENS, run_of_tokens, share_tokens, words
from kernels.host.simd import view_i32

RESIDUAL, DELTA, N, OUT = range(OF_TOKENS, OF_TOKENS + 4)


@entry("void(int64[::1], int32[:, ::1], int32[:, ::1], int32[:, ::1])")
def residual_add(job, residual, delta, out):
    share_tokens(job, residual.shape[0])
    job[RESIDUAL], job[DELTA] = residual.ctypes.data, delta.ctypes.data
    job[N], job[OUT] = residual.shape[1], out.ctypes.data


@routine
def residual_add_tokens(address, chunk, scratch):
    job = words(address)
    first, last = run_of_tokens(job, chunk)
    at, n = 4 * first * job[N], (last - first) * job[N]
    residual, delta = view_i32(job[RESIDUAL] + at, n), view_i32(job[DELTA] + at, n)
    out = view_i32(job[OUT] + at, n)
    for i in range(n):
        out[i] = saturate_int32(np.int64(residual[i]) + np.int64(delta[i]))
