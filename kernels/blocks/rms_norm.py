"""RMSNorm, without a gain and with one of its own, compiled. Twins in `kernels.reference`."""

from __future__ import annotations

import numpy as np
from numba import int8, int16, int32, int64, types, void

from kernels.arith import (
    hadamard,
    integer_sqrt,
    normalise,
    round_shift,
    store_scale,
    to_int8,
    to_int16,
)
from kernels.host.entry import entry, inner, routine
from kernels.host.job import OF_TOKENS, run_of_tokens, share_tokens, words
from kernels.host.simd import bit_length, view_i8, view_i16, view_i32, view_i64
from kernels.reference import Q1_14

RESIDUAL, N, EPSILON, CONSTANT, X, SCALE = range(OF_TOKENS, OF_TOKENS + 6)
GAIN, MIXER, MIXED = range(OF_TOKENS + 6, OF_TOKENS + 9)


@inner
def inverse_rms(h, shift, epsilon, peak, exponent):
    total = np.int64(epsilon) >> min(2 * shift, 62)
    for i in range(h.size):  # |h| <= 2**15, so a square fits 32 bits
        total += np.int64(np.uint32(h[i] * h[i]))
    zeros = (62 - bit_length(total)) // 2
    root = max(integer_sqrt(total << (2 * zeros)), 1)
    return normalise((peak << 47) // root, exponent + 47 - zeros)


@inner
def rms_norm_one(residual, n, epsilon, constant, x, scale, h):
    """int32[n] at an address -> int8[n] at x, int32[2] at `scale`; int32[n] at h is overwritten."""
    mantissas = view_i32(h, n)
    shift = to_int16(view_i32(residual, n), mantissas)
    peak, exponent = to_int8(mantissas, np.int64(0), view_i8(x, n))
    mantissa, exponent = inverse_rms(mantissas, shift, epsilon, peak, exponent)
    store_scale(scale, mantissa, exponent, constant)


@entry("void(int64[::1], int32[:, ::1], int64, int32[::1], int8[:, ::1], int32[:, ::1])")
def rms_norm(job, residual, epsilon, constant, x, scale):
    _describe(job, residual, epsilon, constant, x, scale)


@inner
def _describe(job, residual, epsilon, constant, x, scale):
    share_tokens(job, residual.shape[0])
    job[RESIDUAL], job[N], job[EPSILON] = residual.ctypes.data, residual.shape[1], epsilon
    job[CONSTANT], job[X], job[SCALE] = constant.ctypes.data, x.ctypes.data, scale.ctypes.data


@routine
def rms_norm_tokens(address, chunk, scratch):
    job = words(address)
    n, epsilon, constant = job[N], job[EPSILON], view_i32(job[CONSTANT], 2)
    first, last = run_of_tokens(job, chunk)
    for t in range(first, last):
        residual, x, scale = job[RESIDUAL] + 4 * t * n, job[X] + t * n, job[SCALE] + 8 * t
        rms_norm_one(residual, n, epsilon, constant, x, scale, scratch)


@inner
def rotate_residual(h, mixer, out):
    """h int32[d] -> out int32[d]; h is overwritten."""
    m = mixer.shape[0]
    block = h.size // m
    hadamard(h, block)
    if m == 1:
        for i in range(h.size):
            out[i] = h[i]
        return
    for i in range(m):
        for k in range(block):
            total = np.int64(0)
            for j in range(m):
                total += np.int64(mixer[i, j]) * np.int64(h[j * block + k])
            out[i * block + k] = round_shift(total, Q1_14)


@entry(
    void(
        int64[::1],
        int32[:, ::1],
        types.Array(int16, 1, "C", readonly=True),
        types.Array(int16, 2, "C", readonly=True),
        int64,
        int32[::1],
        int8[:, ::1],
        int32[:, ::1],
    )
)
def gain_norm(job, residual, gain, mixer, epsilon, constant, x, scale):
    _describe(job, residual, epsilon, constant, x, scale)
    job[GAIN], job[MIXER], job[MIXED] = gain.ctypes.data, mixer.ctypes.data, mixer.shape[0]


def gain_scratch_bytes(width: int) -> int:
    return 20 * width  # three vectors of int32, one of int64


@routine
def gain_norm_tokens(address, chunk, scratch):
    job = words(address)
    n, m = job[N], job[MIXED]
    gain, mixer = view_i16(job[GAIN], n), view_i16(job[MIXER], m * m).reshape((m, m))
    wide, h = view_i64(scratch, n), view_i32(scratch + 8 * n, n)
    work, rotated = view_i32(scratch + 12 * n, n), view_i32(scratch + 16 * n, n)
    first, last = run_of_tokens(job, chunk)
    for t in range(first, last):
        shift = to_int16(view_i32(job[RESIDUAL] + 4 * t * n, n), h)
        for i in range(n):
            work[i] = h[i]
        rotate_residual(work, mixer, rotated)
        for i in range(n):
            wide[i] = np.int64(rotated[i]) * np.int64(gain[i])
        more = to_int16(wide, work)
        rotate_residual(work, mixer, rotated)
        peak, exponent = to_int8(rotated, -more, view_i8(job[X] + t * n, n))
        mantissa, exponent = inverse_rms(h, shift, job[EPSILON], peak, exponent)
        store_scale(job[SCALE] + 8 * t, mantissa, exponent, view_i32(job[CONSTANT], 2))
