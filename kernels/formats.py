"""The one rounding rule of the datapath, and the number formats that are built from it, in NumPy.

With `kernels.reference`, which uses them, these functions define every bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FRACTION = 16  # fractional bits of every int32 signal
Q1_14 = 14  # fractional bits of the rotary tables and of the residual mixer
SCORE_FRACTION = 8  # fractional bits of an attention score, in log2 units
INT8_MAX = 127
RECIPROCAL_BITS = 22  # of 127 / absmax
SUM_RECIPROCAL_BITS = 46  # of 1 / sum of probabilities
ZERO_EXPONENT = 127  # of the scale of a vector of zeros, so that it never is the largest scale
ALL_POSITIONS = 1 << 40  # a window of attention that leaves none out

Int8 = NDArray[np.int8]
Int16 = NDArray[np.int16]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


# --- the one rounding rule, and what is built from it ---------------------------------------


def round_shift(x: NDArray, shift: NDArray | int) -> Int64:
    """x * 2**-shift, rounded half up; a negative shift is exact. |x|, shifted, below 2**62."""
    x = np.asarray(x, np.int64)
    shift = np.minimum(np.asarray(shift, np.int64), 63)
    right = np.maximum(shift, 1)
    down = (x + (np.int64(1) << (right - 1))) >> right
    shifted: Int64 = np.where(shift > 0, down, x << np.maximum(-shift, 0))
    return shifted


def saturate_int32(x: NDArray) -> Int32:
    """Clamp to int32."""
    clamped: Int32 = np.clip(x, -(2**31), 2**31 - 1).astype(np.int32)
    return clamped


def bit_length(x: NDArray) -> Int64:
    """Bits of a non-negative int64, 0 for 0; from compares and shifts, never from a logarithm."""
    x = np.array(x, np.int64)
    bits = np.zeros(x.shape, np.int64)
    for step in (32, 16, 8, 4, 2, 1):
        more = (x >> step) > 0
        bits += np.where(more, step, 0)
        x = np.where(more, x >> step, x)
    return bits + (x > 0)


def normalise(value: NDArray, exponent: NDArray | int) -> Int32:
    """value * 2**-exponent, value >= 0, as a scale: int32[..., 2] with a 16-bit mantissa."""
    value = np.asarray(value, np.int64)
    shift = bit_length(value) - 16
    mantissa = round_shift(value, shift)
    carry = mantissa >> 16  # rounding up to 2**16
    mantissa = np.where(carry > 0, mantissa >> 1, mantissa)
    exponent = np.where(value > 0, exponent - shift - carry, ZERO_EXPONENT)
    return np.stack([mantissa, exponent], axis=-1).astype(np.int32)


def multiply_scales(a: NDArray, b: NDArray) -> Int32:
    """Product of two scales, rounded to a 16-bit mantissa."""
    a, b = np.asarray(a, np.int64), np.asarray(b, np.int64)
    return normalise(a[..., 0] * b[..., 0], a[..., 1] + b[..., 1])


def requantise(acc: NDArray, scale_a: NDArray, scale_b: NDArray, fraction: int) -> Int32:
    """acc * scale_a * scale_b as int32 with `fraction` bits, saturated. |acc| < 2**45.

    The two mantissas become one 17-bit multiplier first, so that nothing leaves int64.
    """
    a, b = np.asarray(scale_a, np.int64), np.asarray(scale_b, np.int64)
    product = np.asarray(acc, np.int64) * round_shift(a[..., 0] * b[..., 0], 15)
    shift = a[..., 1] + b[..., 1] - 15 - fraction
    # A left shift happens only far outside the useful range; clamp first so that it cannot wrap.
    product = np.where(shift < 0, np.clip(product, -(2**31), 2**31), product)
    return saturate_int32(round_shift(product, np.maximum(shift, -31)))


def integer_sqrt(x: NDArray) -> Int64:
    """floor(sqrt(x)) for 0 <= x < 2**62, bit by bit."""
    x = np.asarray(x, np.int64)
    root = np.zeros(x.shape, np.int64)
    for bit in range(30, -1, -1):
        trial = root | (1 << bit)
        root = np.where(trial * trial <= x, trial, root)
    return root


# --- number formats -------------------------------------------------------------------------


def to_int16(v: NDArray) -> tuple[Int64, Int64]:
    """[..., n] -> mantissas of at most 2**15 and one shift per vector: v ~ h * 2**shift."""
    v = np.asarray(v, np.int64)
    shift = np.maximum(bit_length(np.abs(v).max(axis=-1)) - 15, 0)
    return round_shift(v, shift[..., None]), shift


def to_int8(v: NDArray, exponent: NDArray | int) -> tuple[Int8, Int64, Int64]:
    """[..., n] of value v * 2**-exponent -> int8 by the vector's own absolute maximum.

    Returns (x, peak, exponent'): the vector is x * peak / 127 * 2**-exponent'.
    """
    v = np.asarray(v, np.int64)
    largest = np.abs(v).max(axis=-1)
    shift = np.maximum(bit_length(largest) - 15, 0)
    h = round_shift(v, shift[..., None])
    peak = round_shift(largest, shift)
    reciprocal = (INT8_MAX << RECIPROCAL_BITS) // np.maximum(peak, 1)
    x = round_shift(h * reciprocal[..., None], RECIPROCAL_BITS)
    return x.astype(np.int8), peak, exponent - shift


def narrow(v: Int32, constant: Int32) -> tuple[Int8, Int32]:
    """Q15.16 [..., n] -> int8[..., n] and its scale, times `constant` (a scale, with its 1/127)."""
    x, peak, exponent = to_int8(v, FRACTION)
    return x, multiply_scales(normalise(peak, exponent), constant)


def hadamard(h: NDArray, block: int) -> Int64:
    """Unnormalised Walsh-Hadamard transform of each run of `block` values; adders only."""
    h = np.asarray(h, np.int64)
    y = h.reshape(-1, block)
    step = 1
    while step < block:
        pairs = y.reshape(-1, block // (2 * step), 2, step)
        low, high = pairs[:, :, 0], pairs[:, :, 1]
        y = np.stack([low + high, low - high], axis=2).reshape(-1, block)
        step *= 2
    return y.reshape(h.shape)


def rotate_narrow(v: Int32, block: int, constant: Int32) -> tuple[Int8, Int32]:
    """`narrow` behind a Hadamard transform of 16-bit mantissas."""
    h, shift = to_int16(v)
    x, peak, exponent = to_int8(hadamard(h, block), FRACTION - shift)
    return x, multiply_scales(normalise(peak, exponent), constant)
