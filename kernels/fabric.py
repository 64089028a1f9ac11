"""Weight fabric, compiled: packed codes times int8 vectors. Twin in `kernels.reference`.

A row tile is unpacked once into int8 levels and used for every token of the batch; threads own
row tiles, so no sum is ever split between them.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from kernels.arith import requantise, round_shift, saturate_int32
from kernels.pack import TILE_COLUMNS, TILE_ROWS
from kernels.reference import FRACTION


@njit(cache=True, nogil=True)
def unpack_chunk(packed, bits, alphabet, level):
    """One tile, uint8[TILE_BYTES] -> level int8[8, 32]. Layout: see `kernels.pack`."""
    for row in range(TILE_ROWS):
        for column in range(TILE_COLUMNS):
            if bits in (4, 6):
                nibble = packed[(row // 2) * TILE_COLUMNS + column]
                code = (nibble >> (4 * (row % 2))) & 15
                if bits == 6:
                    pair = packed[128 + (row // 4) * TILE_COLUMNS + column]
                    code |= ((pair >> (2 * (row % 4))) & 3) << 4
            else:
                pair = packed[(row // 4) * TILE_COLUMNS + column]
                code = (pair >> (2 * (row % 4))) & 3
                code |= ((packed[64 + column] >> row) & 1) << 2
            level[row, column] = alphabet[code]


@njit(cache=True, nogil=True)
def unpack_tile(codes, bits, alphabet, level):
    """A row tile, uint8[chunks, TILE_BYTES] -> level int8[8, columns]."""
    for chunk in range(codes.shape[0]):
        start = chunk * TILE_COLUMNS
        unpack_chunk(codes[chunk], bits, alphabet, level[:, start : start + TILE_COLUMNS])


@njit(cache=True, nogil=True)
def dot_group(level, x):
    """int32 dot product of one group of at most MAX_GROUP columns: |sum| <= 2**18 * 64 * 127."""
    acc = np.int32(0)
    for i in range(level.size):
        acc = np.int32(acc + np.int32(level[i]) * np.int32(x[i]))
    return acc


@njit(cache=True, nogil=True, parallel=True)
def fabric(codes, group_scale, row_mantissa, row_exponent, alphabet, bits, group, x, scale, out):
    tokens, rows = out.shape
    columns = x.shape[1]
    for tile in prange(codes.shape[0]):
        level = np.empty((TILE_ROWS, columns), np.int8)
        unpack_tile(codes[tile], bits, alphabet, level)
        for row in range(tile * TILE_ROWS, min(rows, (tile + 1) * TILE_ROWS)):
            r = row - tile * TILE_ROWS
            mantissa, exponent = np.int64(row_mantissa[row]), np.int64(row_exponent[row])
            for t in range(tokens):
                acc = np.int64(0)
                for g in range(columns // group):
                    part = dot_group(
                        level[r, g * group : (g + 1) * group], x[t, g * group : (g + 1) * group]
                    )
                    acc += np.int64(part) * np.int64(group_scale[tile, g, r])
                out[t, row] = requantise(
                    acc, mantissa, exponent, np.int64(scale[t, 0]), np.int64(scale[t, 1]), FRACTION
                )


@njit(cache=True, nogil=True)
def lookup(codes, group_scale, row_mantissa, row_exponent, alphabet, bits, group, rows, out):
    level = np.empty((TILE_ROWS, out.shape[1]), np.int8)
    for t in range(rows.size):
        row = rows[t]
        tile, r = row // TILE_ROWS, row % TILE_ROWS
        unpack_tile(codes[tile], bits, alphabet, level)
        shift = np.int64(row_exponent[row]) - FRACTION
        for i in range(out.shape[1]):
            value = np.int64(level[r, i]) * np.int64(group_scale[tile, i // group, r])
            out[t, i] = saturate_int32(round_shift(value * np.int64(row_mantissa[row]), shift))
