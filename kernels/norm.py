"""RMSNorm and the narrowing of a vector to int8, compiled. Twins in `kernels.reference`."""

from __future__ import annotations

import numpy as np
from numba import njit

from kernels.arith import (
    bit_length,
    hadamard,
    integer_sqrt,
    normalise,
    round_shift,
    store_scale,
    to_int8,
    to_int16,
)
from kernels.reference import FRACTION


@njit(cache=True, nogil=True)
def narrow(v, constant, x, scale):
    for t in range(v.shape[0]):
        peak, exponent = to_int8(v[t], FRACTION, x[t])
        mantissa, exponent = normalise(peak, exponent)
        store_scale(scale[t], mantissa, exponent, constant)


@njit(cache=True, nogil=True)
def rotate_narrow(v, block, constant, x, scale):
    h = np.empty(v.shape[1], np.int32)
    for t in range(v.shape[0]):
        shift = to_int16(v[t], h)
        hadamard(h, block)
        peak, exponent = to_int8(h, FRACTION - shift, x[t])
        mantissa, exponent = normalise(peak, exponent)
        store_scale(scale[t], mantissa, exponent, constant)


@njit(cache=True, nogil=True)
def inverse_rms(h, shift, epsilon, peak, exponent):
    total = np.int64(epsilon) >> min(2 * shift, 62)
    for i in range(h.size):
        total += np.int64(h[i]) * np.int64(h[i])
    zeros = (62 - bit_length(total)) // 2
    root = max(integer_sqrt(total << (2 * zeros)), 1)
    return normalise((peak << 47) // root, exponent + 47 - zeros)


@njit(cache=True, nogil=True)
def rms_norm(residual, epsilon, constant, x, scale):
    h = np.empty(residual.shape[1], np.int32)
    for t in range(residual.shape[0]):
        shift = to_int16(residual[t], h)
        peak, exponent = to_int8(h, np.int64(0), x[t])
        mantissa, exponent = inverse_rms(h, shift, epsilon, peak, exponent)
        store_scale(scale[t], mantissa, exponent, constant)


@njit(cache=True, nogil=True)
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
            out[i * block + k] = round_shift(total, 14)


@njit(cache=True, nogil=True)
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
        store_scale(scale[t], mantissa, exponent, constant)
