"""Matrix product, compiled: a panel of unpacked weights by several tokens.

A panel holds FLUSH_CHUNKS chunks of TILES row tiles as bytes u = level + 64, and their group
scales, so that both are loaded straight into registers and stay in L1 while all tokens pass over
them. Where vectors have 512 bits, one holds two tiles, sixteen rows; else one tile.

A vector of bytes times four inputs gives a sum a row in 32 bits. That sum begins at -64 times the
inputs' sum, which makes the levels of the bytes. No sum of a panel leaves 32 bits: a chunk of 32
columns adds at most 32 * 64 * 128 * 128 = 2**25, and what wraps on the way wraps back.
"""

from __future__ import annotations

import numpy as np

from kernels.host.entry import inner
from kernels.host.simd import (
    WIDE,
    accumulate,
    add_scaled,
    begin,
    inline,
    prefetch,
    store,
    view_i8,
    view_i32,
)
from kernels.rom.codes import levels, tile_bytes
from kernels.rom.lanes import (
    LINE,
    VECTOR_SUMS,
    VECTOR_TILES,
    flush,
    inputs,
    load_levels,
    load_scales,
    start,
    vector_scales,
    zeros,
)
from kernels.rom.pack import TILE_COLUMNS, TILE_ROWS, VECTORS

FLUSH_CHUNKS = 16 if WIDE else 8  # of a panel; then its sums go to 64 bits
TILES = 8  # of a panel
BLOCK_VECTORS = 4 if WIDE else 1  # of rows, that four tokens' inputs meet in registers
LEVELS = VECTORS * LINE  # bytes u of a chunk of its rows; their group scales follow
VECTOR_BYTES = LEVELS + LINE
TOKEN_SUMS = TILES * 8 * TILE_ROWS  # bytes of a token's sums
PANEL_VECTOR = FLUSH_CHUNKS * VECTOR_BYTES  # bytes of a vector's rows in the panel
OWN_BYTES = TILES // VECTOR_TILES * PANEL_VECTOR  # a thread's: the panel
TOGETHER = 4  # tokens


def prepared_bytes(tokens: int, columns: int) -> int:
    """What all threads share: the inputs' sums."""
    return tokens * columns // 8


@inner
def prepare(x, tokens, columns, out):
    """x int8[tokens, columns] -> of each 32 what takes the 64 out of the bytes level + 64, int32.

    -64 times the sum.
    """
    values, sums = view_i8(x, tokens * columns), view_i32(out, tokens * (columns // TILE_COLUMNS))
    for chunk in range(sums.size):
        total = np.int32(0)
        for i in range(TILE_COLUMNS):
            total += np.int32(values[chunk * TILE_COLUMNS + i])
        sums[chunk] = -64 * total


@inner
def unpack(
    kind, tile, second, scales, second_scales, table, chunks, left, group_chunks, own, vector
):
    """Chunks of a vector's row tiles as bytes u, and their scales, to its place in the panel.

    `left` chunks belong to the first scale.
    """
    size, out = tile_bytes(kind), own + vector * PANEL_VECTOR
    for _ in range(chunks):
        for line in range(0, size, 64):  # of the next panel
            prefetch(tile + FLUSH_CHUNKS * size + line)
            if WIDE:
                prefetch(second + FLUSH_CHUNKS * size + line)
        u0, u1, u2, u3, u4, u5, u6, u7 = levels(kind, tile, second, table)
        store(out, u0)
        store(out + LINE, u1)
        store(out + 2 * LINE, u2)
        store(out + 3 * LINE, u3)
        store(out + 4 * LINE, u4)
        store(out + 5 * LINE, u5)
        store(out + 6 * LINE, u6)
        store(out + 7 * LINE, u7)
        store(out + LEVELS, vector_scales(scales, second_scales))
        tile += size
        second += size
        out += VECTOR_BYTES
        left -= 1
        if left == 0:
            scales += TILE_ROWS
            second_scales += TILE_ROWS
            left = group_chunks


@inline
def begin_four(starts, scales):
    scale = load_scales(scales)
    return (
        begin(starts[0], scale),
        begin(starts[1], scale),
        begin(starts[2], scale),
        begin(starts[3], scale),
    )


@inline
def accumulate_four(parts, levels, x, scales):
    u, scale = load_levels(levels), load_scales(scales)
    return (
        accumulate(parts[0], u, x[0], scale),
        accumulate(parts[1], u, x[1], scale),
        accumulate(parts[2], u, x[2], scale),
        accumulate(parts[3], u, x[3], scale),
    )


@inline
def add_four(totals, parts, scales):
    scale = load_scales(scales)
    return (
        add_scaled(totals[0], parts[0], scale),
        add_scaled(totals[1], parts[1], scale),
        add_scaled(totals[2], parts[2], scale),
        add_scaled(totals[3], parts[3], scale),
    )


@inline
def flush_four(sums, step, totals):
    flush(sums, totals[0])
    flush(sums + step, totals[1])
    flush(sums + 2 * step, totals[2])
    flush(sums + 3 * step, totals[3])


@inner
def matmul_four(panel, chunks, vectors, x, starts, columns, sums, step):
    """BLOCK_VECTORS vectors of a panel by four tokens.

    x int8[4, columns]; starts int32[4, columns / 32], -64 times the inputs' sums. Adds to int64
    at `sums`, by row; two tokens' sums are `step` bytes apart. `vectors` is VECTORS, but not known
    to the compiler: it would unroll the loop, sort the products to the front and run out of
    registers, which costs a third of the speed where there are sixteen.
    """
    starts_step = columns // 8  # bytes between two tokens' starts
    zero = zeros(0)
    a = b = c = d = (zero, zero, zero, zero)  # sums of four tokens, by vector of rows
    # Their panels, and their group scales:
    ua, ub, uc, ud = panel, panel + PANEL_VECTOR, panel + 2 * PANEL_VECTOR, panel + 3 * PANEL_VECTOR
    sa, sb, sc, sd = ua + LEVELS, ub + LEVELS, uc + LEVELS, ud + LEVELS
    for chunk in range(chunks):
        o = chunk * VECTOR_BYTES
        four = (
            start(starts),
            start(starts + starts_step),
            start(starts + 2 * starts_step),
            start(starts + 3 * starts_step),
        )
        pa = begin_four(four, sa + o)
        if WIDE:
            pb, pc, pd = (
                begin_four(four, sb + o),
                begin_four(four, sc + o),
                begin_four(four, sd + o),
            )
        for v in range(vectors):
            u = o + LINE * v
            four = (
                inputs(x + 4 * v),
                inputs(x + 4 * v + columns),
                inputs(x + 4 * v + 2 * columns),
                inputs(x + 4 * v + 3 * columns),
            )
            pa = accumulate_four(pa, ua + u, four, sa + o)
            if WIDE:
                pb = accumulate_four(pb, ub + u, four, sb + o)
                pc = accumulate_four(pc, uc + u, four, sc + o)
                pd = accumulate_four(pd, ud + u, four, sd + o)
        a = add_four(a, pa, sa + o)
        if WIDE:
            b, c, d = (
                add_four(b, pb, sb + o),
                add_four(c, pc, sc + o),
                add_four(d, pd, sd + o),
            )
        for token in range(4):  # the next four's, which lie in L2
            prefetch(x + (4 + token) * columns)
        x += TILE_COLUMNS
        starts += 4
    flush_four(sums, step, a)
    if WIDE:
        flush_four(sums + VECTOR_SUMS, step, b)
        flush_four(sums + 2 * VECTOR_SUMS, step, c)
        flush_four(sums + 3 * VECTOR_SUMS, step, d)


@inner
def matmul_one(panel, chunks, x, starts, sums):
    """One vector of a panel by one token."""
    total = zeros(0)
    for _ in range(chunks):
        scale = load_scales(panel + LEVELS)
        part = begin(start(starts), scale)
        for v in range(VECTORS):
            part = accumulate(part, load_levels(panel + LINE * v), inputs(x + 4 * v), scale)
        total = add_scaled(total, part, scale)
        panel += VECTOR_BYTES
        x += TILE_COLUMNS
        starts += 4
    flush(sums, total)


@inner
def matmul(
    own, chunks, left, group_chunks, vectors, x, prepared, t, tokens, begin, columns, sums, eight
):
    """Add to int64[tokens, rows] at `sums`: the panel, whose columns begin with chunk `begin`.

    The tokens are those from t on of all, at `x`, and of what `prepare` made. `vectors`: of rows; a
    token's sums are TOKEN_SUMS bytes apart. `eight` as `matmul_four` wants it.
    """
    starts = prepared + 4 * (t * (columns // TILE_COLUMNS) + begin)
    x += t * columns + begin * TILE_COLUMNS
    done = 0
    while done < tokens:
        if done + TOGETHER <= tokens:
            for v in range(0, vectors, BLOCK_VECTORS):
                u, rows = own + v * PANEL_VECTOR, v * VECTOR_SUMS
                matmul_four(u, chunks, eight, x, starts, columns, sums + rows, TOKEN_SUMS)
            n = TOGETHER
        else:
            for v in range(vectors):
                u, rows = own + v * PANEL_VECTOR, v * VECTOR_SUMS
                matmul_one(u, chunks, x, starts, sums + rows)
            n = 1
        done += n
        x += n * columns
        starts += n * (columns // 8)
        sums += n * TOKEN_SUMS
