"""Codes out of two tiles at once, compiled: for vectors of 512 bits and a lookup of 64 bytes.

The lookup ignores bits 6 and 7 of an index and the table repeats itself, so no code is masked:
eighteen instructions unpack two tiles of 3 bits, where one tile takes twenty-four.
"""

from __future__ import annotations

from kernels.host.simd import (
    both,
    either,
    fill_i8x64,
    inline,
    load_i8x64,
    load_two_i8x32,
    lookup_wide,
    shift_bytes,
)


@inline
def pick(bits, a, b):
    """Those bits of a, the others of b."""
    return either(both(a, fill_i8x64(bits)), both(b, fill_i8x64(~bits)))


@inline
def pick3(first, a, second, b, c):
    return pick(first, a, pick(second, b, c))


@inline
def halves(table, w):
    """The levels of the low and of the high half of each byte."""
    return lookup_wide(table, w), lookup_wide(table, shift_bytes(w, 4))


@inline
def wide_levels3(tile, second, table):
    w0 = load_two_i8x32(tile, second)
    w1 = load_two_i8x32(tile + 32, second + 32)
    w2 = load_two_i8x32(tile + 64, second + 64)
    rest = pick3(0x11, shift_bytes(w0, 3), 0x22, shift_bytes(w1, 2), shift_bytes(w2, 1))
    t = load_i8x64(table)
    return halves(t, w0) + halves(t, w1) + halves(t, w2) + halves(t, rest)


@inline
def wide_levels4(tile, second, table):
    t = load_i8x64(table)
    return (
        halves(t, load_two_i8x32(tile, second))
        + halves(t, load_two_i8x32(tile + 32, second + 32))
        + halves(t, load_two_i8x32(tile + 64, second + 64))
        + halves(t, load_two_i8x32(tile + 96, second + 96))
    )


@inline
def join6(w0, w1, w2):
    """The code in bits 6-7 of three words."""
    return pick3(0x30, shift_bytes(w0, 2), 0x0C, shift_bytes(w1, 4), shift_bytes(w2, 6))


@inline
def wide_levels6(tile, second, table):
    w0 = load_two_i8x32(tile, second)
    w1 = load_two_i8x32(tile + 32, second + 32)
    w2 = load_two_i8x32(tile + 64, second + 64)
    w3 = load_two_i8x32(tile + 96, second + 96)
    w4 = load_two_i8x32(tile + 128, second + 128)
    w5 = load_two_i8x32(tile + 160, second + 160)
    t = load_i8x64(table)
    return (
        lookup_wide(t, w0),
        lookup_wide(t, w1),
        lookup_wide(t, w2),
        lookup_wide(t, w3),
        lookup_wide(t, w4),
        lookup_wide(t, w5),
        lookup_wide(t, join6(w0, w1, w2)),
        lookup_wide(t, join6(w3, w4, w5)),
    )
