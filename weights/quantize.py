"""Float matrix -> codes, group scales and row scales.

A group of columns in one row shares a scale, chosen from a grid of candidates by the squared
error it leaves; scales are then rounded to 8 bits relative to the row's largest, and the codes
chosen again for the rounded scale. Every row is worked on by one thread in a fixed order and
without fastmath, so the result does not depend on the host or on the number of threads.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.rom.pack import PackedMatrix, even_step, pack_codes, tile_rows
from kernels.rom.widths import WIDTHS
from weights.threads import by_rows

PIECE_ROWS = 64  # that a thread takes at a time
GROUP_SCALE_MAX = 127  # int8; its sign turns the alphabet round

FIRST_CANDIDATE, CANDIDATES, CANDIDATE_STEP = 1.08, 20, 0.03  # of absmax / largest level


class Levels(NamedTuple):
    """What codes stand for, as the compiled loops are given it."""

    value: NDArray[np.float32]  # [2**bits], rising
    density: np.float32  # levels a unit where they rise evenly, else 0


def alphabet(bits: int) -> NDArray[np.int8]:
    """The compiler's levels at a code width, rising: int8[2**bits]."""
    return np.array(WIDTHS[bits].levels, np.int8)


def levels_of(bits: int) -> Levels:
    """The same, for the compiled loops."""
    return levels_in(alphabet(bits))


def levels_in(levels: NDArray[np.int8]) -> Levels:
    """An alphabet, rising, for the compiled loops."""
    step = even_step(levels)
    return Levels(levels.astype(np.float32), np.float32(1 / step if step else 0))


def quantise(w: NDArray[np.float32], bits: int, group: int | None = None) -> PackedMatrix:
    """[rows, columns] -> the packed matrix whose weights are nearest to it."""
    rows, columns = w.shape
    group = group or WIDTHS[bits].group
    levels = levels_of(bits)
    codes = np.empty((rows, columns), np.uint8)
    group_scale = np.empty((rows, columns // group), np.int8)
    mantissa = np.empty(rows, np.uint16)
    exponent = np.empty(rows, np.int8)
    w = np.ascontiguousarray(w, np.float32)

    def some(piece: slice) -> None:
        found = codes[piece], group_scale[piece], mantissa[piece], exponent[piece]
        _quantise_rows(w[piece], levels, group, *found)

    by_rows(some, rows, PIECE_ROWS)
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
    values = levels.value
    if levels.density > 0:
        place = np.floor(value * levels.density + np.float32(0.5)) - values[0] * levels.density
        return int(min(max(place, 0), values.size - 1))
    code = 0
    for i in range(values.size - 1):
        code += value + value >= values[i] + values[i + 1]
    return code


@njit(nogil=True, forceinline=True)
def _nearest_levels(weight, inverse, count, levels, level):
    """level[c]: the level nearest to weight * inverse[c], as `nearest` chooses it."""
    values = levels.value
    lowest, highest, spacing = values[0], values[values.size - 1], values[1] - values[0]
    if levels.density > 0:
        for c in range(count):
            steps = np.floor(weight * inverse[c] * levels.density + np.float32(0.5))
            level[c] = min(max(steps * spacing, lowest), highest)
        return
    level[:] = lowest
    for k in range(values.size - 1):
        middle, rise = values[k] + values[k + 1], values[k + 1] - values[k]
        for c in range(count):
            value = weight * inverse[c]
            level[c] += rise if value + value >= middle else np.float32(0)


@njit(cache=True, nogil=True)
def best_scale(w, levels):
    """The candidate scale of a group with the least squared error; 0 for a group of zeros.

    The Gaussian alphabets reach further on one side, so a scale's sign is worth choosing. All
    candidates meet one weight before the next: each error is the same sum in the same order, and
    the candidates fill the lanes of the CPU's vectors.
    """
    largest = np.float32(0)
    for i in range(w.size):
        largest = max(largest, abs(w[i]))
    values = levels.value
    reach = max(abs(values[0]), abs(values[values.size - 1]))
    signs = 1 if levels.density > 0 else 2  # even levels gain nothing from a sign
    scale, inverse, error, level = np.zeros((4, 2 * CANDIDATES), np.float32)
    count = 0
    for c in range(CANDIDATES):
        size = np.float32(largest * np.float32(FIRST_CANDIDATE - CANDIDATE_STEP * c) / reach)
        if size < np.float32(1e-30):
            return np.float32(0)
        for sign in range(signs):
            scale[count] = size if sign == 0 else -size
            inverse[count] = np.float32(1) / scale[count]
            count += 1
    for i in range(w.size):
        _nearest_levels(w[i], inverse, count, levels, level)
        for c in range(count):
            miss = w[i] - scale[c] * level[c]
            error[c] += miss * miss
    best, least = np.float32(0), np.float32(np.inf)
    for c in range(count):
        if error[c] < least:
            best, least = scale[c], error[c]
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


@njit(cache=True, nogil=True)
def _quantise_rows(w, levels, group, codes, group_scale, mantissa, exponent):
    rows, columns = w.shape
    groups = columns // group
    zero = nearest(np.float32(0), levels)
    for row in range(rows):
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
