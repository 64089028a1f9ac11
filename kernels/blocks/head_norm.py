"""RMSNorm of each head of q or k, with a gain, compiled. Twin in `kernels.reference`."""

from __future__ import annotations

import numpy as np
from numba import int16, int32, int64, types, void

from kernels.arith import normalise, round_shift, saturate_int32, to_int16
from kernels.blocks.rms_norm import inverse_rms
from kernels.host.entry import entry, routine
from kernels.host.job import OF_TOKENS, run_of_tokens, share_tokens, words
from kernels.host.simd import view_i16, view_i32
from kernels.reference import FRACTION

V, N, GAIN, EPSILON, CONSTANT, OUT = range(OF_TOKENS, OF_TOKENS + 6)


@entry(
    void(
        int64[::1],
        int32[:, ::1],
        types.Array(int16, 1, "C", readonly=True),
        int64,
        int32[::1],
        int32[:, ::1],
    ),
)
def head_norm(job, v, gain, epsilon, constant, out):
    """Set up: int32[heads of all tokens, head_dim] -> the same."""
    share_tokens(job, v.shape[0])
    job[V], job[N], job[GAIN] = v.ctypes.data, v.shape[1], gain.ctypes.data
    job[EPSILON], job[CONSTANT], job[OUT] = epsilon, constant.ctypes.data, out.ctypes.data


@routine
def head_norm_heads(address, chunk, scratch):
    job = words(address)
    n = job[N]
    h, gain, constant = view_i32(scratch, n), view_i16(job[GAIN], n), view_i32(job[CONSTANT], 2)
    first, last = run_of_tokens(job, chunk)
    for head in range(first, last):
        v, out = view_i32(job[V] + 4 * head * n, n), view_i32(job[OUT] + 4 * head * n, n)
        shift = to_int16(v, h)
        mantissa, exponent = inverse_rms(h, shift, job[EPSILON], np.int64(1), np.int64(0))
        mantissa, exponent = normalise(
            mantissa * np.int64(constant[0]), exponent + np.int64(constant[1])
        )
        for i in range(n):
            product = np.int64(h[i]) * np.int64(gain[i]) * mantissa
            out[i] = saturate_int32(round_shift(product, exponent - FRACTION))
