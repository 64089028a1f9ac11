"""Matrix-vector product, compiled: packed codes straight from memory by one token."""

from __future__ import annotations

from kernels.host.entry import inner
from kernels.host.simd import (
    accumulate,
    add,
    as_pairs,
    broadcast4,
    broadcast_pair,
    dot_i16,
    fill_i32,
    fill_i64,
    group_scales,
    prefetch,
    scaled,
    store,
    widen,
)
from kernels.rom.codes import UNPACK, by_kind
from kernels.rom.pack import TILE_BYTES, TILE_COLUMNS, TILE_ROWS
from kernels.rom.wiring import EVEN

# A chunk of 32 columns adds at most 32 * 128 * 128 * 128 = 2**26 to a lane of 32 bits.
FLUSH_CHUNKS = 16
AHEAD = 2048  # bytes between what is read and what is asked for


def matvec_of(levels, tile_bytes):
    """A kernel of one row tile by one token, for codes that `levels` unpacks."""

    @inner
    def matvec(tile, scales, table, chunks, group_chunks, x, x_sums, sums):
        """Write sum(scale * u * x) and sum(scale * x), int64[8] each, to address `sums`."""
        total, offset = fill_i64(0), fill_i64(0)
        chunk, left = 0, group_chunks
        while chunk < chunks:
            end = min(chunk + FLUSH_CHUNKS, chunks)
            part, part_offset = fill_i32(0), fill_i32(0)
            while chunk < end:
                prefetch(tile + AHEAD)
                prefetch(tile + AHEAD + 64)
                scale = group_scales(scales)
                u0, u1, u2, u3, u4, u5, u6, u7 = levels(tile, table)
                even, odd = fill_i32(0), fill_i32(0)
                even = accumulate(even, u0, broadcast4(x), scale)
                odd = accumulate(odd, u1, broadcast4(x + 4), scale)
                even = accumulate(even, u2, broadcast4(x + 8), scale)
                odd = accumulate(odd, u3, broadcast4(x + 12), scale)
                even = accumulate(even, u4, broadcast4(x + 16), scale)
                odd = accumulate(odd, u5, broadcast4(x + 20), scale)
                even = accumulate(even, u6, broadcast4(x + 24), scale)
                odd = accumulate(odd, u7, broadcast4(x + 28), scale)
                part = add(part, scaled(add(even, odd), scale))
                part_offset = add(part_offset, dot_i16(as_pairs(scale), broadcast_pair(x_sums)))
                tile += tile_bytes
                x += TILE_COLUMNS
                x_sums += 4
                chunk += 1
                left -= 1
                if left == 0:
                    scales += TILE_ROWS
                    left = group_chunks
            total = add(total, widen(part))
            offset = add(offset, widen(part_offset))
        store(sums, total)
        store(sums + 64, offset)

    return matvec


matvec_tile = by_kind(
    {kind: matvec_of(levels, TILE_BYTES[kind % EVEN]) for kind, (levels, _) in UNPACK.items()}
)
