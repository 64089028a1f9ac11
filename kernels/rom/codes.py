"""Codes out of their tiles, compiled: a tile's words in, eight vectors of 32 bytes out.

The layout is `kernels.rom.widths`'s. The bytes are unsigned: levels + 64, from the alphabet's
lookup table or computed where the levels rise evenly. Where vectors have 512 bits they hold two
tiles, and `kernels.rom.wide_codes` unpacks both at once; what is here does without `second`.
"""

from __future__ import annotations

from kernels.host.entry import inner
from kernels.host.simd import (
    WIDE,
    add,
    both,
    either,
    fill_i8,
    get_u8,
    inline,
    load_i8x32,
    lookup,
    shift_bytes,
    subtract,
)
from kernels.rom.pack import BIT_PLACES
from kernels.rom.wide_codes import wide_levels3, wide_levels4, wide_levels6
from kernels.rom.wiring import EVEN, WHOLE_TABLE


@inline
def levels3(tile, second, table):
    """The lookup ignores bits 3 to 6 of an index, so most fields need one mask or none."""
    seven, spare = fill_i8(0x7F), fill_i8(0x88)
    w0, w1, w2 = load_i8x32(tile), load_i8x32(tile + 32), load_i8x32(tile + 64)
    t = load_i8x32(table + WHOLE_TABLE)
    rest = either(
        either(shift_bytes(both(w0, spare), 3), shift_bytes(both(w1, spare), 2)),
        shift_bytes(both(w2, spare), 1),
    )
    return (
        lookup(t, both(w0, seven)),
        lookup(t, both(shift_bytes(w0, 4), seven)),
        lookup(t, both(w1, seven)),
        lookup(t, both(shift_bytes(w1, 4), seven)),
        lookup(t, both(w2, seven)),
        lookup(t, both(shift_bytes(w2, 4), seven)),
        lookup(t, rest),
        lookup(t, shift_bytes(rest, 4)),
    )


@inline
def levels4(tile, second, table):
    low = fill_i8(15)
    w0, w1, w2, w3 = (
        load_i8x32(tile),
        load_i8x32(tile + 32),
        load_i8x32(tile + 64),
        load_i8x32(tile + 96),
    )
    t = load_i8x32(table + WHOLE_TABLE)
    return (
        lookup(t, both(w0, low)),
        lookup(t, both(shift_bytes(w0, 4), low)),
        lookup(t, both(w1, low)),
        lookup(t, both(shift_bytes(w1, 4), low)),
        lookup(t, both(w2, low)),
        lookup(t, both(shift_bytes(w2, 4), low)),
        lookup(t, both(w3, low)),
        lookup(t, both(shift_bytes(w3, 4), low)),
    )


@inline
def join6(w0, w1, w2):
    """The code in bits 6-7 of three words."""
    return either(
        either(both(shift_bytes(w0, 2), fill_i8(0x30)), both(shift_bytes(w1, 4), fill_i8(0x0C))),
        both(shift_bytes(w2, 6), fill_i8(0x03)),
    )


@inline
def codes6(tile):
    six = fill_i8(63)
    w0, w1, w2 = load_i8x32(tile), load_i8x32(tile + 32), load_i8x32(tile + 64)
    w3, w4, w5 = load_i8x32(tile + 96), load_i8x32(tile + 128), load_i8x32(tile + 160)
    return (
        both(w0, six),
        both(w1, six),
        both(w2, six),
        both(w3, six),
        both(w4, six),
        both(w5, six),
        join6(w0, w1, w2),
        join6(w3, w4, w5),
    )


@inline
def rising(code, twice, lowest):
    return add(add(code, both(code, twice)), lowest)


@inline
def even_levels6(tile, second, table):
    """Levels that rise evenly, by 1 or by 2: two additions are less work than a lookup."""
    lowest = get_u8(table)
    twice, lowest = fill_i8(1 - (get_u8(table + 1) - lowest)), fill_i8(lowest)
    c0, c1, c2, c3, c4, c5, c6, c7 = codes6(tile)
    return (
        rising(c0, twice, lowest),
        rising(c1, twice, lowest),
        rising(c2, twice, lowest),
        rising(c3, twice, lowest),
        rising(c4, twice, lowest),
        rising(c5, twice, lowest),
        rising(c6, twice, lowest),
        rising(c7, twice, lowest),
    )


@inline
def lookup64(code, table):
    """Four lookups of 16; a row of the table that is not meant is looked up in vain.

    Bit 7 of (code - 16 row) or of 15 - that tells whether the code lies outside the row.
    """
    result = fill_i8(0)
    for row in range(4):
        inside = subtract(code, fill_i8(16 * row))
        outside = both(either(inside, subtract(fill_i8(15), inside)), fill_i8(-128))
        level = lookup(load_i8x32(table + WHOLE_TABLE + 32 * row), both(inside, fill_i8(15)))
        # outside >> 7 is 1 or 0 in each byte; minus one, a mask of the bytes inside.
        keep = subtract(both(shift_bytes(outside, 7), fill_i8(1)), fill_i8(1))
        result = either(result, both(level, keep))
    return result


@inline
def levels6(tile, second, table):
    c0, c1, c2, c3, c4, c5, c6, c7 = codes6(tile)
    return (
        lookup64(c0, table),
        lookup64(c1, table),
        lookup64(c2, table),
        lookup64(c3, table),
        lookup64(c4, table),
        lookup64(c5, table),
        lookup64(c6, table),
        lookup64(c7, table),
    )


# What unpacks a tile, by kind; a wide lookup holds all levels of any width.
if WIDE:
    UNPACK = {3: wide_levels3, 4: wide_levels4, 6: wide_levels6}
else:
    UNPACK = {3: levels3, 4: levels4, 6: levels6, EVEN + 6: even_levels6}


def by_kind(unpack):
    """One function of (kind, ..) from one for each kind.

    Asked for every tile, a branch that the CPU foresees; a loop for each kind took the compiler
    18.3 s where one for all takes 14.5.
    """
    (kind, this), *others = unpack.items()
    if not others:

        @inline
        def last(wanted, tile, second, table):
            return this(tile, second, table)

        return last
    other = by_kind(dict(others))

    @inline
    def choose(wanted, tile, second, table):
        if wanted == kind:
            return this(tile, second, table)
        return other(wanted, tile, second, table)

    return choose


levels = by_kind(UNPACK)


@inline
def kind_of(kind):
    """The entry of UNPACK for a matrix of this kind."""
    return kind % EVEN if WIDE else kind


@inline
def tile_bytes(kind):
    """A word of 32 bytes for each bit of a code."""
    return 32 * (kind % EVEN)


@inner
def one_code(tile, bits, row, column):
    """A single code of the tile at an address; row 0 .. 7, column 0 .. 31."""
    vector, byte = column // 4, tile + 4 * row + column % 4
    code = 0
    for bit in range(bits):
        word, place = BIT_PLACES[bits, vector, bit, 0], BIT_PLACES[bits, vector, bit, 1]
        code |= ((get_u8(byte + 32 * word) >> place) & 1) << bit
    return code
