"""Matrix by a few tokens, compiled: codes straight from memory, unpacked once for all of them.

One token reads the codes once, in order, at the speed of memory. While it waits for memory there
is time for some more: two to eight tokens meet a tile's bytes u = level + 64 in registers, where
the panels of `kernels.rom.matmul` would write them to L1 and read them again.

Inputs lie as they are used (`lay_out`): of a chunk of 32 columns, four of each token, then the
next four of each, and at last a sum a token, -64 times the inputs', which makes the levels of the
bytes. No sum leaves 32 bits before it goes to 64: a chunk adds at most 32 * 64 * 128 * 128 = 2**25.
"""

from __future__ import annotations

import numpy as np

from kernels.host.entry import inner
from kernels.host.simd import (
    WIDE,
    accumulate,
    add_scaled,
    begin,
    fill_i64,
    get_i32,
    inline,
    prefetch,
    store,
    view_i8,
)
from kernels.rom.codes import levels, tile_bytes
from kernels.rom.lanes import VECTOR_SUMS, flush, inputs, start, vector_scales, zeros
from kernels.rom.pack import TILE_COLUMNS, TILE_ROWS, VECTORS

FEW = 16  # tokens of a pass at most
TOGETHER = 8  # of them that meet a tile at once
FLUSH_CHUNKS = 32
AHEAD = 2048  # bytes between the codes that are read and those that are asked for
SCALES_AHEAD = 512  # the same of group scales: at 4,096 columns, those of the next vector's rows
CHUNK_INPUTS = TILE_COLUMNS + 4  # bytes a token
SUMS_BYTES = TOGETHER * VECTOR_SUMS


@inline
def together(tokens):
    """How many meet a tile at once, of so many that are left: 1, 2, 4 or 8.

    Three or five to seven are filled up: to unpack the codes again would cost more.
    """
    return tokens if tokens <= 2 else 4 if tokens <= 4 else TOGETHER


@inner
def lay_out(x, out):
    """x int8[T, columns] -> the inputs of up to TOGETHER tokens after those of others, at `out`."""
    tokens, columns = x.shape
    first = 0
    while first < tokens:
        size = together(tokens - first)
        for at in range(0, columns, TILE_COLUMNS):
            for t in range(size):
                total = np.int32(0)
                if first + t < tokens:
                    of = x.ctypes.data + (first + t) * columns + at
                    for v in range(VECTORS):
                        store(out + 4 * (v * size + t), np.int32(get_i32(of + 4 * v)))
                    for value in view_i8(of, TILE_COLUMNS):
                        total += np.int32(value)
                store(out + 4 * (VECTORS * size + t), np.int32(-64 * total))
            out += size * CHUNK_INPUTS
        first += size


# The four steps of a row's sum for one token, and for twice as many: what belongs to the tokens is
# then a pair, of pairs. Registers hold all of it.


@inline
def _zero():
    return zeros(0)


@inline
def _begin(x, scale):
    return begin(start(x), scale)


@inline
def _accumulate(parts, u, x, scale):
    return accumulate(parts, u, inputs(x), scale)


@inline
def _add(totals, parts, scale):
    return add_scaled(totals, parts, scale)


@inline
def _flush(sums, totals):
    flush(sums, totals)


def doubled(n, zero, begin, accumulate, add, flush):
    """The steps for 2 n tokens, from those for n."""
    words = 4 * n  # bytes of inputs

    @inline
    def zero_both():
        return zero(), zero()

    @inline
    def begin_both(x, scale):
        return begin(x, scale), begin(x + words, scale)

    @inline
    def accumulate_both(parts, u, x, scale):
        return accumulate(parts[0], u, x, scale), accumulate(parts[1], u, x + words, scale)

    @inline
    def add_both(totals, parts, scale):
        return add(totals[0], parts[0], scale), add(totals[1], parts[1], scale)

    @inline
    def flush_both(sums, totals):
        flush(sums, totals[0])
        flush(sums + n * VECTOR_SUMS, totals[1])

    return zero_both, begin_both, accumulate_both, add_both, flush_both


STEPS = {1: (_zero, _begin, _accumulate, _add, _flush)}
for _n in (1, 2, 4):
    STEPS[2 * _n] = doubled(_n, *STEPS[_n])


@inline
def ask_for(codes, size):
    """Prefetch a tile's bytes."""
    prefetch(codes)
    prefetch(codes + 64)
    if size > 128:
        prefetch(codes + 128)


def few_of(n):
    """A kernel of a vector's rows by n tokens."""
    zero, begin_all, accumulate_all, add_all, flush_all = STEPS[n]
    block, word = n * CHUNK_INPUTS, 4 * n  # bytes of inputs: of a chunk, of four columns

    @inner
    def few(kind, tile, second, scales, second_scales, table, chunks, group_chunks, x, sums):
        """Write sum(scale * level * x) to `sums`, int64[n, rows of a vector]."""
        for i in range(0, n * VECTOR_SUMS, 64):
            store(sums + i, fill_i64(0))
        size = tile_bytes(kind)
        ahead_chunks = min(AHEAD // size + 1, chunks)
        ahead, next_rows = ahead_chunks * size, chunks - ahead_chunks
        chunk, left = 0, group_chunks
        while chunk < chunks:
            end = min(chunk + FLUSH_CHUNKS, chunks)
            totals = zero()
            while chunk < end:
                if chunk == next_rows:  # past a tile lies the second one, which is read already
                    ahead += second - tile
                ask_for(tile + ahead, size)
                if WIDE:
                    ask_for(second + ahead, size)
                scale = vector_scales(scales, second_scales)
                u0, u1, u2, u3, u4, u5, u6, u7 = levels(kind, tile, second, table)
                parts = begin_all(x + VECTORS * word, scale)
                parts = accumulate_all(parts, u0, x, scale)
                parts = accumulate_all(parts, u1, x + word, scale)
                parts = accumulate_all(parts, u2, x + 2 * word, scale)
                parts = accumulate_all(parts, u3, x + 3 * word, scale)
                parts = accumulate_all(parts, u4, x + 4 * word, scale)
                parts = accumulate_all(parts, u5, x + 5 * word, scale)
                parts = accumulate_all(parts, u6, x + 6 * word, scale)
                parts = accumulate_all(parts, u7, x + 7 * word, scale)
                totals = add_all(totals, parts, scale)
                tile += size
                second += size
                x += block
                chunk += 1
                left -= 1
                if left == 0:
                    scales += TILE_ROWS
                    second_scales += TILE_ROWS
                    left = group_chunks
                    prefetch(scales + SCALES_AHEAD)
                    if WIDE:
                        prefetch(second_scales + SCALES_AHEAD)
            flush_all(sums, totals)

    return few


few1, few2, few4, few8 = few_of(1), few_of(2), few_of(4), few_of(8)


@inner
def few_tokens(n, kind, tile, second, scales, second_scales, table, chunks, group_chunks, x, sums):
    """The kernel for n = 1, 2, 4 or 8 tokens."""
    args = kind, tile, second, scales, second_scales, table, chunks, group_chunks, x, sums
    if n == 1:
        few1(*args)
    elif n == 2:
        few2(*args)
    elif n == 4:
        few4(*args)
    else:
        few8(*args)
