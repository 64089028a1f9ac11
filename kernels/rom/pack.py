"""The layout of a packed matrix: how ROM codes lie in memory.

A matrix of `rows` x `columns` codes is cut into tiles of 8 rows by 32 columns. A tile is eight
vectors of 32 codes: vector v holds columns 4v .. 4v + 3, code 4r + j of it is row r, column
4v + j. So a lane of 32 bits belongs to one row, and four inputs, repeated, meet all eight rows.

A tile of b-bit codes is b words of 32 bytes, laid out as `kernels.rom.widths` says.

Tiles of one row block follow each other along the columns, so a matrix-vector product reads
memory once, in order. Any width that is a multiple of 32 fits without padding.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kernels.rom.widths import WIDTHS
from kernels.rom.wiring import EVEN, lookup_table

TILE_ROWS = 8
TILE_COLUMNS = 32
VECTORS = 8  # a tile
TILE_BYTES = {bits: width.tile_bytes for bits, width in WIDTHS.items()}


def _bit_places() -> NDArray[np.int64]:
    places = np.zeros((max(WIDTHS) + 1, VECTORS, max(WIDTHS), 2), np.int64)
    for bits, width in WIDTHS.items():
        for vector, low, count, word, place in width.fields:
            for i in range(count):
                places[bits, vector, low + i] = word, place + i
    return places


BIT_PLACES = _bit_places()  # [bits, vector, bit of a code]: its word, and its bit in the byte there
LARGEST_LEVEL = 64  # |level|; two products with int8 then fit 16 bits
MAX_GROUP = 1 << 18  # columns; a sum of int8 * level then fits int32
ROW_SCALE_BITS = 16 + 8  # mantissa and exponent
LEAST_ROW_EXPONENT = -15  # a looked-up value shifts left by at most 31 places, and fits int64


@dataclass(frozen=True, slots=True)
class PackedMatrix:
    """Weights as the masks hold them: weight = alphabet[code] * group_scale * row_scale.

    row_scale = row_mantissa * 2**-row_exponent. The arrays may be read-only views of a file.
    """

    rows: int
    columns: int
    bits: int  # one of WIDTHS
    group: int  # columns that share a group scale, a multiple of 32
    codes: NDArray[np.uint8]  # [row_tiles, columns / 32, TILE_BYTES[bits]]
    group_scale: NDArray[np.int8]  # [row_tiles, columns / group, 8]
    row_mantissa: NDArray[np.uint16]  # [rows], 2**15 .. 2**16 - 1, or 0 for an empty row
    row_exponent: NDArray[np.int8]  # [rows]
    alphabet: NDArray[np.int8]  # [2**bits], levels of at most +-64
    wiring: NDArray[np.int64] = field(init=False, repr=False, compare=False)  # see `_wiring`
    table: NDArray[np.uint8] = field(init=False, repr=False, compare=False)  # its levels + 64

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", lookup_table(self.alphabet))
        object.__setattr__(self, "wiring", _wiring(self))

    @property
    def stored_bits(self) -> int:
        """Bits of ROM this matrix takes, by `matrix_bits`."""
        return matrix_bits(self.rows, self.columns, self.bits, self.group)


def _wiring(matrix: PackedMatrix) -> NDArray[np.int64]:
    """int64[wiring.WORDS] for the compiled kernels; addresses hold while the matrix lives.

    A level is step * u + base: u is the code itself where the level is computed, else the table's
    entry. Raises ValueError for an array that is not contiguous.
    """
    arrays: list[NDArray] = [
        matrix.codes,
        matrix.group_scale,
        matrix.row_mantissa,
        matrix.row_exponent,
    ]
    if not all(a.flags.c_contiguous for a in arrays):
        raise ValueError("the arrays of a packed matrix must be contiguous")
    kind, step, base = matrix.bits, even_step(matrix.alphabet), int(matrix.alphabet[0])
    if step in WIDTHS[matrix.bits].computed_steps:
        kind += EVEN
    else:
        step, base = 1, -64
    addresses = [a.ctypes.data for a in (*arrays, matrix.table)]
    shape = [matrix.rows, matrix.columns // 32, matrix.group // 32]
    return np.array([*addresses, *shape, kind, step, base], np.int64)


def even_step(alphabet: NDArray[np.int8]) -> int:
    """The distance between neighbouring levels where all are equally far apart, else 0."""
    steps = np.diff(alphabet.astype(np.int64))
    return int(steps[0]) if (steps == steps[0]).all() else 0


def matrix_bits(rows: int, columns: int, bits: int, group: int) -> int:
    """Bits of ROM that a matrix takes: codes, group scales, row scales and its alphabet."""
    row = bits * columns + 8 * (columns // group) + ROW_SCALE_BITS
    return rows * row + 8 * (1 << bits)


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
    tiles, chunks = row_tiles(rows), columns // TILE_COLUMNS
    padded = np.zeros((tiles * TILE_ROWS, columns), np.uint8)
    padded[:rows] = codes
    # [tile, row, chunk, vector, column in vector] -> [vector, tile, chunk, row and column]
    block = padded.reshape(tiles, TILE_ROWS, chunks, VECTORS, -1).transpose(3, 0, 2, 1, 4)
    block = block.reshape(VECTORS, tiles, chunks, TILE_COLUMNS)
    words = np.zeros((tiles, chunks, bits, TILE_COLUMNS), np.uint8)
    for vector, low, width, word, place in WIDTHS[bits].fields:
        words[:, :, word] |= ((block[vector] >> low) & ((1 << width) - 1)) << place
    return words.reshape(tiles, chunks, -1)


def unpack_codes(packed: NDArray[np.uint8], rows: int, bits: int) -> NDArray[np.uint8]:
    """Inverse of `pack_codes`: uint8[rows, columns]."""
    tiles, chunks, _ = packed.shape
    words = packed.reshape(tiles, chunks, bits, TILE_COLUMNS)
    block = np.zeros((VECTORS, tiles, chunks, TILE_COLUMNS), np.uint8)
    for vector, low, width, word, place in WIDTHS[bits].fields:
        block[vector] |= ((words[:, :, word] >> place) & ((1 << width) - 1)) << low
    block = block.reshape(VECTORS, tiles, chunks, TILE_ROWS, -1).transpose(1, 3, 2, 0, 4)
    return block.reshape(tiles * TILE_ROWS, -1)[:rows]
