"""Scalar integer arithmetic, compiled: the rounding rule and what is built from it.

Twins of the functions of the same name in `kernels.reference`; all values are int64.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kernels.host.simd import add, bit_length, hadamard8, load_i32x8, store, subtract
from kernels.reference import INT8_MAX, RECIPROCAL_BITS, ZERO_EXPONENT


@njit(nogil=True)
def round_shift(x, shift):
    shift = min(shift, 63)
    if shift > 0:
        return (x + (np.int64(1) << (shift - 1))) >> shift
    return x << -shift


@njit(nogil=True)
def saturate_int32(x):
    return np.int32(min(max(x, -2147483648), 2147483647))


@njit(nogil=True)
def normalise(value, exponent):
    """(mantissa, exponent) of value * 2**-exponent, value >= 0."""
    if value == 0:
        return np.int64(0), np.int64(ZERO_EXPONENT)
    shift = bit_length(value) - 16
    mantissa = round_shift(value, shift)
    carry = mantissa >> 16
    return mantissa >> carry, exponent - shift - carry


@njit(nogil=True)
def requantise(acc, mantissa_a, exponent_a, mantissa_b, exponent_b, fraction):
    """Without a branch, so that a loop over it becomes vectors."""
    multiplier = np.int32((mantissa_a * mantissa_b + (1 << 14)) >> 15)
    product = acc * np.int64(multiplier)
    shift = exponent_a + exponent_b - 15 - fraction
    clamped = min(max(product, -(1 << 31)), 1 << 31)
    product = clamped if shift < 0 else product
    right = min(max(shift, 0), 63)
    left = min(max(-shift, 0), 31)
    half = np.int64((np.uint64(1) << np.uint64(right)) >> np.uint64(1))
    return saturate_int32(((product + half) >> right) << left)


@njit(nogil=True)
def requantise_rows(acc, mantissas, exponents, mantissa, exponent, out):
    """Sums int64[n] by the rows' scales and a token's; the usual exponents are the fast ones."""
    least, most = exponents[0], exponents[0]
    for r in range(out.size):
        least, most = min(least, exponents[r]), max(most, exponents[r])
    exponent -= 15
    if least + exponent < 1 or most + exponent > 62:
        for r in range(out.size):
            row = np.int64(mantissas[r]), np.int64(exponents[r])
            out[r] = requantise(acc[r], row[0], row[1], mantissa, exponent + 15, 0)
        return
    for r in range(out.size):
        multiplier = np.int32((np.int64(mantissas[r]) * mantissa + (1 << 14)) >> 15)
        shift = exponents[r] + exponent
        half = np.int64(1) << (shift - 1)
        out[r] = saturate_int32((acc[r] * np.int64(multiplier) + half) >> shift)


@njit(nogil=True)
def integer_sqrt(x):
    root = np.int64(0)
    bit = np.int64(1) << 30
    while bit > 0:
        trial = root | bit
        if trial * trial <= x:
            root = trial
        bit >>= 1
    return root


@njit(nogil=True)
def absolute_maximum(v):
    largest, least = v[0], v[0]
    for i in range(v.size):
        largest = max(largest, v[i])
        least = min(least, v[i])
    return max(np.int64(largest), -np.int64(least))


@njit(nogil=True)
def to_int16(v, h):
    """Write the mantissas of v[n], at most 62 bits, to h int32[n]; return the shift.

    round(v, s) = ((v >> s - 1) + 1) >> 1 stays within the type of v, for s follows from its size.
    """
    shift = max(bit_length(absolute_maximum(v)) - 15, 0)
    if shift == 0:
        for i in range(v.size):
            h[i] = v[i]
    else:
        for i in range(v.size):
            h[i] = ((v[i] >> (shift - 1)) + 1) >> 1
    return shift


@njit(nogil=True)
def to_int8(v, exponent, x):
    """Write int8 values of v int32[n] to x; return (peak, exponent).

    |h| <= peak, so h * reciprocal is at most 127 << 22 and fits 32 bits with its rounding.
    """
    largest = absolute_maximum(v)
    shift = max(bit_length(largest) - 15, 0)
    peak = round_shift(largest, shift)
    reciprocal = np.int32((INT8_MAX << RECIPROCAL_BITS) // max(peak, 1))
    half = np.int32(1 << (RECIPROCAL_BITS - 1))
    if shift == 0:
        for i in range(v.size):
            x[i] = np.int32(np.int32(v[i] * reciprocal) + half) >> RECIPROCAL_BITS
    else:
        for i in range(v.size):
            h = np.int32(((v[i] >> (shift - 1)) + 1) >> 1)
            x[i] = np.int32(np.int32(h * reciprocal) + half) >> RECIPROCAL_BITS
    return peak, exponent - shift


@njit(nogil=True)
def store_scale(scale, mantissa, exponent, constant):
    """int32[2] at address `scale` = (mantissa, exponent) * constant, normalised."""
    m, e = normalise(mantissa * np.int64(constant[0]), exponent + np.int64(constant[1]))
    store(scale, np.int32(m))
    store(scale + 4, np.int32(e))


@njit(nogil=True)
def hadamard(h, block):
    """In-place unnormalised Walsh-Hadamard transform of each run of `block` values, int32."""
    if block < 8:
        step = 1
        while step < block:
            for i in range(h.size):
                if i & step == 0:
                    low, high = h[i], h[i + step]
                    h[i], h[i + step] = low + high, low - high
            step *= 2
        return
    begin, bytes_ = h.ctypes.data, 4 * h.size
    for i in range(begin, begin + bytes_, 32):
        store(i, hadamard8(load_i32x8(i)))
    step = np.int64(32)  # bytes between the two of a butterfly
    while step * 2 < 4 * block:  # two stages at a time
        for base in range(begin, begin + bytes_, 4 * step):
            for i in range(base, base + step, 32):
                a, b = load_i32x8(i), load_i32x8(i + step)
                c, d = load_i32x8(i + 2 * step), load_i32x8(i + 3 * step)
                a, b = add(a, b), subtract(a, b)
                c, d = add(c, d), subtract(c, d)
                store(i, add(a, c))
                store(i + step, add(b, d))
                store(i + 2 * step, subtract(a, c))
                store(i + 3 * step, subtract(b, d))
        step *= 4
    if step < 4 * block:
        for base in range(begin, begin + bytes_, 2 * step):
            for i in range(base, base + step, 32):
                a, b = load_i32x8(i), load_i32x8(i + step)
                store(i, add(a, b))
                store(i + step, subtract(a, b))
