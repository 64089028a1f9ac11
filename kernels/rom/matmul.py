"""Matrix product, compiled: a panel of unpacked weights by several tokens.

A panel holds FLUSH_CHUNKS chunks of TILES row tiles as bytes u = level + 64, and their group
scales, so that both are loaded straight into registers and stay in L1 while all tokens pass over
them. Where vectors have 512 bits, one holds two tiles, sixteen rows; else one tile.

A vector of bytes times four inputs gives a sum a row in 32 bits. That sum begins at -64 times the
inputs' sum, which makes the levels of the bytes. No sum of a panel leaves 32 bits: a chunk of 32
columns adds at most 32 * 64 * 128 * 128 = 2**25, and what wraps on the way wraps back.
"""

from __future__ import annotations

from kernels.host.entry import inner
from kernels.host.simd import (
    VNNI,
    WIDE,
    accumulate,
    add,
    begin,
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
    load_i32x16,
    load_i64x8,
    load_i64x16,
    prefetch,
    scaled,
    store,
    widen,
)
from kernels.rom.codes import UNPACK, by_kind
from kernels.rom.pack import TILE_BYTES, TILE_COLUMNS, TILE_ROWS, VECTORS
from kernels.rom.wiring import EVEN

FLUSH_CHUNKS = 16 if WIDE else 8  # of a panel; then its sums go to 64 bits
TILES = 8  # of a panel
BLOCK_VECTORS = 4 if WIDE else 1  # of rows, that four tokens' inputs meet in registers
LINE = 64 if WIDE else 32  # bytes of a vector
VECTOR_TILES = LINE // 32
VECTOR_SUMS = 2 * LINE  # bytes of its rows' sums for one token
LEVELS = VECTORS * LINE  # bytes u of a chunk of its rows; their group scales follow
VECTOR_BYTES = LEVELS + LINE
PANEL_VECTOR = FLUSH_CHUNKS * VECTOR_BYTES  # bytes of a vector's rows in the panel
PANEL_BYTES = TILES // VECTOR_TILES * PANEL_VECTOR

if WIDE:
    load_levels, load_scales, load_sums = load_i8x64, load_i32x16, load_i64x16
    inputs, start, zeros = broadcast4_twice, broadcast_i32x16, fill_i32x16
else:
    load_levels, load_sums = load_i8x32, load_i64x8
    load_scales = load_i32x8 if VNNI else load_i16x16
    inputs, start, zeros = broadcast4, broadcast_i32x8, fill_i32


def unpack_of(levels, tile_bytes):
    """A kernel that unpacks a row tile, for codes that `levels` unpacks."""

    @inner
    def unpack(tile, scales, table, chunks, left, group_chunks, out):
        """Chunks of a row tile as bytes u, and their scales, to address `out` of the panel.

        `left` chunks belong to the first scale.
        """
        for _ in range(chunks):
            for line in range(0, tile_bytes, 64):  # of the next panel
                prefetch(tile + FLUSH_CHUNKS * tile_bytes + line)
            u0, u1, u2, u3, u4, u5, u6, u7 = levels(tile, table)
            store(out, u0)
            store(out + LINE, u1)
            store(out + 2 * LINE, u2)
            store(out + 3 * LINE, u3)
            store(out + 4 * LINE, u4)
            store(out + 5 * LINE, u5)
            store(out + 6 * LINE, u6)
            store(out + 7 * LINE, u7)
            store(out + LEVELS, group_scales(scales))
            tile += tile_bytes
            out += VECTOR_BYTES
            left -= 1
            if left == 0:
                scales += TILE_ROWS
                left = group_chunks

    return unpack


unpack_tile = by_kind(
    {kind: unpack_of(levels, TILE_BYTES[kind % EVEN]) for kind, (_, levels) in UNPACK.items()}
)


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
def add_scaled(totals, parts, scales):
    scale = load_scales(scales)
    return (
        add(totals[0], scaled(parts[0], scale)),
        add(totals[1], scaled(parts[1], scale)),
        add(totals[2], scaled(parts[2], scale)),
        add(totals[3], scaled(parts[3], scale)),
    )


@inline
def flush(sums, total):
    store(sums, add(load_sums(sums), widen(total)))


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
        a = add_scaled(a, pa, sa + o)
        if WIDE:
            b, c, d = (
                add_scaled(b, pb, sb + o),
                add_scaled(c, pc, sc + o),
                add_scaled(d, pd, sd + o),
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
        total = add(total, scaled(part, scale))
        panel += VECTOR_BYTES
        x += TILE_COLUMNS
        starts += 4
    flush(sums, total)
