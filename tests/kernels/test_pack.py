"""The packed layout: what goes in comes out; every bit lies where kernels/rom/widths.py says."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.rom.pack import (
    TILE_BYTES,
    PackedMatrix,
    pack_codes,
    row_tiles,
    tile_rows,
    unpack_codes,
    untile_rows,
)

BITS = pytest.mark.parametrize("bits", [3, 4, 6])


def place(row: int, column: int, code: int, bits: int) -> np.ndarray:
    """One tile with one code, written by hand from the table in that module's docstring."""
    tile = np.zeros(TILE_BYTES[bits], np.uint8)
    vector, byte = column // 4, 4 * row + column % 4
    word = tile.reshape(bits, 32)[:, byte]
    if bits == 4 or (bits == 3 and vector < 6):
        word[vector // 2] = code << 4 * (vector % 2)
    elif bits == 3:
        for bit in range(3):
            word[bit] = (code >> bit & 1) << (3 if vector == 6 else 7)
    elif vector < 6:
        word[vector] = code
    else:
        for i, low in enumerate((4, 2, 0)):
            word[(0 if vector == 6 else 3) + i] = (code >> low & 3) << 6
    return tile


@BITS
@pytest.mark.parametrize("rows", [1, 2, 7, 8, 9, 17])
@pytest.mark.parametrize("columns", [32, 96, 576])
def test_round_trip(bits, rows, columns):
    """Any number of rows; the last tile's spare rows hold code 0."""
    codes = np.random.default_rng(rows).integers(0, 1 << bits, (rows, columns)).astype(np.uint8)
    packed = pack_codes(codes, bits)
    assert packed.shape == (row_tiles(rows), columns // 32, TILE_BYTES[bits])
    np.testing.assert_array_equal(unpack_codes(packed, rows, bits), codes)
    assert not unpack_codes(packed, 8 * row_tiles(rows), bits)[rows:].any()


@BITS
@pytest.mark.parametrize(("row", "column"), [(0, 0), (1, 0), (3, 31), (4, 5), (6, 24), (7, 27)])
def test_documented_layout(bits, row, column):
    """One code in tile (1, 2) of 16 rows by 96 columns; all other bytes stay 0."""
    for code in {1, (1 << bits) - 1, 0b101010 & ((1 << bits) - 1)}:
        codes = np.zeros((16, 96), np.uint8)
        codes[8 + row, 64 + column] = code
        packed = pack_codes(codes, bits)
        np.testing.assert_array_equal(packed[1, 2], place(row, column, code, bits))
        packed[1, 2] = 0
        assert not packed.any()


@pytest.mark.parametrize(("bits", "size"), [(3, 96), (4, 128), (6, 192)])
def test_tile_sizes(bits, size):
    """A tile is 256 codes without a spare bit."""
    assert TILE_BYTES[bits] == size == 256 * bits // 8


@pytest.mark.parametrize("rows", [1, 8, 13])
def test_row_tiles_of_scales(rows):
    """Per-row values: eight rows side by side, filled up, and back."""
    values = np.arange(rows * 3, dtype=np.uint8).reshape(rows, 3)
    tiled = tile_rows(values, fill=9)
    assert tiled.shape == (row_tiles(rows), 3, 8)
    assert tiled[-1, 2, (rows - 1) % 8] == values[-1, 2]
    assert (tiled[-1, :, (rows - 1) % 8 + 1 :] == 9).all()
    np.testing.assert_array_equal(untile_rows(tiled, rows), values)


@pytest.mark.parametrize("columns", [1, 31, 33, 48])
def test_a_width_that_is_no_multiple_of_32_is_refused(columns):
    with pytest.raises(ValueError, match="multiple of 32"):
        pack_codes(np.zeros((8, columns), np.uint8), 4)


@BITS
def test_a_code_that_does_not_fit_is_refused(bits):
    codes = np.zeros((8, 32), np.uint8)
    codes[3, 4] = 1 << bits
    with pytest.raises(ValueError, match=f"does not fit {bits} bits"):
        pack_codes(codes, bits)


def test_stored_bits():
    """Codes, 8-bit group scales, 24-bit row scales and the alphabet; padding does not count."""
    packed = pack_codes(np.zeros((9, 64), np.uint8), 3)
    m = PackedMatrix(
        rows=9,
        columns=64,
        bits=3,
        group=32,
        codes=packed,
        group_scale=tile_rows(np.zeros((9, 2), np.int8)),
        row_mantissa=np.zeros(9, np.uint16),
        row_exponent=np.zeros(9, np.int8),
        alphabet=np.zeros(8, np.int8),
    )
    assert m.stored_bits == 9 * 64 * 3 + 9 * 2 * 8 + 9 * 24 + 8 * 8
