"""Scalar integer arithmetic, compiled: the rounding rule and what is built from it.

Twins of the functions of the same name in `kernels.reference`; all values are int64.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kernels.reference import INT8_MAX, RECIPROCAL_BITS, ZERO_EXPONENT

inline = njit(nogil=True)


@inline
def round_shift(x, shift):
    shift = min(shift, 62)
    if shift > 0:
        return (x + (np.int64(1) << (shift - 1))) >> shift
    return x << -shift


@inline
def saturate_int32(x):
    return np.int32(min(max(x, -2147483648), 2147483647))


@inline
def bit_length(x):
    bits = np.int64(0)
    while x > 0:
        x >>= 1
        bits += 1
    return bits


@inline
def normalise(value, exponent):
    """(mantissa, exponent) of value * 2**-exponent, value >= 0."""
    if value == 0:
        return np.int64(0), np.int64(ZERO_EXPONENT)
    shift = bit_length(value) - 16
    mantissa = round_shift(value, shift)
    carry = mantissa >> 16
    return mantissa >> carry, exponent - shift - carry


@inline
def requantise(acc, mantissa_a, exponent_a, mantissa_b, exponent_b, fraction):
    product = acc * round_shift(mantissa_a * mantissa_b, 15)
    shift = exponent_a + exponent_b - 15 - fraction
    if shift < 0:
        product = min(max(product, -(1 << 31)), 1 << 31)
        shift = max(shift, -31)
    return saturate_int32(round_shift(product, shift))


@inline
def integer_sqrt(x):
    root = np.int64(0)
    bit = np.int64(1) << 30
    while bit > 0:
        trial = root | bit
        if trial * trial <= x:
            root = trial
        bit >>= 1
    return root


@inline
def absolute_maximum(v):
    largest = np.int64(0)
    for i in range(v.size):
        largest = max(largest, abs(np.int64(v[i])))
    return largest


@inline
def to_int16(v, h):
    """Write the mantissas of v[n] to h int32[n]; return the shift."""
    shift = max(bit_length(absolute_maximum(v)) - 15, 0)
    for i in range(v.size):
        h[i] = round_shift(np.int64(v[i]), shift)
    return shift


@inline
def to_int8(v, exponent, x):
    """Write int8 values of v[n] to x; return (peak, exponent)."""
    largest = absolute_maximum(v)
    shift = max(bit_length(largest) - 15, 0)
    peak = round_shift(largest, shift)
    reciprocal = (INT8_MAX << RECIPROCAL_BITS) // max(peak, 1)
    for i in range(v.size):
        h = round_shift(np.int64(v[i]), shift)
        x[i] = round_shift(h * reciprocal, RECIPROCAL_BITS)
    return peak, exponent - shift


@inline
def store_scale(scale, mantissa, exponent, constant):
    """scale[:] = (mantissa, exponent) * constant, normalised."""
    m, e = normalise(mantissa * np.int64(constant[0]), exponent + np.int64(constant[1]))
    scale[0] = m
    scale[1] = e


@inline
def hadamard(h, block):
    """In-place unnormalised Walsh-Hadamard transform of each run of `block` values."""
    step = 1
    while step < block:
        for base in range(0, h.size, 2 * step):
            for i in range(base, base + step):
                low, high = h[i], h[i + step]
                h[i] = low + high
                h[i + step] = low - high
        step *= 2
