"""Weight fabric, compiled: packed codes times int8 vectors. Twin in `kernels.reference`.

One token (decode) or a few read the codes once, in order, at the speed of memory
(`kernels.rom.few`); many (prefill) are a matrix product (`kernels.rom.matmul`). A chunk of a job is
a run of row tiles; each row is summed by one thread.
"""

from __future__ import annotations

import numpy as np

from kernels.arith import requantise_rows
from kernels.host.entry import entry, inner, routine
from kernels.host.job import CHUNKS, CHUNKS_A_THREAD, JOB_WORDS, OWN, THREADS, words
from kernels.host.simd import (
    AMX,
    fill_i64,
    get_i32,
    store,
    view_i8,
    view_i32,
    view_i64,
    view_u16,
)
from kernels.reference import FRACTION
from kernels.rom import amx_matmul, matmul
from kernels.rom import wiring as wired
from kernels.rom.codes import kind_of, tile_bytes
from kernels.rom.few import (
    CHUNK_INPUTS,
    FEW,
    SUMS_BYTES,
    TOGETHER,
    few_tokens,
    lay_out,
    together,
)
from kernels.rom.lanes import VECTOR_SUMS, VECTOR_TILES
from kernels.rom.matmul import TILES, TOKEN_SUMS
from kernels.rom.pack import TILE_COLUMNS, TILE_ROWS, VECTORS

product = amx_matmul if AMX else matmul  # of prefill

TOKENS = 128  # of a prefill that one pass over the codes serves

# Words of a job; then wired.WORDS + 1 words a matrix, the last its output's address.
# SUM_ROWS is 0, or the rows of all matrices where their sums are wanted as they are.
TOKEN_COUNT, X, X_SCALE, PREPARED = range(OWN, OWN + 4)
TILES_A_CHUNK, TILE_COUNT, VECTOR_COUNT, SUM_ROWS, MATRIX = range(OWN + 4, OWN + 9)
MATRIX_WORDS = wired.WORDS + 1
MOST_MATRICES = 3
COLUMNS = MATRIX + MOST_MATRICES * MATRIX_WORDS
MATRICES = COLUMNS + 1
assert MATRICES < JOB_WORDS

CHUNK_BYTES = 1 << 20  # of codes, at most, in a chunk of more than one vector
MANY_TILES = 8 * TILES  # of a prefill's: TOKENS' inputs stay in a cache while they pass over these
FINER = 4  # times as many chunks of a prefill, which takes long


def common_bytes(tokens: int, columns: int) -> int:
    """What all threads share: what the kernels prepare of the inputs."""
    if tokens > FEW:
        return int(product.prepared_bytes(tokens, columns))
    return (tokens + TOGETHER - 1) * columns // TILE_COLUMNS * CHUNK_INPUTS


@inner
def finish_rows(job, matrix, first, count, sums, token):
    """Row and token scales: sums int64[count] of rows from `first` on -> their Q15.16 outputs.

    Or the sums themselves, for an adapter to add to.
    """
    rows = job[matrix + wired.ROWS]
    n = min(count, rows - first)
    mantissas = view_u16(job[matrix + wired.ROW_MANTISSA] + 2 * first, n)
    exponents = view_i8(job[matrix + wired.ROW_EXPONENT] + first, n)
    total = view_i64(sums, n)
    if job[SUM_ROWS] > 0:
        kept = view_i64(job[matrix + wired.WORDS] + 8 * (token * job[SUM_ROWS] + first), n)
        for r in range(n):
            kept[r] = total[r]
        return
    out = view_i32(job[matrix + wired.WORDS] + 4 * (token * rows + first), n)
    scale = job[X_SCALE] + 8 * token
    mantissa, exponent = get_i32(scale), get_i32(scale + 4)
    requantise_rows(total, mantissas, exponents, mantissa, exponent - FRACTION, out)


@inner
def few_rows(job, matrix, index, count, scratch):
    """`count` row tiles from `index` on, as many as a vector holds at most, for FEW tokens."""
    kind, chunks = kind_of(job[matrix + wired.KIND]), job[matrix + wired.CHUNKS]
    group_chunks, table = job[matrix + wired.GROUP_CHUNKS], job[matrix + wired.TABLE]
    codes_step, scales_step = chunks * tile_bytes(kind), chunks // group_chunks * TILE_ROWS
    tile = job[matrix + wired.CODES] + index * codes_step
    scales = job[matrix + wired.GROUP_SCALE] + index * scales_step
    second = tile + (count - 1) * codes_step  # of a last tile itself; nobody takes those sums
    second_scales = scales + (count - 1) * scales_step
    x, tokens = job[PREPARED], job[TOKEN_COUNT]
    for first in range(0, tokens, TOGETHER):
        n = together(tokens - first)
        few_tokens(
            n, kind, tile, second, scales, second_scales, table, chunks, group_chunks, x, scratch
        )
        x += n * chunks * CHUNK_INPUTS
        for t in range(min(n, tokens - first)):
            sums = scratch + t * VECTOR_SUMS
            finish_rows(job, matrix, index * TILE_ROWS, count * TILE_ROWS, sums, first + t)


@inner
def prefill_tiles(job, matrix, index, count, first, tokens, scratch):
    """Row tiles from `index` on, `count` <= TILES of them, for `tokens` tokens from `first` on.

    Panel after panel; while the tokens pass over one, the inputs of several meet all its rows. Rows
    of the panel beyond `count` hold what was there before: what becomes of them is not used.
    """
    kind, chunks = kind_of(job[matrix + wired.KIND]), job[matrix + wired.CHUNKS]
    group_chunks, table = job[matrix + wired.GROUP_CHUNKS], job[matrix + wired.TABLE]
    groups, columns = chunks // group_chunks, chunks * TILE_COLUMNS
    codes, scales = job[matrix + wired.CODES], job[matrix + wired.GROUP_SCALE]
    vectors, x, prepared = (count + VECTOR_TILES - 1) // VECTOR_TILES, job[X], job[PREPARED]
    sums, own, eight = scratch, scratch + MANY_SUMS, job[VECTOR_COUNT]
    for i in range(0, tokens * TOKEN_SUMS, 64):
        store(sums + i, fill_i64(0))
    for begin in range(0, chunks, product.FLUSH_CHUNKS):
        size = min(product.FLUSH_CHUNKS, chunks - begin)
        group, left = begin // group_chunks, group_chunks - begin % group_chunks
        for i in range(0, count, VECTOR_TILES):
            tile = codes + ((index + i) * chunks + begin) * tile_bytes(kind)
            scale = scales + ((index + i) * groups + group) * TILE_ROWS
            next_ = min(i + VECTOR_TILES, count) - i - 1  # tile of the same vector
            second = tile + next_ * chunks * tile_bytes(kind)
            second_scale = scale + next_ * groups * TILE_ROWS
            v = i // VECTOR_TILES
            product.unpack(
                kind, tile, second, scale, second_scale, table, size, left, group_chunks, own, v
            )
        product.matmul(
            own,
            size,
            left,
            group_chunks,
            vectors,
            x,
            prepared,
            first,
            tokens,
            begin,
            columns,
            sums,
            eight,
        )
    for t in range(tokens):
        at = sums + TOKEN_SUMS * t
        finish_rows(job, matrix, index * TILE_ROWS, count * TILE_ROWS, at, first + t)


MANY_SUMS = TOKENS * TOKEN_SUMS
SCRATCH_BYTES = max(MANY_SUMS + product.OWN_BYTES, SUMS_BYTES)  # what one thread needs


@entry(
    "void(int64[::1], int64[::1], int64[::1], int64[::1], int64,"
    " int8[:, ::1], int32[:, ::1], int32[::1])"
)
def fabric(job, first, second, third, matrices, x, scale, out):
    """Set up: x int8[T, columns] through one to three matrices, given by their wiring.

    out holds int32[T, rows] of the first matrix, then that of the second, then the third's.
    """
    job[X_SCALE], job[SUM_ROWS] = scale.ctypes.data, 0
    describe(job, first, second, third, matrices, x, out.ctypes.data, 4 * x.shape[0])


@entry("void(int64[::1], int64[::1], int64[::1], int64[::1], int64, int8[:, ::1], int64[:, ::1])")
def fabric_sums(job, first, second, third, matrices, x, out):
    """Set up: the same as sums, int64[T, rows of all matrices] in `out`."""
    job[SUM_ROWS] = out.shape[1]
    describe(job, first, second, third, matrices, x, out.ctypes.data, 8)


@inner
def describe(job, first, second, third, matrices, x, out, row_bytes):
    """`row_bytes` of outputs lie between a matrix's and the next one's, for each of its rows."""
    job[TOKEN_COUNT], job[COLUMNS] = x.shape
    job[X], job[VECTOR_COUNT], job[MATRICES] = x.ctypes.data, VECTORS, matrices
    for m in range(matrices):
        wiring = first if m == 0 else second if m == 1 else third
        place = MATRIX + m * MATRIX_WORDS
        for word in range(wired.WORDS):
            job[place + word] = wiring[word]
        job[place + wired.WORDS] = out
        out += row_bytes * wiring[wired.ROWS]


@routine
def fabric_prepare(address, _, memory):
    """Lay the inputs out for all threads, and cut the tiles of all matrices into chunks."""
    job = words(address)
    tokens, columns = job[TOKEN_COUNT], job[COLUMNS]
    job[PREPARED] = memory
    if tokens <= FEW:
        lay_out(view_i8(job[X], tokens * columns).reshape((tokens, columns)), memory)
    else:
        product.prepare(job[X], tokens, columns, memory)
    tiles, most = np.int64(0), np.int64(0)  # and bytes of codes in a tile
    for m in range(job[MATRICES]):
        matrix = MATRIX + m * MATRIX_WORDS
        tiles += (job[matrix + wired.ROWS] + TILE_ROWS - 1) // TILE_ROWS
        most = max(most, columns * (job[matrix + wired.KIND] % wired.EVEN))
    shares = CHUNKS_A_THREAD * job[THREADS]
    if tokens <= FEW:  # by tiles that are worked on at once
        unit, size = VECTOR_TILES, min(CHUNK_BYTES // most, tiles // shares)
    else:
        unit, size = TILES, min(MANY_TILES, tiles // (FINER * shares))
    size = (max(size, 1) + unit - 1) // unit * unit
    job[TILES_A_CHUNK], job[TILE_COUNT] = size, tiles
    job[CHUNKS] = (tiles + size - 1) // size


@routine
def fabric_tiles(address, chunk, scratch):
    """A run of row tiles; the tiles of all matrices are counted through."""
    job = words(address)
    tokens = job[TOKEN_COUNT]
    for first in range(0, tokens, TOKENS):
        size = min(TOKENS, tokens - first)
        index = chunk * job[TILES_A_CHUNK]
        ahead = min(job[TILES_A_CHUNK], job[TILE_COUNT] - index)
        matrix = MATRIX
        tiles = (job[matrix + wired.ROWS] + TILE_ROWS - 1) // TILE_ROWS
        while ahead > 0:
            while index >= tiles:
                index -= tiles
                matrix += MATRIX_WORDS
                tiles = (job[matrix + wired.ROWS] + TILE_ROWS - 1) // TILE_ROWS
            if tokens <= FEW:
                count = min(VECTOR_TILES, ahead, tiles - index)
                few_rows(job, matrix, index, count, scratch)
            else:
                count = min(TILES, ahead, tiles - index)
                prefill_tiles(job, matrix, index, count, first, size, scratch)
            index += count
            ahead -= count
