"""Weight fabric, compiled: packed codes times int8 vectors. Twin in `kernels.reference`.

One token (decode) is a matrix-vector product that reads the codes once, in order, at the speed of
memory. Several (prefill) unpack a panel of some row tiles once and use it for all of them. A chunk
of a job is a run of row tiles; each row is summed by one thread.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kernels import wiring as wired
from kernels.arith import requantise, round_shift, saturate_int32
from kernels.codes import BYTES, codes6, levels3, levels4, levels6, one_code
from kernels.pack import TILE_COLUMNS, TILE_ROWS
from kernels.reference import FRACTION
from kernels.simd import (
    accumulate,
    add,
    broadcast4,
    broadcast4_twice,
    broadcast_pair,
    broadcast_pair_twice,
    dot_i16,
    fill_i32,
    fill_i32x16,
    fill_i64,
    get_i8,
    get_i32,
    get_u8,
    get_u16,
    inline,
    join,
    load_i8x64,
    load_i64x16,
    prefetch,
    scale_pairs,
    scaled,
    store,
    view_i8,
    view_i32,
    view_i64,
    view_u16,
    widen,
)
from kernels.team import JOB

# A chunk of 32 columns adds at most 32 * 128 * 128 * 255 < 2**27 to a lane of 32 bits.
FLUSH_CHUNKS = 16
AHEAD = 2048  # bytes between what is read and what is asked for
# In prefill: row tiles and tokens of a block, bytes u of a panel of one tile.
TILES, TOKENS, LEVEL_BYTES = 4, 128, 256 * FLUSH_CHUNKS

# Words of a job, from JOB on; then wired.WORDS + 1 words a matrix, the last its output's address.
TOKEN_COUNT, X, X_SCALE, X_SUMS, TILES_A_CHUNK, TILE_COUNT, MATRICES, MATRIX = range(JOB, JOB + 8)
MATRIX_WORDS = wired.WORDS + 1


@njit(nogil=True)
def sum_inputs(x, sums):
    """x int8[T, columns] -> the sum of each 32, in the low half of an int32."""
    values = x.reshape(-1)
    for chunk in range(sums.size):
        total = np.int32(0)
        for i in range(TILE_COLUMNS):
            total += np.int32(values[chunk * TILE_COLUMNS + i])
        sums[chunk] = total & 0xFFFF


def matvec_of(levels, tile_bytes):
    """A kernel of one row tile by one token, for codes that `levels` unpacks."""

    @njit(nogil=True)
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
                scale = scale_pairs(scales)
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
                part_offset = add(part_offset, dot_i16(scale, broadcast_pair(x_sums)))
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


matvec3, matvec4 = matvec_of(levels3, BYTES[3]), matvec_of(levels4, BYTES[4])
matvec6, matvec6_table = matvec_of(codes6, BYTES[6]), matvec_of(levels6, BYTES[6])


@njit(nogil=True)
def matvec_tile(kind, tile, scales, table, chunks, group_chunks, x, x_sums, sums):
    if kind == 3:
        matvec3(tile, scales, table, chunks, group_chunks, x, x_sums, sums)
    elif kind == 4:
        matvec4(tile, scales, table, chunks, group_chunks, x, x_sums, sums)
    elif kind == 6:
        matvec6(tile, scales, table, chunks, group_chunks, x, x_sums, sums)
    else:
        matvec6_table(tile, scales, table, chunks, group_chunks, x, x_sums, sums)


def unpack_of(levels, tile_bytes):
    @njit(nogil=True)
    def unpack(tile, table, chunks, out):
        """A row tile's bytes u, 32 of each 64 from address `out` on: uint8[chunks, 8, 32 of 64]."""
        for _ in range(chunks):
            u0, u1, u2, u3, u4, u5, u6, u7 = levels(tile, table)
            store(out, u0)
            store(out + 64, u1)
            store(out + 128, u2)
            store(out + 192, u3)
            store(out + 256, u4)
            store(out + 320, u5)
            store(out + 384, u6)
            store(out + 448, u7)
            tile += tile_bytes
            out += 512

    return unpack


unpack3, unpack4 = unpack_of(levels3, BYTES[3]), unpack_of(levels4, BYTES[4])
unpack6, unpack6_table = unpack_of(codes6, BYTES[6]), unpack_of(levels6, BYTES[6])


@njit(nogil=True)
def unpack_tile(kind, tile, table, chunks, out):
    if kind == 3:
        unpack3(tile, table, chunks, out)
    elif kind == 4:
        unpack4(tile, table, chunks, out)
    elif kind == 6:
        unpack6(tile, table, chunks, out)
    else:
        unpack6_table(tile, table, chunks, out)


@inline
def flush(sums, total, offset):
    store(sums, add(load_i64x16(sums), widen(total)))
    store(sums + 128, add(load_i64x16(sums + 128), widen(offset)))


@njit(nogil=True)
def matmul_four(level, low, high, left, chunks, group_chunks, x, x_sums, columns, sums):
    """Bytes u of a panel of two row tiles by four tokens.

    Adds to int64[4, 2, 16] at `sums`: by token, sum(scale * u * x) and sum(scale * x) of 16 rows.
    chunks <= FLUSH_CHUNKS; the tiles' group scales are at `low` and `high`, and `left` chunks
    belong to the first.
    """
    xa, xb, xc, xd = x, x + columns, x + 2 * columns, x + 3 * columns
    step = columns // 8  # bytes between two tokens' x_sums
    sa, sb, sc, sd = x_sums, x_sums + step, x_sums + 2 * step, x_sums + 3 * step
    zero = fill_i32x16(0)
    ta, tb, tc, td = zero, zero, zero, zero
    oa, ob, oc, od = zero, zero, zero, zero
    for chunk in range(chunks):
        scale = join(scale_pairs(low), scale_pairs(high))
        pa, pb, pc, pd = zero, zero, zero, zero
        for v in range(8):
            u = load_i8x64(level + 64 * v)
            pa = accumulate(pa, u, broadcast4_twice(xa + 4 * v), scale)
            pb = accumulate(pb, u, broadcast4_twice(xb + 4 * v), scale)
            pc = accumulate(pc, u, broadcast4_twice(xc + 4 * v), scale)
            pd = accumulate(pd, u, broadcast4_twice(xd + 4 * v), scale)
        ta, tb = add(ta, scaled(pa, scale)), add(tb, scaled(pb, scale))
        tc, td = add(tc, scaled(pc, scale)), add(td, scaled(pd, scale))
        oa = add(oa, dot_i16(scale, broadcast_pair_twice(sa + 4 * chunk)))
        ob = add(ob, dot_i16(scale, broadcast_pair_twice(sb + 4 * chunk)))
        oc = add(oc, dot_i16(scale, broadcast_pair_twice(sc + 4 * chunk)))
        od = add(od, dot_i16(scale, broadcast_pair_twice(sd + 4 * chunk)))
        level += 512
        xa += TILE_COLUMNS
        xb += TILE_COLUMNS
        xc += TILE_COLUMNS
        xd += TILE_COLUMNS
        left -= 1
        if left == 0:
            low += TILE_ROWS
            high += TILE_ROWS
            left = group_chunks
    flush(sums, ta, oa)
    flush(sums + 256, tb, ob)
    flush(sums + 512, tc, oc)
    flush(sums + 768, td, od)


@njit(nogil=True)
def matmul_one(level, low, high, left, chunks, group_chunks, x, x_sums, sums):
    """The same by one token."""
    total, offset = fill_i32x16(0), fill_i32x16(0)
    for _ in range(chunks):
        scale = join(scale_pairs(low), scale_pairs(high))
        part = fill_i32x16(0)
        for v in range(8):
            u = load_i8x64(level + 64 * v)
            part = accumulate(part, u, broadcast4_twice(x + 4 * v), scale)
        total = add(total, scaled(part, scale))
        offset = add(offset, dot_i16(scale, broadcast_pair_twice(x_sums)))
        level += 512
        x += TILE_COLUMNS
        x_sums += 4
        left -= 1
        if left == 0:
            low += TILE_ROWS
            high += TILE_ROWS
            left = group_chunks
    flush(sums, total, offset)


@njit(nogil=True)
def finish_rows(shared, matrix, first, sums, offsets, token):
    """Row and token scales: the sums of eight rows -> their Q15.16 outputs."""
    rows = shared[matrix + wired.ROWS]
    step, base = shared[matrix + wired.STEP], shared[matrix + wired.BASE]
    n = min(TILE_ROWS, rows - first)
    mantissas = view_u16(shared[matrix + wired.ROW_MANTISSA] + 2 * first, n)
    exponents = view_i8(shared[matrix + wired.ROW_EXPONENT] + first, n)
    out = view_i32(shared[matrix + wired.WORDS] + 4 * (token * rows + first), n)
    total, offset = view_i64(sums, n), view_i64(offsets, n)
    scale = shared[X_SCALE] + 8 * token
    mantissa, exponent = get_i32(scale), get_i32(scale + 4)
    for r in range(n):
        acc = step * total[r] + base * offset[r]
        out[r] = requantise(
            acc, np.int64(mantissas[r]), np.int64(exponents[r]), mantissa, exponent, FRACTION
        )


@njit(nogil=True)
def decode_tile(shared, matrix, index, scratch):
    """Row tile `index` of the matrix at word `matrix`, for the job's only token."""
    kind, chunks = shared[matrix + wired.KIND], shared[matrix + wired.CHUNKS]
    group_chunks, table = shared[matrix + wired.GROUP_CHUNKS], shared[matrix + wired.TABLE]
    tile = shared[matrix + wired.CODES] + index * chunks * BYTES[kind]
    scales = shared[matrix + wired.GROUP_SCALE] + index * (chunks // group_chunks) * TILE_ROWS
    x, x_sums = shared[X], shared[X_SUMS]
    matvec_tile(kind, tile, scales, table, chunks, group_chunks, x, x_sums, scratch)
    finish_rows(shared, matrix, index * TILE_ROWS, scratch, scratch + 64, 0)


@njit(nogil=True)
def prefill_tiles(shared, matrix, index, count, first, tokens, scratch):
    """Row tiles from `index` on, `count` <= TILES of them, for `tokens` tokens from `first` on.

    Panel after panel: the bytes u of all tiles stay in L1 while the tokens pass over them, and
    four tokens' inputs while the tiles pass over those.
    """
    kind, chunks = shared[matrix + wired.KIND], shared[matrix + wired.CHUNKS]
    group_chunks, table = shared[matrix + wired.GROUP_CHUNKS], shared[matrix + wired.TABLE]
    groups, columns = chunks // group_chunks, chunks * TILE_COLUMNS
    codes, scales = shared[matrix + wired.CODES], shared[matrix + wired.GROUP_SCALE]
    level, sums = scratch, scratch + LEVEL_BYTES * TILES
    for i in range(TILES * TOKENS * 2):
        store(sums + 64 * i, fill_i64(0))
    for begin in range(0, chunks, FLUSH_CHUNKS):
        size = min(FLUSH_CHUNKS, chunks - begin)
        group, left = begin // group_chunks, group_chunks - begin % group_chunks
        for i in range(count):
            tile = codes + ((index + i) * chunks + begin) * BYTES[kind]
            place = LEVEL_BYTES * (i - i % 2) + 32 * (i % 2)
            unpack_tile(kind, tile, table, size, level + place)
        t = 0
        while t < tokens:
            x = shared[X] + (first + t) * columns + begin * TILE_COLUMNS
            x_sums = shared[X_SUMS] + 4 * ((first + t) * chunks + begin)
            four = t + 4 <= tokens
            for i in range(0, count, 2):
                u, to = level + LEVEL_BYTES * i, sums + 128 * TOKENS * i + 256 * t
                low = scales + ((index + i) * groups + group) * TILE_ROWS
                # A last tile without a partner has itself: what becomes of that is not used.
                high = low + groups * TILE_ROWS if i + 1 < count else low
                if four:
                    matmul_four(u, low, high, left, size, group_chunks, x, x_sums, columns, to)
                else:
                    matmul_one(u, low, high, left, size, group_chunks, x, x_sums, to)
            t += 4 if four else 1
    for i in range(count):
        for t in range(tokens):
            row = (index + i) * TILE_ROWS
            at = sums + 128 * TOKENS * (i - i % 2) + 256 * t + 64 * (i % 2)
            finish_rows(shared, matrix, row, at, at + 128, first + t)


SCRATCH_BYTES = TILES * (LEVEL_BYTES + TOKENS * 128)  # what one thread needs


@njit(nogil=True)
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
        if tokens == 1:
            count = 1
            decode_tile(shared, matrix, index, scratch)
        else:
            count = min(TILES, ahead, tiles - index)
            for first in range(0, tokens, TOKENS):
                size = min(TOKENS, tokens - first)
                prefill_tiles(shared, matrix, index, count, first, size, scratch)
        index += count
        ahead -= count


@njit("void(int64[::1], int64[::1], int32[:, ::1])", nogil=True, cache=True)
def lookup_rows(wiring, rows, out):
    """Rows of the embedding as Q15.16, int32[T, columns]."""
    kind, chunks = wiring[wired.KIND], wiring[wired.CHUNKS]
    group_chunks = wiring[wired.GROUP_CHUNKS]
    for t in range(rows.size):
        tile, r = rows[t] // TILE_ROWS, rows[t] % TILE_ROWS
        codes = wiring[wired.CODES] + tile * chunks * BYTES[kind]
        scales = wiring[wired.GROUP_SCALE] + tile * (chunks // group_chunks) * TILE_ROWS + r
        mantissa = get_u16(wiring[wired.ROW_MANTISSA] + 2 * rows[t])
        shift = get_i8(wiring[wired.ROW_EXPONENT] + rows[t]) - FRACTION
        for chunk in range(chunks):
            scale = get_u8(scales + chunk // group_chunks * TILE_ROWS) * mantissa
            for column in range(TILE_COLUMNS):
                u = one_code(codes + chunk * BYTES[kind], kind, r, column)
                if kind != 6:
                    u = get_u8(wiring[wired.TABLE] + u // 16 * 32 + u % 16)
                level = wiring[wired.STEP] * u + wiring[wired.BASE]
                value = saturate_int32(round_shift(level * scale, shift))
                out[t, chunk * TILE_COLUMNS + column] = value
