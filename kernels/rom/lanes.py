"""What the fabric holds in one vector, compiled: the rows of one tile, or of two in 512 bits.

A lane of 32 bits belongs to one row: four of its bytes u, its scale, or its sum. Where vectors hold
one tile, the address of a `second` is not looked at.
"""

from __future__ import annotations

from kernels.host.simd import (
    SDOT,
    VNNI,
    WIDE,
    add,
    broadcast4,
    broadcast4_twice,
    broadcast_i32x8,
    broadcast_i32x16,
    fill_i32,
    fill_i32x16,
    group_scales,
    inline,
    load_i8x32,
    load_i8x64,
    load_i16x16,
    load_i32x8,
    load_i64x8,
    load_i64x16,
    store,
    two_scale_bytes,
    widen,
)

LINE = 64 if WIDE else 32  # bytes of a vector
VECTOR_TILES = LINE // 32
VECTOR_SUMS = 2 * LINE  # bytes of its rows' sums for one token, int64

if WIDE:
    load_levels, load_scales, load_sums = load_i8x64, load_i8x64, load_i64x16
    inputs, start, zeros = broadcast4_twice, broadcast_i32x16, fill_i32x16
else:
    load_levels, load_scales, load_sums = load_i8x32, load_i16x16, load_i64x8
    inputs, start, zeros = broadcast4, broadcast_i32x8, fill_i32
    if VNNI:
        load_scales = load_i8x32
    elif SDOT:
        load_scales = load_i32x8


@inline
def vector_scales(scales, second):
    """The group scales of the rows, eight int8 a tile, as `add_scaled` or `accumulate` wants."""
    if WIDE:
        return two_scale_bytes(scales, second)
    return group_scales(scales)


@inline
def flush(sums, total):
    """Add the rows' sums to int64 at address `sums`."""
    store(sums, add(load_sums(sums), widen(total)))
