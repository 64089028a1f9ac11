"""The layout of a packed matrix: how ROM codes lie in memory.

A matrix of `rows` x `columns` codes is cut into tiles of 8 rows by 32 columns. Inside a tile
the bits are stored as planes, so that one 32-byte load holds the same bits of several rows:

    plane    bits a code    bytes a tile    byte j of vector v holds, for column j,
    nibble        4             128         rows 2v (low half) and 2v+1 (high half)
    pair          2              64         rows 4v .. 4v+3, two bits each, row 4v lowest
    bit           1              32         rows 0 .. 7, one bit each, row 0 lowest

    3-bit codes = pair (low two bits) + bit (the third)      96 bytes a tile
    4-bit codes = nibble                                    128 bytes a tile
    6-bit codes = nibble (low four bits) + pair (high two)  192 bytes a tile

Tiles of one row block follow each other along the columns, so a matrix-vector product reads
memory once, in order. Any width that is a multiple of 32 fits without padding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TILE_ROWS = 8
TILE_COLUMNS = 32
PLANES = {3: (2, 1), 4: (4,), 6: (4, 2)}  # code bits -> plane widths, low bits first
TILE_BYTES = {bits: bits * TILE_ROWS * TILE_COLUMNS // 8 for bits in PLANES}
LARGEST_LEVEL = 64  # |level|; two products with int8 then fit 16 bits
MAX_GROUP = 1 << 18  # columns; a sum of int8 * level then fits int32
LEAST_ROW_EXPONENT = -15  # a looked-up value shifts left by at most 31 places, and fits int64


@dataclass(frozen=True, slots=True)
class PackedMatrix:
    """Weights as the masks hold them: weight = alphabet[code] * group_scale * row_scale.

    row_scale = row_mantissa * 2**-row_exponent. The arrays may be read-only views of a file.
    """

    rows: int
    columns: int
    bits: int  # 3, 4 or 6
    group: int  # columns that share a group scale, a multiple of 32
    codes: NDArray[np.uint8]  # [row_tiles, columns / 32, TILE_BYTES[bits]]
    group_scale: NDArray[np.uint8]  # [row_tiles, columns / group, 8]
    row_mantissa: NDArray[np.uint16]  # [rows], 2**15 .. 2**16 - 1, or 0 for an empty row
    row_exponent: NDArray[np.int8]  # [rows]
    alphabet: NDArray[np.int8]  # [2**bits], levels of at most +-64

    @property
    def stored_bits(self) -> int:
        """Bits of ROM this matrix takes: codes, group scales, row scales and its alphabet."""
        row_scale_bits = 8 * (self.row_mantissa.itemsize + self.row_exponent.itemsize)
        scale_bits = 8 * self.rows * (self.columns // self.group) + row_scale_bits * self.rows
        return self.bits * self.rows * self.columns + scale_bits + 8 * self.alphabet.size


def fault(matrix: PackedMatrix) -> str | None:
    """What in a matrix's values would leave the widths of the datapath, or None."""
    if np.abs(matrix.alphabet.astype(np.int64)).max() > LARGEST_LEVEL:
        return f"alphabet holds levels beyond +-{LARGEST_LEVEL}"
    if ((matrix.row_mantissa > 0) & (matrix.row_mantissa < 1 << 15)).any():
        return f"row_mantissa holds values other than 0 and {1 << 15} to {(1 << 16) - 1}"
    if matrix.row_exponent.min() < LEAST_ROW_EXPONENT:
        return f"row_exponent holds {matrix.row_exponent.min()}, below {LEAST_ROW_EXPONENT}"
    return None


def row_tiles(rows: int) -> int:
    """Row tiles that hold `rows` rows; the last one is filled up with zero codes."""
    return -(-rows // TILE_ROWS)


def tile_rows(values: NDArray, fill: int = 0) -> NDArray:
    """[rows, n] -> [row_tiles, n, 8]: the order in which a row tile reads per-row values."""
    rows, n = values.shape
    padded = np.full((row_tiles(rows) * TILE_ROWS, n), fill, values.dtype)
    padded[:rows] = values
    return np.ascontiguousarray(padded.reshape(-1, TILE_ROWS, n).transpose(0, 2, 1))


def untile_rows(tiled: NDArray, rows: int) -> NDArray:
    """Inverse of `tile_rows`."""
    return tiled.transpose(0, 2, 1).reshape(-1, tiled.shape[1])[:rows]


def pack_codes(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """uint8[rows, columns] codes below 2**bits -> uint8[row_tiles, columns / 32, TILE_BYTES].

    Raises ValueError when the width is not a multiple of 32 or a code does not fit.
    """
    rows, columns = codes.shape
    if columns % TILE_COLUMNS:
        raise ValueError(f"a packed row needs a multiple of {TILE_COLUMNS} columns, not {columns}")
    if codes.size and int(codes.max()) >> bits:
        raise ValueError(f"a code of {int(codes.max())} does not fit {bits} bits")
    tiles = row_tiles(rows)
    padded = np.zeros((tiles * TILE_ROWS, columns), np.uint8)
    padded[:rows] = codes
    block = padded.reshape(tiles, TILE_ROWS, columns // TILE_COLUMNS, TILE_COLUMNS)
    block = block.transpose(0, 2, 1, 3)  # [tile, chunk, row in tile, column]
    planes, low = [], 0
    for width in PLANES[bits]:
        field = (block >> low) & ((1 << width) - 1)
        per_byte = 8 // width  # rows that share a byte
        field = field.reshape(*block.shape[:2], TILE_ROWS // per_byte, per_byte, TILE_COLUMNS)
        shifts = (np.arange(per_byte, dtype=np.uint8) * width)[:, None]
        plane = np.bitwise_or.reduce(field << shifts, axis=3)
        planes.append(plane.reshape(*block.shape[:2], -1))
        low += width
    return np.ascontiguousarray(np.concatenate(planes, axis=2))


def unpack_codes(packed: NDArray[np.uint8], rows: int, bits: int) -> NDArray[np.uint8]:
    """Inverse of `pack_codes`: uint8[rows, columns]."""
    tiles, chunks, _ = packed.shape
    codes = np.zeros((tiles, chunks, TILE_ROWS, TILE_COLUMNS), np.uint8)
    start, low = 0, 0
    for width in PLANES[bits]:
        per_byte = 8 // width
        size = TILE_COLUMNS * TILE_ROWS // per_byte
        plane = packed[:, :, start : start + size]
        plane = plane.reshape(tiles, chunks, TILE_ROWS // per_byte, 1, TILE_COLUMNS)
        shifts = (np.arange(per_byte, dtype=np.uint8) * width)[:, None]
        field = (plane >> shifts) & ((1 << width) - 1)
        codes |= field.reshape(codes.shape) << np.uint8(low)
        start, low = start + size, low + width
    return codes.transpose(0, 2, 1, 3).reshape(tiles * TILE_ROWS, -1)[:rows]
