"""Matrix product with AMX: two vectors of a panel's rows by 16 tokens. Only where TARGET has it.

A panel holds FLUSH_CHUNKS chunks of TILES row tiles as levels, and their group scales. The sums of
a group's columns grow in tile registers; then they meet the group's scales in vectors, and add up
in 32 bits: a chunk of 32 columns adds at most 32 * 64 * 128 * 128 = 2**25.

Inputs lie as registers take them (`prepare`): of 16 tokens, 64 columns of each, then the next 64.
"""

from __future__ import annotations

import numpy as np

from kernels.host.amx import (
    CLEAR,
    LOAD,
    ROW_BYTES,
    ROWS,
    SHAPES_BYTES,
    STORE,
    TILE_BYTES,
    configure,
    product,
    release,
)
from kernels.host.entry import inner
from kernels.host.simd import (
    add,
    add_scaled,
    fill_i8x64,
    inline,
    load_i8x32,
    load_i32x16,
    prefetch,
    store,
)
from kernels.rom.codes import levels, tile_bytes
from kernels.rom.lanes import (
    LINE,
    VECTOR_SUMS,
    VECTOR_TILES,
    flush,
    load_scales,
    vector_scales,
    zeros,
)
from kernels.rom.matmul import TILES, TOKEN_SUMS
from kernels.rom.pack import TILE_COLUMNS, TILE_ROWS, VECTORS

FLUSH_CHUNKS = 32  # of a panel
GROUP_CHUNKS = 16  # that meet their scale at once: a sum is then at most 2**22
LEVELS = VECTORS * LINE  # bytes of a chunk of a vector's rows
VECTOR_LEVELS = FLUSH_CHUNKS * LEVELS
PANEL_LEVELS = TILES // VECTOR_TILES * VECTOR_LEVELS
VECTOR_SCALES = FLUSH_CHUNKS * LINE
PANEL_BYTES = PANEL_LEVELS + TILES // VECTOR_TILES * VECTOR_SCALES
SUMS_BYTES = 2 * TILE_BYTES  # of two vectors of rows by 16 tokens, int32
PANEL = 5 * SUMS_BYTES  # where it begins: behind the totals and the sums of four groups
OWN_BYTES = LINE + PANEL + PANEL_BYTES  # a thread's, from a cache line on

# Registers: the sums of 16 tokens by two vectors of rows; another group's; inputs; weights of both.
SUMS, OTHER_SUMS, TOKENS, ROWS_A, ROWS_B = (0, 1), (2, 3), 4, 6, 7


def shapes(columns: int):
    """What `configure` reads, for steps of 32 or 64 columns."""
    made = np.zeros(SHAPES_BYTES, np.uint8)
    made[0] = 1
    for register in range(8):
        tokens, rows = register == TOKENS, register in (ROWS_A, ROWS_B)
        made[16 + 2 * register] = columns if tokens else ROW_BYTES
        made[48 + register] = columns // 4 if rows else ROWS
    return made


NO_SCALE = np.zeros(LINE, np.uint8)
ONE_CHUNK, TWO_CHUNKS = shapes(TILE_COLUMNS), shapes(2 * TILE_COLUMNS)


def prepared_bytes(tokens: int, columns: int) -> int:
    """What all threads share, from a cache line on: the inputs."""
    whole = -(-tokens // ROWS) * ROWS
    return LINE + whole * -(-columns // ROW_BYTES) * ROW_BYTES


@inline
def line(address):
    """Where the next cache line begins."""
    return (address + LINE - 1) // LINE * LINE


@inline
def bytes_of_16(columns):
    """Between the inputs of 16 tokens and those of the next."""
    return (columns + ROW_BYTES - 1) // ROW_BYTES * TILE_BYTES


@inner
def prepare(x, tokens, columns, out):
    """x int8[tokens, columns] -> the inputs as registers take them.

    What lies behind the last token or column makes sums that nobody takes.
    """
    for t in range(tokens):
        to = line(out) + t // ROWS * bytes_of_16(columns) + t % ROWS * ROW_BYTES
        for c in range(0, columns, TILE_COLUMNS):
            store(to + c // ROW_BYTES * TILE_BYTES + c % ROW_BYTES, load_i8x32(x + c))
        x += columns


@inner
def unpack(
    kind, tile, second, scales, second_scales, table, chunks, left, group_chunks, own, vector
):
    """Chunks of a vector's row tiles as levels, and their scales, to its place in the panel.

    `left` chunks belong to the first scale.
    """
    size, less = tile_bytes(kind), fill_i8x64(-64)
    panel = line(own) + PANEL
    out, out_scales = panel + vector * VECTOR_LEVELS, panel + PANEL_LEVELS + vector * VECTOR_SCALES
    for _ in range(chunks):
        for ahead in range(0, size, 64):  # of the next panel
            prefetch(tile + FLUSH_CHUNKS * size + ahead)
            prefetch(second + FLUSH_CHUNKS * size + ahead)
        u0, u1, u2, u3, u4, u5, u6, u7 = levels(kind, tile, second, table)
        store(out, add(u0, less))
        store(out + LINE, add(u1, less))
        store(out + 2 * LINE, add(u2, less))
        store(out + 3 * LINE, add(u3, less))
        store(out + 4 * LINE, add(u4, less))
        store(out + 5 * LINE, add(u5, less))
        store(out + 6 * LINE, add(u6, less))
        store(out + 7 * LINE, add(u7, less))
        store(out_scales, vector_scales(scales, second_scales))
        tile += size
        second += size
        out += LEVELS
        out_scales += LINE
        left -= 1
        if left == 0:
            scales += TILE_ROWS
            second_scales += TILE_ROWS
            left = group_chunks


@inner
def matmul(
    own, chunks, left, group_chunks, vectors, x, prepared, t, tokens, begin, columns, sums, eight
):
    """As that of `kernels.rom.matmul`, of what `prepare` made; t is a multiple of 16."""
    totals = line(own)
    levels = totals + PANEL
    x = line(prepared) + begin // 2 * TILE_BYTES + begin % 2 * TILE_COLUMNS
    configure(TWO_CHUNKS.ctypes.data if group_chunks % 2 == 0 else ONE_CHUNK.ctypes.data)
    for v in range(0, vectors, 2):
        rows, scales = levels + v * VECTOR_LEVELS, levels + PANEL_LEVELS + v * VECTOR_SCALES
        for first in range(0, tokens, ROWS):
            inputs = x + (t + first) // ROWS * bytes_of_16(columns)
            sum_panel(totals, rows, scales, chunks, left, group_chunks, inputs)
            to = sums + first * TOKEN_SUMS + v * VECTOR_SUMS
            for at in range(totals, totals + TILE_BYTES, LINE):
                flush(to, load_i32x16(at))
                flush(to + VECTOR_SUMS, load_i32x16(at + TILE_BYTES))
                to += TOKEN_SUMS
    release()


@inner
def sum_panel(totals, levels, scales, chunks, left, group_chunks, x):
    """Two vectors of a panel's rows by 16 tokens: sum(scale * level * x) to `totals`, two tiles.

    While a group is in the tile registers, one before is stored and two before meet their scales:
    a register is not free for the next sums until the last ones have left it.
    """
    for i in range(0, SUMS_BYTES, LINE):
        store(totals + i, zeros(0))
    second, second_scales = totals + TILE_BYTES, scales + VECTOR_SCALES
    now, before = totals + SUMS_BYTES, totals + 3 * SUMS_BYTES
    begin0, begin1, end = np.int64(0), np.int64(0), np.int64(0)  # where the groups before do so
    while end < chunks:
        end0 = end + min(left, GROUP_CHUNKS, chunks - end)
        left = left - (end0 - end) if left > end0 - end else group_chunks
        sum_group(levels, end, end0, group_chunks, x)
        take_other_sums(before + SUMS_BYTES)
        add_two(totals, before, scales, begin0, begin1, end)
        end1 = end0 + min(left, GROUP_CHUNKS, chunks - end0)
        left = left - (end1 - end0) if left > end1 - end0 else group_chunks
        sum_other_group(levels, end0, end1, group_chunks, x)
        take_sums(now)
        add_two(second, before + TILE_BYTES, second_scales, begin0, begin1, end)
        begin0, begin1, end = end, end0, end1
        now, before = before, now
    take_other_sums(before + SUMS_BYTES)
    add_two(totals, before, scales, begin0, begin1, end)
    add_two(second, before + TILE_BYTES, second_scales, begin0, begin1, end)


def summed_in(registers):
    """A function that leaves sum(level * x) from a chunk to another there; one that stores it."""
    a, b = registers
    clear_a, clear_b, store_a, store_b = CLEAR[a], CLEAR[b], STORE[a], STORE[b]
    multiply_a, multiply_b = product(a, TOKENS, ROWS_A), product(b, TOKENS, ROWS_B)
    load_tokens, load_a, load_b = LOAD[TOKENS], LOAD[ROWS_A], LOAD[ROWS_B]

    @inline
    def sum_group(levels, chunk, end, group_chunks, x):
        line = np.int64(LINE)
        clear_a()
        clear_b()
        while chunk < end:
            rows = levels + chunk * LEVELS
            load_tokens(x + chunk // 2 * TILE_BYTES + chunk % 2 * TILE_COLUMNS, line)
            load_a(rows, line)
            multiply_a()
            load_b(rows + VECTOR_LEVELS, line)
            multiply_b()
            chunk += 2 - group_chunks % 2

    @inline
    def take_sums(to):
        store_a(to, np.int64(LINE))
        store_b(to + TILE_BYTES, np.int64(LINE))

    return sum_group, take_sums


sum_group, take_sums = summed_in(SUMS)
sum_other_group, take_other_sums = summed_in(OTHER_SUMS)


@inline
def add_two(totals, parts, scales, first, second, end):
    """Add a vector's sums of two groups times their scales; of one without chunks, times 0."""
    nothing = np.int64(NO_SCALE.ctypes.data)
    scale = load_scales(scales + first * LINE if second > first else nothing)
    other = load_scales(scales + second * LINE if end > second else nothing)
    for i in range(0, TILE_BYTES, LINE):
        total = add_scaled(load_i32x16(totals + i), load_i32x16(parts + i), scale)
        store(totals + i, add_scaled(total, load_i32x16(parts + SUMS_BYTES + i), other))
