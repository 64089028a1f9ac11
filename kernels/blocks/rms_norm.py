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
from kernels.host.entry import entry, inner
from kernels.host.simd import bit_length, view_i8, view_i32
from kernels.reference import Q1_14


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


@entry("void(int32[:, ::1], int64, int32[::1], int8[:, ::1], int32[:, ::1])")
def rms_norm(residual, epsilon, constant, x, scale):
    n = residual.shape[1]
    h = np.empty(n, np.int32)
    for t in range(residual.shape[0]):
        at, to = residual.ctypes.data + 4 * t * n, x.ctypes.data + t * n
        rms_norm_one(at, n, epsilon, constant, to, scale.ctypes.data + 8 * t, h.ctypes.data)


@inner
def rotate_residual(h, mixer, out):
    """h int32[d] -> out int32[d]; h is overwritten."""
    m = mixer.shape[0]
    block = h.size // m
    hadamard(h, block)
    if m == 1:
        out[:] = h
        return
    for i in range(m):
        for k in range(block):
            total = np.int64(0)
            for j in range(m):
                total += np.int64(mixer[i, j]) * np.int64(h[j * block + k])
            out[i * block + k] = round_shift(total, Q1_14)


@entry(
    void(
        int32[:, ::1],
        types.Array(int16, 1, "C", readonly=True),
        types.Array(int16, 2, "C", readonly=True),
        int64,
        int32[::1],
        int8[:, ::1],
        int32[:, ::1],
    )
)
def gain_norm(residual, gain, mixer, epsilon, constant, x, scale):
    width = residual.shape[1]
    h = np.empty(width, np.int32)
    work = np.empty(width, np.int32)
    rotated = np.empty(width, np.int32)
    wide = np.empty(width, np.int64)
    for t in range(residual.shape[0]):
        shift = to_int16(residual[t], h)
        work[:] = h
        rotate_residual(work, mixer, rotated)
        for i in range(width):
            wide[i] = np.int64(rotated[i]) * np.int64(gain[i])
        more = to_int16(wide, work)
        rotate_residual(work, mixer, rotated)
        peak, exponent = to_int8(rotated, -more, x[t])
        mantissa, exponent = inverse_rms(h, shift, epsilon, peak, exponent)
        store_scale(scale.ctypes.data + 8 * t, mantissa, exponent, constant)
