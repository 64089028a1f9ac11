"""Float matrix -> codes, group scales and row scales.

A group of columns in one row shares a scale, chosen from a grid of candidates by the squared
error it leaves; scales are then rounded to 8 bits relative to the row's largest, and the codes
chosen again for the rounded scale. Every row is worked on by one thread in a fixed order and
without fastmath, so the result does not depend on the host or on the number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kernels.rom.pack import PackedMatrix, pack_codes, tile_rows

GROUP = {3: 32, 4: 32, 6: 32}  # columns a group, by code bits

GROUP_SCALE_MAX = 127  # int8; its sign turns the alphabet round

# Rotated weights are close to Gaussian. Levels of least squared error for Gaussian groups that
# choose their scale and its sign, as `python -m benchmarks.alphabet` finds them:
GAUSSIAN = {
    3: (-52, -32, -17, -3, 9, 23, 39, 64),
    4: (-60, -46, -36, -28, -21, -14, -8, -2, 4, 11, 17, 23, 31, 39, 49, 64),
}
FIRST_CANDIDATE, CANDIDATES, CANDIDATE_STEP = 1.08, 20, 0.03  # of absmax / largest level


def alphabet(bits: int) -> NDArray[np.int8]:
    """Sorted levels: int8[2**bits]. 3 and 4 bits are Gaussian, 6 bits uniform from -32 to 31."""
    if bits == 6:
        return np.arange(-32, 32, dtype=np.int8)
    return np.array(GAUSSIAN[bits], np.int8)


def quantise(w: NDArray[np.float32], bits: int, group: int | None = None) -> PackedMatrix:
    """[rows, columns] -> the packed matrix whose weights are nearest to it."""
    rows, columns = w.shape
    group = group or GROUP[bits]
    levels = alphabet(bits)
    codes = np.empty((rows, columns), np.uint8)
    group_scale = np.empty((rows, columns // group), np.int8)
    mantissa = np.empty(rows, np.uint16)
    exponent = np.empty(rows, np.int8)
    w = np.ascontiguousarray(w, np.float32)
    _quantise_rows(w, levels.astype(np.float32), group, codes, group_scale, mantissa, exponent)
    return pack_rows(codes, group_scale, mantissa, exponent, bits, group)


def pack_rows(
    codes: NDArray[np.uint8],
    group_scale: NDArray[np.int8],
    mantissa: NDArray[np.uint16],
    exponent: NDArray[np.int8],
    bits: int,
    group: int,
) -> PackedMatrix:
    """Codes [rows, columns], group scales [rows, columns / group], row scales [rows] -> matrix."""
    return PackedMatrix(
        rows=codes.shape[0],
        columns=codes.shape[1],
        bits=bits,
        group=group,
        codes=pack_codes(codes, bits),
        group_scale=tile_rows(group_scale),
        row_mantissa=mantissa,
        row_exponent=exponent,
        alphabet=alphabet(bits),
    )


@njit(cache=True, nogil=True)
def nearest(value, levels):
    """Index of the level nearest to `value`; levels are sorted, a tie goes up."""
    if levels.size == 64:  # uniform
        return int(min(max(np.floor(value + np.float32(0.5)) + 32, 0), 63))
    code = 0
    for i in range(levels.size - 1):
        code += value + value >= levels[i] + levels[i + 1]
    return code


@njit(cache=True, nogil=True)
def _error(w, scale, levels):
    """Squared error of a group at a scale."""
    inverse = np.float32(1) / scale
    total = np.float32(0)
    for i in range(w.size):
        miss = w[i] - scale * levels[nearest(w[i] * inverse, levels)]
        total += miss * miss
    return total


@njit(cache=True, nogil=True)
def best_scale(w, levels):
    """The candidate scale of a group with the least squared error; 0 for a group of zeros.

    The Gaussian alphabets reach further on one side, so a scale's sign is worth choosing.
    """
    largest = np.float32(0)
    for i in range(w.size):
        largest = max(largest, abs(w[i]))
    reach = max(abs(levels[0]), abs(levels[levels.size - 1]))
    best, least = np.float32(0), np.float32(np.inf)
    signs = 1 if levels.size == 64 else 2  # uniform levels gain nothing from a sign
    for c in range(CANDIDATES):
        scale = np.float32(largest * np.float32(FIRST_CANDIDATE - CANDIDATE_STEP * c) / reach)
        if scale < np.float32(1e-30):
            return np.float32(0)
        for _ in range(signs):
            error = _error(w, scale, levels)
            if error < least:
                best, least = scale, error
            scale = -scale
    return best


@njit(cache=True, nogil=True)
def row_scale(value):
    """A positive float as (16-bit mantissa, exponent): mantissa * 2**-exponent."""
    exponent = 0
    while value < 32768.0:
        value *= 2.0
        exponent += 1
    while value >= 65535.5:
        value *= 0.5
        exponent -= 1
    return int(np.floor(value + 0.5)), exponent


@njit(cache=True, nogil=True, parallel=True)
def _quantise_rows(w, levels, group, codes, group_scale, mantissa, exponent):
    rows, columns = w.shape
    groups = columns // group
    zero = nearest(np.float32(0), levels)
    for row in prange(rows):
        scales = np.empty(groups, np.float32)
        largest = np.float32(0)
        for g in range(groups):
            scales[g] = best_scale(w[row, g * group : (g + 1) * group], levels)
            largest = max(largest, abs(scales[g]))
        mantissa[row], exponent[row] = 0, 0
        group_scale[row, :] = 0
        codes[row, :] = zero
        if largest == 0:
            continue
        m, e = row_scale(np.float64(largest) / GROUP_SCALE_MAX)
        mantissa[row], exponent[row] = m, e
        unit = np.float64(m) * 2.0 ** np.float64(-e)
        for g in range(groups):
            steps = int(np.floor(scales[g] / unit + 0.5))  # within the range by `unit`
            group_scale[row, g] = steps
            if steps == 0:
                continue
            inverse = np.float32(1.0 / (unit * steps))
            for i in range(g * group, (g + 1) * group):
                codes[row, i] = nearest(w[row, i] * inverse, levels)
