"""Weight fabric, compiled: packed codes times int8 vectors. Twin in `kernels.reference`.

One token (decode) or a few read the codes once, in order, at the speed of memory
(`kernels.rom.few`); many (prefill) are a matrix product (`kernels.rom.matmul`). A chunk of a job is
a run of row tiles; each row is summed by one thread.
"""

from __future__ import annotations

import numpy as np

from kernels.arith import requantise_rows
from kernels.host.entry import inner
from kernels.host.simd import (
    fill_i64,
    get_i32,
    store,
    view_i8,
    view_i32,
    view_i64,
    view_u16,
)
from kernels.host.team import JOB
from kernels.reference import FRACTION
from kernels.rom import wiring as wired
from kernels.rom.codes import kind_of, tile_bytes
from kernels.rom.few import (
    CHUNK_INPUTS,
    FEW,
    SUMS_BYTES,
    TOGETHER,
    few_tokens,
    inputs_bytes,
    lay_out,
    together,
)
from kernels.rom.lanes import VECTOR_SUMS, VECTOR_TILES
from kernels.rom.matmul import (
    BLOCK_VECTORS,
    FLUSH_CHUNKS,
    PANEL_BYTES,
    PANEL_VECTOR,
    TILES,
    matmul_four,
    matmul_one,
    unpack_tiles,
)
from kernels.rom.pack import TILE_COLUMNS, TILE_ROWS

TOKENS = 128  # of a prefill that one pass over the codes serves
TILE_SUMS = 8 * TILE_ROWS  # bytes of a row tile's sums for one token
TOKEN_SUMS = TILES * TILE_SUMS

# Words of a job, from JOB on; then wired.WORDS + 1 words a matrix, the last its output's address.
# SUM_ROWS is 0, or the rows of all matrices where their sums are wanted as they are.
TOKEN_COUNT, X, X_SCALE, X_SUMS = range(JOB, JOB + 4)
TILES_A_CHUNK, TILE_COUNT, VECTOR_COUNT, SUM_ROWS, MATRIX = range(JOB + 4, JOB + 9)
MATRIX_WORDS = wired.WORDS + 1


def common_bytes(tokens: int, columns: int) -> int:
    """What all threads share: the inputs laid out, or their sums."""
    return inputs_bytes(tokens, columns) if tokens <= FEW else tokens * columns // 8


@inner
def prepare_inputs(x, out):
    """Fill what all threads share, at address `out`."""
    tokens, columns = x.shape
    if tokens <= FEW:
        lay_out(x, out)
    else:
        sum_inputs(x, view_i32(out, tokens * (columns // TILE_COLUMNS)))


@inner
def sum_inputs(x, sums):
    """x int8[T, columns] -> of each 32 what takes the 64 out of the bytes level + 64, int32.

    -64 times the sum.
    """
    values = x.reshape(-1)
    for chunk in range(sums.size):
        total = np.int32(0)
        for i in range(TILE_COLUMNS):
            total += np.int32(values[chunk * TILE_COLUMNS + i])
        sums[chunk] = -64 * total


@inner
def finish_rows(shared, matrix, first, count, sums, token):
    """Row and token scales: sums int64[count] of rows from `first` on -> their Q15.16 outputs.

    Or the sums themselves, for an adapter to add to.
    """
    rows = shared[matrix + wired.ROWS]
    n = min(count, rows - first)
    mantissas = view_u16(shared[matrix + wired.ROW_MANTISSA] + 2 * first, n)
    exponents = view_i8(shared[matrix + wired.ROW_EXPONENT] + first, n)
    total = view_i64(sums, n)
    if shared[SUM_ROWS] > 0:
        kept = view_i64(shared[matrix + wired.WORDS] + 8 * (token * shared[SUM_ROWS] + first), n)
        for r in range(n):
            kept[r] = total[r]
        return
    out = view_i32(shared[matrix + wired.WORDS] + 4 * (token * rows + first), n)
    scale = shared[X_SCALE] + 8 * token
    mantissa, exponent = get_i32(scale), get_i32(scale + 4)
    requantise_rows(total, mantissas, exponents, mantissa, exponent - FRACTION, out)


@inner
def few_rows(shared, matrix, index, count, scratch):
    """`count` row tiles from `index` on, as many as a vector holds at most, for FEW tokens."""
    kind, chunks = kind_of(shared[matrix + wired.KIND]), shared[matrix + wired.CHUNKS]
    group_chunks, table = shared[matrix + wired.GROUP_CHUNKS], shared[matrix + wired.TABLE]
    codes_step, scales_step = chunks * tile_bytes(kind), chunks // group_chunks * TILE_ROWS
    tile = shared[matrix + wired.CODES] + index * codes_step
    scales = shared[matrix + wired.GROUP_SCALE] + index * scales_step
    second = tile + (count - 1) * codes_step  # of a last tile itself; nobody takes those sums
    second_scales = scales + (count - 1) * scales_step
    x, tokens = shared[X_SUMS], shared[TOKEN_COUNT]
    for first in range(0, tokens, TOGETHER):
        n = together(tokens - first)
        few_tokens(
            n, kind, tile, second, scales, second_scales, table, chunks, group_chunks, x, scratch
        )
        x += n * chunks * CHUNK_INPUTS
        for t in range(min(n, tokens - first)):
            sums = scratch + t * VECTOR_SUMS
            finish_rows(shared, matrix, index * TILE_ROWS, count * TILE_ROWS, sums, first + t)


@inner
def prefill_tiles(shared, matrix, index, count, first, tokens, scratch):
    """Row tiles from `index` on, `count` <= TILES of them, for `tokens` tokens from `first` on.

    Panel after panel; while the tokens pass over one, the inputs of four meet all its rows. Rows
    of the panel beyond `count` hold what was there before: what becomes of them is not used.
    """
    kind, chunks = kind_of(shared[matrix + wired.KIND]), shared[matrix + wired.CHUNKS]
    group_chunks, table = shared[matrix + wired.GROUP_CHUNKS], shared[matrix + wired.TABLE]
    groups, columns = chunks // group_chunks, chunks * TILE_COLUMNS
    codes, scales = shared[matrix + wired.CODES], shared[matrix + wired.GROUP_SCALE]
    vectors = (count + VECTOR_TILES - 1) // VECTOR_TILES
    panel, sums = scratch, scratch + PANEL_BYTES
    a_chunk = shared[VECTOR_COUNT]
    for i in range(tokens * TILES):
        store(sums + TILE_SUMS * i, fill_i64(0))
    for begin in range(0, chunks, FLUSH_CHUNKS):
        size = min(FLUSH_CHUNKS, chunks - begin)
        group, left = begin // group_chunks, group_chunks - begin % group_chunks
        for i in range(0, count, VECTOR_TILES):
            tile = codes + ((index + i) * chunks + begin) * tile_bytes(kind)
            scale = scales + ((index + i) * groups + group) * TILE_ROWS
            next_ = min(i + VECTOR_TILES, count) - i - 1  # tile of the same vector
            second, second_scale = (
                tile + next_ * chunks * tile_bytes(kind),
                scale + next_ * groups * TILE_ROWS,
            )
            out = panel + i // VECTOR_TILES * PANEL_VECTOR
            unpack_tiles(
                kind, tile, second, scale, second_scale, table, size, left, group_chunks, out
            )
        t = 0
        while t < tokens:
            x = shared[X] + (first + t) * columns + begin * TILE_COLUMNS
            starts = shared[X_SUMS] + 4 * ((first + t) * chunks + begin)
            to = sums + TOKEN_SUMS * t
            if t + 4 <= tokens:
                for v in range(0, vectors, BLOCK_VECTORS):
                    u, rows = panel + v * PANEL_VECTOR, v * VECTOR_TILES * TILE_SUMS
                    matmul_four(u, size, a_chunk, x, starts, columns, to + rows, TOKEN_SUMS)
                t += 4
            else:
                for v in range(vectors):
                    u, rows = panel + v * PANEL_VECTOR, v * VECTOR_TILES * TILE_SUMS
                    matmul_one(u, size, x, starts, to + rows)
                t += 1
    for t in range(tokens):
        at = sums + TOKEN_SUMS * t
        finish_rows(shared, matrix, index * TILE_ROWS, count * TILE_ROWS, at, first + t)


SCRATCH_BYTES = max(PANEL_BYTES + TOKENS * TOKEN_SUMS, SUMS_BYTES)  # what one thread needs


@inner
def fabric_chunk(shared, chunk, scratch):
    """A run of row tiles; the tiles of all matrices are counted through."""
    tokens = shared[TOKEN_COUNT]
    index = chunk * shared[TILES_A_CHUNK]
    ahead = min(shared[TILES_A_CHUNK], shared[TILE_COUNT] - index)
    matrix = MATRIX
    tiles = (shared[matrix + wired.ROWS] + TILE_ROWS - 1) // TILE_ROWS
    while ahead > 0:
        while index >= tiles:
            index -= tiles
            matrix += MATRIX_WORDS
            tiles = (shared[matrix + wired.ROWS] + TILE_ROWS - 1) // TILE_ROWS
        if tokens <= FEW:
            count = min(VECTOR_TILES, ahead, tiles - index)
            few_rows(shared, matrix, index, count, scratch)
        else:
            count = min(TILES, ahead, tiles - index)
            for first in range(0, tokens, TOKENS):
                size = min(TOKENS, tokens - first)
                prefill_tiles(shared, matrix, index, count, first, size, scratch)
        index += count
        ahead -= count
